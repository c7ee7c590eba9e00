"""Intervals by bootstrap: whole streamers are drawn, since clips of one streamer are not independent."""

from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DRAWS: Final = 1_000
_FEWEST_STREAMERS: Final = 8
_BOUNDS: Final = (2.5, 97.5)

Over = Literal["streamers", "clips"]


def drawn_over(streamers: pd.Series) -> Over:
    """What the bootstrap draws: streamers, or clips where there are fewer than 8 streamers."""
    return "streamers" if streamers.nunique() >= _FEWEST_STREAMERS else "clips"


def macro_f1_of(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Macro-F1 of each confusion matrix [..., classes, classes] (rows actual), over the classes with support."""
    hits = np.diagonal(confusions, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = confusions.sum(-1), confusions.sum(-2)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    seen = support > 0
    means: NDArray[np.float64] = (f1 * seen).sum(-1) / np.maximum(seen.sum(-1), 1)
    return means


def interval(
    actual: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, float] | None:
    """95% percentile interval of the macro-F1, drawing groups with replacement.

    Args:
        actual: class indices, i64 [N].
        predicted: class indices, i64 [N].
        groups: number of each row's group (its streamer, or the row itself), i64 [N].
        classes: number of classes.
        seed: of the draws.
        draws: how many.

    Returns:
        Lower and upper bound, or None without rows.
    """
    if not len(actual):
        return None
    names, members = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), classes, classes), dtype=np.int64)
    np.add.at(counts, (members, actual, predicted), 1)
    generator = np.random.default_rng(seed)
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    drawn = np.tensordot(times, counts, axes=1)
    low, high = np.percentile(macro_f1_of(drawn), _BOUNDS)
    return float(low), float(high)
