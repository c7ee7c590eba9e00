"""What of a window is there: which modalities count, what stands for those that do not, and what is said of nothing."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from merlb_model.labels import MODALITIES

_SMALLEST_SHARE = 1e-6  # a class that training has not seen still has a finite logarithm


@keras.saving.register_keras_serializable(package="merlb")
class Presence(layers.Layer):
    """What of a window is there and may be used: f32 [B, 3] of 1 and 0 → the same, 0 where withheld from this model."""

    def __init__(self, modalities: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def call(self, present: Any) -> Any:
        allowed = [float(modality in self.modalities) for modality in MODALITIES]
        return present * ops.convert_to_tensor([allowed], dtype=present.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "modalities": self.modalities}


@keras.saving.register_keras_serializable(package="merlb")
class NothingThere(layers.Layer):
    """What stands for the encoder of a modality that a model does not use: [B, T, ...] → zeros [B, T - skipped, width].

    Args:
        width: width of the features.
        skipped: leading steps without features of their own, as the first slice of audio is.
    """

    def __init__(self, width: int, skipped: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.skipped = skipped

    def call(self, steps: Any) -> Any:
        return ops.zeros((ops.shape(steps)[0], steps.shape[1] - self.skipped, self.width), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int, int]:
        return (input_shape[0], (input_shape[1] or 0) - self.skipped, self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "skipped": self.skipped}


@keras.saving.register_keras_serializable(package="merlb")
class OrPrior(layers.Layer):
    """Logits where any modality is present, else the logarithm of the training rows' class shares.

    Call: logits [B, C] and present [B, 3] → logits [B, C].
    """

    def __init__(self, prior: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prior = tuple(float(share) for share in prior)

    def call(self, logits: Any, present: Any) -> Any:
        shares = np.maximum(np.asarray(self.prior, dtype=np.float64), _SMALLEST_SHARE)
        answer = ops.convert_to_tensor(np.log(shares / shares.sum())[None], dtype=logits.dtype)
        return ops.where(ops.any(present > 0, axis=-1, keepdims=True), logits, answer)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prior": self.prior}


@keras.saving.register_keras_serializable(package="merlb")
class MeanOfPresent(layers.Layer):
    """Mean over the modalities that are present.

    Call: logits [B, M, C] and present [B, M] → [B, C]; zeros where none is.
    """

    def call(self, logits: Any, present: Any) -> Any:
        weights = present / ops.maximum(ops.sum(present, axis=-1, keepdims=True), 1.0)
        return ops.sum(logits * weights[..., None], axis=1)

    def compute_output_shape(
        self, logits_shape: Sequence[int | None], present_shape: Sequence[int | None]
    ) -> tuple[int | None, ...]:
        return (logits_shape[0], logits_shape[2])
