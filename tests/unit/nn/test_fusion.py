"""The five fusions, each against its algebra worked out again in NumPy from the layers' weights."""

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.labels import MODALITIES, TASK_SETS, TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.fusion import OnSteps, WithChange
from merlb_model.nn.key_segments import key_segments
from merlb_model.nn.model import build_fuse
from merlb_model.nn.tensor_train import TensorTrainFusion
from merlb_model.params import ModelParams
from tests.unit.nn.conftest import PRIOR, shake
from tests.unit.nn.quickened import quicken

Array = NDArray[np.float64]
Features = dict[str, NDArray[np.float32]]

FUSIONS = ("early", "late", "joint", "deep", "merlb")
SUBSETS = np.array([each for each in product((1, 0), repeat=3) if any(each)], np.float32)
WIDTHS = {"face": 96, "screen": 128, "audio": 64}  # of the preset `small`


def random_features(count: int, seed: int = 0) -> Features:
    """Of each window something of its own that lasts, and something that passes."""
    generator = np.random.default_rng(seed)
    steps = {"face": 20, "screen": 20, "audio": 19}
    return {
        name: np.maximum(
            generator.normal(size=(count, 1, width)) + generator.normal(size=(count, steps[name], width)), 0
        ).astype(np.float32)
        for name, width in WIDTHS.items()
    }


def fresh(fusion: str, frontend: str = "all_segments", **changed: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    return build_fuse(ModelParams(fusion=fusion, audio={"frontend": frontend}, **changed), PRIOR, seed=1)


@cache
def settled(fusion: str, frontend: str = "all_segments") -> keras.Model:
    """Weights as if trained: none is what it started from, and the norms know what comes to them."""
    model = quicken(shake(fresh(fusion, frontend, dropout=0.0)))
    for layer in model.layers:
        if layer.name.endswith("_logits"):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel / 5, bias])  # nothing is sure, so that every difference shows
    present = np.tile(SUBSETS, (4, 1))
    model({**random_features(len(present), seed=3), "present": present}, training=True)
    return model


