"""The additive part of a model's answers: what is left when no answer may rest on a combination of modalities.

The empirical multimodally-additive projection of Hessel and Lee 2020, for three modalities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Answer = Callable[[dict[str, NDArray[Any]]], NDArray[np.float64]]


def additive_projection(answer: Answer, inputs: dict[str, NDArray[Any]], modalities: Sequence[str]) -> NDArray[Any]:
    """Project ``answer`` to a sum of one function a modality, on the clips given.

    For clip i it is ``Σ_m mean_j f(x_i^m, the other modalities of clip j) - (M - 1)·mean f``, where each modality's
    mean is over all clips j, and the grand mean over all means.

    Args:
        answer: from inputs [K, …] by modality to logits [K, C]; row by row, no clip's depends on another's.
        inputs: of N clips, [N, …] by modality.
        modalities: those that are told apart; what is not named moves with the others.

    Returns:
        Logits f64 [N, C].
    """
    clips = len(next(iter(inputs.values())))
    parts = []
    for modality in modalities:
        of_modality = []
        for own in inputs[modality]:
            mixed = {**inputs, modality: np.broadcast_to(own, inputs[modality].shape)}
            of_modality.append(np.asarray(answer(mixed), dtype=np.float64).mean(axis=0))
        parts.append(np.stack(of_modality))
    grand = np.mean(parts, axis=(0, 1))
    projected: NDArray[Any] = np.sum(parts, axis=0) - (len(modalities) - 1) * grand
    assert projected.shape[0] == clips
    return projected
