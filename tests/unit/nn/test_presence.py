from pathlib import Path

import numpy as np
import pytest

from merlb_model.nn import keras, tf
from merlb_model.nn.presence import MeanOfPresent, NothingThere, OrPrior, Presence

PRIOR = (0.5, 0.3, 0.2)
ALL_WAYS = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], np.float32)


def test_what_is_withheld_from_a_model_counts_as_absent() -> None:
    np.testing.assert_array_equal(Presence(("face", "screen", "audio"))(ALL_WAYS), ALL_WAYS)
    np.testing.assert_array_equal(Presence(("audio", "face"))(ALL_WAYS), ALL_WAYS * np.array([1, 0, 1], np.float32))
    np.testing.assert_array_equal(Presence(("screen",))(ALL_WAYS), ALL_WAYS * np.array([0, 1, 0], np.float32))


@pytest.mark.parametrize(("skipped", "left"), [(0, 20), (1, 19)])
def test_a_withheld_modality_has_zeros_for_features(skipped: int, left: int) -> None:
    layer, sound = NothingThere(7, skipped), np.full((2, 20, 55), 9, np.int16)
    answer = np.asarray(layer(sound))
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.zeros((2, left, 7)))
    assert layer.compute_output_shape(sound.shape) == answer.shape


def test_logits_stay_where_anything_is_present_and_are_the_priors_logarithm_elsewhere() -> None:
    logits = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    answer = np.asarray(OrPrior(PRIOR)(logits, ALL_WAYS))
    np.testing.assert_array_equal(answer[1:], logits[1:])
    np.testing.assert_allclose(np.exp(answer[0]), PRIOR, rtol=1e-6)


def test_a_class_that_training_has_not_seen_has_a_finite_logarithm() -> None:
    answer = np.asarray(OrPrior((0.75, 0.25, 0.0))(np.zeros((1, 3), np.float32), np.zeros((1, 3), np.float32)))
    assert np.isfinite(answer).all()
    np.testing.assert_allclose(tf.nn.softmax(answer)[0], (0.75, 0.25, 0.0), atol=1e-5)


def test_no_gradient_reaches_the_logits_of_a_window_with_nothing_in_it() -> None:
    logits = tf.ones((2, 3))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(OrPrior(PRIOR)(logits, np.array([[0, 0, 0], [0, 1, 0]], np.float32)))
    np.testing.assert_array_equal(tape.gradient(total, logits), [[0, 0, 0], [1, 1, 1]])


def test_the_mean_is_over_those_present() -> None:
    logits = np.array([[[3, 0], [6, 1], [0, 8]]] * 4, np.float32)
    present = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    np.testing.assert_allclose(MeanOfPresent()(logits, present), [[3, 3], [4.5, 0.5], [0, 8], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    "layer", [Presence(("face",)), OrPrior(PRIOR), MeanOfPresent(), NothingThere(4, 1)], ids=lambda layer: layer.name
)
def test_a_model_with_the_layer_is_saved_and_loaded(layer: keras.layers.Layer, tmp_path: Path) -> None:
    shapes = {"Presence": [(3,)], "OrPrior": [(3,), (3,)], "MeanOfPresent": [(3, 5), (3,)], "NothingThere": [(6, 2)]}
    inputs = [keras.Input(shape) for shape in shapes[type(layer).__name__]]
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    generator = np.random.default_rng(1)
    values = [generator.integers(0, 2, (4, *each.shape[1:])).astype(np.float32) for each in inputs]
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(values), model(values))
    assert loaded.output_shape == model.output_shape
