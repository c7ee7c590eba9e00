import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import permutation_test as scipys
from sklearn.metrics import f1_score

from merlb_model.evaluation.permutation import holm, macro_f1_permutation_test, permutation_test


def hits(count: int, share: float, seed: int) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(count) < share).astype(np.float64)


def mean_difference(one: NDArray[np.float64], two: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    return np.mean(one, axis=axis) - np.mean(two, axis=axis)


def test_few_clips_are_exchanged_in_every_way_as_scipy_does() -> None:
    first, second = hits(12, 0.8, 0), hits(12, 0.4, 1)
    oracle = scipys((first, second), mean_difference, permutation_type="samples", n_resamples=np.inf)
    assert permutation_test(first, second, np.zeros(12)) == pytest.approx(oracle.pvalue, rel=1e-12)


def test_of_eight_streamers_on_whole_streamers_are_exchanged() -> None:
    """As SciPy does with a number a streamer: the sum over its clips, of which each has another count."""
    streamers = np.repeat([f"s{index}" for index in range(9)], np.arange(3, 12))
    first, second = hits(63, 0.7, 2), hits(63, 0.5, 3)
    sums = [np.array([each[streamers == name].sum() for name in np.unique(streamers)]) for each in (first, second)]
    oracle = scipys(sums, mean_difference, permutation_type="samples", n_resamples=np.inf)
    order = np.random.default_rng(0).permutation(63)
    assert permutation_test(first[order], second[order], streamers[order]) == pytest.approx(oracle.pvalue, rel=1e-12)


def test_one_streamer_cannot_make_a_difference_of_eight() -> None:
    """All of the difference is in one of eight: each of the 256 exchanges is as extreme. Clip by clip it is sure."""
    streamers = np.repeat(np.arange(8), 20)
    first = np.where(streamers == 3, 1.0, 0.5)
    assert permutation_test(first, np.full(160, 0.5), streamers) == 1.0
    assert permutation_test(first[:140], np.full(140, 0.5), streamers[:140]) < 0.001  # of seven: clip by clip


def test_where_there_are_too_many_exchanges_some_are_drawn_by_the_seed() -> None:
    first, second = hits(40, 0.75, 4), hits(40, 0.55, 5)
    oracle = scipys(
        (first, second),
        mean_difference,
        permutation_type="samples",
        n_resamples=50_000,
        random_state=np.random.default_rng(1),
    )
    found = permutation_test(first, second, np.zeros(40))
    assert found == pytest.approx(oracle.pvalue, abs=0.02) and found == permutation_test(first, second, np.zeros(40))
    assert found != permutation_test(first, second, np.zeros(40), seed=1)


def test_drawn_p_values_are_never_zero() -> None:
    assert permutation_test(np.ones(60), np.zeros(60), np.zeros(60), draws=99) == 1 / 100


def test_models_that_answer_alike_do_not_differ() -> None:
    same = hits(30, 0.5, 6)
    assert permutation_test(same, same, np.arange(30)) == 1.0
    assert permutation_test(same[:0], same[:0], np.zeros(0)) == 1.0


def test_the_macro_f1_is_compared_as_scipy_and_scikit_learn_do() -> None:
    random = np.random.default_rng(7)
    actual = random.integers(0, 3, 8)
    first, second = (np.where(random.random(8) < share, actual, random.integers(0, 3, 8)) for share in (0.9, 0.3))

    def difference(one: NDArray[np.int64], two: NDArray[np.int64]) -> float:
        scores = [
            f1_score(actual, each, labels=np.unique(actual), average="macro", zero_division=0) for each in (one, two)
        ]
        return float(scores[0] - scores[1])

    oracle = scipys((first, second), difference, permutation_type="samples", vectorized=False, n_resamples=np.inf)
    found = macro_f1_permutation_test(actual, first, second, 3, np.zeros(8))
    assert 0 < oracle.pvalue < 1 and found == pytest.approx(oracle.pvalue, rel=1e-12)


def test_the_macro_f1s_exchanges_are_of_whole_streamers_too() -> None:
    """One of two models is right on all of eight streamers' clips: two of the 256 exchanges are as extreme."""
    actual = np.tile([0, 1, 2], 16)
    streamers = np.repeat(np.arange(8), 6)
    assert macro_f1_permutation_test(actual, actual, (actual + 1) % 3, 3, streamers) == pytest.approx(2 / 256)


def test_holm_multiplies_the_smallest_by_their_number_and_never_goes_down() -> None:
    # 0.01 · 4; 0.02 · 3 = 0.06; 0.03 · 2 = 0.06; 0.9 · 1, and 0.022 · 2 = 0.044 stays at the one before
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.02, 0.022, 0.9]) == pytest.approx([0.06, 0.06, 0.9])
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []
