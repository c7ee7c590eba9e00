"""Two models on the same test clips: what each scores, and whether the difference may be chance."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from merlb_model.dataset.store import read_table
from merlb_model.errors import MerlbError
from merlb_model.evaluation.bootstrap import drawn_over
from merlb_model.evaluation.permutation import holm, macro_f1_permutation_test
from merlb_model.evaluation.scores import class_indices, macro_f1
from merlb_model.labels import TASKS

_MADE_BY: Final = "merlb evaluate"
_LEVEL: Final = 0.05


@dataclass(frozen=True)
class TaskComparison:
    """One task of two models; ``p`` by the paired permutation test of macro-F1, ``p_holm`` corrected for all tasks."""

    task: str
    macro_f1: tuple[float, float]
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        tasks: those that both models have.
        clips: test clips that both have answered.
        streamers: of them.
        exchanged: what the test exchanges between the models: ``streamers``, or ``clips`` below 8 of those.
    """

    tasks: list[TaskComparison]
    clips: int
    streamers: int
    exchanged: str

    def __str__(self) -> str:
        """A table for the person who ran it."""
        lines = [
            f"{self.clips} test clips of {self.streamers} streamers; the test exchanges whole {self.exchanged}",
            f"{'macro-F1':<10} {'first':>7} {'second':>7} {'second - first':>15} {'p':>8} {'p (Holm)':>9}",
        ]
        for each in self.tasks:
            first, second = each.macro_f1
            lines.append(
                f"{each.task:<10} {first:>7.3f} {second:>7.3f} {second - first:>+15.3f} {each.p:>8.4f} "
                f"{each.p_holm:>9.4f}  {'differ' if each.p_holm < _LEVEL else 'may be chance'}"
            )
        if self.exchanged == "clips":
            lines.append("fewer than 8 streamers: their clips count as independent, so p is too small")
        return "\n".join(lines)


def compare(first: Path, second: Path) -> Comparison:
    """Compare two models by what `merlb evaluate` left of each, on the test clips that both have answered.

    Args:
        first: ``predictions.parquet``, or the folder that holds it.
        second: the other model's.

    Raises:
        MerlbError: a table is missing, they have no test clip or no task in common, or they disagree on a clip's label
            or streamer.
    """
    tables = [_test_clips(path) for path in (first, second)]
    files = tables[0].index.intersection(tables[1].index)
    tasks = [task for task in TASKS if all(f"{task}_predicted" in table for table in tables)]
    if files.empty or not tasks:
        missing = "test clip" if files.empty else "task"
        raise MerlbError(f"{first} and {second} have no {missing} in common: compare models of one corpus and split")
    one, other = (table.loc[files] for table in tables)
    for column in ("streamer", *tasks):
        differing = files[(one[column] != other[column]).to_numpy()]
        if len(differing):
            raise MerlbError(
                f"{differing[0]}: {column} is {one.at[differing[0], column]} in {first} and "
                f"{other.at[differing[0], column]} in {second}: evaluate both on the same labels"
            )
    streamers = one["streamer"].to_numpy(dtype=np.str_)
    scores, values = [], []
    for task in tasks:
        actual = class_indices(one[task], task)
        ours, theirs = (class_indices(table[f"{task}_predicted"], task) for table in (one, other))
        scores.append((macro_f1(actual, ours), macro_f1(actual, theirs)))
        values.append(macro_f1_permutation_test(actual, ours, theirs, len(TASKS[task]), streamers))
    return Comparison(
        [TaskComparison(*each) for each in zip(tasks, scores, values, holm(values), strict=True)],
        clips=len(files),
        streamers=len(set(streamers)),
        exchanged=drawn_over(streamers),
    )


def _test_clips(path: Path) -> pd.DataFrame:
    """The test rows of a table of predictions, by file."""
    path = path / "predictions.parquet" if path.is_dir() else path
    table = read_table(path, _MADE_BY, ("file", "streamer", "split"))
    return table[table["split"] == "test"].set_index("file").sort_index()
