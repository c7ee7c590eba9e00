"""Clips as cameras, phones and streaming software make them, and clips that pass a limit."""

import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from merlb_model.media import decode
from merlb_model.media.decode import MediaError, MediaLimits, read_clip
from merlb_model.media.recording import SAMPLE_RATE
from merlb_model.media.windows import cut
from tests.media_clips import grey_of, write_media

SIZE = (128, 96)


def write_frames(
    path: Path,
    times: list[float],
    options: dict[str, str] | None = None,
    sound: bool = False,
    size: tuple[int, int] = SIZE,
) -> Path:
    """An H.264 clip whose frame k, at ``times[k]`` s, shows a moving edge on grey of level ``grey_of(k)``."""
    settings = {"crf": "1", "preset": "ultrafast", **(options or {})}
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=90_000, options=settings)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=44_100, layout="mono") if sound else None
        video.time_base = video.codec_context.time_base = Fraction(1, 90_000)
        for index, seconds in enumerate(times):
            pixels = np.full((size[1], size[0], 3), grey_of(index) % 256, np.uint8)
            pixels[:8, : 8 + index % 64] = 255
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 5 * 44_100), np.float32), format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 44_100, 0, Fraction(1, 44_100)
            container.mux([*audio.encode(block), *audio.encode(None)])
    return path


def expected_levels(times: list[float]) -> list[int]:
    """By the rule, written anew: slot k shows the last frame at or before (k + ½) / 4 s."""
    return [grey_of(max(k for k, at in enumerate(times) if at <= (slot + 0.5) / 4)) for slot in range(20)]


def levels_of(path: Path) -> list[float]:
    recording = read_clip(path)
    return [float(np.median(recording.frames[slot][32:])) for slot in range(20)]


@pytest.mark.parametrize(
    "times",
    [
        pytest.param([k / 24 for k in range(120)], id="24 a second"),
        pytest.param([0.5 * k / 60 for k in range(100)] + [0.9 + k / 4 for k in range(17)], id="variable"),
        pytest.param([0.0, 0.1, 2.6, 2.7, 4.9], id="long gaps"),
    ],
)
def test_frames_are_sampled_evenly_in_time_at_constant_and_variable_rates(tmp_path: Path, times: list[float]) -> None:
    found = levels_of(write_frames(tmp_path / "clip.mp4", times))
    expected = [level % 256 for level in expected_levels(times)]
    last = max(slot for slot in range(20) if (slot + 0.5) / 4 < times[-1] + times[-1] - times[-2])
    assert np.abs(np.array(found) - expected)[: last + 1].max() <= 2


def test_frames_are_sampled_evenly_in_time_at_60_a_second(tmp_path: Path) -> None:
    times = [k / 60 for k in range(300)]
    found = levels_of(write_frames(tmp_path / "clip.mp4", times))
    expected = [level % 256 for level in expected_levels(times)]
    assert np.abs(np.array(found) - expected).max() <= 2


# --- Frames that are not decoded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [24, 30, 60])
def test_leaving_out_frames_that_nobody_shows_changes_no_pixel(tmp_path: Path, rate: int) -> None:
    options = {"preset": "veryfast", "bf": "3", "crf": "23", "g": "50"}
    path = write_frames(tmp_path / "clip.mp4", [k / rate for k in range(5 * rate)], options=options, sound=True)
    sparse = decode._read_sparsely(path, 5.0, None)
    assert sparse is not None
    plain = decode._read_plainly(path, 5.0, None)
    assert sparse.video_slots == plain.video_slots == 20
    for name in ("face", "screen", "audio", "present"):
        ours, theirs = (getattr(cut(recording, 0.0, (0, 0, 64, 48)), name) for recording in (sparse, plain))
        assert np.array_equal(ours, theirs), name


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_clip_gives_the_pixels_of_reading_frame_by_frame(tmp_path: Path, seed: int) -> None:
    path = write_frames(tmp_path / "clip.mp4", [k / 30 for k in range(150)], options={"bf": "3", "preset": "veryfast"})
    chance = random.Random(seed)
    damaged = bytearray(path.read_bytes())
    for _ in range(20):
        damaged[chance.randrange(1000, len(damaged) - 5000)] ^= 1 << chance.randrange(8)
    path.write_bytes(damaged)
    plain = cut(decode._read_plainly(path, 5.0, None), 0.0, None)
    assert np.array_equal(cut(read_clip(path), 0.0, None).screen, plain.screen)


