import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import bootstrap
from sklearn.metrics import f1_score

from merlb_model.evaluation.bootstrap import drawn_over, groups_of, interval, macro_f1_of, mean_difference_interval


def labels(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Three classes, of which about 70% are predicted rightly."""
    random = np.random.default_rng(seed)
    actual = random.integers(0, 3, count)
    return actual, np.where(random.random(count) < 0.6, actual, random.integers(0, 3, count))


def macro(actual: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    return float(f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0))


@pytest.mark.parametrize("count", [3, 5, 40])  # so few rows lack classes
def test_macro_f1_of_confusions_is_scikit_learns(count: int) -> None:
    confusions, expected = np.zeros((30, 3, 3), np.int64), []
    for seed in range(30):
        actual, predicted = labels(count, seed)
        np.add.at(confusions[seed], (actual, predicted), 1)
        expected.append(macro(actual, predicted))
    np.testing.assert_allclose(macro_f1_of(confusions), expected)


@pytest.mark.parametrize(("streamers", "over"), [(8, "streamers"), (7, "clips"), (0, "clips")])
def test_streamers_are_drawn_where_there_are_eight(streamers: int, over: str) -> None:
    assert drawn_over(pd.Series([f"s{index % streamers}" for index in range(streamers * 3)], dtype=object)) == over


def test_whole_groups_are_drawn() -> None:
    """One group of two is all right, the other all wrong: of the draws a quarter is all right and a quarter all wrong.

    So the interval is (0, 1); clips drawn one by one would stay near a half.
    """
    actual = np.tile([0, 1], 60)
    predicted = np.concatenate([actual[:60], 1 - actual[60:]])
    assert interval(actual, predicted, np.repeat([0, 1], 60), 2) == (0.0, 1.0)
    bounds = interval(actual, predicted, np.arange(120), 2)
    assert bounds is not None and 0.3 < bounds[0] < 0.5 < bounds[1] < 0.7


def test_over_clips_it_is_the_percentile_bootstrap_of_scipy() -> None:
    actual, predicted = labels(150, 1)
    oracle = bootstrap(
        (actual, predicted),
        macro,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=1_000,
        random_state=np.random.default_rng(2),
    ).confidence_interval
    bounds = interval(actual, predicted, np.arange(150), 3)
    assert bounds == pytest.approx((oracle.low, oracle.high), abs=0.02)


def test_the_seed_decides_and_neither_the_order_of_rows_nor_the_groups_numbers_do() -> None:
    actual, predicted = labels(90, 2)
    groups = np.arange(90) // 9
    bounds = interval(actual, predicted, groups, 3, seed=4)
    order = np.random.default_rng(0).permutation(90)
    assert interval(actual[order], predicted[order], 10 * groups[order] + 3, 3, seed=4) == bounds
    assert interval(actual, predicted, groups, 3, seed=5) != bounds


def test_perfect_answers_have_no_width_and_no_rows_no_interval() -> None:
    actual = np.array([0, 1, 2, 0, 1])
    assert interval(actual, actual, np.arange(5), 3) == (1.0, 1.0)
    nothing = np.zeros(0, np.int64)
    assert interval(nothing, nothing, nothing, 3) is None


def test_groups_are_streamers_where_there_are_eight_else_clips() -> None:
    names = np.array([f"s{index}" for index in (3, 1, 4, 1, 5, 9, 2, 6, 7)])
    assert groups_of(names).tolist() == [0, 1, 2, 1, 3, 4, 5, 6, 7]
    assert groups_of(names[:-1]).tolist() == list(range(8))


def test_the_interval_of_a_mean_difference_over_clips_is_scipys() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(80), random.random(80)
    oracle = bootstrap(
        (first - second,), np.mean, method="percentile", n_resamples=5_000, random_state=np.random.default_rng(2)
    ).confidence_interval
    bounds = mean_difference_interval(first, second, np.arange(80), draws=5_000)
    assert bounds == pytest.approx((oracle.low, oracle.high), abs=0.01)


def test_a_mean_difference_is_drawn_by_whole_groups_and_weighs_their_clips() -> None:
    """Of two groups the smaller, 10 of 40 clips, differs by 1, the other not at all.

    A quarter of the draws is the one alone, a quarter the other alone: (0, 1). Both together: 10 of 40 clips.
    """
    groups = np.repeat([5, 2], [10, 30])
    first = (groups == 5).astype(np.float64)
    assert mean_difference_interval(first, np.zeros(40), groups) == (0.0, 1.0)
    middle = [mean_difference_interval(first, np.zeros(40), groups, seed, draws=1)[0] for seed in range(20)]
    assert set(middle) == {0.0, 0.25, 1.0}


def test_models_are_paired_so_what_both_find_hard_widens_nothing() -> None:
    hard = np.random.default_rng(0).random(50)
    low, high = mean_difference_interval(hard + 0.1, hard, np.arange(50))
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert all(np.isnan(mean_difference_interval(hard[:0], hard[:0], np.arange(0))))
