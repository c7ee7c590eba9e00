"""Scores by streamer and by game: where a model is weak."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.evaluation.scores import macro_f1

SLICED_BY: Final = ("streamer", "game")
COLUMNS: Final = ("by", "name", "task", "n", "macro_f1", "accuracy")


def slices_table(
    clips: pd.DataFrame, actual: Mapping[str, NDArray[np.int64]], predicted: Mapping[str, NDArray[np.int64]]
) -> pd.DataFrame:
    """A row for each streamer and task, then for each game and task, with the columns ``COLUMNS``.

    Args:
        clips: rows of the store, with the columns ``streamer`` and ``game``.
        actual: class indices i64 [N] of these rows, by task.
        predicted: the model's, i64 [N], by task.

    Returns:
        Names in alphabetical order; ``macro_f1`` is over the classes that occur in the slice.
    """
    rows: list[dict[str, Any]] = []
    for by in SLICED_BY:
        names = clips[by].to_numpy(dtype=object)
        for name in sorted(set(names)):
            inside = names == name
            for task in actual:
                right, said = actual[task][inside], predicted[task][inside]
                scores = {"macro_f1": macro_f1(right, said), "accuracy": float((right == said).mean())}
                rows.append({"by": by, "name": name, "task": task, "n": len(right), **scores})
    return pd.DataFrame(rows, columns=list(COLUMNS))
