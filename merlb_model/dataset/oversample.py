"""The ``oversample`` stage: which training rows are used, and how often. Arrays are not copied."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.split import SPLIT_COLUMNS
from merlb_model.dataset.store import open_store, read_table, write_table
from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.labels import TASKS
from merlb_model.params import OversampleParams

TRAIN_ROW_COLUMNS: Final = ("row", "repeats")


def oversample(store: Path, splits: Path, validation: Path, params: OversampleParams, out: Path) -> None:
    """Balance the classes of ``params.tasks`` over the training rows; leave ``row, repeats`` in ``out``.

    Raises:
        MerlbError: validation did not pass, or there is no training row.
    """
    if not read_json(validation, "merlb validate")["passed"]:
        raise MerlbError(f"{validation}: a hard rule is broken; mend the data and run `merlb validate` again")
    table = read_table(splits, "merlb split", SPLIT_COLUMNS)
    rows = table.loc[table["split"] == "train", "row"].to_numpy(dtype=np.int64)
    if not len(rows):
        raise MerlbError(f"{splits}: no training row; set split.mode to streamer or published to train")
    clips = open_store(store)
    targets = [clips.targets(task)[rows] for task in params.tasks]
    classes = [len(TASKS[task]) for task in params.tasks]
    repeats = balance(one_hot(targets, classes), params.maximum_repeats, params.seed)
    write_table(out, pd.DataFrame({"row": rows, "repeats": repeats if targets else np.ones_like(rows)}))


def one_hot(targets: Sequence[NDArray[np.int64]], classes: Sequence[int]) -> NDArray[np.bool_]:
    """The classes of all tasks side by side: bool (rows, sum of classes)."""
    blocks = [np.eye(count, dtype=np.bool_)[target] for target, count in zip(targets, classes, strict=True)]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((0, 0), np.bool_)


def balance(has: NDArray[np.bool_], maximum_repeats: int, seed: int) -> NDArray[np.int64]:
    """How often each row is used: i64 (rows,), 1 or more.

    The paper's oversampling (Abbas et al. 2025): repeat a clip of the rarest class that lacks the commonest,
    until the classes are balanced or no such clip is left. Classes without any row play no part. A clip is used
    ``maximum_repeats`` times at most, so that one clip does not stand for its class; among those that may be
    repeated, one of the least used is drawn.

    Args:
        has: bool (rows, classes), which row is of which class.
        maximum_repeats: bound on each row's use.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    repeats = np.ones(len(has), np.int64)
    counts = has.sum(axis=0)
    occurring = np.flatnonzero(counts)
    while len(occurring):
        rarest = occurring[np.argmin(counts[occurring])]
        commonest = occurring[np.argmax(counts[occurring])]
        candidates = np.flatnonzero(has[:, rarest] & ~has[:, commonest] & (repeats < maximum_repeats))
        if counts[rarest] == counts[commonest] or not len(candidates):
            break
        least_used = candidates[repeats[candidates] == repeats[candidates].min()]
        drawn = rng.choice(least_used)
        repeats[drawn] += 1
        counts = counts + has[drawn]
    return repeats