# --- Colour and rotation ----------------------------------------------------------------------------------------------


def write_colour(path: Path, yuv: tuple[int, int, int], colorspace: int, color_range: int) -> Path:
    """A flat clip of one Y'CbCr value, tagged with its matrix (1: BT.709, 6: BT.601) and range (2: full)."""
    with av.open(str(path), "w") as container:
        names = {1: "bt709", 6: "smpte170m"}
        tags = f"colormatrix={names[colorspace]}:fullrange={'on' if color_range == 2 else 'off'}"
        video = container.add_stream("libx264", rate=10, options={"crf": "1", "x264-params": tags})
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = colorspace, color_range
        planes = [
            np.full(SIZE[0] * SIZE[1] // part, value, np.uint8) for part, value in zip((1, 4, 4), yuv, strict=True)
        ]
        picture = np.concatenate(planes).reshape(-1, SIZE[0])
        for index in range(50):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.colorspace, frame.color_range = colorspace, color_range
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def rgb_by_hand(yuv: tuple[int, int, int], colorspace: int, color_range: int) -> NDArray[np.float64]:
    """ITU-R BT.601 and BT.709: R = Y + 2(1 - Kr) Pr, B = Y + 2(1 - Kb) Pb, Y = Kr R + Kg G + Kb B."""
    red, blue = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[colorspace]
    offset, luma, chroma = (16, 219, 224) if color_range == 1 else (0, 255, 255)
    y, pb, pr = (yuv[0] - offset) / luma, (yuv[1] - 128) / chroma, (yuv[2] - 128) / chroma
    r, b = y + 2 * (1 - red) * pr, y + 2 * (1 - blue) * pb
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.array([r, g, b]) * 255, 0, 255)


@pytest.mark.parametrize("colorspace", [1, 6], ids=["BT.709", "BT.601"])
@pytest.mark.parametrize("color_range", [1, 2], ids=["limited", "full"])
@pytest.mark.parametrize("yuv", [(100, 90, 180), (180, 150, 100)], ids=str)
def test_colour_matrix_and_range_are_honoured(
    tmp_path: Path, yuv: tuple[int, int, int], colorspace: int, color_range: int
) -> None:
    recording = read_clip(write_colour(tmp_path / "clip.mp4", yuv, colorspace, color_range))
    found = recording.frames[10].reshape(-1, 3).mean(axis=0)
    assert np.abs(found - rgb_by_hand(yuv, colorspace, color_range)).max() <= 3


