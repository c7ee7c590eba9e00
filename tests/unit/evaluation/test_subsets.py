from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from merlb_model.dataset.store import PRESENT_COLUMNS, ClipStore, open_store
from merlb_model.evaluation.predict import gather_logits
from merlb_model.evaluation.subsets import predict_subsets, subset_scores
from merlb_model.labels import MODALITIES, SUBSETS, TASKS, WHOLE
from merlb_model.nn import keras, tf
from tests.unit.dataset.small_stores import write_noisy_store
from tests.unit.nn.conftest import PRIOR, build, shake

TEST = np.array([False, True, True, False, True, False])  # three, in batches of two


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """Six clips, of which the third has no screen."""
    whole = open_store(write_noisy_store(tmp_path_factory.mktemp("noise") / "store", 3, 2))
    clips = whole.clips.copy()
    clips.loc[2, "present_screen"] = False
    return replace(whole, clips=clips)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return shake(build(fusion="late"))


def without(store: ClipStore, kept: tuple[str, ...]) -> ClipStore:
    clips = store.clips.copy()
    clips[[column for column, name in zip(PRESENT_COLUMNS, MODALITIES, strict=True) if name not in kept]] = False
    return replace(store, clips=clips)


def test_there_are_seven_subsets_and_the_whole_comes_last() -> None:
    assert list(SUBSETS) == [
        "face", "screen", "audio", "face+screen", "face+audio", "screen+audio", "face+screen+audio"
    ]  # fmt: skip
    assert list(SUBSETS)[-1] == WHOLE


def test_a_subset_is_what_the_whole_network_says_when_the_rest_is_absent(
    store: ClipStore, network: keras.Model
) -> None:
    logits, by_subset = predict_subsets(network, store, TEST, 2)
    answer = tf.function(lambda windows: network(windows, training=False))
    whole = gather_logits(answer, network, store, np.arange(6), 3)
    for task in TASKS:
        np.testing.assert_allclose(logits[task], whole[task], atol=1e-4, rtol=1e-4)
        np.testing.assert_array_equal(by_subset[WHOLE][task], logits[task][TEST])
    for subset, names in SUBSETS.items():
        expected = gather_logits(answer, network, without(store, names), np.flatnonzero(TEST), 3)
        for task in TASKS:
            np.testing.assert_allclose(by_subset[subset][task], expected[task], atol=1e-4, rtol=1e-4)
    screen = softmax(by_subset["screen"]["valence"][1])  # the clip without one
    np.testing.assert_allclose(screen, PRIOR["valence"], atol=1e-6)


@pytest.mark.parametrize("test", [np.zeros(6, bool), np.ones(6, bool)])
def test_none_or_all_of_the_rows_may_be_asked_about(store: ClipStore, network: keras.Model, test: np.ndarray) -> None:
    logits, by_subset = predict_subsets(network, store, test, 4)
    assert {subset: len(each["event"]) for subset, each in by_subset.items()} == dict.fromkeys(SUBSETS, test.sum())
    assert len(logits["event"]) == 6


def test_scores_are_macro_f1_of_the_highest_logit_and_none_without_rows() -> None:
    logits = {"valence": np.array([[2, 1, 0], [0, 2, 1], [0, 3, 1]], np.float32)}
    actual = {"valence": np.array([0, 1, 2])}
    expected = f1_score([0, 1, 2], [0, 1, 1], average="macro", zero_division=0)
    assert subset_scores({"face": logits}, actual) == {"face": {"valence": pytest.approx(expected)}}
    nothing = {"valence": logits["valence"][:0]}
    assert subset_scores({"face": nothing}, {"valence": np.zeros(0, np.int64)}) == {"face": {"valence": None}}
