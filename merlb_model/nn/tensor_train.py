"""Tensor-train fusion: a dense layer on the outer product of three vectors, which is never formed."""

from collections.abc import Sequence
from math import prod
from typing import Any

import keras
from keras import ops

_VECTORS = 3


@keras.saving.register_keras_serializable(package="merlb")
class TensorTrainFusion(keras.layers.Layer):
    """Fuse three vectors through a tensor-train matrix on their outer product.

    With ``x = [1; v]`` for each vector ``v``, the layer computes ``y = K^T vec(x1 ⊗ x2 ⊗ x3)``, where the matrix ``K``
    of ``prod(input_modes)`` rows and ``prod(output_modes)`` columns is a product of small cores
    ``G_k [ranks[k], input_modes[k], output_modes[k], ranks[k+1]]`` (Oseledets 2011, Novikov et al. 2015).

    The outer product has rank one, and the modes' borders meet the vectors' borders, so each vector meets its own
    cores alone: ``P = x1·G1G2``, ``Q = x2·G3``, ``S = x3·G4G5`` and ``y = Σ P·Q·S`` over the two ranks between them.
    The published modes take 11,038 weights. There is no bias: a batch norm follows.

    Args:
        input_modes: factors of the three widths plus one, in order: 3·43, 129 and 43·3 for vectors of 128.
        output_modes: factors of the output's width, one a core.
        ranks: one more than there are cores; first and last are 1.

    Call: a list of three float tensors [B, D1], [B, D2], [B, D3] → [B, prod(output_modes)].

    Raises:
        ValueError: modes and ranks that do not fit each other, or modes whose borders miss the vectors'.
    """

    def __init__(
        self,
        input_modes: Sequence[int] = (3, 43, 129, 43, 3),
        output_modes: Sequence[int] = (2, 4, 4, 4, 3),
        ranks: Sequence[int] = (1, 2, 4, 4, 2, 1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_modes = tuple(input_modes)
        self.output_modes = tuple(output_modes)
        self.ranks = tuple(ranks)
        cores = len(self.input_modes)
        if len(self.output_modes) != cores or len(self.ranks) != cores + 1:
            raise ValueError(
                f"Expected as many output modes as input modes ({cores}) and one rank more ({cores + 1}). "
                f"Received: output_modes={self.output_modes}, ranks={self.ranks}"
            )
        if self.ranks[0] != 1 or self.ranks[-1] != 1:
            raise ValueError(f"Expected the first and the last rank to be 1. Received: ranks={self.ranks}")
        if min(self.input_modes + self.output_modes + self.ranks) < 1:
            raise ValueError(
                f"Expected modes and ranks of at least 1. Received: input_modes={self.input_modes}, "
                f"output_modes={self.output_modes}, ranks={self.ranks}"
            )

    def build(self, input_shape: Sequence[Sequence[int | None]]) -> None:
        self._spans = _core_spans(self.input_modes, [shape[-1] for shape in input_shape])
        self.cores = [
            self.add_weight(
                name=f"core_{index}",
                shape=(left, rows, columns, right),
                # A sum over left·rows terms keeps the variance of its inputs, so the chain of cores does too.
                initializer=keras.initializers.RandomNormal(stddev=(left * rows) ** -0.5),
            )
            for index, (left, rows, columns, right) in enumerate(
                zip(self.ranks[:-1], self.input_modes, self.output_modes, self.ranks[1:], strict=True)
            )
        ]

    def call(self, vectors: Sequence[Any]) -> Any:
        parts = []
        for vector, (first, last) in zip(vectors, self._spans, strict=True):
            with_one = ops.concatenate([ops.ones_like(vector[:, :1]), vector], axis=-1)
            parts.append(ops.einsum("bi,rios->bros", with_one, _merged(self.cores[first:last])))
        fused = parts[0][:, 0]
        for part in parts[1:]:
            product = ops.einsum("bor,brps->bops", fused, part)
            fused = ops.reshape(product, (-1, product.shape[1] * product.shape[2], product.shape[3]))
        return fused[:, :, 0]

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, int]:
        return (input_shape[0][0], prod(self.output_modes))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_modes": self.input_modes,
            "output_modes": self.output_modes,
            "ranks": self.ranks,
        }


def _merged(cores: Sequence[Any]) -> Any:
    """One vector's cores as one core [rank, product of rows, product of columns, rank]: weights only, no batch."""
    merged = cores[0]
    for core in cores[1:]:
        product = ops.einsum("rios,sjpt->rijopt", merged, core)
        left, rows, more_rows, columns, more_columns, right = product.shape
        merged = ops.reshape(product, (left, rows * more_rows, columns * more_columns, right))
    return merged


def _core_spans(modes: tuple[int, ...], widths: Sequence[int | None]) -> list[tuple[int, int]]:
    """First and past-the-last core of each vector."""
    if len(widths) != _VECTORS or any(width is None for width in widths):
        raise ValueError(f"Expected three vectors of known width. Received: widths {list(widths)}")
    spans, first = [], 0
    for width in widths:
        wanted, last, rows = (width or 0) + 1, first, 1
        while rows < wanted and last < len(modes):
            rows *= modes[last]
            last += 1
        if rows != wanted:
            raise ValueError(
                f"Expected input modes whose products are the vectors' widths plus one, "
                f"{[(width or 0) + 1 for width in widths]} in this order. Received: input_modes={modes}"
            )
        spans.append((first, last))
        first = last
    if first != len(modes):
        raise ValueError(f"Expected input modes for three vectors of widths {list(widths)}. Received: {modes}")
    return spans
