import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from merlb_model.corpus.capture import Captured, Limits, capture, file_part, read_captured, source_folder
from merlb_model.corpus.label import Labels
from merlb_model.errors import MerlbError
from tests.live_source import LivePlaylist, grey_of, served, write_stream

ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 300
FPS = 20


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stream(
        tmp_path_factory.mktemp("recording") / "match.mp4", 11, gop=100, options={"movflags": "faststart"}
    )


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def clips_in(folder: Path) -> list[Path]:
    return sorted((folder / "clips").glob("*.mp4"), key=lambda path: int(path.name.split("_")[0]))


def greys_of(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [int(frame.to_ndarray(format="gray")[48, 64]) for frame in container.decode(video=0)]


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in (folder / "clips").iterdir() if path.suffix != ".mp4"]


def test_clips_are_numbered_on_and_name_the_streamer(recording: Path, tmp_path: Path) -> None:
    first = capture(str(recording), tmp_path, "some_body", "LoL")
    capture(str(recording), tmp_path, "other", limits=Limits(seconds=5))
    assert (first.copied, first.encoded) == (2, 0)
    names = [path.name.split("_")[:2] for path in clips_in(tmp_path)]
    assert names == [["1", "some-body"], ["2", "some-body"], ["3", "other"]]
    rows = list(read_captured(tmp_path).values())
    assert [(row["Streamer"], row["Game"], row["Source"]) for row in rows] == [
        ("some_body", "LoL", "match.mp4"),
        ("some_body", "LoL", "match.mp4"),
        ("other", "", "match.mp4"),
    ]
    assert all(len(greys_of(path)) == 100 for path in clips_in(tmp_path))
    assert leftovers(tmp_path) == []


def test_the_true_name_reaches_the_annotation_table(recording: Path, tmp_path: Path) -> None:
    capture(str(recording), tmp_path, "some_body", limits=Limits(seconds=5))
    Labels(tmp_path).close()
    with (tmp_path / "annotations.csv").open(newline="") as file:
        assert [row["Streamer"] for row in csv.DictReader(file)] == ["some_body"]


def test_keys_and_passwords_of_a_url_are_not_noted(recording: Path, tmp_path: Path) -> None:
    with served(recording.parent) as port:
        capture(f"http://me:secret@127.0.0.1:{port}/match.mp4?token=secret", tmp_path, "ann", limits=Limits(seconds=5))
    assert "secret" not in (tmp_path / "captured.csv").read_text()


def test_the_disk_limit_is_never_passed_and_is_told(recording: Path, tmp_path: Path) -> None:
    one = capture(str(recording), tmp_path / "one", "ann", limits=Limits(seconds=5)).bytes
    done = capture(str(recording), tmp_path / "mine", "ann", limits=Limits(bytes=one + 10))
    assert done.clips == 1 and "limit" in done.line and "\n" not in done.line
    assert sum(path.stat().st_size for path in clips_in(tmp_path / "mine")) <= one + 10
    assert leftovers(tmp_path / "mine") == [] and len(read_captured(tmp_path / "mine")) == 1
    assert capture(str(recording), tmp_path / "mine", "ann", limits=Limits(bytes=one + 10)).clips == 0


def test_a_full_disk_stops_it(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merlb_model.corpus.capture.MINIMUM_FREE_BYTES", 1 << 62)
    done = capture(str(recording), tmp_path, "ann")
    assert done.clips == 0 and "left on the disk" in done.line


def test_captures_at_the_same_time_do_not_take_each_others_numbers(recording: Path, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=capture, args=(str(recording), tmp_path, name), daemon=True) for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECONDS)
    assert [path.name.split("_")[0] for path in clips_in(tmp_path)] == list("123456")
    assert set(read_captured(tmp_path)) == {path.name for path in clips_in(tmp_path)}


@pytest.mark.parametrize(
    ("said", "part"), [("some_body", "some-body"), ("a/b\\c d", "a-b-c-d"), ('Łukasz "x"', 'Łukasz-"x"'), (".a", "a")]
)
def test_a_streamers_name_fits_between_two_underscores(said: str, part: str) -> None:
    assert file_part(said) == part


@pytest.mark.parametrize("said", ["", "  ", "_", "..", "x" * 81, "a\u200eb"])
def test_a_streamer_without_a_name_is_refused(said: str) -> None:
    with pytest.raises(MerlbError, match="streamer"):
        file_part(said)


