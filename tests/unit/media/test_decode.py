from pathlib import Path

import numpy as np
import pytest

from merlb_model.media.decode import MediaError, read, read_clip
from merlb_model.media.recording import SAMPLE_RATE
from tests.media_clips import grey_of, write_media


def test_slot_k_holds_the_last_frame_at_or_before_its_middle(tmp_path: Path) -> None:
    recording = read_clip(write_media(tmp_path / "clip.mp4", fps=20))
    # slot k stands for (k + ½)·0.25 s = 0.125, 0.375, … s; at 20 frames a second that is frame floor(2.5 + 5k)
    expected = [grey_of(int(2.5 + 5 * slot)) for slot in range(20)]
    found = [round(float(recording.frames[slot].mean())) for slot in range(20)]
    assert np.abs(np.array(found) - expected).max() <= 1


@pytest.mark.parametrize("fps", [15, 24, 30])
def test_frames_are_spread_over_the_whole_clip_at_any_rate(tmp_path: Path, fps: int) -> None:
    recording = read_clip(write_media(tmp_path / "clip.mp4", fps=fps, seconds=5.0, size=(64, 64)))
    expected = [grey_of(int((slot + 0.5) * 0.25 * fps)) % 256 for slot in range(20)]
    wrapped = np.array([round(float(recording.frames[slot].mean())) for slot in range(20)])
    clear = np.array(expected) < 230
    assert np.abs(wrapped - expected)[clear].max() <= 1


def test_audio_is_22050_mono_and_keeps_its_pitch(tmp_path: Path) -> None:
    recording = read_clip(write_media(tmp_path / "clip.mp4", tone_hz=1000.0))
    samples = recording.samples(SAMPLE_RATE, SAMPLE_RATE).astype(float)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert abs(int(spectrum.argmax()) - 1000) <= 1
    assert recording.audio_seconds == pytest.approx(5.0, abs=0.06)


def test_a_text_file_named_mp4_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.mp4"
    path.write_text("not a film")
    with pytest.raises(MediaError, match=r"notes\.mp4: cannot be decoded"):
        read_clip(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        read_clip(tmp_path / "none.mp4")


def test_a_playlist_named_mp4_opens_no_other_file(tmp_path: Path) -> None:
    inner = write_media(tmp_path / "secret.ts", audio=False)
    playlist = tmp_path / "clip.mp4"
    playlist.write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/{inner.name}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(MediaError):
        read_clip(playlist)


def test_audio_alone_and_video_alone_decode(tmp_path: Path) -> None:
    sound = read_clip(write_media(tmp_path / "sound.mp4", video=False))
    film = read_clip(write_media(tmp_path / "film.mp4", audio=False))
    assert (sound.has_video, sound.has_audio) == (False, True)
    assert (film.has_video, film.has_audio) == (True, False)
    assert film.seconds == 5.0


def test_reading_grows_the_recording_and_forgetting_bounds_it(tmp_path: Path) -> None:
    path = write_media(tmp_path / "long.mp4", seconds=8.0, fps=10, size=(64, 64))
    most_frames = 0
    for recording in read(str(path)):
        recording.forget_before(recording.seconds - 1.0)
        most_frames = max(most_frames, len(recording.frames))
    assert recording.ended
    assert recording.video_slots == 32
    assert most_frames <= 12
    assert not recording.samples(0, 100).any()


def test_a_clip_cut_off_in_the_middle_gives_what_came_before(tmp_path: Path) -> None:
    whole = write_media(tmp_path / "whole.ts", seconds=5.0)
    half = tmp_path / "half.ts"
    half.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    recording = read_clip(half)
    assert 1.0 < recording.seconds < 5.0
