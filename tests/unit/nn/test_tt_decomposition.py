"""TT-SVD and TT-rounding against whole matrices, which these small trains allow."""

import numpy as np
import pytest
from numpy.typing import NDArray
from tensorly.tt_matrix import tt_matrix_to_matrix

from merlb_model.nn.tensor_train import TensorTrainFusion
from merlb_model.nn.tt_decomposition import error_of_next_rank, from_dense, ranks_of, relative_error, round_cores

INPUT_MODES, OUTPUT_MODES = (2, 3, 4), (3, 2, 2)
WIDTHS = (1, 2, 3)


def _random_cores(ranks: tuple[int, ...], seed: int = 0) -> list[NDArray[np.float64]]:
    generator = np.random.default_rng(seed)
    return [
        generator.standard_normal((ranks[index], rows, columns, ranks[index + 1]))
        for index, (rows, columns) in enumerate(zip(INPUT_MODES, OUTPUT_MODES, strict=True))
    ]


def _matrix(cores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.asarray(tt_matrix_to_matrix(cores))


def _off(matrix: NDArray[np.float64], cores: list[NDArray[np.float64]]) -> float:
    return float(np.linalg.norm(matrix - _matrix(cores)) / np.linalg.norm(matrix))


@pytest.fixture(scope="module")
def dense() -> NDArray[np.float64]:
    """A smooth kernel, whose singular values fall at each border, so that there is something to drop."""
    return np.fromfunction(lambda row, column: 1 / (1 + row + 3 * column), (24, 12))


def test_a_dense_layer_at_full_rank_is_exact(dense: NDArray[np.float64]) -> None:
    cores = from_dense(dense, INPUT_MODES, OUTPUT_MODES)
    assert [core.shape for core in cores] == [(1, 2, 3, 6), (6, 3, 2, 8), (8, 4, 2, 1)]
    assert _off(dense, cores) < 1e-13


def test_a_layer_started_from_a_dense_one_answers_as_it_does(dense: NDArray[np.float64]) -> None:
    cores = from_dense(dense, INPUT_MODES, OUTPUT_MODES)
    layer = TensorTrainFusion(INPUT_MODES, OUTPUT_MODES, ranks_of(cores), dtype="float64")
    vectors = [np.random.default_rng(seed).standard_normal((5, width)) for seed, width in enumerate(WIDTHS)]
    layer(vectors)
    layer.set_weights(cores)
    one = [np.concatenate([np.ones((5, 1)), vector], axis=1) for vector in vectors]
    np.testing.assert_allclose(layer(vectors), np.einsum("bi,bj,bk->bijk", *one).reshape(5, -1) @ dense, rtol=1e-10)


def test_a_bounded_rank_keeps_the_bound_of_what_each_border_drops(dense: NDArray[np.float64]) -> None:
    tensor = dense.reshape(*INPUT_MODES, *OUTPUT_MODES).transpose(0, 3, 1, 4, 2, 5)
    tails = []
    for border in (6, 36):
        values = np.linalg.svd(tensor.reshape(border, -1), compute_uv=False)
        tails.append(np.sum(values[3:] ** 2))
    cores = from_dense(dense, INPUT_MODES, OUTPUT_MODES, max_rank=3)
    assert ranks_of(cores) == (1, 3, 3, 1)
    off = _off(dense, cores) * np.linalg.norm(dense)
    assert np.sqrt(max(tails)) * (1 - 1e-9) <= off <= np.sqrt(sum(tails))


@pytest.mark.parametrize("max_error", [0.3, 0.1, 0.01])
def test_a_bounded_error_is_kept_with_fewer_weights(dense: NDArray[np.float64], max_error: float) -> None:
    cores = from_dense(dense, INPUT_MODES, OUTPUT_MODES, max_error=max_error)
    assert 0 < _off(dense, cores) <= max_error
    assert sum(core.size for core in cores) < sum(core.size for core in from_dense(dense, INPUT_MODES, OUTPUT_MODES))


def test_a_kernel_of_another_shape_is_refused(dense: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match=r"Expected a kernel of \(12, 12\).*Received: \(24, 12\)"):
        from_dense(dense, (2, 3, 2), OUTPUT_MODES)


def test_rounding_finds_the_ranks_that_a_matrix_has() -> None:
    """Doubled, a train's ranks are twice what its matrix needs."""
    cores = _random_cores((1, 2, 3, 1))
    doubled = [
        np.concatenate([cores[0], cores[0]], axis=3),
        _diagonal(cores[1]),
        np.concatenate([cores[2], cores[2]], axis=0),
    ]
    rounded = round_cores(doubled, 0.0)
    assert (ranks_of(doubled), ranks_of(rounded)) == ((1, 4, 6, 1), (1, 2, 3, 1))
    np.testing.assert_allclose(_matrix(rounded), 2 * _matrix(cores), rtol=1e-11, atol=1e-12)


def _diagonal(core: NDArray[np.float64]) -> NDArray[np.float64]:
    left, rows, columns, right = core.shape
    both = np.zeros((2 * left, rows, columns, 2 * right))
    both[:left, ..., :right] = both[left:, ..., right:] = core
    return both


@pytest.mark.parametrize("max_error", [0.02, 0.05, 0.2, 0.5])
def test_rounding_keeps_its_bound_and_drops_ranks(max_error: float) -> None:
    strong, weak = _random_cores((1, 2, 2, 1)), _random_cores((1, 3, 4, 1), seed=9)
    weak[0] = weak[0] * 0.3 * max_error * np.linalg.norm(_matrix(strong)) / np.linalg.norm(_matrix(weak))
    middle = np.zeros((5, 3, 2, 6))
    middle[:2, ..., :2], middle[2:, ..., 2:] = strong[1], weak[1]
    cores = [np.concatenate([strong[0], weak[0]], 3), middle, np.concatenate([strong[2], weak[2]], 0)]
    rounded = round_cores(cores, max_error)
    assert _off(_matrix(cores), rounded) <= max_error
    assert all(new <= old for new, old in zip(ranks_of(rounded), ranks_of(strong), strict=True))


def test_the_relative_error_is_that_of_the_whole_matrices_even_when_tiny() -> None:
    cores = _random_cores((1, 4, 3, 1))
    for size in (1.0, 1e-4, 1e-11):
        other = [cores[0] + size * _random_cores((1, 4, 3, 1), seed=4)[0], *cores[1:]]
        assert relative_error(cores, other) == pytest.approx(_off(_matrix(cores), other), rel=1e-3)
    rounded = round_cores(cores, 0.3)
    assert relative_error(cores, rounded) == pytest.approx(_off(_matrix(cores), rounded), rel=1e-9)


def test_a_rank_goes_at_the_error_that_is_told_and_not_before() -> None:
    cores = _random_cores((1, 4, 3, 1))
    least = error_of_next_rank(cores)
    assert ranks_of(round_cores(cores, least * 0.999)) == (1, 4, 3, 1)
    assert sum(ranks_of(round_cores(cores, least * 1.001))) == 1 + 4 + 3 + 1 - 1
    assert error_of_next_rank(_random_cores((1, 1, 1, 1))) == np.inf


def test_the_published_layer_is_rounded_without_its_matrix_of_824_million_entries() -> None:
    layer = TensorTrainFusion()
    layer.build([(None, 128)] * 3)
    cores = [core.numpy() for core in layer.cores]
    cores[1][..., 3] *= 0.01
    rounded = round_cores(cores, 0.05)
    assert ranks_of(rounded) == (1, 2, 3, 4, 2, 1)
    assert 0 < relative_error(cores, rounded) <= 0.05


@pytest.mark.parametrize("max_error", [-0.1, 1.0])
def test_an_error_out_of_bounds_is_refused(max_error: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        round_cores(_random_cores((1, 2, 2, 1)), max_error)
