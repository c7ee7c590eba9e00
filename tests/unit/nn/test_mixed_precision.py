"""Networks that compute with 16 bits against the same ones of 32."""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import numpy as np
import pytest

from merlb_model.labels import TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import weights_hash
from merlb_model.params import ModelParams, TrainParams
from merlb_model.training.checkpoints import Progress
from merlb_model.training.devices import arithmetic, computes_with_16_bits
from merlb_model.training.loop import run_epochs, training_step
from tests.unit.nn.conftest import PRIOR, build, decide, random_windows
from tests.unit.nn.quickened import quicken

FUSIONS = get_args(ModelParams.model_fields["fusion"].annotation)
PLAIN = TrainParams(epochs=1, augment=False, modality_dropout=0.0)
TARGETS = {"valence": [0, 2], "arousal": [1, 0], "event": [7, 3]}
HALF_ROUNDING = 2.0**-11  # most by which a number of 16 bits is off, as a share of it


@pytest.fixture(params=FUSIONS)
def pair(request: pytest.FixtureRequest) -> tuple[keras.Model, keras.Model]:
    """The same fresh network, of 32 bits and of 16."""
    one = build(fusion=request.param, dropout=0.0)
    with arithmetic(of_16_bits=True):
        return one, build(fusion=request.param, dropout=0.0)


def as_trained(model: keras.Model) -> keras.Model:
    """Let it tell windows apart: statistics of a batch of windows in all its norms, and heads with an opinion."""
    quicken(model.get_layer("fuse"))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(random_windows(8, seed=3), training=True)
    return decide(model)


def test_logits_of_16_bits_are_those_of_32(pair: tuple[keras.Model, keras.Model]) -> None:
    """Within 40 roundings of the logits' range: a window passes some 100, one after the other, not all to one side."""
    one, other = as_trained(pair[0]), pair[1]
    other.set_weights(one.get_weights())
    windows = {**random_windows(3), "present": np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0]], np.float32)}
    assert (one.compute_dtype, other.compute_dtype) == ("float32", "float16")
    expected, found = one(windows, training=False), other(windows, training=False)
    for task in TASKS:
        logits, exact = np.asarray(found[task], np.float32), np.asarray(expected[task])
        spread = np.ptp(exact[:2])
        assert spread > 1 and not np.allclose(exact[0], exact[1], atol=0.1 * spread)
        np.testing.assert_allclose(logits, exact, atol=40 * HALF_ROUNDING * spread)
        np.testing.assert_allclose(np.exp(logits[2]), PRIOR[task], rtol=4 * HALF_ROUNDING)


@pytest.mark.slow
def test_a_step_of_16_bits_moves_the_weights_as_one_of_32(pair: tuple[keras.Model, keras.Model]) -> None:
    """By plain gradient descent, which, unlike Adam, shows a scale of the loss that is not taken back."""
    start, losses, moves = pair[0].get_weights(), [], []
    descent, windows = keras.optimizers.SGD(0.01), {name: tf.constant(each) for name, each in random_windows(2).items()}
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=2.0**10)
    targets = {task: tf.constant(each, tf.int64) for task, each in TARGETS.items()}
    for network, optimizer in zip(pair, (descent, scaled), strict=True):
        network.set_weights(start)
        before = [each.numpy() for each in network.trainable_variables]
        step = training_step(network, optimizer, ModelParams(), PLAIN)
        losses.append(float(step(windows, targets, tf.constant(1, tf.int64))))
        after = [each.numpy() for each in network.trainable_variables]
        moves.append(np.concatenate([(new - old).ravel() for new, old in zip(after, before, strict=True)]))
    assert losses[1] == pytest.approx(losses[0], rel=4 * HALF_ROUNDING)
    lengths = [float(np.linalg.norm(move)) for move in moves]
    assert lengths[0] > 0 and lengths[1] == pytest.approx(lengths[0], rel=0.05)
    assert moves[0] @ moves[1] / (lengths[0] * lengths[1]) > 0.98
    assert all(np.isfinite(each).all() for each in pair[1].get_weights())


def test_weights_are_of_32_bits_so_that_a_network_of_32_takes_them() -> None:
    with arithmetic(of_16_bits=True):
        trained = build(modalities=("audio",), seed=3)
    served = build(modalities=("audio",), seed=4)
    assert {each.dtype for each in trained.weights} == {"float32"}
    assert weights_hash(served) != weights_hash(trained)
    served.set_weights(trained.get_weights())
    assert weights_hash(served) == weights_hash(trained)


def small(of_16_bits: bool) -> keras.Model:
    with arithmetic(of_16_bits):
        present = keras.Input((3,), name="present")
        return keras.Model({"present": present}, {"valence": keras.layers.Dense(3)(present)})


BATCH = ({"present": tf.ones((2, 3))}, {"valence": tf.constant([0, 2], tf.int64)})


def test_a_step_whose_gradients_overflow_moves_nothing_and_the_next_is_scaled_by_half() -> None:
    network = small(of_16_bits=True)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(), initial_scale=2.0**20)
    step, before = training_step(network, optimizer, ModelParams(), PLAIN), weights_hash(network)
    losses = [float(step(*BATCH, tf.constant(1, tf.int64)))]
    assert weights_hash(network) == before and float(optimizer.dynamic_scale) == 2.0**19
    while weights_hash(network) == before and len(losses) < 10:
        losses.append(float(step(*BATCH, tf.constant(1, tf.int64))))
    assert weights_hash(network) != before and len(losses) > 1 and np.isfinite(losses).all()


class Noted:
    """A checkpoint that only notes with what optimizer the training is done."""

    def __init__(self) -> None:
        self.optimizers: list[keras.optimizers.Optimizer] = []

    def restore(self, network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Progress:
        return Progress()

    def save(self, network: keras.Model, optimizer: keras.optimizers.Optimizer, progress: Progress) -> None:
        self.optimizers.append(optimizer)


def batches(epoch: int) -> Iterable[tuple[Any, Any]]:
    return [BATCH]


def no_score() -> Mapping[str, float]:
    return {}


@pytest.mark.parametrize("of_16_bits", [True, False])
def test_the_loss_is_scaled_where_the_network_computes_with_16_bits(of_16_bits: bool) -> None:
    network, noted = small(of_16_bits), Noted()
    assert computes_with_16_bits(network) is of_16_bits
    run_epochs(network, batches, no_score, ModelParams(), PLAIN, 1, checkpoint=noted, say=False)  # type: ignore[arg-type]
    assert [isinstance(each, keras.optimizers.LossScaleOptimizer) for each in noted.optimizers] == [of_16_bits]
