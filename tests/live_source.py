"""A live HLS stream on loopback: segments by PyAV, listed one after the other as a broadcaster's server does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

WIDTH, HEIGHT = 128, 96
RATE = 44_100


def grey_of(index: int) -> int:
    """The level of frame ``index``: it tells 199 frames in a row apart, and neighbours clearly."""
    return 30 + index * 23 % 199


def write_stream(
    path: Path, seconds: float, fps: int = 20, gop: int = 20, b_frames: int = 0, options: dict[str, str] | None = None
) -> Path:
    """H.264 with a key frame every ``gop`` frames, and AAC of a rising tone."""
    with av.open(str(path), "w", options=options or {}) as container:
        coding = {"g": str(gop), "keyint_min": str(gop), "sc_threshold": "0", "bf": str(b_frames), "crf": "1"}
        video = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", **coding})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        times = np.arange(round(seconds * RATE)) / RATE
        samples = (8000 * np.sin(2 * np.pi * (300 + 20 * times) * times)).astype(np.int16)
        spoken = 0
        for index in range(round(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH), grey_of(index), np.uint8), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
            while spoken < min(len(samples), (index + 1) * RATE // fps):
                block = av.AudioFrame.from_ndarray(samples[None, spoken : spoken + 1024], format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE, spoken, Fraction(1, RATE)
                container.mux(sound.encode(block))
                spoken += 1024
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


class LivePlaylist:
    """A folder with HLS segments of a second; ``live.m3u8`` lists the last ones that have been sent."""

    def __init__(self, folder: Path, seconds: int, listed: int = 8) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        segments = {"hls_time": "1", "hls_list_size": "0", "hls_flags": "split_by_time"}
        write_stream(folder / "all.m3u8", seconds, options=segments)
        self.folder = folder
        self.segments = sorted(folder.glob("all*.ts"), key=lambda path: int(path.stem.removeprefix("all")))
        self.sent = 0
        self._listed = listed

    def send(self, count: int, end: bool = False) -> None:
        """``count`` more segments are on the air; with ``end`` they are the last."""
        self.sent = min(self.sent + count, len(self.segments))
        first = max(0, self.sent - self._listed)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for segment in self.segments[first : self.sent]:
            lines += ["#EXTINF:1.0,", segment.name]
        if end:
            lines.append("#EXT-X-ENDLIST")
        fresh = self.folder / "fresh"
        fresh.write_text("\n".join([*lines, ""]))
        fresh.rename(self.folder / "live.m3u8")

    def send_until(self, true: Callable[[], object], seconds: float = 300) -> None:
        """A segment every half second until ``true``, as long as there are any."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline
            self.send(1)
            time.sleep(0.5)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[int]:
    """Serve ``folder`` on loopback; yield the port."""
    with ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=folder)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
