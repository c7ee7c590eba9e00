"""Intervals by bootstrap: whole streamers are drawn, since clips of one streamer are not independent."""

from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DRAWS: Final = 1_000
_FEWEST_STREAMERS: Final = 8
_BOUNDS: Final = (2.5, 97.5)

Over = Literal["streamers", "clips"]


def drawn_over(streamers: pd.Series | NDArray[Any]) -> Over:
    """What the bootstrap draws: streamers, or clips where there are fewer than 8 streamers."""
    return "streamers" if len(pd.unique(streamers)) >= _FEWEST_STREAMERS else "clips"


def groups_of(streamers: pd.Series | NDArray[Any]) -> NDArray[np.int64]:
    """Number of the group that each row is drawn with, i64 [N]: its streamer's, or its own (``drawn_over``)."""
    if drawn_over(streamers) == "clips":
        return np.arange(len(streamers), dtype=np.int64)
    return pd.factorize(streamers)[0].astype(np.int64)


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
    drawn = np.tensordot(_times_drawn(len(names), seed, draws), counts, axes=1)
    low, high = np.percentile(macro_f1_of(drawn), _BOUNDS)
    return float(low), float(high)


def mean_difference_interval(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    groups: NDArray[np.int64],
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, float]:
    """95% percentile interval of ``mean(first - second)``: two models on the same clips, drawn with the same groups.

    Args:
        first: a score a clip, f64 [N]: right or wrong, or the share of seeds that were right.
        second: the other model's, f64 [N].
        groups: number of each row's group, i64 [N].
        seed: of the draws.
        draws: how many.

    Returns:
        Lower and upper bound; NaN without rows.
    """
    if not len(first):
        return float("nan"), float("nan")
    names, members = np.unique(groups, return_inverse=True)
    times = _times_drawn(len(names), seed, draws)
    means = (times @ np.bincount(members, first - second)) / (times @ np.bincount(members))
    low, high = np.percentile(means, _BOUNDS)
    return float(low), float(high)


def _times_drawn(groups: int, seed: int, draws: int) -> NDArray[np.int64]:
    """How often each group is in each draw with replacement, i64 [draws, groups]."""
    return np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=draws)
