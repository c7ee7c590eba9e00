"""The fusion against tensorly's materialised matrix on the materialised outer product."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorly as tl
from numpy.typing import NDArray
from tensorly.tt_matrix import tt_matrix_to_matrix

from merlb_model.nn import keras, tf
from merlb_model.nn.tensor_train import TensorTrainFusion, terms

PUBLISHED_WEIGHTS = 11_038
SMALL = {"input_modes": (2, 3, 4, 3, 2), "output_modes": (2, 1, 3, 2, 2), "ranks": (1, 2, 3, 2, 2, 1)}
SMALL_WIDTHS = (5, 3, 5)
MISSING_THE_BORDERS = [
    ((2, 12, 3, 2), (5, 3, 5)),  # one core's rows are parted between two vectors
    ((2, 2, 2, 2, 3, 3), (5, 3, 5)),  # the second and third core are merged: 2·2 holds no border of 6
    ((6, 24), (5, 3, 5)),  # the last core spans two vectors
    ((144,), (5, 3, 5)),  # one core spans all
    ((72, 2), (5, 3, 5)),  # the second vector lies within the first core
    ((4, 36), (5, 3, 5)),  # no border can be parted: all cores are merged
    ((4, 9, 4, 1), (5, 3, 5)),  # two cores merged over both borders, and a core of one row behind
    ((9, 15, 4), (8, 4, 11)),  # merged at the second border alone
    ((10, 6, 9), (4, 3, 26)),  # the first core ends inside the second vector and is parted there too
]
PUBLISHED_MODES = (3, 43, 129, 43, 3)
PUBLISHED_WIDTHS = (128, 128, 128)


def _vectors(
    widths: tuple[int, ...], batch: int = 4, dtype: str = "float64", seed: int = 0
) -> list[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal((batch, width)).astype(dtype) for width in widths]


def _materialised(layer: TensorTrainFusion, vectors: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The layer's answer by the outer product and the whole matrix, in float64."""
    one = [np.concatenate([np.ones((len(vector), 1)), vector], axis=1) for vector in vectors]
    outer = np.einsum("bi,bj,bk->bijk", *one).reshape(len(one[0]), -1)
    matrix = tt_matrix_to_matrix([tl.tensor(core.numpy().astype(np.float64)) for core in layer.cores])
    return np.asarray(outer @ matrix)


def test_equals_the_materialised_outer_product_times_the_whole_matrix() -> None:
    layer = TensorTrainFusion(**SMALL, dtype="float64")
    vectors = _vectors(SMALL_WIDTHS)
    answer = np.asarray(layer(vectors))
    assert answer.shape == (4, 24)
    np.testing.assert_allclose(answer, _materialised(layer, vectors), rtol=1e-12, atol=1e-14)


def _layer(input_modes: tuple[int, ...], **changed: Any) -> TensorTrainFusion:
    """A layer of these modes whose ranks and output modes differ from core to core."""
    cores = len(input_modes)
    ranks = (1, *(2 + index % 3 for index in range(cores - 1)), 1)
    return TensorTrainFusion(input_modes, tuple(1 + (index + 1) % 3 for index in range(cores)), ranks, **changed)


