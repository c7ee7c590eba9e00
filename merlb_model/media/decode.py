"""Opening audio and video: one pass, frames on the grid, samples at 22,050 Hz mono."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.media.recording import SAMPLE_RATE, Recording, slot_seconds

DECODER_VERSION: Final = f"pyav {av.__version__}, ffmpeg {av.ffmpeg_version_info}, reading 1"
"""Part of a decoded shard's key: raise the last number when frames or samples would differ."""
_RESYNC_SECONDS = 0.05
_NETWORK_TIMEOUT_SECONDS = 10.0
_NETWORK_PREFIXES = ("http://", "https://", "rtmp://", "rtsp://", "udp://", "srt://", "tcp://")


class MediaError(MerlbError):
    """A file or stream that cannot be decoded."""


def is_url(source: str) -> bool:
    """Whether ``source`` is a network stream rather than a file."""
    return source.startswith(_NETWORK_PREFIXES)


def read_clip(path: Path, seconds: float = 5.0) -> Recording:
    """Decode the first ``seconds`` of a file.

    Raises:
        MediaError: no frame and no sample of it decodes.
    """
    recording = Recording()
    for recording in read(str(path)):
        if recording.seconds >= seconds:
            break
    if not recording.video_slots and not recording.audio_samples:
        raise MediaError(f"{path.name}: no frame and no sound decodes")
    return recording


def read(source: str, threads: int = 1) -> Iterator[Recording]:
    """Decode ``source`` (a file's path or a URL) as it comes; yield the growing recording after each packet.

    A damaged packet is passed over; a source that breaks off ends like one that is complete.

    Raises:
        MediaError: it is no audio or video, or cannot be opened.
    """
    try:
        container = _open(source)
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{Path(source).name}: cannot be decoded: {_reason(error)}") from None
    with container:
        reader = _Reader(container, threads)
        yield from reader.recordings()


def _open(source: str) -> Any:
    if is_url(source):
        return av.open(source, timeout=_NETWORK_TIMEOUT_SECONDS)
    if not Path(source).is_file():
        raise FileNotFoundError("no such file")
    # A path is never read as a protocol, and no playlist inside a file opens anything else.
    return av.open(f"file:{source}", options={"protocol_whitelist": "file"})


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


class _Reader:
    def __init__(self, container: Any, threads: int) -> None:
        self._container = container
        self._recording = Recording()
        self._streams = []
        self._video: _VideoTrack | None = None
        self._audio: _AudioTrack | None = None
        start = (container.start_time or 0) / av.time_base
        if container.streams.video:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = threads
            self._video = _VideoTrack(self._recording, start)
            self._streams.append(stream)
        if container.streams.audio:
            self._audio = _AudioTrack(self._recording, start)
            self._streams.append(container.streams.audio[0])
        self._recording.has_video = self._video is not None
        self._recording.has_audio = self._audio is not None
        self._recording.promised_seconds = (container.duration or 0) / av.time_base

    def recordings(self) -> Iterator[Recording]:
        for packet in self._packets():
            try:
                for frame in packet.decode():
                    self._take(frame)
            except FFmpegError:
                continue  # a damaged packet costs itself alone
            yield self._recording
        if self._video is not None:
            self._video.finish()
        if self._audio is not None:
            self._audio.finish()
        self._recording.ended = True
        yield self._recording

    def _packets(self) -> Iterator[Any]:
        if not self._streams:
            return
        try:
            yield from self._container.demux(self._streams)
        except FFmpegError:
            return  # broken off: what came before it counts

    def _take(self, frame: Any) -> None:
        if isinstance(frame, av.VideoFrame):
            assert self._video is not None
            self._video.take(frame)
        else:
            assert self._audio is not None
            self._audio.take(frame)


class _VideoTrack:
    """Puts frames into slots: a slot gets the frame before it once a later one has come."""

    def __init__(self, recording: Recording, start: float) -> None:
        self._recording = recording
        self._start = start
        self._last: Any = None
        self._last_seconds = 0.0
        self._frame_seconds = 0.0

    def take(self, frame: Any) -> None:
        if frame.time is None:
            return
        seconds = frame.time - self._start
        if self._last is None:
            self._fill_before_first(frame, seconds)
        elif seconds <= self._last_seconds:
            return
        else:
            self._frame_seconds = seconds - self._last_seconds
            self._fill(seconds)
        self._last, self._last_seconds = frame, seconds

    def _fill_before_first(self, frame: Any, seconds: float) -> None:
        while slot_seconds(self._recording.video_slots) < seconds:
            self._recording.add_slot(frame.to_ndarray(format="rgb24"))
        self._recording.first_real_slot = self._recording.video_slots

    def _fill(self, until: float) -> None:
        """Give the last frame to every slot before ``until`` that is still empty."""
        if slot_seconds(self._recording.video_slots) >= until:
            return
        pixels = self._last.to_ndarray(format="rgb24")
        while slot_seconds(self._recording.video_slots) < until:
            self._recording.add_slot(pixels)

    def finish(self) -> None:
        if self._last is not None:
            self._fill(self._last_seconds + self._frame_seconds)


class _AudioTrack:
    """Resamples to 22,050 Hz mono and keeps the samples at their place in time."""

    def __init__(self, recording: Recording, start: float) -> None:
        self._recording = recording
        self._start = start
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        self._fed_seconds = 0.0

    def take(self, frame: Any) -> None:
        if frame.time is not None:
            seconds = frame.time - self._start
            behind = seconds - self._fed_seconds
            if behind > _RESYNC_SECONDS:
                self._recording.add_samples(np.zeros(round(behind * SAMPLE_RATE), np.int16))
                self._fed_seconds = seconds
        self._fed_seconds += frame.samples / frame.sample_rate
        frame.pts = None  # the place in time is kept here; the resampler must not fill gaps again
        self._keep(self._resampler.resample(frame))

    def finish(self) -> None:
        try:
            self._keep(self._resampler.resample(None))
        except (FFmpegError, ValueError):
            return  # nothing was ever fed

    def _keep(self, frames: list[Any]) -> None:
        for frame in frames:
            samples: NDArray[np.int16] = frame.to_ndarray().reshape(-1)
            self._recording.add_samples(samples)
