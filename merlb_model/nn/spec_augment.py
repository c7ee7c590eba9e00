"""Masks over spectrograms in training: what is told by one band or one moment alone is not to be relied on."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="merlb")
class SpecAugment(layers.Layer):
    """Put the mean level, 0, over stretches of frames and of mel bands (Park et al. 2019, without time warping).

    Call: levels f32 [B, frames, mels], normalised → the same; masked in training alone, and only where ``active``.
    Each clip has draws of its own: the width of each mask from 0 to the widest, evenly, then its place.

    Args:
        time_masks: stretches of frames that are masked.
        time_width: most frames of one.
        mel_masks: stretches of bands that are masked.
        mel_width: most bands of one.
        seed: of the draws.

    Attributes:
        active: whether training masks at all; read when a function is traced.
    """

    def __init__(
        self, time_masks: int, time_width: int, mel_masks: int, mel_width: int, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.time_masks, self.time_width = time_masks, time_width
        self.mel_masks, self.mel_width = mel_masks, mel_width
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.active = False

    def call(self, levels: Any, training: bool | None = None) -> Any:
        if not (training and self.active):
            return levels
        clips, frames, mels = ops.shape(levels)
        over_frames = self._masked(clips, frames, self.time_masks, self.time_width)
        over_mels = self._masked(clips, mels, self.mel_masks, self.mel_width)
        masked = ops.logical_or(over_frames[:, :, None], over_mels[:, None, :])
        return ops.where(masked, ops.zeros_like(levels), levels)

    def _masked(self, clips: Any, size: int, masks: int, width: int) -> Any:
        """Which of ``size`` places lie under one of the masks, bool [clips, size]."""
        draws = keras.random.uniform((2, clips, masks, 1), seed=self.seed_generator)
        widths = ops.floor(draws[0] * (min(width, size) + 1))
        starts = ops.floor(draws[1] * (size - widths + 1))
        places = ops.arange(size, dtype=draws.dtype)
        return ops.any(ops.logical_and(places >= starts, places < starts + widths), axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("time_masks", "time_width", "mel_masks", "mel_width", "seed")}
        return {**super().get_config(), **own}