def answers(model: keras.Model, features: Features, present: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    logits = model({**features, "present": present}, training=False)
    return {task: np.asarray(values) for task, values in logits.items()}


def softmax(logits: NDArray[Any]) -> Array:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


# The algebra, one window at a time: vectors are [D], steps [T, D].


def weights(model: keras.Model, name: str) -> list[Array]:
    return [each.astype(np.float64) for each in model.get_layer(name).get_weights()]


def normed(model: keras.Model, name: str, values: Array) -> Array:
    gamma, beta, mean, variance = weights(model, name)
    return gamma * (values - mean) / np.sqrt(variance + model.get_layer(name).epsilon) + beta


def normed_steps(model: keras.Model, name: str, steps: Array) -> Array:
    change = np.concatenate([np.zeros_like(steps[:1]), steps[1:] - steps[:-1]])
    return normed(model, f"{name}_norm", np.concatenate([steps, change], axis=1))


def sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def states(steps: Array, kernel: Array, recurrent: Array, bias: Array) -> Array:
    """An LSTM's state after each step (Hochreiter and Schmidhuber 1997, with forget gates)."""
    state, cell, found = np.zeros(len(recurrent)), np.zeros(len(recurrent)), []
    for step in steps:
        enter, forget, candidate, leave = np.split(step @ kernel + state @ recurrent + bias, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate)
        state = sigmoid(leave) * np.tanh(cell)
        found.append(state)
    return np.stack(found)


def mean_state(model: keras.Model, name: str, steps: Array) -> Array:
    both = weights(model, f"{name}_both_ways")
    return np.concatenate([states(steps, *both[:3]).mean(axis=0), states(steps[::-1], *both[3:]).mean(axis=0)])


def dense(model: keras.Model, name: str, vector: Array) -> Array:
    kernel, bias = weights(model, name)
    return vector @ kernel + bias


def head(model: keras.Model, name: str, vector: Array) -> Array:
    return dense(model, f"{name}_logits", np.maximum(dense(model, f"{name}_hidden", vector), 0))


def vector_of(model: keras.Model, name: str, steps: Array) -> Array:
    return normed(model, f"{name}_vector", mean_state(model, name, normed_steps(model, name, steps)))


Steps = dict[str, Array]
Present = dict[str, float]


def late(model: keras.Model, steps: Steps, grid: Steps, present: Present) -> dict[str, Array]:
    there = [name for name in MODALITIES if present[name]]
    vectors = {name: vector_of(model, name, steps[name]) for name in there}
    return {
        task: np.mean([head(model, f"{name}_{task}", vectors[name]) for name in there], axis=0)
        for task in TASK_SETS["both"]
    }


def side_by_side(model: keras.Model, steps: Steps, present: Present) -> Array:
    vectors = [
        vector_of(model, name, steps[name]) if present[name] else np.zeros_like(vector_of(model, name, steps[name]))
        for name in MODALITIES
    ]
    return np.concatenate([*vectors, list(present.values())])


def grid_side_by_side(model: keras.Model, grid: Steps, present: Present, prefix: str = "") -> Array:
    each = [
        normed_steps(model, f"{prefix}{name}", steps) if present[name] else np.zeros((20, 2 * steps.shape[1]))
        for name, steps in grid.items()
    ]
    return np.concatenate([*each, np.tile(list(present.values()), (20, 1))], axis=1)


def heads(model: keras.Model, fused: Array) -> dict[str, Array]:
    return {task: head(model, task, fused) for task in TASK_SETS["both"]}


def joint(model: keras.Model, steps: Steps, grid: Steps, present: Present) -> dict[str, Array]:
    return heads(model, side_by_side(model, steps, present))


def early(model: keras.Model, steps: Steps, grid: Steps, present: Present) -> dict[str, Array]:
    fused = mean_state(model, "steps", grid_side_by_side(model, grid, present))
    return heads(model, normed(model, "fusion_norm", fused))


def deep(model: keras.Model, steps: Steps, grid: Steps, present: Present) -> dict[str, Array]:
    mixed = np.maximum(dense(model, "mixed_steps", grid_side_by_side(model, grid, present, "mixed_")), 0)
    mixed = normed(model, "mixed_vector", mean_state(model, "mixed", mixed))
    fused = np.concatenate([side_by_side(model, steps, present), mixed])
    for layer in ("stack_0", "stack_1"):
        fused = np.maximum(dense(model, layer, fused), 0)
    return heads(model, fused)


def tensor_train(layer: TensorTrainFusion, one: Array, two: Array, three: Array) -> Array:
    """The materialised outer product against one core after the other."""
    rest = np.einsum("i,j,k->ijk", one, two, three).reshape(1, *layer.input_modes)
    for core in layer.cores:
        rest = np.moveaxis(np.tensordot(core.numpy().astype(np.float64), rest, axes=((0, 1), (0, 1))), 0, -1)
    return rest.ravel()


def merlb(model: keras.Model, steps: Steps, grid: Steps, present: Present) -> dict[str, Array]:
    vectors = []
    for name in MODALITIES:
        vector = 0.04 * mean_state(model, name, normed_steps(model, name, steps[name]))
        vectors.append(np.concatenate([[1.0], vector if present[name] else np.zeros_like(vector)]))
    fused = tensor_train(model.get_layer("fusion"), *vectors)
    return heads(model, normed(model, "fusion_norm", fused))


ALGEBRA: dict[str, Callable[[keras.Model, Steps, Steps, Present], dict[str, Array]]] = {
    "early": early,
    "late": late,
    "joint": joint,
    "deep": deep,
    "merlb": merlb,
}


def chosen_audio(audio: NDArray[np.float32], frontend: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The segments that are used, and the nearest of them for each of the grid's 20 steps, in order."""
    places = list(range(19))
    if frontend == "key_segments":
        places = [int(place) for place in np.asarray(key_segments(tf.constant(audio[None]), 8))[0]]
    each_step = [min(places, key=lambda place, step=step: abs(place - step)) for step in range(19)]
    return audio[places], audio[[each_step[0], *each_step]]


@pytest.mark.parametrize("frontend", ["all_segments", "key_segments"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_subset_of_modalities_is_answered_by_the_fusions_algebra(fusion: str, frontend: str) -> None:
    model, features = settled(fusion, frontend), random_features(len(SUBSETS), seed=4)
    answer = answers(model, features, SUBSETS)
    for row, subset in enumerate(SUBSETS):
        steps = {name: features[name][row].astype(np.float64) for name in MODALITIES}
        segments, each_step = chosen_audio(features["audio"][row], frontend)
        grid = {**steps, "audio": each_step.astype(np.float64)}
        steps["audio"] = segments.astype(np.float64)
        expected = ALGEBRA[fusion](model, steps, grid, dict(zip(MODALITIES, map(float, subset), strict=True)))
        for task, logits in expected.items():
            np.testing.assert_allclose(answer[task][row], logits, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(softmax(answer[task][row]), softmax(logits), atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_subset_of_modalities_of_one_window_has_an_answer_of_its_own(fusion: str) -> None:
    window = {name: np.tile(values, (7, 1, 1)) for name, values in random_features(1, seed=5).items()}
    answer = softmax(answers(settled(fusion), window, SUBSETS)["event"])
    apart = np.abs(answer[:, None] - answer[None]).sum(axis=-1)
    assert (apart + np.eye(7)).min() > 1e-3


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_the_content_of_an_absent_modality_does_not_matter(fusion: str, absent: int) -> None:
    present = np.ones((2, 3), np.float32)
    present[:, absent] = 0
    features = random_features(2, seed=6)
    other = {**features, MODALITIES[absent]: random_features(2, seed=7)[MODALITIES[absent]]}
    one, two = answers(settled(fusion), features, present), answers(settled(fusion), other, present)
    heard = answers(settled(fusion), other, np.ones_like(present))
    for task in TASKS:
        np.testing.assert_array_equal(one[task], two[task])
        assert not np.allclose(heard[task], two[task], atol=1e-3)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_any_modality_the_answer_is_the_training_prior(fusion: str) -> None:
    answer = answers(settled(fusion), random_features(2), np.zeros((2, 3), np.float32))
    for task, prior in PRIOR.items():
        np.testing.assert_allclose(softmax(answer[task]), [prior, prior], atol=1e-6)


def crossed(fusion: str, modalities: tuple[str, ...]) -> float:
    """The largest difference of differences of the logits, as ``modalities`` take each of two contents.

    0 where they are judged one by one and summed, whatever each judgement is.
    """
    two = random_features(2, seed=8)
    content = np.array(list(product((0, 1), repeat=len(modalities))))
    which = dict.fromkeys(MODALITIES, np.zeros(len(content), int)) | dict(zip(modalities, content.T, strict=True))
    mixtures = {name: two[name][which[name]] for name in MODALITIES}
    signs = (-1.0) ** content.sum(axis=1)
    logits = answers(settled(fusion), mixtures, np.ones((len(content), 3), np.float32))
    return float(max(np.abs(signs @ each).max() for each in logits.values()))


@pytest.mark.parametrize("pair", [("face", "screen"), ("face", "audio"), ("screen", "audio"), MODALITIES])
def test_late_alone_is_a_sum_of_what_each_modality_says(pair: tuple[str, ...]) -> None:
    assert crossed("late", pair) < 1e-4
    for fusion in ("early", "joint", "deep", "merlb"):
        assert crossed(fusion, pair) > 1e-2, fusion


def test_late_is_the_mean_of_each_modalitys_own_logits() -> None:
    features = {name: np.tile(values, (4, 1, 1)) for name, values in random_features(1, seed=10).items()}
    answer = answers(settled("late"), features, np.array([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32))
    for logits in answer.values():
        np.testing.assert_allclose(logits[0], logits[1:].mean(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_fusion_has_the_recurrent_layers_and_decisions_of_its_kind(fusion: str) -> None:
    model = fresh(fusion)
    recurrent = sum(isinstance(layer, keras.layers.Bidirectional) for layer in model.layers)
    decisions = sum(layer.name.endswith("_logits") for layer in model.layers)
    trains = sum(isinstance(layer, TensorTrainFusion) for layer in model.layers)
    expected = {"early": (1, 3, 0), "late": (3, 9, 0), "joint": (3, 3, 0), "deep": (4, 3, 0), "merlb": (3, 3, 1)}
    assert (recurrent, decisions, trains) == expected[fusion]


@pytest.mark.parametrize("tasks", sorted(TASK_SETS))
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_step_of_training_moves_every_weight_and_lowers_the_loss(fusion: str, tasks: str) -> None:
    model, features = fresh(fusion, tasks=tasks, dropout=0.0), random_features(14)
    given = {**features, "present": np.tile(SUBSETS, (2, 1))}
    wanted = {task: np.arange(14) % len(TASKS[task]) for task in TASK_SETS[tasks]}
    assert set(model.output) == set(wanted)

    def loss() -> tf.Tensor:
        logits = model(given, training=True)
        assert {task: values.shape for task, values in logits.items()} == {
            task: (14, len(TASKS[task])) for task in wanted
        }
        each = [
            keras.losses.sparse_categorical_crossentropy(wanted[task], values, from_logits=True)
            for task, values in logits.items()
        ]
        return tf.reduce_mean(tf.add_n(each))

    with tf.GradientTape() as tape:
        before = loss()
    gradients = tape.gradient(before, model.trainable_variables)
    dead = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert dead == []
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    keras.optimizers.Adam(1e-3).apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    assert np.isfinite(before)
    assert loss() < before


@pytest.mark.parametrize("tasks", sorted(TASK_SETS))
@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_fusions_have_as_many_weights(preset: str, tasks: str) -> None:
    weights_of = {fusion: fresh(fusion, preset=preset, tasks=tasks).count_params() for fusion in FUSIONS}
    for fusion, count in weights_of.items():
        assert count == pytest.approx(weights_of["merlb"], rel=0.05), fusion


@pytest.mark.parametrize("modalities", [("audio",), ("screen", "face")])
@pytest.mark.parametrize("frontend", ["all_segments", "key_segments"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_fusion_of_fewer_modalities_takes_no_notice_of_the_others(
    fusion: str, frontend: str, modalities: tuple[str, ...]
) -> None:
    model, features, present = fresh(fusion, frontend, modalities=modalities), random_features(2), np.ones((2, 3))
    other = {name: features[name] if name in modalities else features[name] + 1 for name in MODALITIES}
    one, two = answers(model, features, present), answers(model, other, present)
    unheard = answers(model, features, np.array([[name not in modalities for name in MODALITIES]] * 2, np.float32))
    for task, prior in PRIOR.items():
        np.testing.assert_array_equal(one[task], two[task])
        np.testing.assert_allclose(softmax(unheard[task]), [prior, prior], atol=1e-6)
        assert not np.allclose(one[task], unheard[task], atol=1e-3)


def test_steps_stand_beside_their_change_since_the_step_before() -> None:
    steps = np.array([[[1.0, 5.0], [4.0, 5.0], [2.0, 9.0]]], np.float32)
    np.testing.assert_array_equal(WithChange()(steps), [[[1, 5, 0, 0], [4, 5, 3, 0], [2, 9, -2, 4]]])
    assert WithChange().compute_output_shape((None, 3, 2)) == (None, 3, 4)


@pytest.mark.parametrize("steps", [3, 5])
def test_features_that_begin_later_hold_their_first_step(steps: int) -> None:
    features = np.array([[[1.0], [2.0], [3.0]]], np.float32)
    held = np.asarray(OnSteps(steps)(features))
    np.testing.assert_array_equal(held[0, :, 0], [1] * (steps - 3) + [1, 2, 3])
    assert OnSteps(steps).compute_output_shape((1, 3, 1)) == held.shape
