"""Is one model better than another on the same clips? Paired permutation tests, and their correction when many."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model.evaluation.bootstrap import groups_of, macro_f1_of

DRAWS: Final = 9_999
_MOST_COUNTED: Final = 10_000
_BLOCK: Final = 1_000  # exchanges looked at together
_ROUNDING: Final = 1e-12

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def permutation_test(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    streamers: NDArray[Any],
    seed: int = 0,
    draws: int = DRAWS,
) -> float:
    """Two-sided p-value of the difference of two models' mean scores, such as their accuracy.

    Were the models alike, it would be chance which of two answers came from which: the answers to a whole streamer's
    clips are exchanged, since they are not independent; below 8 streamers, to single clips. All exchanges are counted
    where there are at most 10,000; else ``draws`` are drawn, and p = (1 + as extreme) / (1 + draws) (Phipson and Smyth
    2010).

    Args:
        first: a score a clip, f64 [N]: right or wrong, or the share of seeds that were right.
        second: the other model's, f64 [N].
        streamers: each clip's, [N].
        seed: of the draws.
        draws: how many.
    """
    differences = np.bincount(_members(streamers), np.asarray(first) - np.asarray(second)) / max(len(first), 1)
    return _p_value(lambda exchanged: (1 - 2 * exchanged) @ differences, len(differences), seed, draws)


def macro_f1_permutation_test(
    actual: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    classes: int,
    streamers: NDArray[Any],
    seed: int = 0,
    draws: int = DRAWS,
) -> float:
    """``permutation_test`` of the difference of macro-F1, from class indices i64 [N]: actual, and each model's."""
    members = _members(streamers)
    counts = np.zeros((2, int(members.max(initial=-1)) + 1, classes, classes))
    for model, predicted in enumerate((first, second)):
        np.add.at(counts[model], (members, actual, predicted), 1)
    of_both = counts.sum(axis=(0, 1))

    def difference(exchanged: NDArray[np.float64]) -> NDArray[np.float64]:
        one = np.tensordot(1 - exchanged, counts[0], axes=1) + np.tensordot(exchanged, counts[1], axes=1)
        return macro_f1_of(one) - macro_f1_of(of_both - one)

    return _p_value(difference, counts.shape[1], seed, draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number after Holm (1979), in their order: the smallest times n, the next n - 1, …"""
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    return corrected.tolist()


def _members(streamers: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(groups_of(streamers), return_inverse=True)[1]


def _p_value(difference: Statistic, groups: int, seed: int, draws: int) -> float:
    """Share of exchanges f64 [P, groups] (1: exchanged) whose difference [P] is as far from 0 as that of none."""
    observed = abs(float(difference(np.zeros((1, groups)))[0]))
    counted = 2**groups <= _MOST_COUNTED
    total = 2**groups if counted else draws
    extreme = sum(
        int((np.abs(difference(each)) >= observed - _ROUNDING).sum())
        for each in (_all_exchanges(groups) if counted else _drawn_exchanges(groups, seed, draws))
    )
    return extreme / total if counted else (1 + extreme) / (1 + total)


def _all_exchanges(groups: int) -> Iterator[NDArray[np.float64]]:
    numbers = np.arange(2**groups)
    for first in range(0, len(numbers), _BLOCK):
        block = numbers[first : first + _BLOCK, None]
        yield ((block >> np.arange(groups)) & 1).astype(np.float64)


def _drawn_exchanges(groups: int, seed: int, draws: int) -> Iterator[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    for first in range(0, draws, _BLOCK):
        yield generator.integers(0, 2, (min(_BLOCK, draws - first), groups)).astype(np.float64)
