"""Tensor-train fusion: a dense layer on the outer product of three vectors, which is never formed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from math import prod
from operator import mul
from typing import Any

import keras
from keras import ops

from merlb_model.errors import MerlbError
from merlb_model.labels import MODALITIES

_VECTORS = len(MODALITIES)


@dataclass(frozen=True)
class _Meeting:
    """What one vector meets.

    Attributes:
        lead: how many rows, the slower ones of the vector, the cores before left to it.
        rows: how many are its own cores' rows, the faster ones; what rows these cores have more, they leave in turn.
        first: its first core.
        last: past its last core; ``first`` where the vector lies within the cores before.
    """

    lead: int
    rows: int
    first: int
    last: int


@keras.saving.register_keras_serializable(package="merlb")
class TensorTrainFusion(keras.layers.Layer):
    """Fuse three vectors through a tensor-train matrix on their outer product.

    With ``x = [1; v]`` for each vector ``v``, the layer computes ``y = K^T vec(x1 ⊗ x2 ⊗ x3)``, where the matrix ``K``
    of ``prod(input_modes)`` rows and ``prod(output_modes)`` columns is a product of small cores
    ``G_k [ranks[k], input_modes[k], output_modes[k], ranks[k+1]]`` (Oseledets 2011, Novikov et al. 2015).

    The outer product has rank one, so each vector can meet its own cores alone. Where the modes' borders meet the
    vectors': ``P = x1·G1G2``, ``Q = x2·G3``, ``S = x3·G4G5`` and ``y = Σ P·Q·S`` over the two ranks between them. Where
    a vector ends inside a core, the core's rows are parted, the later ones kept for the next vector; where they cannot
    be parted evenly, neighbouring cores are merged until they can. A merged core is as large as its rows times its
    columns times its two ranks: modes that need all cores merged cost the whole matrix.

    The published modes take 11,038 weights. There is no bias: a batch norm follows.

    Args:
        input_modes: factors of the product of the three widths plus one: 3·43·129·43·3 for vectors of 128.
        output_modes: factors of the output's width, one a core.
        ranks: one more than there are cores; first and last are 1.
        l2: weight of the sum of the cores' squares in the layer's ``losses``.

    Call: a list of three float tensors [B, D1], [B, D2], [B, D3] → [B, prod(output_modes)].

    Raises:
        ValueError: modes and ranks that do not fit each other, or modes whose product is not the vectors'.
    """

    def __init__(
        self,
        input_modes: Sequence[int] = (3, 43, 129, 43, 3),
        output_modes: Sequence[int] = (2, 4, 4, 4, 3),
        ranks: Sequence[int] = (1, 2, 4, 4, 2, 1),
        l2: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_modes = tuple(input_modes)
        self.output_modes = tuple(output_modes)
        self.ranks = tuple(ranks)
        self.l2 = l2
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
        self._meetings = _meetings(self.input_modes, [shape[-1] for shape in input_shape])
        self.cores = [
            self.add_weight(
                name=f"core_{index}",
                shape=(left, rows, columns, right),
                # A sum over left·rows terms keeps the variance of its inputs, so the chain of cores does too.
                initializer=keras.initializers.RandomNormal(stddev=(left * rows) ** -0.5),
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )
            for index, (left, rows, columns, right) in enumerate(
                zip(self.ranks[:-1], self.input_modes, self.output_modes, self.ranks[1:], strict=True)
            )
        ]

    def call(self, vectors: Sequence[Any]) -> Any:
        return self.contract([ops.pad(vector, ((0, 0), (1, 0)), constant_values=1) for vector in vectors])

    def contract(self, factors: Sequence[Any]) -> Any:
        """``K^T vec(x1 ⊗ x2 ⊗ x3)`` [B, prod(output_modes)] of any three factors [B, D1+1], [B, D2+1], [B, D3+1]."""
        fused: Any = None  # [B, columns so far, rows left to the vectors behind · rank]
        columns = 1
        for factor, meeting in zip(factors, self._meetings, strict=True):
            if meeting.first == meeting.last:
                rows = ops.reshape(fused, (-1, columns, meeting.lead, fused.shape[2] // meeting.lead))
                fused = ops.einsum("bcir,bi->bcr", rows, factor)
                continue
            merged = _merged(self.cores[meeting.first : meeting.last])
            left, all_rows, own_columns, right = merged.shape
            rest = all_rows // meeting.rows
            kernel = ops.reshape(merged, (left, meeting.rows, rest, own_columns, right))
            kernel = ops.reshape(ops.transpose(kernel, (1, 0, 3, 2, 4)), (meeting.rows, -1))
            part = ops.matmul(ops.reshape(factor, (-1, meeting.rows)), kernel)
            part = ops.reshape(part, (-1, meeting.lead * left, own_columns * rest * right))
            columns *= own_columns
            fused = ops.reshape(part if fused is None else ops.matmul(fused, part), (-1, columns, rest * right))
        return ops.reshape(fused, (-1, columns))

    def compute_output_shape(self, input_shape: Sequence[Sequence[int | None]]) -> tuple[int | None, int]:
        return (input_shape[0][0], prod(self.output_modes))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_modes": self.input_modes,
            "output_modes": self.output_modes,
            "ranks": self.ranks,
            "l2": self.l2,
        }


def fusion_of(model: keras.Model) -> TensorTrainFusion:
    """The tensor-train fusion of a network that ``nn.model.build_model`` made.

    Raises:
        MerlbError: it fuses in another way.
    """
    for layer in model.get_layer("fuse").layers:
        if isinstance(layer, TensorTrainFusion):
            return layer
    raise MerlbError(
        "the model has no tensor-train fusion: expected one trained with model.fusion: merlb; set it in params.yaml "
        "and run `merlb train`"
    )


def terms(layer: TensorTrainFusion, vectors: Sequence[Any]) -> dict[tuple[str, ...], Any]:
    """The layer's answer, term by term: what each set of modalities adds to it.

    Each ``[1; v]`` is ``[1; 0] + [0; v]`` and the layer is linear in each, so ``y = Σ_S y_S`` over the eight sets ``S``
    of modalities: ``y_S`` takes ``[0; v]`` of those in ``S`` and ``[1; 0]`` of the others.

    Args:
        layer: a built layer.
        vectors: as the layer is called with, of face, screen and audio.

    Returns:
        {modalities of the term, in their order: [B, prod(output_modes)]}, from ``()``, the constant, to all three.
    """
    ones = [ops.pad(ops.zeros_like(vector), ((0, 0), (1, 0)), constant_values=1) for vector in vectors]
    parts = [ops.pad(vector, ((0, 0), (1, 0))) for vector in vectors]
    return {
        tuple(MODALITIES[index] for index in chosen): layer.contract(
            [parts[index] if index in chosen else ones[index] for index in range(_VECTORS)]
        )
        for size in range(_VECTORS + 1)
        for chosen in combinations(range(_VECTORS), size)
    }


def _merged(cores: Sequence[Any]) -> Any:
    """Neighbouring cores as one core [rank, product of rows, product of columns, rank]: weights only, no batch."""
    merged = cores[0]
    for core in cores[1:]:
        left, rows, columns, rank = merged.shape
        _, more_rows, more_columns, right = core.shape
        # As matmul and one transpose: fewer operations than einsum makes of it.
        product = ops.matmul(ops.reshape(merged, (-1, rank)), ops.reshape(core, (rank, -1)))
        product = ops.reshape(product, (left * rows, columns, more_rows, more_columns * right))
        product = ops.transpose(product, (0, 2, 1, 3))
        merged = ops.reshape(product, (left, rows * more_rows, columns * more_columns, right))
    return merged


def _meetings(modes: tuple[int, ...], widths: Sequence[int | None]) -> list[_Meeting]:
    """Which cores each vector meets: the fewest whose rows are parted evenly by every vector's end within them."""
    if len(widths) != _VECTORS or any(width is None for width in widths):
        raise ValueError(f"Expected three vectors of known width. Received: widths {list(widths)}")
    rows = [(width or 0) + 1 for width in widths]
    borders = list(accumulate(rows, mul))
    if prod(modes) != borders[-1]:
        raise ValueError(
            f"Expected input modes whose product is that of the vectors' widths plus one, "
            f"{' · '.join(map(str, rows))} = {borders[-1]}. Received: input_modes={modes} of product {prod(modes)}"
        )
    meetings, first, taken, lead = [], 0, 1, 1
    for index, border in enumerate(borders):
        last = first
        while taken % border or any(taken % later and later % taken for later in borders[index:]):
            taken *= modes[last]
            last += 1
        if index == _VECTORS - 1:
            last = len(modes)  # cores of one row behind
        lead = min(lead, rows[index])
        meetings.append(_Meeting(lead, rows[index] // lead, first, last))
        first, lead = last, taken // border
    return meetings