def with_display_matrix(path: Path, degrees: int) -> Path:
    """Turn the clip's picture clockwise by its track's display matrix, as phones write it (ISO 14496-12, tkhd)."""
    one = 1 << 16
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40
    matrix = b"".join(
        value.to_bytes(4, "big", signed=True) for value in (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(data[:at] + matrix + data[at + 36 :])
    return path


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_a_picture_is_turned_as_its_display_matrix_says(tmp_path: Path, degrees: int, corner: tuple[int, int]) -> None:
    """The white corner, top left as stored, stands top right when turned clockwise by a quarter, and so on."""
    path = write_frames(tmp_path / "clip.mp4", [k / 10 for k in range(50)])
    frame = read_clip(with_display_matrix(path, degrees)).frames[3]
    assert frame.shape[:2] == (SIZE if degrees != 180 else SIZE[::-1])
    corners = {(y, x): frame[y, x].mean() for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=lambda place: corners[place]) == corner
    assert corners[corner] > 240


# --- Sound ------------------------------------------------------------------------------------------------------------


def write_sound(path: Path, samples: NDArray[np.int16], rate: int) -> Path:
    """16-bit PCM in Matroska: nothing is lost, so that resampling alone is compared."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=rate, layout="stereo")
        for first in range(0, len(samples), 1024):
            part = np.ascontiguousarray(samples[first : first + 1024]).reshape(1, -1)
            block = av.AudioFrame.from_ndarray(part, format="s16", layout="stereo")
            block.sample_rate, block.pts, block.time_base = rate, first, Fraction(1, rate)
            container.mux(audio.encode(block))
        container.mux(audio.encode(None))
    return path


@pytest.mark.parametrize("rate", [44_100, 48_000, 22_050, 16_000])
def test_sound_is_mono_22050_as_librosa_has_it(tmp_path: Path, rate: int) -> None:
    times = np.arange(5 * rate) / rate
    left = 9000 * np.sin(2 * np.pi * (200 + 300 * times) * times)
    right = 6000 * np.sin(2 * np.pi * 700 * times)
    samples = np.stack([left, right], axis=1).astype(np.int16)
    recording = read_clip(write_sound(tmp_path / "clip.mkv", samples, rate))
    soundfile.write(tmp_path / "same.wav", samples, rate)
    expected, _ = librosa.load(tmp_path / "same.wav", sr=SAMPLE_RATE, mono=True)
    found = recording.samples(0, 5 * SAMPLE_RATE) / 32768
    inner = slice(200, -200)  # at the ends the two filters differ
    error = np.sqrt(np.mean((found[: len(expected)] - expected)[inner] ** 2))
    assert error < 0.01 * np.sqrt(np.mean(expected**2))
    assert recording.audio_samples == pytest.approx(5 * SAMPLE_RATE, abs=40)


# --- Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "reason", "said"),
    [
        (MediaLimits(pixels=128 * 96 - 1, seconds=60), "too_large", "128 × 96 pixels; expected at most 12287"),
        (MediaLimits(pixels=128 * 96, seconds=4.5), "too_long", "5 s; expected at most 4.5 s"),
    ],
)
def test_a_clip_that_passes_a_limit_is_refused(tmp_path: Path, limits: MediaLimits, reason: str, said: str) -> None:
    path = write_media(tmp_path / "clip.mp4")
    with pytest.raises(MediaError, match=said) as refused:
        read_clip(path, 5.0, limits)
    assert refused.value.reason == reason
    read_clip(path, 5.0, MediaLimits(pixels=128 * 96, seconds=6))


def test_a_picture_that_grows_past_the_limit_on_the_way_is_not_decoded(tmp_path: Path) -> None:
    """A transport stream whose picture becomes larger after 2.5 s: the header tells of the first size alone."""
    small = write_frames(tmp_path / "small.ts", [k / 10 for k in range(25)])
    large = write_frames(tmp_path / "large.ts", [2.5 + k / 10 for k in range(25)], size=(640, 480))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    assert {frame.shape for frame in read_clip(both).frames.values()} == {(96, 128, 3), (480, 640, 3)}
    bounded = read_clip(both, 5.0, MediaLimits(pixels=128 * 96, seconds=60))
    assert {frame.shape for frame in bounded.frames.values()} == {(96, 128, 3)}


@pytest.fixture
def far_future(tmp_path: Path) -> Iterator[Path]:
    """A clip whose last frame is said to come in eleven days."""
    yield write_frames(tmp_path / "clip.mkv", [0.0, 0.1, 0.2, 1e6])


def test_times_far_off_fill_no_slots_without_end(far_future: Path) -> None:
    recording = read_clip(far_future)
    assert recording.video_slots == 20
