"""Do the test clips differ from the training clips? The population stability index of what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore
from merlb_model.dataset.validation.signals import Signals
from merlb_model.labels import MODALITIES, TASKS
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

    Half a count is added to each bin, so that an empty one is finite; bins empty in both play no part. Below 0.1 is
    called stable, above 0.2 (or 0.25) changed (Siddiqi, Credit Risk Scorecards, 2006).

    Args:
        train: i64 (bins,), clips in each bin.
        test: the same.
    """
    occurs = train + test > 0
    train, test = train[occurs], test[occurs]
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
    for feature in _features(store, signals):
        known = np.isin(split, ["train", "test"]) & np.isfinite(feature.values)
        tested = split[known] == "test"
        if tested.any() and not tested.all() and len(np.unique(feature.values[known])) > 1:
            drifts.append(_drift(replace(feature, values=feature.values[known]), tested, groups[known]))
    return drifts


@dataclass(frozen=True)
class _Feature:
    """``values`` f64 (clips,), NaN where there is none; of ``classes``, where given, they are the numbers."""

    name: str
    unit: str
    values: NDArray[np.float64]
    classes: tuple[str, ...] = ()


def _features(store: ClipStore, signals: Signals) -> Iterator[_Feature]:
    yield _Feature("loudness", _UNITS["loudness"], signals.loudness.astype(np.float64))
    for name in ("screen", "face"):
        brightness = signals.brightness[name].astype(np.float64)
        seen = np.isfinite(brightness)
        counts = seen.sum(axis=1)
        mean = np.where(counts > 0, np.where(seen, brightness, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)
        yield _Feature(f"{name} brightness", _UNITS["brightness"], mean)
        yield _Feature(f"{name} motion", _UNITS["motion"], signals.motion[name].astype(np.float64))
    for task, classes in TASKS.items():
        yield _Feature(f"{task} classes", "", store.targets(task).astype(np.float64), classes)
    for index, name in enumerate(MODALITIES):
        yield _Feature(f"{name} presence", "", store.present[:, index].astype(np.float64), ("absent", "present"))


def _drift(feature: _Feature, tested: NDArray[np.bool_], groups: NDArray[np.int64]) -> Drift:
    train, test, names = _counts(feature, tested)
    psi = population_stability_index(train, test)
    in_train, in_test = ((counts / counts.sum()).tolist() for counts in (train, test))
    return Drift(feature.name, feature.unit, names, in_train, in_test, psi, _chance(psi, feature, tested, groups))


def _counts(feature: _Feature, tested: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Training and test clips in each bin, tenths of the training clips or classes; and the bins' names."""
    values = feature.values
    if feature.classes:
        bins, names = values.astype(np.int64), list(feature.classes)
    else:
        borders = np.unique(np.quantile(values[~tested], np.linspace(0, 1, BINS + 1)[1:-1]))
        bins = np.searchsorted(borders, values, side="right")
        edges = [float(values.min()), *borders.tolist(), float(values.max())]
        names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(edges)]
    train, test = (np.bincount(bins[rows], minlength=len(names)) for rows in (~tested, tested))
    return train, test, names


def _chance(psi: float, feature: _Feature, tested: NDArray[np.bool_], groups: NDArray[np.int64]) -> float:
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
        train, test, _names = _counts(feature, rng.permutation(of_test)[member])
        as_large += population_stability_index(train, test) >= psi
    return as_large / (_DRAWS + 1)
