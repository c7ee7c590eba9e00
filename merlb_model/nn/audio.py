"""Audio encoder: log-mel spectrograms of overlapping segments on the slice grid, then a small CNN.

A segment is two slices long (0.5 s) and starts on a slice, so a window of 20 slices holds 19; or it is one slice, and
the window holds 20. Frames are shared by the segments that overlap. Nothing here looks beyond a segment: a segment's
features are the same in every window.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from merlb_model.nn.inception_dense import EachStep, norm_relu
from merlb_model.nn.spec_augment import SpecAugment

SAMPLE_RATE: Final = 22_050
FRAME_SAMPLES: Final = 1_024
HOP_SAMPLES: Final = 212
"""A divisor of the slice's 5,512 samples, so that frames lie on the slice grid: 26 a slice, one each 9.6 ms."""
MASKS: Final = (2, 40, 2, 8)
"""In training, what of a window's spectrogram may be masked: two stretches of at most 0.4 s, two of at most 8 bands."""
_SILENCE: Final = 1e-8  # power floor: 80 dB below full scale, near the i16 rounding noise


@dataclass(frozen=True)
class AudioSizes:
    """Widths of the audio encoder.

    Attributes:
        mels: mel bands.
        filters: filters of the CNN's layers; each halves the map.
        bottleneck: channels of the last map before it is flattened.
        features: width of the vector a segment ends in.
    """

    mels: int
    filters: tuple[int, ...]
    bottleneck: int
    features: int


def mel_matrix(mels: int) -> NDArray[np.float32]:
    """Slaney's mel filters from librosa: f32 (513, ``mels``), power spectrum to bands."""
    from librosa.filters import (
        mel,
    )  # here alone: a trained model carries the matrix, so that neither loading nor serving needs librosa

    filters: NDArray[np.float32] = mel(sr=SAMPLE_RATE, n_fft=FRAME_SAMPLES, n_mels=mels, fmin=60.0, fmax=8_000.0)
    return filters.T.astype(np.float32)


def frames_of(slices: int, slice_samples: int) -> int:
    """Spectrogram frames that fit into ``slices`` slices in a row."""
    return (slices * slice_samples - FRAME_SAMPLES) // HOP_SAMPLES + 1