@pytest.mark.parametrize(("modes", "widths"), MISSING_THE_BORDERS)
def test_modes_that_miss_the_borders_equal_the_whole_matrix_too(
    modes: tuple[int, ...], widths: tuple[int, ...]
) -> None:
    layer, vectors = _layer(modes, dtype="float64"), _vectors(widths)
    np.testing.assert_allclose(layer(vectors), _materialised(layer, vectors), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    "modes",
    [
        PUBLISHED_MODES,
        (3, 1849, 3, 129),  # the second core's rows are parted
        (9, 43, 43, 43, 3),  # the first two cores are merged
        (43, 9, 43, 43, 3),  # the second core is parted at 3
        (43, 27, 1849),  # all merged: 43·27 and 129² do not divide each other
    ],
)
def test_values_and_gradients_at_129_cubed_equal_the_chain_on_the_materialised_outer_product(
    modes: tuple[int, ...],
) -> None:
    """In float32, against NumPy in float64: value, and gradients of ½‖y‖² by cores and vectors."""
    layer = TensorTrainFusion() if modes == PUBLISHED_MODES else _layer(modes)
    vectors = [tf.constant(vector) for vector in _vectors(PUBLISHED_WIDTHS, batch=1, dtype="float32")]
    layer(vectors)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        answer = layer(vectors)
        loss = tf.reduce_sum(answer**2) / 2
    gradients = tape.gradient(loss, [*layer.trainable_variables, *vectors])
    expected, expected_gradients = _by_hand(layer, [vector.numpy()[0].astype(np.float64) for vector in vectors])
    for found, wanted in zip([answer[0], *gradients], [expected, *expected_gradients], strict=True):
        assert np.linalg.norm(np.squeeze(found) - np.squeeze(wanted)) <= 1e-5 * np.linalg.norm(wanted)


