"""Tensor-train matrices made from dense ones, and rounded to lower ranks. Cores: [rank, rows, columns, next rank]."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorly.decomposition import tensor_train_matrix

Cores = list[NDArray[np.float64]]


def from_dense(
    kernel: NDArray[Any],
    input_modes: Sequence[int],
    output_modes: Sequence[int],
    max_rank: int | None = None,
    max_error: float | None = None,
) -> Cores:
    """A dense layer's kernel as cores, by TT-SVD (Oseledets 2011, algorithm 1): exact unless a bound is given.

    Args:
        kernel: [prod(input_modes), prod(output_modes)], in row-major order of the modes; small enough for SVDs.
        input_modes: rows of each core.
        output_modes: columns of each core.
        max_rank: no rank above it. Each of the cores less one truncations is the best of its rank: the error is at
            most the root of their summed squares.
        max_error: relative error in the Frobenius norm, kept with ranks as low as ``round_cores`` finds; if
            ``max_rank`` is given too, of what that leaves.

    Raises:
        ValueError: the kernel is not of that shape.
    """
    shape = (int(np.prod(input_modes)), int(np.prod(output_modes)))
    if kernel.shape != shape or len(input_modes) != len(output_modes):
        raise ValueError(
            f"Expected a kernel of {shape} for as many input as output modes. Received: {kernel.shape}, "
            f"input_modes={tuple(input_modes)}, output_modes={tuple(output_modes)}"
        )
    tensor = np.asarray(kernel, np.float64).reshape(*input_modes, *output_modes)
    cores = [np.asarray(core) for core in tensor_train_matrix(tensor, max_rank or kernel.size)]
    return cores if max_error is None else round_cores(cores, max_error)


def round_cores(cores: Sequence[NDArray[Any]], max_error: float) -> Cores:
    """The same matrix with lower ranks, by TT-rounding (Oseledets 2011, algorithm 2): the matrix is never formed.

    A sweep of QR from the last core makes all but the first orthogonal; a sweep of SVDs from the first then drops at
    each border what is at most ``max_error / √(cores - 1)`` of the norm, so that all drops together keep the bound.

    Args:
        cores: of a tensor-train matrix.
        max_error: greatest relative error in the Frobenius norm, from 0 (only what rounding errors made is dropped) up
            to below 1.

    Raises:
        ValueError: ``max_error`` is out of bounds.
    """
    if not 0 <= max_error < 1:
        raise ValueError(f"Expected a max_error of at least 0 and below 1. Received: {max_error}")
    rounded = _orthogonal_behind([np.asarray(core, np.float64) for core in cores])
    norm = np.linalg.norm(rounded[0])
    allowed = max(max_error / max(len(cores) - 1, 1) ** 0.5, np.finfo(np.float64).eps) * norm
    for index in range(len(rounded) - 1):
        left, rows, columns, _ = rounded[index].shape
        basis, values, others = _border(rounded[index])
        dropped = np.sqrt(np.cumsum(values[::-1] ** 2))[::-1]  # the norm of what goes with each value and those below
        rank = max(int(np.sum(dropped > allowed)), 1)
        rounded[index] = basis[:, :rank].reshape(left, rows, columns, rank)
        rounded[index + 1] = np.tensordot(values[:rank, None] * others[:rank], rounded[index + 1], axes=1)
    return rounded


def error_of_next_rank(cores: Sequence[NDArray[Any]]) -> float:
    """The ``max_error`` from which on ``round_cores`` drops a rank; infinite where all are 1."""
    swept = _orthogonal_behind([np.asarray(core, np.float64) for core in cores])
    norm, least = np.linalg.norm(swept[0]), np.inf
    for index in range(len(swept) - 1):
        _, values, others = _border(swept[index])
        if len(values) > 1:
            least = min(least, values[-1])
        swept[index + 1] = np.tensordot(values[:, None] * others, swept[index + 1], axes=1)
    return float(least / norm * (len(cores) - 1) ** 0.5)


def relative_error(cores: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]]) -> float:
    """‖A − B‖ / ‖A‖ in the Frobenius norm for the matrices of two trains of the same modes, neither of which is formed.

    From the train of the difference, whose ranks are the sums of theirs: scalar products of the two would lose half of
    the digits.
    """
    difference = [np.asarray(core, np.float64) for core in cores]
    for index, core in enumerate(other):
        left, _, _, right = difference[index].shape
        first, last = index == 0, index == len(cores) - 1
        before, behind = (0 if first else left), (0 if last else right)
        both = np.zeros((before + core.shape[0], *core.shape[1:3], behind + core.shape[3]))
        both[:left, ..., :right] = difference[index]
        both[before:, ..., behind:] += -core if first else core
        difference[index] = both
    return _norm(difference) / _norm([np.asarray(core, np.float64) for core in cores])


def ranks_of(cores: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """The ranks of a train: one more than there are cores."""
    return (*(core.shape[0] for core in cores), cores[-1].shape[-1])


def _norm(cores: Cores) -> float:
    """Frobenius norm of the matrix of a train."""
    return float(np.linalg.norm(_orthogonal_behind(cores)[0]))


def _border(core: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """SVD of a core as [all before, rank]."""
    basis, values, others = np.linalg.svd(core.reshape(-1, core.shape[-1]), full_matrices=False)
    return basis, values, others


def _orthogonal_behind(cores: Cores) -> Cores:
    """The same train with all cores but the first orthogonal in [rank, the rest]: the first has the norm of all."""
    cores = list(cores)
    for index in range(len(cores) - 1, 0, -1):
        left, rows, columns, right = cores[index].shape
        basis, triangle = np.linalg.qr(cores[index].reshape(left, -1).T)
        cores[index] = basis.T.reshape(-1, rows, columns, right)
        cores[index - 1] = np.tensordot(cores[index - 1], triangle.T, axes=1)
    return cores