@keras.saving.register_keras_serializable(package="merlb")
class LogMel(layers.Layer):
    """Log-mel levels of slices in a row, by fixed statistics: i16 [B, T, samples] → f32 [B, frames, mels].

    Its weights are constants: the mel matrix, and each band's mean and standard deviation over the training rows.
    """

    def __init__(self, mels: int, **kwargs: Any) -> None:
        super().__init__(**{"trainable": False, "dtype": "float32", **kwargs})  # Fourier transforms are in 32 bits
        self.mels = mels

    def build(self, input_shape: Sequence[int | None]) -> None:
        bins = FRAME_SAMPLES // 2 + 1
        self.matrix = self.add_weight(name="matrix", shape=(bins, self.mels), initializer="zeros")
        self.mean = self.add_weight(name="mean", shape=(self.mels,), initializer="zeros")
        self.deviation = self.add_weight(name="deviation", shape=(self.mels,), initializer="ones")

    def call(self, slices: Any) -> Any:
        return (self.levels(slices) - self.mean) / self.deviation

    def levels(self, slices: Any) -> Any:
        """Levels before the statistics: natural log of the band's power, at least log(1e-8)."""
        samples = ops.reshape(slices, (-1, slices.shape[1] * slices.shape[2]))
        waves = ops.cast(samples, self.compute_dtype) / 32_768.0
        spectrum = tf.signal.stft(waves, FRAME_SAMPLES, HOP_SAMPLES, FRAME_SAMPLES)
        power = tf.math.real(spectrum) ** 2 + tf.math.imag(spectrum) ** 2
        return ops.log(ops.matmul(power, self.matrix) + _SILENCE)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int, int]:
        return (input_shape[0], frames_of(input_shape[1] or 0, input_shape[2] or 0), self.mels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mels": self.mels}


def segment_slices(frontend: str) -> int:
    """Slices of a segment."""
    return 1 if frontend == "slices" else 2


def segments(frames: Any, slice_samples: int, length_slices: int = 2) -> Any:
    """Cut a spectrogram into segments, one a slice: [B, frames, mels] → [B, segments, segment frames, mels]."""
    step, length = slice_samples // HOP_SAMPLES, frames_of(length_slices, slice_samples)
    count = (frames.shape[1] - length) // step + 1
    return ops.stack([frames[:, k * step : k * step + length] for k in range(count)], axis=1)


def segment_encoder(sizes: AudioSizes, slice_samples: int, name: str, length_slices: int = 2) -> keras.Model:
    """Network of one segment's spectrogram: f32 [B, frames, mels] → f32 [B, ``sizes.features``]."""
    frames = frames_of(length_slices, slice_samples)
    spectrogram = keras.Input((frames, sizes.mels), name=f"{name}_spectrogram")
    maps = layers.Reshape((frames, sizes.mels, 1), name="channel")(spectrogram)
    for index, filters in enumerate(sizes.filters):
        maps = layers.Conv2D(
            filters, 3 if index else 5, 2, "same", use_bias=False, kernel_initializer="he_normal", name=f"conv_{index}"
        )(maps)
        maps = norm_relu(maps, f"conv_{index}")
    maps = layers.Conv2D(sizes.bottleneck, 1, activation="relu", kernel_initializer="he_normal", name="bottleneck")(
        maps
    )
    vector = layers.Dense(sizes.features, use_bias=False, name="features")(layers.Flatten(name="flat")(maps))
    return keras.Model(spectrogram, norm_relu(vector, "features"), name=name)


@keras.saving.register_keras_serializable(package="merlb")
class EachSegment(EachStep):
    """Run a network on every segment of slices in a row: i16 [B, T, samples] → f32 [B, T + 1 - length, features].

    Segment k holds the slices from k on. The spectrogram is made once and shared by the segments that overlap.
    """

    def __init__(self, layer: keras.Model, mels: int, length_slices: int = 2, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.mels = mels
        self.length_slices = length_slices
        self.log_mel = LogMel(mels, name="log_mel")
        self.masks = SpecAugment(*MASKS, name="masks")

    def build(self, input_shape: Sequence[int | None]) -> None:
        slice_samples = input_shape[2] or 0
        if slice_samples % HOP_SAMPLES:
            raise ValueError(f"Expected slices of whole hops ({HOP_SAMPLES} samples). Received: {slice_samples}")
        self.log_mel.build(input_shape)
        super().build((None, None, frames_of(self.length_slices, slice_samples), self.mels))

    def call(self, slices: Any, training: bool | None = None) -> Any:
        levels = self.masks(self.log_mel(slices), training=training)
        cut = segments(levels, slices.shape[2], self.length_slices)
        return super().call(cut, training=training)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (input_shape[0], (input_shape[1] or 0) + 1 - self.length_slices, *self.layer.output_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mels": self.mels, "length_slices": self.length_slices}


def audio_level(batches: Iterable[Any], mels: int) -> dict[str, list[float]]:
    """Mean and standard deviation of each mel band over batches of slices, i16 [B, T, samples].

    Silence is left out where there is anything else: padding must not set the scale.
    """
    layer = LogMel(mels)
    layer.build((None, None, None))
    layer.matrix.assign(mel_matrix(mels))
    measure = tf.function(layer.levels, reduce_retracing=True)
    count, total, squares = 0.0, np.zeros(mels), np.zeros(mels)
    for slices in batches:
        levels = np.asarray(measure(tf.constant(slices)), dtype=np.float64).reshape(-1, mels)
        heard = levels[levels.max(axis=1) > np.log(2 * _SILENCE)]
        count += len(heard)
        total += heard.sum(axis=0)
        squares += (heard**2).sum(axis=0)
    if not count:
        return {"mean": [float(np.log(_SILENCE))] * mels, "deviation": [1.0] * mels}
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 1e-6))
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}


def set_constants(layer: LogMel, level: Mapping[str, Sequence[float]]) -> None:
    """Give a fresh ``LogMel`` its mel matrix and the training rows' statistics."""
    layer.matrix.assign(mel_matrix(layer.mels))
    layer.mean.assign(np.asarray(level["mean"], dtype=np.float32))
    layer.deviation.assign(np.asarray(level["deviation"], dtype=np.float32))
