"""Cross-validation over streamers: each clip is tested once, by a network that has seen nothing of its streamer."""

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model import tracking
from merlb_model.dataset.folds import fold_splits, grouped_folds, leave_one_streamer_out
from merlb_model.dataset.oversample import oversample
from merlb_model.dataset.split import write_splits
from merlb_model.dataset.store import ClipStore, open_store, write_table
from merlb_model.evaluation import bootstrap
from merlb_model.evaluation.evaluate import evaluate
from merlb_model.evaluation.scores import class_indices, score_with_interval
from merlb_model.files import sha256_of_json, write_json
from merlb_model.labels import TASK_SETS
from merlb_model.params import Params
from merlb_model.training.train import train

SCHEMA_VERSION: Final = 1


def cross_validate(
    store: Path,
    validation: Path,
    params: Params,
    folds: int | None,
    kept: Path,
    out: Path,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Train and evaluate once a fold; leave ``predictions.parquet`` and ``scores.json`` in ``out``.

    Each fold goes through the stages oversample, train and evaluate. What is done is kept, so that the same call goes
    on where it was stopped. Within a fold ``split.validation`` of the other streamers validate.

    Args:
        store: folder of the clip store.
        validation: ``reports/validation.json`` of that store.
        params: all sections.
        folds: how many; None leaves one streamer out at a time.
        kept: folder of the folds' own files; each data set and setting has one of its own in it.
        out: e.g. ``reports/cross_validation``.
        tracking_uri: where MLflow keeps a run a fold, all under one tag; None logs nowhere.

    Returns:
        What is in ``scores.json``: ``schema_version, store_hash, git, folds, intervals, tasks``, the last two as in
        ``metrics.json``.

    Raises:
        MerlbError: an input is missing, or there are too few streamers.
    """
    clips = open_store(store)
    streamers = clips.clips["streamer"]
    seed = params.split.seed
    fold_of_row = leave_one_streamer_out(streamers) if folds is None else grouped_folds(streamers, folds, seed)
    count = int(fold_of_row.max()) + 1
    key = _key(clips, fold_of_row, params)
    parts = []
    for fold in range(count):
        sys.stderr.write(f"fold {fold + 1} of {count}: {', '.join(sorted(set(streamers[fold_of_row == fold])))}\n")
        split = fold_splits(fold_of_row, fold, params.split.validation, seed, streamers)
        folder = kept / key / f"fold-{fold:03d}"
        tags = {"cross_validation": key, "fold": str(fold)}
        table = _run_fold(store, validation, clips, split, params, folder, tags, tracking_uri)
        parts.append(table[table["split"] == "test"])
    predictions = pd.concat(parts).sort_values("file", ignore_index=True)
    scores = _scores(predictions, TASK_SETS[params.model.tasks])
    scores = {
        "schema_version": SCHEMA_VERSION,
        "store_hash": clips.store_hash,
        "git": tracking.git_revision(),
        "folds": count,
        **scores,
    }
    write_table(out / "predictions.parquet", predictions)
    write_json(out / "scores.json", scores)
    return scores


def _key(store: ClipStore, fold_of_row: NDArray[np.int64], params: Params) -> str:
    """What tells a cross-validation from every other: data, folds and settings."""
    sections = params.model_dump(mode="json", include={"split", "oversample", "model", "train", "evaluate"})
    return sha256_of_json({**sections, "store_hash": store.store_hash, "folds": fold_of_row.tolist()})[:12]


def _run_fold(
    store: Path,
    validation: Path,
    clips: ClipStore,
    split: NDArray[np.str_],
    params: Params,
    folder: Path,
    tags: dict[str, str],
    tracking_uri: str | None,
) -> pd.DataFrame:
    """The stages of one fold, where they have not been run; ``metrics.json`` is the last thing they leave."""
    reports = folder / "reports"
    if not (reports / "metrics.json").exists():
        splits, rows = folder / "splits.parquet", folder / "train_rows.parquet"
        write_splits(splits, clips, pd.Series(split.astype(object)))
        oversample(store, splits, validation, params.oversample, rows)
        models = folder / "models"
        train(
            *(store, splits, rows, params.model, params.train, models),
            tracking_uri=tracking_uri,
            tags=tags,
            checkpoints=folder / "checkpoints",
        )
        evaluate(models, store, splits, params.evaluate, reports, tracking_uri)
    return pd.read_parquet(reports / "predictions.parquet")


def _scores(predictions: pd.DataFrame, tasks: tuple[str, ...]) -> dict[str, Any]:
    """``intervals`` and ``tasks`` over all clips, as in ``metrics.json``."""
    streamers = predictions["streamer"]
    groups = bootstrap.groups_of(streamers)
    found = {}
    for task in tasks:
        actual, predicted = (class_indices(predictions[name], task) for name in (task, f"{task}_predicted"))
        found[task] = score_with_interval(actual, predicted, task, groups)
    return {"intervals": {"over": bootstrap.drawn_over(streamers), "draws": bootstrap.DRAWS}, "tasks": found}
