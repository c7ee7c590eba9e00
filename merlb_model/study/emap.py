"""The additive part of a model's answers: what is left when no answer may rest on a combination of modalities.

The empirical multimodally-additive projection of Hessel and Lee 2020, for three modalities.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_DEALS: Final = 4
Answer = Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]


def additive_projection(answer: Answer, inputs: dict[str, NDArray[Any]], modalities: Sequence[str]) -> NDArray[Any]:
    """Project ``answer`` to a sum of one function a modality, on the clips given.

    For clip i it is ``Σ_m mean f(x_i^m, the other modalities of other clips) - (M - 1)·mean f``. Each mean takes every
    clip's values of a modality equally often; which values of the others they meet is dealt anew for each modality
    (seeded), so that none keeps its company. Exact for a sum, and for two modalities.

    Args:
        answer: from inputs [N, …] by modality to logits [N, C]; row by row, no clip's depends on another's.
        inputs: of N clips, [N, …] by modality.
        modalities: those of ``inputs``.

    Returns:
        Logits f64 [N, C].
    """
    random = np.random.default_rng(0)
    deals = [
        {name: values[random.permutation(len(values))] for name, values in inputs.items()}
        for _ in range(_DEALS if len(modalities) > 2 else 1)
    ]

    def mean_answer(modality: str, own: NDArray[Any]) -> NDArray[np.float64]:
        held = np.broadcast_to(own, inputs[modality].shape)
        return np.mean([np.mean(answer({**deal, modality: held}), axis=0) for deal in deals], axis=0)

    parts = [np.stack([mean_answer(name, own) for own in inputs[name]]) for name in modalities]
    projected: NDArray[Any] = np.sum(parts, axis=0) - (len(modalities) - 1) * np.mean(parts, axis=(0, 1))
    return projected
