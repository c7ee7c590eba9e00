"""The ``split`` stage: training, validation and test rows, no streamer in two of them."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore, open_store, read_table, write_table
from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.params import SplitParams

SPLITS: Final = ("train", "validation", "test")
SPLIT_COLUMNS: Final = ("row", "file", "streamer", "split")
_ROUNDS: Final = 20
_SMALLEST_GAIN: Final = 1e-12
"""Less is rounding, and could go round and round."""


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
        splits = clips["streamer"].map(_by_streamer(clips, params.validation, params.test, params))
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


def _by_streamer(clips: pd.DataFrame, validation: float, test: float, params: SplitParams) -> dict[str, str]:
    """A split a streamer, drawn at random; each split that has a share gets one streamer at least.

    With ``params.stratify`` streamers then change places until the splits have the classes' shares, as far as they can.
    """
    streamers = sorted(set(clips["streamer"]))
    wanted = 1 + (validation > 0) + (test > 0)
    if len(streamers) < wanted:
        raise MerlbError(
            f"{len(streamers)} streamers cannot fill {wanted} splits: bring clips of more streamers, "
            "or set split.mode to all_test to score them with a model trained elsewhere"
        )
    order = np.random.default_rng(params.seed).permutation(np.array(streamers, dtype=object))
    tests = max(1, round(test * len(order))) if test else 0
    validations = max(1, round(validation * len(order))) if validation else 0
    tests = min(tests, len(order) - validations - 1)
    names = ["test"] * tests + ["validation"] * validations
    names += ["train"] * (len(order) - len(names))
    drawn = dict(zip(order, names, strict=True))
    return _stratified(clips, drawn, params.seed) if params.stratify else drawn


def _stratified(clips: pd.DataFrame, drawn: dict[str, str], seed: int) -> dict[str, str]:
    """Let streamers of different splits change places as long as it brings the splits nearer to the whole.

    Each streamer in turn, in an order that ``seed`` decides, takes the best place that it finds; when none finds a
    better one, or after ``_ROUNDS``, it is done. scikit-learn's StratifiedGroupKFold does this for one task and equal
    folds; here are three tasks and unequal splits.
    """
    streamers = sorted(drawn)
    of_split = np.array([SPLITS.index(drawn[streamer]) for streamer in streamers])
    counts = _counts_of_streamers(clips, streamers)
    totals = np.stack([counts[of_split == split].sum(axis=0) for split in range(len(SPLITS))])
    rng = np.random.default_rng(seed)
    for _ in range(_ROUNDS):
        before = of_split.copy()
        for mine in rng.permutation(len(streamers)):
            _change_places(int(mine), of_split, counts, totals)
        if (of_split == before).all():
            break
    return {streamer: SPLITS[split] for streamer, split in zip(streamers, of_split, strict=True)}


def _counts_of_streamers(clips: pd.DataFrame, streamers: list[str]) -> NDArray[np.float64]:
    """Clips of each streamer by class of each task, and then in all: f64 [streamers, classes + 1]."""
    tables = [
        pd.crosstab(clips["streamer"], clips[task]).reindex(index=streamers, columns=list(classes), fill_value=0)
        for task, classes in TASKS.items()
    ]
    sizes = clips["streamer"].value_counts().reindex(streamers)
    return np.column_stack([*tables, sizes]).astype(np.float64)


def _change_places(
    mine: int, of_split: NDArray[np.int64], counts: NDArray[np.float64], totals: NDArray[np.float64]
) -> None:
    """Swap ``mine`` with the streamer of another split that helps most, if one does; both arrays are changed."""
    here = int(of_split[mine])
    others = np.flatnonzero(of_split != here)
    if not len(others):
        return
    gain = counts[others] - counts[mine]  # what the split of `mine` would win
    swapped = np.repeat(totals[None], len(others), axis=0)
    swapped[:, here] += gain
    swapped[np.arange(len(others)), of_split[others]] -= gain
    wanted = np.bincount(of_split, minlength=len(SPLITS)) / len(of_split)  # no swap changes it
    distances = split_distances(swapped, wanted)
    best = int(np.argmin(distances))
    if distances[best] < split_distances(totals, wanted) - _SMALLEST_GAIN:
        totals[:] = swapped[best]
        of_split[mine], of_split[others[best]] = of_split[others[best]], here


def split_distances(totals: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far splits are from the whole: f64 [...].

    Σ over splits and classes (p - q)² / q, with p a class's share in the split and q in the whole (Pearson's χ² of
    shares): a rare class counts as much as a common one. The splits' shares of the clips are held to ``wanted`` in the
    same way.

    Args:
        totals: clips by split and class, and in all as the last column: f64 [..., splits, classes + 1]; a split without
            clips is left out.
        wanted: the splits' shares of the streamers, f64 [splits].
    """
    sizes = totals[..., -1:]
    whole = totals.sum(axis=-2, keepdims=True)
    shares = totals[..., :-1] / np.maximum(sizes, 1)
    expected = whole[..., :-1] / np.maximum(whole[..., -1:], 1)
    terms = (shares - expected) ** 2 / np.where(expected > 0, expected, 1) * (sizes > 0)
    of_clips = sizes[..., 0] / np.maximum(whole[..., -1], 1)
    misfit = (of_clips - wanted) ** 2 / np.where(wanted > 0, wanted, 1)
    return terms.sum(axis=(-2, -1)) + misfit.sum(axis=-1)


def _published(clips: pd.DataFrame, params: SplitParams) -> pd.Series:
    """The tables' own split; validation streamers are drawn from the training table."""
    unknown = clips.loc[~clips["table"].isin(["training", "testing"]), "file"]
    if len(unknown):
        raise MerlbError(
            f"split.mode published: {len(unknown)} clips ({unknown.iloc[0]}, …) stand in neither trainingdata.csv "
            "nor testingdata.csv; use split.mode streamer"
        )
    training = clips[clips["table"] == "training"]
    share = params.validation / (1 - params.test)
    of_streamer = _by_streamer(training, share, 0.0, params)
    return clips["streamer"].map(of_streamer).where(clips["table"] == "training", "test")
