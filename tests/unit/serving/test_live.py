import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.media.decode import read, read_clip
from merlb_model.media.recording import Recording
from merlb_model.media.webcam_boxes import Webcam, given
from merlb_model.media.windows import cut
from merlb_model.serving.live import as_json, as_line, box_for, print_stream, score_stream
from tests.unit.serving.scenes import frames, sound, write_scene

BOX = (200, 10, 300, 110)


def write_one_track(path: Path, seconds: float, kind: str) -> Path:
    """A file with only video or only sound."""
    with av.open(str(path), "w") as container:
        if kind == "video":
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
            for frame in frames(seconds):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        else:
            stream = container.add_stream("aac", rate=22_050, layout="mono")
            samples = av.AudioFrame.from_ndarray(sound(seconds)[None], format="s16", layout="mono")
            samples.sample_rate = 22_050
            container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    return path


def whole_window(scorer, recording: Recording, start: float, box):
    window = cut(recording, start, box)
    arrays = {name: getattr(window, name)[None] for name in ("face", "screen", "audio")}
    return window, scorer.score(**arrays, present=window.present[None].astype(np.float32))


def assert_equal_to_whole_windows(scores, scorer, recording, box) -> None:
    for score in scores:
        window, expected = whole_window(scorer, recording, score.start_seconds, box)
        assert tuple(score.present.values()) == tuple(window.present)
        assert score.valid_frames == window.valid_frames
        for task, classes in TASKS.items():
            assert list(score.probabilities[task]) == list(classes)
            np.testing.assert_allclose(list(score.probabilities[task].values()), expected[task][0], atol=1e-4)
            assert score.labels[task] == classes[int(expected[task][0].argmax())]


def everything(path: Path) -> Recording:
    *_, recording = read(str(path))
    return recording


def test_a_window_a_second_each_equal_to_the_whole_windows_score(scorer, tmp_path):
    clip = write_scene(tmp_path / "long.mp4", 15, 15)
    scores = list(score_stream(str(clip), scorer, BOX))
    assert [score.end_seconds for score in scores] == list(range(5, 16))
    assert_equal_to_whole_windows(scores, scorer, everything(clip), BOX)
    assert len({score.probabilities["event"]["fighting"] for score in scores}) == 11


def test_a_clip_of_five_seconds_is_scored_once_as_extract_cuts_it(scorer, tmp_path):
    clip = write_scene(tmp_path / "clip.mp4", 5, 5)
    (score,) = score_stream(str(clip), scorer, BOX)
    assert (score.start_seconds, score.end_seconds) == (0, 5)
    assert score.absent == () and all(score.present.values())
    assert_equal_to_whole_windows([score], scorer, read_clip(clip), BOX)


def test_a_shorter_clip_is_one_padded_window(scorer, tmp_path):
    clip = write_scene(tmp_path / "short.mp4", 3.3, 3.3)
    (score,) = score_stream(str(clip), scorer, BOX)
    assert score.valid_frames == 13
    assert_equal_to_whole_windows([score], scorer, read_clip(clip), BOX)


def test_less_than_the_minimum_is_refused(scorer, tmp_path):
    clip = write_scene(tmp_path / "tiny.mp4", 1, 1)
    with pytest.raises(MerlbError, match=r"tiny\.mp4: video 1\.00 s.*expected 2\.5 s"):
        list(score_stream(str(clip), scorer))


def test_what_is_no_recording_is_refused(scorer, tmp_path):
    (tmp_path / "text.mp4").write_text("not a clip")
    for name in ("text.mp4", "none.mp4"):
        with pytest.raises(MerlbError, match=name):
            list(score_stream(str(tmp_path / name), scorer))


@pytest.mark.parametrize(
    ("video", "audio", "last"),
    [(10, 7, (True, True, False)), (7, 10, (False, False, True))],
)
def test_a_track_that_ends_early_becomes_absent(scorer, tmp_path, video, audio, last):
    clip = write_scene(tmp_path / "uneven.mp4", video, audio)
    scores = list(score_stream(str(clip), scorer, BOX))
    assert len(scores) == 6
    assert tuple(scores[-1].present.values()) == last
    assert_equal_to_whole_windows(scores, scorer, everything(clip), BOX)


