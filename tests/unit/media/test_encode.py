"""What `write_clip` writes: checked by decoding it with PyAV and by looking at the bytes."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.media.encode import write_clip

RATE = 44_100


def moving_square(frames: int = 20, height: int = 90, width: int = 160) -> Iterator[NDArray[np.uint8]]:
    for index in range(frames):
        frame = np.full((height, width, 3), (60, 120, 40), np.uint8)
        frame[20:60, 4 * index : 4 * index + 40] = (220, 180, 90)
        yield frame


def tone(seconds: float = 1.0, hertz: float = 440.0) -> NDArray[np.int16]:
    time = np.arange(round(seconds * RATE)) / RATE
    return (12_000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_clip(path, moving_square(), 20, tone(), RATE)
    return path


def test_it_is_h264_and_aac_of_the_given_size_and_rate(clip: Path) -> None:
    with av.open(str(clip)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.width, video.height, video.average_rate) == (160, 90, 20)
        assert (audio.codec_context.name, audio.rate, audio.layout.nb_channels) == ("aac", RATE, 1)
        assert container.duration == pytest.approx(1e6, rel=0.05)


def test_frames_come_back_at_their_time_and_in_their_colours(clip: Path) -> None:
    with av.open(str(clip)) as container:
        decoded = list(container.decode(video=0))
    assert [frame.time for frame in decoded] == pytest.approx(np.arange(20) / 20)
    for frame, expected in zip(decoded, moving_square(), strict=True):
        error = frame.to_ndarray(format="rgb24").astype(float) - expected
        assert np.abs(error).mean() < 5  # of 255; colour is kept at half the resolution


def test_sound_comes_back_at_its_pitch_and_level(clip: Path) -> None:
    with av.open(str(clip)) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])[4096:36864]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    assert np.argmax(spectrum) * RATE / samples.size == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(12_000 / 32_768 / np.sqrt(2), rel=0.05)


def test_the_same_input_makes_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "again.mp4", moving_square(), 20, tone(), RATE)
    assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()


def test_the_index_comes_before_the_media(clip: Path) -> None:
    content = clip.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_no_frame_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_clip(tmp_path / "x.mp4", iter(()), 20, tone(), RATE)


def test_an_odd_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="both even"):
        write_clip(tmp_path / "x.mp4", [np.zeros((91, 160, 3), np.uint8)], 20, tone(), RATE)


def test_a_frame_unlike_the_first_is_refused(tmp_path: Path) -> None:
    frames = [np.zeros((90, 160, 3), np.uint8), np.zeros((90, 158, 3), np.uint8)]
    with pytest.raises(ValueError, match="frame 1"):
        write_clip(tmp_path / "x.mp4", frames, 20, tone(), RATE)


def test_stereo_or_float_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="i16"):
        write_clip(tmp_path / "x.mp4", moving_square(), 20, tone().astype(np.float32), RATE)  # type: ignore[arg-type]
