import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from merlb_model.dataset.store import open_store
from merlb_model.dataset.validation.drift import find_drift, population_stability_index
from merlb_model.dataset.validation.signals import Signals
from merlb_model.params import ValidateParams
from tests.unit.dataset.synthetic_store import write_store

PARAMS = ValidateParams()


def test_the_index_of_two_bins_is_as_worked_out_by_hand() -> None:
    # (10 + ½) / 21 = ½ each in training; (15 + ½) / 21 and (5 + ½) / 21 in test.
    by_hand = (15.5 / 21 - 0.5) * math.log(15.5 / 10.5) + (5.5 / 21 - 0.5) * math.log(5.5 / 10.5)
    assert by_hand == pytest.approx(0.2467, abs=1e-4)
    assert population_stability_index(np.array([10, 10]), np.array([15, 5])) == pytest.approx(by_hand)


def test_the_index_is_the_sum_of_both_relative_entropies() -> None:
    train, test = np.array([40, 25, 0, 35]), np.array([10, 0, 30, 60])
    p, q = (train + 0.5) / 102, (test + 0.5) / 102
    expected = scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)
    assert population_stability_index(train, test) == pytest.approx(expected)


def test_equal_shares_have_no_index_and_bins_empty_in_both_play_no_part() -> None:
    assert population_stability_index(np.array([5, 5]), np.array([5, 5])) == 0
    narrow = population_stability_index(np.array([9, 1]), np.array([4, 6]))
    assert population_stability_index(np.array([9, 0, 1]), np.array([4, 0, 6])) == narrow


def measured(store, loudness) -> Signals:
    signals = Signals.of_nothing(len(store))
    signals.loudness[:] = loudness
    return signals


def drift_of(feature, store, splits, signals):
    return next(drift for drift in find_drift(store, splits, signals) if drift.feature == feature)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory):
    return open_store(write_store(tmp_path_factory.mktemp("drift") / "store", 12, 6))


SPLITS = ["train"] * 36 + ["validation"] * 12 + ["test"] * 24


def test_a_test_split_of_other_loudness_drifts(store) -> None:
    rng = np.random.default_rng(0)
    loudness = rng.normal(-30, 3, 72) + np.where(np.array(SPLITS) == "test", -15, 0)
    drift = drift_of("loudness", store, SPLITS, measured(store, loudness))
    assert drift.psi > 1 and drift.chance <= 0.05 and drift.broken(PARAMS)
    assert sum(drift.train) == pytest.approx(1) and sum(drift.test) == pytest.approx(1)
    assert drift.test[0] > 0.9 and drift.train[0] == pytest.approx(0.1, abs=0.03)


def test_streamers_who_differ_are_no_drift_though_the_index_is_large(store) -> None:
    rng = np.random.default_rng(3)
    loudness = np.repeat(rng.normal(-30, 8, 12), 6) + rng.normal(0, 0.5, 72)
    drift = drift_of("loudness", store, SPLITS, measured(store, loudness))
    assert drift.psi > 0.2 and drift.chance > 0.05 and not drift.broken(PARAMS)


def test_the_same_clips_in_both_splits_do_not_drift(store) -> None:
    loudness = np.tile(np.linspace(-40, -20, 6), 12)
    assert drift_of("loudness", store, SPLITS, measured(store, loudness)).psi < 0.1


def test_classes_and_absent_modalities_drift_too(store) -> None:
    tested = np.array(SPLITS) == "test"
    clips = store.clips.assign(
        valence=np.where(tested, "negative", pd.Series(["neutral", "positive"] * 36)),
        present_face=~tested,
    )
    other = type(store)(store.face, store.screen, store.audio, clips, store.meta)
    drifts = {drift.feature: drift for drift in find_drift(other, SPLITS, measured(other, -30.0))}
    assert drifts["valence classes"].broken(PARAMS) and drifts["face presence"].broken(PARAMS)
    assert drifts["valence classes"].bins == ["negative", "neutral", "positive"]
    assert drifts["face presence"].test == [1, 0] and "audio presence" not in drifts  # nobody lacks it


def test_clips_without_sound_play_no_part_and_without_test_clips_there_is_none(store) -> None:
    loudness = np.where(np.arange(72) % 2, np.nan, np.linspace(-40, -20, 72))
    drift = drift_of("loudness", store, SPLITS, measured(store, loudness))
    assert np.isfinite(drift.psi) and len(drift.bins) == 10
    assert find_drift(store, ["train"] * 72, measured(store, loudness)) == []