@pytest.mark.parametrize("name", ["", "..", ".x", "a/b", "/tmp", "a\nb"])
def test_a_source_outside_of_the_sources_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match="plain folder name"):
        source_folder(tmp_path, name)


@pytest.mark.parametrize("content", [None, b"no film at all"])
def test_what_cannot_be_opened_is_one_line_and_leaves_no_folder(content: bytes | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "film.mp4").write_bytes(content)
    with pytest.raises(MerlbError, match=r"film\.mp4: cannot be opened"):
        capture(str(tmp_path / "film.mp4"), tmp_path / "mine", "ann")
    assert not (tmp_path / "mine").exists()


def test_a_playlist_file_does_not_open_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n")
    with pytest.raises(MerlbError):
        capture(str(tmp_path / "film.mp4"), tmp_path / "mine", "ann")


class Capturing:
    """A capture of a live stream in a thread."""

    def __init__(self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits | None = None) -> None:
        monkeypatch.setattr("merlb_model.media.broadcast.PAUSES", (0.1,))
        self.done: list[Captured] = []
        self._thread = threading.Thread(
            target=lambda: self.done.append(capture(url, folder, "ann", limits=limits)), daemon=True
        )
        self._thread.start()

    def wait(self) -> Captured:
        self._thread.join(DEADLINE_SECONDS)
        return self.done[0]


def assert_seamless(folder: Path) -> None:
    """The clips follow each other without a frame missing or doubled."""
    greys = [grey for clip in clips_in(folder) for grey in greys_of(clip)]
    first = min(range(199), key=lambda index: abs(grey_of(index) - greys[0]))
    np.testing.assert_allclose(greys, [grey_of(first + k) for k in range(len(greys))], atol=8)


@pytest.mark.parametrize(
    "scheme",
    [pytest.param("http", id="decoder"), pytest.param("hls://http", id="streamlink", marks=pytest.mark.slow)],
)
def test_a_server_that_dies_and_comes_back_costs_nothing_that_it_still_lists(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LivePlaylist(tmp_path / "hls", 60, listed=15)
    live.send(6)
    folder = tmp_path / "mine"
    with served(live.folder) as port:
        running = Capturing(f"{scheme}://127.0.0.1:{port}/live.m3u8", folder, monkeypatch)
        live.send_until(lambda: clips_in(folder))
    live.send(4)  # while nobody serves them
    time.sleep(2)
    with served(live.folder, port):
        live.send_until(lambda: len(clips_in(folder)) >= 3)
        live.send(1, end=True)
        done = running.wait()
    assert done.ended == "the source has ended"
    assert len(clips_in(folder)) == done.clips >= 3
    assert_seamless(folder)


def test_a_stream_that_stays_away_is_given_up_after_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = LivePlaylist(tmp_path / "hls", 40, listed=15)
    live.send(6)
    folder = tmp_path / "mine"
    with served(live.folder) as port:
        limits = Limits(patience_seconds=1)
        running = Capturing(f"http://127.0.0.1:{port}/live.m3u8", folder, monkeypatch, limits)
        live.send_until(lambda: clips_in(folder))
    assert running.wait().clips >= 1


def start_merlb(workspace: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "merlb_model.cli", "-w", str(workspace), "capture", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_leaves_whole_clips_no_half_one_and_no_child(number: signal.Signals, tmp_path: Path) -> None:
    live = LivePlaylist(tmp_path / "hls", 60, listed=15)
    live.send(6)
    folder = tmp_path / "data/sources/mine"
    with served(live.folder) as port:
        url = f"http://127.0.0.1:{port}/live.m3u8"
        process = start_merlb(tmp_path, url, "--streamer", "ann", "--source", "mine")
        live.send_until(lambda: clips_in(folder))
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        out, error = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, error
    assert f"{len(clips_in(folder))} clip(s)" in out and "stopped" in out
    assert {len(greys_of(clip)) for clip in clips_in(folder)} == {100}
    assert leftovers(folder) == [] and not any(child.is_running() for child in children)


@pytest.mark.slow
def test_a_capture_that_is_killed_leaves_whole_clips(tmp_path: Path) -> None:
    source = write_stream(tmp_path / "long.mp4", 60, gop=33)
    folder = tmp_path / "data/sources/mine"
    process = start_merlb(tmp_path, str(source), "--streamer", "ann", "--source", "mine")
    wait_until(lambda: len(clips_in(folder)) >= 2)
    process.kill()
    process.communicate(timeout=DEADLINE_SECONDS)
    assert all(len(greys_of(clip)) == 100 for clip in clips_in(folder))