def _by_hand(
    layer: TensorTrainFusion, vectors: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """The answer [columns], and the gradients of half its square by each core and each vector, of one clip."""
    one = [np.concatenate([[1.0], vector]) for vector in vectors]
    cores = [core.numpy().astype(np.float64) for core in layer.cores]
    states = [np.einsum("i,j,k->ijk", *one).reshape(1, 1, -1)]  # [columns so far, rank, rows to come]
    for core in cores:
        columns = states[-1].shape[0]
        rows = states[-1].reshape(columns, core.shape[0], core.shape[1], -1)
        states.append(np.einsum("crim,riot->cotm", rows, core, optimize=True).reshape(-1, core.shape[3], rows.shape[3]))
    slope, gradients = states[-1], []
    for core, state in zip(reversed(cores), reversed(states[:-1]), strict=True):
        left, own_rows, own_columns, right = core.shape
        rows = state.reshape(state.shape[0], left, own_rows, -1)
        slope = slope.reshape(state.shape[0], own_columns, right, -1)
        gradients.insert(0, np.einsum("crim,cotm->riot", rows, slope, optimize=True))
        slope = np.einsum("cotm,riot->crim", slope, core, optimize=True).reshape(state.shape)
    outer = slope.reshape([len(factor) for factor in one])
    by_vector = ["ijk,j,k->i", "ijk,i,k->j", "ijk,i,j->k"]
    for index, subscripts in enumerate(by_vector):
        others = [factor for number, factor in enumerate(one) if number != index]
        gradients.append(np.einsum(subscripts, outer, *others, optimize=True)[1:])
    return states[-1].ravel(), gradients


def test_the_eight_terms_add_up_and_each_needs_its_modalities() -> None:
    layer, vectors = TensorTrainFusion(**SMALL), _vectors(SMALL_WIDTHS, dtype="float32")
    answer = np.asarray(layer(vectors))
    found = {names: np.asarray(term) for names, term in terms(layer, vectors).items()}
    assert list(found) == [
        (), ("face",), ("screen",), ("audio",),
        ("face", "screen"), ("face", "audio"), ("screen", "audio"), ("face", "screen", "audio"),
    ]  # fmt: skip
    np.testing.assert_allclose(sum(found.values()), answer, rtol=1e-5, atol=1e-5)
    # Each vector to a scale of its own: a term goes with the product of its vectors' scales.
    scales = {"face": 2.0, "screen": 3.0, "audio": 5.0}
    scaled = terms(layer, [scale * vector for scale, vector in zip(scales.values(), vectors, strict=True)])
    for names, term in found.items():
        expected = term * np.prod([scales[name] for name in names])
        np.testing.assert_allclose(scaled[names], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        assert np.abs(term).max() > 0


def test_l2_holds_the_cores_squares_in_the_losses_and_pulls_at_them() -> None:
    layer = TensorTrainFusion(**SMALL, l2=0.01)
    inputs = [keras.Input((width,)) for width in SMALL_WIDTHS]
    inner = keras.Model(inputs, layer(inputs))
    outer = keras.Model(inputs, inner(inputs))  # as in the network, where the fusion lies in a model of its own
    with tf.GradientTape() as tape:
        loss = tf.add_n(outer.losses)
    squares = [float(np.sum(np.square(core.numpy()))) for core in layer.cores]
    assert float(loss) == pytest.approx(0.01 * sum(squares), rel=1e-5)
    for core, gradient in zip(layer.cores, tape.gradient(loss, layer.trainable_variables), strict=True):
        np.testing.assert_allclose(gradient, 0.02 * core.numpy(), rtol=1e-5)
    assert TensorTrainFusion.from_config(layer.get_config()).l2 == 0.01


def test_without_l2_there_is_no_loss() -> None:
    layer = TensorTrainFusion(**SMALL)
    layer(_vectors(SMALL_WIDTHS))
    assert layer.losses == []


def test_has_the_published_number_of_weights() -> None:
    layer = TensorTrainFusion()
    layer.build([(None, 128)] * 3)
    assert layer.count_params() == PUBLISHED_WEIGHTS


def test_starts_with_the_variance_of_a_dense_layer() -> None:
    keras.utils.set_random_seed(3)
    vectors = _vectors((128, 128, 128), batch=64, dtype="float32")
    variances = [float(np.var(np.asarray(TensorTrainFusion()(vectors)))) for _ in range(30)]
    # LeCun's dense layer on 129³ inputs of unit mean square gives 1; the cores' own draw scatters it.
    assert 0.6 < np.mean(variances) < 1.6
    assert min(variances) > 0.02


def test_an_absent_vector_leaves_the_terms_without_it() -> None:
    layer = TensorTrainFusion(**SMALL, dtype="float64")
    first, second, _ = _vectors(SMALL_WIDTHS)
    answer = np.asarray(layer([first, second, np.zeros((4, 5))]))
    np.testing.assert_allclose(answer, _materialised(layer, [first, second, np.zeros((4, 5))]), rtol=1e-12, atol=1e-14)
    assert np.abs(answer).min(axis=1).max() > 0


def test_gradients_equal_those_of_finite_differences() -> None:
    layer = TensorTrainFusion(**SMALL, dtype="float64")
    vectors = [tf.constant(vector) for vector in _vectors(SMALL_WIDTHS, batch=2)]
    analytic, numeric = tf.test.compute_gradient(lambda *given: layer(list(given)), vectors)
    for one, other in zip(analytic, numeric, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_model_with_it_is_saved_and_loaded(tmp_path: Path) -> None:
    inputs = [keras.Input((width,)) for width in SMALL_WIDTHS]
    model = keras.Model(inputs, TensorTrainFusion(**SMALL)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    vectors = _vectors(SMALL_WIDTHS, dtype="float32")
    np.testing.assert_array_equal(np.asarray(model(vectors)), np.asarray(loaded(vectors)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output_modes": (2, 4)}, "as many output modes as input modes"),
        ({"ranks": (1, 2, 4, 4, 2)}, "one rank more"),
        ({"ranks": (2, 2, 4, 4, 2, 1)}, "first and the last rank to be 1"),
        ({"ranks": (1, 2, 0, 4, 2, 1)}, "at least 1"),
    ],
)
def test_modes_and_ranks_that_do_not_fit_are_refused(changed: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorTrainFusion(**changed)


@pytest.mark.parametrize("widths", [(128, 128, 127), (127, 128, 128), (128, 128, 128, 128)])
def test_vectors_whose_widths_the_modes_do_not_make_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        TensorTrainFusion()(_vectors(widths, dtype="float32"))


def test_a_wrong_product_is_told_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"6 · 4 · 6 = 144\. Received: input_modes=\(6, 4, 5\) of product 120"):
        _layer((6, 4, 5))(_vectors(SMALL_WIDTHS))
