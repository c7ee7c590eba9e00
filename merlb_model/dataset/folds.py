"""Folds over streamers: each clip is tested once, by a network that has seen nothing of its streamer."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, GroupShuffleSplit

from merlb_model.errors import MerlbError


def grouped_folds(streamers: pd.Series, folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row, 0 to ``folds`` - 1, i64 [N]: no streamer in two, as many clips in each as streamers allow.

    Args:
        streamers: of each row.
        folds: at least 2.
        seed: decides among streamers of as many clips; the order of the rows does not.

    Raises:
        MerlbError: there are fewer streamers than folds, or fewer than 2 folds.
    """
    names, numbers = np.unique(streamers.to_numpy(dtype=np.str_), return_inverse=True)
    if folds < 2:
        raise MerlbError(f"{folds} folds: expected 2 or more, one to test and the others to train on")
    if len(names) < folds:
        raise MerlbError(
            f"{len(names)} streamers cannot fill {folds} folds: bring clips of more streamers, or ask for fewer folds"
        )
    # Not GroupKFold's own shuffle, which balances the number of streamers, not of clips.
    shuffled = np.random.default_rng(seed).permutation(len(names))[numbers]
    fold_of_row = np.empty(len(streamers), dtype=np.int64)
    for fold, (_, tested) in enumerate(GroupKFold(folds).split(shuffled, groups=shuffled)):
        fold_of_row[tested] = fold
    return fold_of_row


def leave_one_streamer_out(streamers: pd.Series) -> NDArray[np.int64]:
    """Fold of each row, i64 [N]: a fold a streamer, in the order of their names.

    Raises:
        MerlbError: there is one streamer only, or none.
    """
    names, fold_of_row = np.unique(streamers.to_numpy(dtype=np.str_), return_inverse=True)
    if len(names) < 2:
        raise MerlbError(f"{len(names)} streamers: leaving one out needs 2 or more: bring clips of more streamers")
    return fold_of_row.astype(np.int64)


def fold_splits(
    fold_of_row: NDArray[np.int64], fold: int, validation: float, seed: int, streamers: pd.Series
) -> NDArray[np.str_]:
    """The split of each row while ``fold`` is tested: ``train``, ``validation`` or ``test``, str [N].

    Args:
        fold_of_row: what ``grouped_folds`` or ``leave_one_streamer_out`` gave.
        fold: the one to test.
        validation: share of the streamers that are not tested, rounded up; below 1, and 0 takes none.
        seed: of the draw of the validation streamers.
        streamers: of each row.

    Raises:
        MerlbError: there is no such fold, or too few streamers are left to train on and to validate with.
    """
    if fold not in fold_of_row:
        raise MerlbError(f"fold {fold}: expected one of 0 to {fold_of_row.max()}")
    names = streamers.to_numpy(dtype=np.str_)
    splits = np.where(fold_of_row == fold, "test", "train").astype("<U10")
    if not validation:
        return splits
    others = np.flatnonzero(fold_of_row != fold)
    left = np.unique(names[others])
    count = int(np.ceil(validation * len(left)))
    if count >= len(left):
        raise MerlbError(
            f"fold {fold}: {count} of the {len(left)} streamers that are not tested would validate, and none is left "
            "to train on: ask for fewer folds, a smaller validation share, or bring clips of more streamers"
        )
    draw = GroupShuffleSplit(1, test_size=count, random_state=seed)
    _, chosen = next(draw.split(others, groups=names[others]))
    splits[others[chosen]] = "validation"
    return splits
