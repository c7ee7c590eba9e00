"""The ``split`` stage: training, validation and test rows, no streamer in two of them."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore, open_store, read_table, write_table
from merlb_model.errors import MerlbError
from merlb_model.params import SplitParams

SPLITS: Final = ("train", "validation", "test")
SPLIT_COLUMNS: Final = ("row", "file", "streamer", "split")


def split(store: Path, params: SplitParams, out: Path) -> None:
    """Give each row of the store its split; leave a table with the columns ``SPLIT_COLUMNS`` in ``out``.

    Raises:
        MerlbError: there are too few streamers, or the published split is asked for and the tables have none.
    """
    opened = open_store(store)
    clips = opened.clips
    if params.mode == "all_test":
        splits = pd.Series("test", index=clips.index)
    elif params.mode == "published":
        splits = _published(clips, params)
    else:
        of_streamer = _by_streamer(sorted(set(clips["streamer"])), params.validation, params.test, params.seed)
        splits = clips["streamer"].map(of_streamer)
    write_splits(out, opened, splits)


def write_splits(path: Path, store: ClipStore, splits: pd.Series) -> None:
    """Write the split of each row of ``store``, in its order, as a table with the columns ``SPLIT_COLUMNS``."""
    clips = store.clips
    table = {"row": np.arange(len(clips), dtype=np.int64), "file": clips["file"], "streamer": clips["streamer"]}
    write_table(path, pd.DataFrame({**table, "split": splits}))


def read_splits(path: Path, store: ClipStore) -> NDArray[np.str_]:
    """The split of each row of ``store``, in its order.

    Raises:
        MerlbError: the table is missing, or is not of this store.
    """
    table = read_table(path, "merlb split", ("row", "file", "split")).sort_values("row")
    if list(table["row"]) != list(range(len(store))) or list(table["file"]) != list(store.clips["file"]):
        raise MerlbError(f"{path}: not the rows of this store: run `merlb split` again")
    if not set(table["split"]) <= set(SPLITS):
        raise MerlbError(f"{path}: expected the splits {', '.join(SPLITS)}: run `merlb split` again")
    return table["split"].to_numpy(dtype=np.str_)


def _by_streamer(streamers: list[str], validation: float, test: float, seed: int) -> dict[str, str]:
    """A split a streamer, drawn at random; each split that has a share gets one streamer at least."""
    wanted = 1 + (validation > 0) + (test > 0)
    if len(streamers) < wanted:
        raise MerlbError(
            f"{len(streamers)} streamers cannot fill {wanted} splits: bring clips of more streamers, "
            "or set split.mode to all_test to score them with a model trained elsewhere"
        )
    order = np.random.default_rng(seed).permutation(np.array(streamers, dtype=object))
    tests = max(1, round(test * len(order))) if test else 0
    validations = max(1, round(validation * len(order))) if validation else 0
    tests = min(tests, len(order) - validations - 1)
    names = ["test"] * tests + ["validation"] * validations
    names += ["train"] * (len(order) - len(names))
    return dict(zip(order, names, strict=True))


def _published(clips: pd.DataFrame, params: SplitParams) -> pd.Series:
    """The tables' own split; validation streamers are drawn from the training table."""
    unknown = clips.loc[~clips["table"].isin(["training", "testing"]), "file"]
    if len(unknown):
        raise MerlbError(
            f"split.mode published: {len(unknown)} clips ({unknown.iloc[0]}, …) stand in neither trainingdata.csv "
            "nor testingdata.csv; use split.mode streamer"
        )
    training = sorted(set(clips.loc[clips["table"] == "training", "streamer"]))
    share = params.validation / (1 - params.test)
    of_streamer = _by_streamer(training, share, 0.0, params.seed)
    return clips["streamer"].map(of_streamer).where(clips["table"] == "training", "test")
