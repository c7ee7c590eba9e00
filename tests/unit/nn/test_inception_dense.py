from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.nn import keras, tf
from merlb_model.nn.inception_dense import EachStep, MapNorm, Places, dense_block, frame_encoder, inception
from merlb_model.nn.model import PRESETS


def test_map_norm_is_keras_batch_norm() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = MapNorm(momentum=0.9), keras.layers.BatchNormalization(momentum=0.9)
    for layer in (ours, theirs):
        layer.build((None, 5, 4, 6))
    gamma, beta = generator.uniform(0.5, 2, 6), generator.normal(size=6)
    for layer in (ours, theirs):
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)
    for _ in range(3):
        maps = generator.normal(2, 3, (8, 5, 4, 6)).astype(np.float32)
        np.testing.assert_allclose(ours(maps, training=True), theirs(maps, training=True), rtol=1e-4, atol=1e-4)
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(maps, training=False), theirs(maps, training=False), rtol=1e-4, atol=1e-4)


def norms(**ways: Any) -> tuple[MapNorm, keras.layers.BatchNormalization]:
    """Ours, and Keras's in 32 bits, with the same weights and moving statistics of 6 channels."""
    generator = np.random.default_rng(1)
    weights = [generator.uniform(0.5, 2, 6), *generator.normal(2, 1, (2, 6)), generator.uniform(4, 9, 6)]
    both = MapNorm(momentum=0.9, **ways), keras.layers.BatchNormalization(momentum=0.9)
    for layer in both:
        layer.build((None, None, None, 6))
        layer.set_weights(weights)
    return both


def random_maps(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).normal(2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("training", [True, False])
def test_map_norms_gradients_are_those_of_keras(training: bool) -> None:
    maps, weights = random_maps(8, 5, 4, 6), random_maps(8, 5, 4, 6)
    gradients = []
    for layer in norms():
        given = tf.constant(maps)
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_sum(layer(given, training=training) ** 2 * weights)
        gradients.append(tape.gradient(loss, [given, layer.gamma.value, layer.beta.value]))
    for one, other in zip(*gradients, strict=True):
        assert np.abs(other).min() > 0 and np.ptp(other) > 1
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max())


def test_a_map_norm_that_is_not_trained_uses_its_moving_statistics_and_moves_nothing() -> None:
    maps, (ours, theirs) = random_maps(8, 5, 4, 6), norms()
    learnt = np.asarray(ours(maps, training=True))
    for layer in (ours, theirs):
        layer.set_weights(norms()[0].get_weights())
        layer.trainable = False
    before, given, gradients = ours.get_weights(), tf.constant(maps), []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_sum(layer(given, training=True) ** 2)
        gradients.append(np.asarray(tape.gradient(loss, given)))
    frozen = np.asarray(ours(maps, training=True))
    np.testing.assert_allclose(frozen, theirs(maps, training=True), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(frozen, learnt, atol=0.1)
    for one, other in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_a_map_norm_of_16_bits_answers_in_16_and_keeps_its_statistics_in_32(training: bool) -> None:
    """The maps' sums are beyond the largest number of 16 bits, 65,504."""
    ours, theirs = norms(dtype="mixed_float16")
    maps = (20 + random_maps(8, 32, 32, 6)).astype(np.float16)
    assert maps.astype(float).sum(axis=(0, 1, 2)).min() > 65_504
    for _ in range(3):
        one, other = ours(maps, training=training), theirs(maps.astype(np.float32), training=training)
        assert one.dtype == "float16"
        np.testing.assert_allclose(np.asarray(one, np.float32), other, rtol=2**-10, atol=2e-3)  # rounded once
    for mine, kept in zip(ours.weights, theirs.weights, strict=True):
        assert mine.dtype == "float32"
        np.testing.assert_allclose(mine, kept, rtol=1e-5)


def test_places_find_a_spot_and_its_value() -> None:
    maps = np.zeros((1, 5, 9, 2), np.float32)
    maps[0, 0, 8, 0] = 60.0  # top right
    maps[0, 4, 4, 1] = 60.0  # bottom, in the middle
    column_0, column_1, row_0, row_1, value_0, value_1 = np.asarray(Places()(maps))[0]
    assert (column_0, row_0, value_0) == pytest.approx((1.0, -1.0, 60.0), abs=1e-4)
    assert (column_1, row_1, value_1) == pytest.approx((0.0, 1.0, 60.0), abs=1e-4)


def test_places_move_with_what_they_follow() -> None:
    here, there = np.zeros((1, 8, 8, 1), np.float32), np.zeros((1, 8, 8, 1), np.float32)
    here[0, 3, 2, 0] = there[0, 3, 4, 0] = 40.0
    move = np.asarray(Places()(there) - Places()(here))[0]
    np.testing.assert_allclose(move, [2 * 2 / 7, 0, 0], atol=1e-4)


def test_an_inception_module_joins_four_branches() -> None:
    maps = keras.Input((16, 16, 5))
    assert inception(maps, 6, "module").shape == (None, 16, 16, 24)


def test_a_dense_block_keeps_what_it_read_and_adds_its_growth() -> None:
    maps = keras.Input((8, 8, 10))
    block = keras.Model(maps, dense_block(maps, 3, 4, "block"))
    given = np.random.default_rng(0).normal(size=(2, 8, 8, 10)).astype(np.float32)
    answer = np.asarray(block(given))
    assert answer.shape == (2, 8, 8, 22)
    np.testing.assert_array_equal(answer[..., :10], given)


@pytest.mark.parametrize(("shape", "name"), [((64, 64, 3), "face"), ((128, 128, 3), "screen")])
def test_a_frame_ends_in_a_vector(shape: tuple[int, ...], name: str) -> None:
    sizes = getattr(PRESETS["small"], name)
    encoder = frame_encoder(shape, sizes, name)
    assert encoder.output_shape == (None, sizes.features)
    assert encoder.input.dtype == "uint8"


def test_each_step_equals_the_network_step_by_step() -> None:
    network = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="tanh")])
    steps = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    together = np.asarray(EachStep(network)(steps))
    for step in range(5):
        np.testing.assert_allclose(together[:, step], network(steps[:, step]), rtol=1e-5, atol=1e-6)
