"""The study's answers, gathered from its runs: for each configuration, seed and clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore
from merlb_model.labels import TASKS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What every configuration answered on the clips of the folds that it was tested on.

    Attributes:
        actual: class indices i64 [N] a task.
        streamers: number of each clip's streamer, i64 [N].
        sarcasm: the clips whose valence needs the combination, bool [N].
        logits: {configuration: {view: {task: f32 [seeds, N, C]}}}, NaN for clips that were not tested. A view is
            ``whole``, a subset of the modalities such as ``face+audio``, or ``additive``.
    """

    actual: dict[str, NDArray[np.int64]]
    streamers: NDArray[np.int64]
    sarcasm: NDArray[np.bool_]
    logits: dict[str, dict[str, dict[str, NDArray[np.float32]]]]

    def predicted(self, configuration: str, task: str, view: str = "whole") -> NDArray[np.int64]:
        """Class of the highest logit, i64 [seeds, N]; -1 for clips that were not tested."""
        logits = self.logits[configuration][view][task]
        return np.where(np.isnan(logits[..., 0]), -1, logits.argmax(axis=-1))

    def hits(self, configuration: str, tasks: Sequence[str], view: str = "whole") -> Floats:
        """Share of seeds, mean over ``tasks``, whose answer was right: f64 [N]; NaN for clips that were not tested."""
        shares = []
        for task in tasks:
            predicted = self.predicted(configuration, task, view)
            shares.append(np.where(predicted < 0, np.nan, predicted == self.actual[task]).mean(axis=0))
        return np.asarray(np.mean(shares, axis=0))


def array_name(view: str, task: str) -> str:
    """Name of an array of logits in a run's file."""
    return f"{view}|{task}"


def gather(store: ClipStore, truth: pd.DataFrame, runs: Mapping[str, Mapping[tuple[int, int], Path]]) -> Answers:
    """Read the runs' files.

    Args:
        store: the study's clips.
        truth: ``truth.csv`` of the corpus.
        runs: {configuration: {(seed, fold): file}}.
    """
    files = store.clips["file"]
    logits: dict[str, dict[str, dict[str, NDArray[np.float32]]]] = {}
    for configuration, parts in runs.items():
        seeds = sorted({seed for seed, _ in parts})
        views: dict[str, dict[str, NDArray[np.float32]]] = {}
        for (seed, _), path in parts.items():
            with np.load(path, allow_pickle=False) as run:
                _place(views, run, seeds.index(seed), len(seeds), len(files))
        logits[configuration] = views
    return Answers(
        actual={task: store.targets(task) for task in TASKS},
        streamers=pd.factorize(store.clips["streamer"])[0].astype(np.int64),
        sarcasm=truth.set_index("file").loc[files, "sarcasm"].to_numpy() == 1,
        logits=logits,
    )


def _place(views: dict[str, Any], run: Mapping[str, NDArray[Any]], seed: int, seeds: int, clips: int) -> None:
    """Put a run's logits at their clips' places."""
    for name in run:
        if name == "rows":
            continue
        view, task = name.split("|")
        values = run[name]
        empty = np.full((seeds, clips, values.shape[-1]), np.nan, np.float32)
        views.setdefault(view, {}).setdefault(task, empty)[seed, run["rows"]] = values
