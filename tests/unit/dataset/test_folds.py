from collections import Counter

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut

from merlb_model.dataset.folds import fold_splits, grouped_folds, leave_one_streamer_out
from merlb_model.errors import MerlbError


def rows(*clips: int) -> pd.Series:
    """Streamers of as many rows as ``clips`` names, one number a streamer, in a mixed order."""
    names = [f"streamer{index:02d}" for index, count in enumerate(clips) for _ in range(count)]
    return pd.Series(np.random.default_rng(0).permutation(names))


def streamers_of(streamers: pd.Series, where: NDArray[np.bool_]) -> set[str]:
    return set(streamers[where])


def test_no_streamer_is_in_two_folds_and_every_row_is_in_one() -> None:
    streamers = rows(*[4] * 13)
    folds = grouped_folds(streamers, 5, seed=1)
    assert folds.dtype == np.int64 and set(folds) == set(range(5))
    assert pd.Series(folds).groupby(streamers).nunique().max() == 1


def test_the_folds_are_balanced_in_clips_not_in_streamers() -> None:
    # The one with 12 clips is alone in its fold; the six of 4 share the two others.
    folds = grouped_folds(rows(12, 4, 4, 4, 4, 4, 4), 3, seed=1)
    assert sorted(Counter(folds).values()) == [12, 12, 12]


def test_equal_streamers_give_folds_of_equal_size() -> None:
    assert set(Counter(grouped_folds(rows(*[10] * 60), 5, seed=3)).values()) == {120}


def test_the_seed_decides_who_is_together() -> None:
    streamers = rows(*[3] * 20)
    first = grouped_folds(streamers, 5, seed=1)
    assert (grouped_folds(streamers, 5, seed=1) == first).all()
    other = grouped_folds(streamers, 5, seed=2)
    assert {frozenset(streamers[first == fold]) for fold in range(5)} != {
        frozenset(streamers[other == fold]) for fold in range(5)
    }


def test_the_order_of_the_rows_does_not_matter() -> None:
    streamers = rows(*[3] * 20)
    turned = streamers[::-1].reset_index(drop=True)
    assert (grouped_folds(turned, 5, seed=1)[::-1] == grouped_folds(streamers, 5, seed=1)).all()


def test_too_few_streamers_or_folds_are_refused() -> None:
    with pytest.raises(MerlbError, match="4 streamers cannot fill 5 folds"):
        grouped_folds(rows(9, 9, 9, 9), 5, seed=1)
    with pytest.raises(MerlbError, match="1 folds: expected 2 or more"):
        grouped_folds(rows(9, 9), 1, seed=1)
    with pytest.raises(MerlbError, match="1 streamers: leaving one out needs 2"):
        leave_one_streamer_out(rows(9))


def test_leaving_one_streamer_out_is_scikit_learns() -> None:
    streamers = rows(3, 1, 5, 2)
    folds = leave_one_streamer_out(streamers)
    expected = LeaveOneGroupOut().split(streamers, groups=streamers)
    assert folds.dtype == np.int64 and set(folds) == set(range(4))
    for fold, (_, tested) in enumerate(expected):
        assert np.flatnonzero(folds == fold).tolist() == tested.tolist()


def test_a_fold_is_tested_and_validation_streamers_come_from_the_others() -> None:
    streamers = rows(*[5] * 20)
    folds = grouped_folds(streamers, 5, seed=1)
    for fold in range(5):
        splits = fold_splits(folds, fold, 0.25, seed=7, streamers=streamers)
        assert ((splits == "test") == (folds == fold)).all()
        assert pd.Series(splits).groupby(streamers).nunique().max() == 1
        # A fold has 4 of the 20 streamers; a quarter of the other 16 validates.
        assert [len(streamers_of(streamers, splits == name)) for name in ("test", "validation", "train")] == [4, 4, 12]


def test_the_seed_decides_who_validates() -> None:
    streamers = rows(*[2] * 20)
    folds = grouped_folds(streamers, 5, seed=1)
    first = fold_splits(folds, 0, 0.2, seed=1, streamers=streamers)
    assert (fold_splits(folds, 0, 0.2, seed=1, streamers=streamers) == first).all()
    assert (fold_splits(folds, 0, 0.2, seed=2, streamers=streamers) != first).any()


def test_no_validation_leaves_all_others_to_train_on() -> None:
    streamers = rows(2, 2)
    splits = fold_splits(leave_one_streamer_out(streamers), 1, 0.0, seed=1, streamers=streamers)
    assert Counter(splits) == {"train": 2, "test": 2}


def test_a_fold_that_is_not_there_and_one_that_leaves_nothing_are_refused() -> None:
    streamers = rows(2, 2)
    folds = leave_one_streamer_out(streamers)
    with pytest.raises(MerlbError, match="fold 2: expected one of 0 to 1"):
        fold_splits(folds, 2, 0.0, seed=1, streamers=streamers)
    with pytest.raises(MerlbError, match=r"fold 0: 1 of the 1 streamers .* none is left"):
        fold_splits(folds, 0, 0.2, seed=1, streamers=streamers)