def test_a_file_without_sound_is_scored_and_says_so(scorer, tmp_path):
    clip = write_one_track(tmp_path / "silent.mp4", 6, "video")
    scores = list(score_stream(str(clip), scorer, look_for_webcam=False))
    assert len(scores) == 2
    assert scores[0].absent == ("no webcam", "no sound")
    assert scores[0].present == {"face": False, "screen": True, "audio": False}
    assert_equal_to_whole_windows(scores, scorer, everything(clip), None)


def test_a_file_without_video_is_scored_and_says_so(scorer, tmp_path):
    clip = write_one_track(tmp_path / "blind.mp4", 6, "audio")
    scores = list(score_stream(str(clip), scorer, BOX))
    assert scores[-1].absent == ("no video",)
    assert_equal_to_whole_windows(scores, scorer, everything(clip), BOX)


def test_the_webcam_is_looked_for_where_no_box_is_given(scorer, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("merlb_model.serving.live.find_webcam", lambda found: seen.append(len(found)) or BOX)
    clip = write_scene(tmp_path / "clip.mp4", 8, 8)
    scores = list(score_stream(str(clip), scorer))
    assert len(seen) == 1 and seen[0] >= 20
    assert all(score.present["face"] for score in scores)
    assert_equal_to_whole_windows(scores, scorer, everything(clip), BOX)


def test_what_has_been_scored_is_forgotten(scorer, tmp_path, monkeypatch):
    kept = []

    def watched(source):
        for recording in read(source):
            kept.append(len(recording.frames))
            yield recording

    monkeypatch.setattr("merlb_model.serving.live.read", watched)
    assert len(list(score_stream(str(write_scene(tmp_path / "long.mp4", 20, 20)), scorer, BOX))) == 16
    assert max(kept) <= 32


@pytest.mark.parametrize("seconds_of_sound", [0.5, 20])
def test_a_network_stream_whose_sound_stops_is_scored_all_the_same(scorer, monkeypatch, seconds_of_sound):
    def stalled(source):
        recording = Recording()
        recording.has_video = recording.has_audio = True
        recording.add_samples(sound(seconds_of_sound))
        for frame in frames(20, fps=4):
            recording.add_slot(frame)
            yield recording

    monkeypatch.setattr("merlb_model.serving.live.read", stalled)
    scores = list(score_stream("http://example.invalid/stream", scorer, BOX))
    assert len(scores) >= 12
    assert scores[-1].present["audio"] == (seconds_of_sound == 20)


def test_a_url_is_scored_like_the_file(scorer, tmp_path):
    clip = write_scene(tmp_path / "clip.mp4", 7, 7)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *args: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        try:
            scores = list(score_stream(f"http://127.0.0.1:{web.server_port}/clip.mp4", scorer, BOX))
        finally:
            web.shutdown()
    assert scores == list(score_stream(str(clip), scorer, BOX))


def test_the_box_is_the_streamers_by_the_clips_name():
    webcams = {"ann": given(BOX), "eve": Webcam("absent", ())}
    assert box_for("/clips/3_ann_x.mp4", webcams) == (BOX, True)
    assert box_for("https://host/3_ann_x.mp4?token=a_b_c", webcams) == (BOX, True)
    assert box_for("/clips/3_bob_x.mp4", webcams) == (None, False)
    assert box_for("/clips/3_eve_x.mp4", webcams) == (None, True)


def test_a_line_tells_the_time_the_three_tasks_and_what_is_absent(scorer, tmp_path):
    clip = write_one_track(tmp_path / "silent.mp4", 5, "video")
    (score,) = score_stream(str(clip), scorer, BOX)
    line = as_line(score)
    assert line.startswith("  0:05   valence ") and line.endswith("(no sound)") and "\n" not in line
    for task, label in score.labels.items():
        assert f"{task} {label}" in line and f"{score.probabilities[task][label]:.2f}" in line


def test_json_lines_hold_every_probability(scorer, tmp_path):
    clip = write_scene(tmp_path / "clip.mp4", 6, 6)
    lines: list[str] = []
    assert print_stream(str(clip), scorer, BOX, json_lines=True, write=lines.append) == 2
    told = json.loads(lines[1])
    assert told["end_seconds"] == 6 and told["absent"] == []
    assert told["probabilities"] == json.loads(as_json(list(score_stream(str(clip), scorer, BOX))[1]))["probabilities"]
    assert set(told["probabilities"]["event"]) == set(TASKS["event"])
