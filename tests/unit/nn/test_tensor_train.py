"""The fusion against tensorly's materialised matrix on the materialised outer product."""

from pathlib import Path

import numpy as np
import pytest
import tensorly as tl
from numpy.typing import NDArray
from tensorly.tt_matrix import tt_matrix_to_matrix

from merlb_model.nn import keras, tf
from merlb_model.nn.tensor_train import TensorTrainFusion

PUBLISHED_WEIGHTS = 11_038
SMALL = {"input_modes": (2, 3, 4, 3, 2), "output_modes": (2, 1, 3, 2, 2), "ranks": (1, 2, 3, 2, 2, 1)}
SMALL_WIDTHS = (5, 3, 5)


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


def test_the_published_modes_equal_the_chain_on_the_materialised_outer_product_in_float32() -> None:
    layer = TensorTrainFusion()
    vectors = _vectors((128, 128, 128), batch=2, dtype="float32")
    answer = np.asarray(layer(vectors))
    assert answer.shape == (2, 384)
    for row in range(2):
        one = [np.concatenate([[1.0], vector[row]]) for vector in vectors]
        outer = np.einsum("i,j,k->ijk", *one).reshape(layer.input_modes)
        expected = outer[None]  # [rank, i1..i5] against one core after the other
        for core in layer.cores:
            contracted = np.tensordot(core.numpy().astype(np.float64), expected, axes=((0, 1), (0, 1)))
            expected = np.moveaxis(contracted, 0, -1)  # the output mode goes behind, the new rank stands in front
        np.testing.assert_allclose(answer[row], expected[0].ravel(), rtol=1e-4, atol=1e-5)


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
def test_vectors_whose_borders_the_modes_miss_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        TensorTrainFusion()(_vectors(widths, dtype="float32"))
