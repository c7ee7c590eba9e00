"""Do the test clips differ from the training clips? The population stability index of what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore
from merlb_model.dataset.validation.signals import Signals
from merlb_model.labels import TASKS
from merlb_model.params import ValidateParams

BINS: Final = 10
_DRAWS: Final = 199
_SEED: Final = 0
_UNITS: Final = {"loudness": "dB of full scale", "brightness": "grey level", "motion": "grey levels a step"}


@dataclass(frozen=True)
class Drift:
    """One feature in training and test.

    Attributes:
        feature: its name.
        unit: of ``bins``' borders; empty for classes.
        bins: what each bar is: a class, or the borders "low to high".
        train: share of the training clips in each bin.
        test: share of the test clips in each bin.
        psi: population stability index.
        chance: share of random splits of the same streamers whose index is at least as large.
    """

    feature: str
    unit: str
    bins: list[str]
    train: list[float]
    test: list[float]
    psi: float
    chance: float

    def broken(self, params: ValidateParams) -> bool:
        """Whether it drifts: more than is allowed, and more than who happens to be in which split explains."""
        return self.psi > params.maximum_psi and self.chance <= params.drift_chance


def population_stability_index(train: NDArray[np.int64], test: NDArray[np.int64]) -> float:
    """Σ (q - p) ln(q / p) over bins, p of training and q of test.

    Half a count is added to each bin, so that an empty one is finite. Below 0.1 is called stable, above 0.2 (or 0.25)
    changed (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        train: i64 (bins,), clips in each bin.
        test: the same.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (train, test))
    return float(np.sum((q - p) * np.log(q / p)))


def find_drift(store: ClipStore, splits: Sequence[str], signals: Signals) -> list[Drift]:
    """Each feature's drift; empty where training or test is."""
    split = np.array(splits)
    if not {"train", "test"} <= set(split):
        return []
    # What is dealt out by chance is a streamer's clips, of one split where they are in two.
    groups = pd.factorize(pd.Series(store.clips["streamer"].to_numpy()) + "\0" + pd.Series(split))[0]
    drifts = []
    for feature, unit, values in _features(store, signals):
        known = np.isin(split, ["train", "test"]) & ~pd.isna(values)
        tested = split[known] == "test"
        if tested.any() and not tested.all():
            drifts.append(_drift(feature, unit, values[known], tested, groups[known]))
    return drifts


def _features(store: ClipStore, signals: Signals) -> Iterator[tuple[str, str, NDArray[Any]]]:
    yield "loudness", _UNITS["loudness"], signals.loudness
    for name in ("screen", "face"):
        levels = signals.brightness[name]
        seen = np.isfinite(levels)
        sums = np.where(seen, levels, 0).sum(axis=1)
        counts = seen.sum(axis=1)
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        yield f"{name} brightness", _UNITS["brightness"], mean
        yield f"{name} motion", _UNITS["motion"], signals.motion[name]
    for task in TASKS:
        yield f"{task} classes", "", store.clips[task].to_numpy(dtype=object)
    for index, name in enumerate(store.arrays):
        there = store.present[:, index].astype(np.bool_)
        yield f"{name} presence", "", np.where(there, "present", "absent").astype(object)


def _drift(
    feature: str, unit: str, values: NDArray[Any], tested: NDArray[np.bool_], groups: NDArray[np.int64]
) -> Drift:
    bins, names = _binned(values, tested, unit)
    train, test = (np.bincount(bins[rows], minlength=len(names)) for rows in (~tested, tested))
    psi = population_stability_index(train, test)
    return Drift(
        feature,
        unit,
        names,
        (train / train.sum()).tolist(),
        (test / test.sum()).tolist(),
        psi,
        _chance(psi, values, tested, groups, unit),
    )


def _binned(values: NDArray[Any], tested: NDArray[np.bool_], unit: str) -> tuple[NDArray[np.int64], list[str]]:
    """Each value's bin, tenths of the training values or classes; and the bins' names."""
    if not unit:
        codes, names = pd.factorize(values, sort=True)
        return codes.astype(np.int64), [str(name) for name in names]
    borders = np.unique(np.quantile(values[~tested].astype(np.float64), np.linspace(0, 1, BINS + 1)[1:-1]))
    edges = [float(values.min()), *borders.tolist(), float(values.max())]
    names = [f"{low:.3g} to {high:.3g}" for low, high in zip(edges, edges[1:], strict=False)]
    return np.searchsorted(borders, values, side="right").astype(np.int64), names


def _chance(
    psi: float, values: NDArray[Any], tested: NDArray[np.bool_], groups: NDArray[np.int64], unit: str
) -> float:
    """Share of random splits, whole groups at a time and as many of them tested, with an index of ``psi`` or more.

    A permutation test (the split as it is counts as one draw). Streamers differ: among few of them a large index is
    nothing strange.
    """
    rng = np.random.default_rng(_SEED)
    names, member = np.unique(groups, return_inverse=True)
    of_test = np.zeros(len(names), np.bool_)
    of_test[member[tested]] = True
    as_large = 1
    for _ in range(_DRAWS):
        drawn = rng.permutation(of_test)[member]
        bins, labels = _binned(values, drawn, unit)
        train, test = (np.bincount(bins[rows], minlength=len(labels)) for rows in (~drawn, drawn))
        as_large += population_stability_index(train, test) >= psi
    return as_large / (_DRAWS + 1)
