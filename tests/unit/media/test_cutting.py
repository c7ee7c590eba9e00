import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from merlb_model.media.broadcast import Broadcast, Coded
from merlb_model.media.cutting import cut_clips
from merlb_model.media.decode import read_clip
from tests.live_source import RATE, LivePlaylist, grey_of, served, write_stream

FPS = 20
CLIP_FRAMES = 5 * FPS


def packets_of(source: Path | str) -> list[Coded]:
    return list(Broadcast(str(source), threading.Event(), patience_seconds=0).packets())


def cut(source: Path | str, out: Path) -> list[tuple[Path, bool]]:
    """The clips of a source, and whether each was copied."""
    clips = []
    for number, clip in enumerate(cut_clips(packets_of(source))):
        clip.write(out / f"clip{number}.mp4")
        clips.append((out / f"clip{number}.mp4", clip.copied))
    return clips


def frames_of(path: Path) -> list[tuple[float, int]]:
    """The time and the grey level of each frame."""
    with av.open(str(path)) as container:
        return [(float(f.time), int(f.to_ndarray(format="gray")[48, 64])) for f in container.decode(video=0)]


def samples_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def coded_pictures(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def assert_shows(path: Path, first: int) -> None:
    """The clip shows the 100 frames from ``first`` on, each at its time."""
    frames = frames_of(path)
    assert [at for at, _ in frames] == pytest.approx([k / FPS for k in range(CLIP_FRAMES)], abs=0.0015)
    np.testing.assert_allclose([grey for _, grey in frames], [grey_of(first + k) for k in range(CLIP_FRAMES)], atol=8)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        assert float(video.duration * video.time_base) == pytest.approx(5, abs=0.002)
        assert container.duration / av.time_base == pytest.approx(5, abs=0.03)


def test_with_key_frames_on_the_cuts_the_packets_are_the_sources_own(tmp_path: Path) -> None:
    source = write_stream(tmp_path / "source.mp4", 16.5, gop=CLIP_FRAMES)
    clips = cut(source, tmp_path)
    assert [copied for _, copied in clips] == [True] * 3
    original = coded_pictures(source)
    for number, (path, _) in enumerate(clips):
        assert coded_pictures(path) == original[number * CLIP_FRAMES : (number + 1) * CLIP_FRAMES]
        assert_shows(path, number * CLIP_FRAMES)


def test_between_key_frames_the_clip_is_encoded_anew_exact_to_the_frame(tmp_path: Path) -> None:
    clips = cut(write_stream(tmp_path / "source.mp4", 15, gop=40), tmp_path)  # keys at 0, 2, 4, … s
    assert [copied for _, copied in clips] == [True, False, True]
    for number, (path, _) in enumerate(clips):
        assert_shows(path, number * CLIP_FRAMES)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv"])
def test_with_b_frames_and_one_key_frame_in_all_nothing_is_lost(tmp_path: Path, ending: str) -> None:
    clips = cut(write_stream(tmp_path / f"source.{ending}", 15, gop=10_000, b_frames=2), tmp_path)
    assert len(clips) == 3
    for number, (path, _) in enumerate(clips):
        assert_shows(path, number * CLIP_FRAMES)


@pytest.mark.parametrize("gop", [CLIP_FRAMES, 30])
def test_the_sound_of_a_clip_is_the_sources_to_the_sample(tmp_path: Path, gop: int) -> None:
    source = write_stream(tmp_path / "source.mp4", 11, gop=gop)
    whole = samples_of(source)
    for number, (path, _) in enumerate(cut(source, tmp_path)):
        heard = samples_of(path)
        assert 0 <= len(heard) - 5 * RATE < 1024
        np.testing.assert_allclose(
            heard, whole[number * 5 * RATE :][: len(heard)], atol=1e-4
        )  # AAC's noise is drawn anew


def test_the_clip_reader_finds_five_whole_seconds(tmp_path: Path) -> None:
    for path, _ in cut(write_stream(tmp_path / "source.ts", 11, gop=30, b_frames=2), tmp_path):
        recording = read_clip(path)
        assert recording.video_slots >= 20 and recording.audio_samples >= 5 * 22_050 - 1024


def test_what_mp4_does_not_take_is_encoded(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    with av.open(str(source), "w") as container:
        video = container.add_stream("mpeg4", rate=FPS)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for index in range(6 * FPS):
            grey = np.full((96, 128), grey_of(index), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")))
        tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(6 * RATE) / RATE)).astype(np.int16)
        block = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        block.sample_rate = RATE
        container.mux([*video.encode(None), *sound.encode(block), *sound.encode(None)])
    ((path, copied),) = cut(source, tmp_path)
    assert not copied
    assert_shows(path, 0)
    with av.open(str(path)) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]
    heard = samples_of(path)
    assert len(heard) == pytest.approx(5 * RATE, abs=2048)
    spectrum = np.abs(np.fft.rfft(heard[RATE : 2 * RATE]))
    assert spectrum.argmax() == pytest.approx(440, abs=1)


def test_a_picture_that_stands_still_over_the_cut_opens_the_next_clip(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    shown = {0: 40, 2_000: 80, 7_000: 120, 10_000: 160}  # ms: grey
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "1", "bf": "0"})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        video.time_base = Fraction(1, 1000)
        for at, grey in shown.items():
            frame = av.VideoFrame.from_ndarray(np.full((96, 128), grey, np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    (_, copied), (clip, _) = cut(source, tmp_path)
    (first, grey), (second, later) = frames_of(clip)
    assert copied
    assert (first, second) == (0, 2) and grey == pytest.approx(80, abs=3) and later == pytest.approx(120, abs=3)


def test_no_clip_spans_a_segment_that_was_lost(tmp_path: Path) -> None:
    live = LivePlaylist(tmp_path / "hls", 20, listed=20)
    live.segments[7].unlink()
    live.send(20, end=True)
    with served(live.folder) as port:
        clips = cut(f"http://127.0.0.1:{port}/live.m3u8", tmp_path)
    assert len(clips) == 3  # 0–5 s, 8–13 s and 13–18 s; 5–7 s and 18–20 s make none
    for (path, copied), first in zip(clips, (0, 8, 13), strict=True):
        assert copied
        assert_shows(path, first * FPS)


def test_a_source_shorter_than_a_clip_gives_none(tmp_path: Path) -> None:
    assert cut(write_stream(tmp_path / "source.mp4", 4), tmp_path) == []


def test_sound_alone_is_cut_too(tmp_path: Path) -> None:
    source = tmp_path / "source.m4a"
    with av.open(str(source), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(np.ones((1, 11 * RATE), np.int16), format="s16", layout="mono")
        block.sample_rate = RATE
        container.mux([*sound.encode(block), *sound.encode(None)])
    clips = cut(source, tmp_path)
    assert len(clips) == 2
    assert len(samples_of(clips[1][0])) == pytest.approx(5 * RATE, abs=2048)
