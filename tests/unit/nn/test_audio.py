import librosa
import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.nn.audio import (
    FRAME_SAMPLES,
    HOP_SAMPLES,
    SAMPLE_RATE,
    EachSegment,
    LogMel,
    audio_level,
    mel_matrix,
    segment_encoder,
    segments,
    set_constants,
)
from merlb_model.nn.model import PRESETS

MELS = 32


def log_mel(level: dict[str, list[float]] | None = None) -> LogMel:
    layer = LogMel(MELS)
    layer.build((None, 20, 5512))
    set_constants(layer, level or {"mean": [0.0] * MELS, "deviation": [1.0] * MELS})
    return layer


def glide(slices: int, batch: int = 1) -> NDArray[np.int16]:
    time = np.arange(slices * 5512) / SAMPLE_RATE
    tone = 0.3 * np.sin(2 * np.pi * (200 * time + 60 * time**2)) + 0.05 * np.sin(2 * np.pi * 3_000 * time)
    return np.tile((tone * 32_767).astype(np.int16).reshape(1, slices, 5512), (batch, 1, 1))


def test_levels_equal_those_of_librosa() -> None:
    slices = glide(4)
    power = librosa.feature.melspectrogram(
        y=slices.reshape(-1).astype(np.float32) / 32_768,
        sr=SAMPLE_RATE,
        n_fft=FRAME_SAMPLES,
        hop_length=HOP_SAMPLES,
        center=False,
        n_mels=MELS,
        fmin=60.0,
        fmax=8_000.0,
    )
    ours = np.asarray(log_mel().levels(slices))[0]
    assert ours.shape == power.T.shape
    floor = np.exp(np.asarray(log_mel().levels(np.zeros_like(slices)))[0, 0, 0])
    np.testing.assert_allclose(ours, np.log(power.T + floor), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("length", [1, 2])
def test_a_segments_spectrogram_equals_librosas_of_its_own_samples(length: int) -> None:
    """Though its frames are shared with the segments that overlap it."""
    slices = np.random.default_rng(0).normal(0, 3_000, (1, 20, 5512)).astype(np.int16)
    cut = np.asarray(segments(log_mel().levels(slices), 5512, length))[0]
    assert len(cut) == 21 - length
    for first, levels in enumerate(cut):
        power = librosa.feature.melspectrogram(
            y=slices[0, first : first + length].reshape(-1).astype(np.float32) / 32_768,
            sr=SAMPLE_RATE,
            n_fft=FRAME_SAMPLES,
            hop_length=HOP_SAMPLES,
            center=False,
            n_mels=MELS,
            fmin=60.0,
            fmax=8_000.0,
        )
        np.testing.assert_allclose(levels, np.log(power.T), rtol=1e-3, atol=2e-3)


def test_a_louder_clip_has_higher_levels() -> None:
    """No statistics of the window: loudness carries arousal."""
    loud = glide(4)
    quiet = (loud // 4).astype(np.int16)
    difference = np.asarray(log_mel().levels(loud)) - np.asarray(log_mel().levels(quiet))
    assert difference.max() == pytest.approx(2 * np.log(4), abs=0.05)


def test_statistics_of_training_bring_levels_to_unit_scale() -> None:
    generator = np.random.default_rng(0)
    batches = [generator.normal(0, 3_000, (4, 20, 5512)).astype(np.int16) for _ in range(3)]
    layer = log_mel(audio_level(batches, MELS))
    scaled = np.concatenate([np.asarray(layer(batch)) for batch in batches])
    np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=1e-3)


def test_silence_sets_no_scale_and_alone_gives_finite_levels() -> None:
    sound, silence = glide(20, batch=2), np.zeros((3, 20, 5512), np.int16)
    for name, values in audio_level([sound], MELS).items():
        np.testing.assert_allclose(audio_level([sound, silence], MELS)[name], values)
    alone = audio_level([silence], MELS)
    assert np.isfinite(np.asarray(log_mel(alone)(silence))).all()


def test_a_segment_is_two_slices_wherever_it_stands() -> None:
    layer = log_mel()
    slices = glide(20)
    whole = np.asarray(segments(layer(slices), 5512))
    assert whole.shape[1] == 19
    for first in (0, 7, 18):
        alone = np.asarray(segments(layer(slices[:, first : first + 2]), 5512))
        np.testing.assert_allclose(alone[:, 0], whole[:, first], rtol=1e-4, atol=1e-4)


def test_the_mel_matrix_covers_the_voice() -> None:
    matrix = mel_matrix(64)
    assert matrix.shape == (513, 64)
    assert matrix.dtype == np.float32
    assert (matrix.sum(axis=0) > 0).all()


def test_a_segment_ends_in_a_vector() -> None:
    sizes = PRESETS["small"].audio
    encoder = segment_encoder(sizes, 5512, "segment")
    assert encoder.output_shape == (None, sizes.features)


@pytest.mark.parametrize("length", [1, 2])
def test_each_segment_is_encoded_by_itself(length: int) -> None:
    sizes, slices = PRESETS["small"].audio, glide(6)
    layer = EachSegment(segment_encoder(sizes, 5512, "segment", length), sizes.mels, length)
    layer(slices)
    set_constants(layer.log_mel, {"mean": [-4.0] * sizes.mels, "deviation": [3.0] * sizes.mels})
    whole = np.asarray(layer(slices))
    assert whole.shape == layer.compute_output_shape(slices.shape) == (1, 7 - length, sizes.features)
    assert len(np.unique(whole, axis=1)[0]) == 7 - length
    for first in range(7 - length):
        alone = np.asarray(layer(slices[:, first : first + length]))
        np.testing.assert_allclose(alone[:, 0], whole[:, first], rtol=1e-4, atol=1e-4)
