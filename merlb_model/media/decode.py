"""Opening audio and video: one pass, frames on the grid, samples at 22,050 Hz mono."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.media.recording import SAMPLE_RATE, Frame, Recording, slot_seconds

if TYPE_CHECKING:
    from typing import Literal

DECODER_VERSION: Final = f"pyav {av.__version__}, ffmpeg {av.ffmpeg_version_info}, reading 2"
"""Part of a decoded shard's key: raise the last number when frames or samples would differ."""
_RESYNC_SECONDS = 0.05
_SPARSE_CODECS: Final = ("h264", "hevc")
"""Whose frames say whether others refer to them."""
_SPARSE_MARGIN_SECONDS: Final = 1.0
_MEDIA_ERRORS: Final = (FFmpegError, ValueError, ArithmeticError, IndexError)
"""What PyAV raises on damaged media."""
_NETWORK_TIMEOUT_SECONDS = 10.0
_NETWORK_PREFIXES = ("http://", "https://", "rtmp://", "rtsp://", "udp://", "srt://", "tcp://")


@dataclass(frozen=True)
class MediaLimits:
    """What a clip may be at most: pixels of a frame, and seconds by its header."""

    pixels: int
    seconds: float


class MediaError(MerlbError):
    """A file or stream that cannot be decoded, or passes a limit."""

    def __init__(self, message: str, reason: "Literal['undecodable', 'too_long', 'too_large']" = "undecodable") -> None:
        super().__init__(message)
        self.reason = reason


def is_url(source: str) -> bool:
    """Whether ``source`` is a network stream rather than a file."""
    return source.startswith(_NETWORK_PREFIXES)


def read_clip(path: Path, seconds: float = 5.0, limits: MediaLimits | None = None) -> Recording:
    """Decode the first ``seconds`` of a file.

    Raises:
        MediaError: no frame and no sample of it decodes, or it passes one of ``limits``.
    """
    recording = _read_sparsely(path, seconds, limits) or _read_plainly(path, seconds, limits)
    if not recording.video_slots and not recording.audio_samples:
        raise MediaError(f"{path.name}: no frame and no sound decodes")
    return recording


def _read_plainly(path: Path, seconds: float, limits: MediaLimits | None) -> Recording:
    recording = Recording()
    with _opened(str(path), limits) as container:
        for recording in _Reader(container, 1, seconds).recordings():
            if recording.seconds >= seconds:
                break
    return recording


def _read_sparsely(path: Path, seconds: float, limits: MediaLimits | None) -> Recording | None:
    """The same without the frames that no slot shows and no other frame refers to; None where that cannot be known."""
    with _opened(str(path), limits) as container:
        stream = _first(container.streams.video)
        if stream is None or stream.codec_context.name not in _SPARSE_CODECS:
            return None
        packets = _first_packets(container, seconds + _SPARSE_MARGIN_SECONDS)
        if packets is None:
            return None
        times = sorted(packet.pts for packet in packets if packet.stream is stream and not packet.is_discard)
        if len(set(times)) < len(times):
            return None
        # Any damage ends this way: what a decoder makes up for it may rest on frames left out.
        stream.codec_context.options = {**stream.codec_context.options, "err_detect": "explode"}
        reader = _Reader(container, 1, seconds)
        return reader.sparse_recording(packets, times, seconds)


def _first_packets(container: Any, seconds: float) -> list[Any] | None:
    """The packets of the first video and audio stream up to ``seconds``; None if one has no time of its own."""
    found = (_first(container.streams.video), _first(container.streams.audio))
    streams = [stream for stream in found if stream is not None]
    start = (container.start_time or 0) / av.time_base
    waiting, packets = {stream.index for stream in streams}, []
    ticks = {stream.index: float(stream.time_base) for stream in streams}
    try:
        for packet in container.demux(streams):
            if not packet.size:
                continue  # the end's empty packets
            if packet.pts is None or packet.dts is None:
                return None
            packets.append(packet)
            if packet.dts * ticks[packet.stream.index] - start > seconds:
                waiting.discard(packet.stream.index)
                if not waiting:
                    break
    except _MEDIA_ERRORS:
        return None
    return packets


def read(source: str, threads: int = 1) -> Iterator[Recording]:
    """Decode ``source`` (a file's path or a URL) as it comes; yield the growing recording after each packet.

    A damaged packet is passed over; a source that breaks off ends like one that is complete.

    Raises:
        MediaError: it is no audio or video, or cannot be opened.
    """
    with _opened(source, None) as container:
        yield from _Reader(container, threads, math.inf).recordings()


def _opened(source: str, limits: MediaLimits | None) -> Any:
    name = Path(source).name
    try:
        container = _open(source, limits)
    except (*_MEDIA_ERRORS, OSError) as error:
        raise MediaError(f"{name}: cannot be decoded: {_reason(error)}") from None
    if limits is not None:
        try:
            _check(container, name, limits)
        except MediaError:
            container.close()
            raise
    return container


def _open(source: str, limits: MediaLimits | None) -> Any:
    if is_url(source):
        return av.open(source, timeout=_NETWORK_TIMEOUT_SECONDS)
    if not Path(source).is_file():
        raise FileNotFoundError("no such file")
    # A path is never read as a protocol, and no playlist inside a file opens anything else.
    options = {"protocol_whitelist": "file"}
    if limits is not None:
        options["max_pixels"] = str(limits.pixels)  # held while the file is probed, too
    container = av.open(f"file:{source}", options=options)
    video = _first(container.streams.video)
    if limits is not None and video is not None:
        video.codec_context.options = {"max_pixels": str(limits.pixels)}
    return container


def _check(container: Any, name: str, limits: MediaLimits) -> None:
    seconds = (container.duration or 0) / av.time_base
    if seconds > limits.seconds:
        raise MediaError(f"{name}: {seconds:.0f} s; expected at most {limits.seconds:g} s", "too_long")
    if stream := _first(container.streams.video):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > limits.pixels:
            raise MediaError(f"{name}: {width} × {height} pixels; expected at most {limits.pixels} in all", "too_large")


def _first(streams: Sequence[Any]) -> Any:
    """The first of ``streams`` for which there is a decoder, or None."""
    return next((stream for stream in streams if stream.codec_context is not None), None)


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


class _Reader:
    """Decodes the first video and the first audio stream of a container, no further than ``seconds``."""

    def __init__(self, container: Any, threads: int, seconds: float) -> None:
        self._container = container
        self._recording = Recording()
        self._streams = []
        self._video: _VideoTrack | None = None
        self._audio: _AudioTrack | None = None
        start = (container.start_time or 0) / av.time_base
        if stream := _first(container.streams.video):
            stream.codec_context.thread_count = threads
            self._video = _VideoTrack(self._recording, start, seconds)
            self._streams.append(stream)
        if stream := _first(container.streams.audio):
            self._audio = _AudioTrack(self._recording, start, seconds)
            self._streams.append(stream)
        self._recording.has_video = self._video is not None
        self._recording.has_audio = self._audio is not None
        self._recording.promised_seconds = (container.duration or 0) / av.time_base

    def recordings(self) -> Iterator[Recording]:
        for packet in self._packets():
            try:
                for frame in packet.decode():
                    self._take(frame)
            except _MEDIA_ERRORS:
                continue  # a damaged packet costs itself alone
            yield self._recording
        self._finish()
        yield self._recording

    def sparse_recording(self, packets: Sequence[Any], times: Sequence[int], seconds: float) -> Recording | None:
        """What the first ``packets`` of a clip give; None if the frames that come are not those expected.

        Args:
            packets: of both streams, as they stand in the file, up to some time after ``seconds``.
            times: of the video's frames, in ticks, in order.
            seconds: how much is wanted.
        """
        assert self._video is not None
        stream = self._streams[0]
        tick = float(stream.time_base)
        plan = self._video.planned([(ticks, ticks * tick) for ticks in times])
        wanted = {ticks for ticks in plan if ticks is not None}
        pixels: dict[int, Frame] = {}
        try:
            for packet in [*packets, None]:
                if packet is None or packet.stream is stream:
                    self._keep_wanted(stream, packet, wanted, pixels)
                elif self._recording.audio_seconds < seconds:
                    for frame in packet.decode():
                        self._take(frame)
        except _MEDIA_ERRORS:
            return None
        if wanted:
            return None
        for ticks in plan:
            self._recording.add_slot(pixels[ticks])
        self._finish_audio()
        self._recording.ended = True
        return self._recording

    def _keep_wanted(self, stream: Any, packet: Any, wanted: set[int], pixels: dict[int, Frame]) -> None:
        """Decode a packet of the video (None: what the decoder holds back), and keep its frames that are wanted."""
        if not wanted:
            return
        assert self._video is not None
        if packet is not None:
            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in stream.codec_context.decode(packet):
            if frame.is_corrupt:
                raise ValueError("damaged")
            if frame.pts in wanted:
                wanted.discard(frame.pts)
                pixels[frame.pts] = self._video.pixels(frame)

    def _packets(self) -> Iterator[Any]:
        if not self._streams:
            return
        try:
            yield from self._container.demux(self._streams)
        except _MEDIA_ERRORS:
            return  # broken off: what came before it counts

    def _take(self, frame: Any) -> None:
        if isinstance(frame, av.VideoFrame):
            assert self._video is not None
            self._video.take(frame)
        else:
            assert self._audio is not None
            self._audio.take(frame)

    def _finish(self) -> None:
        if self._video is not None:
            self._video.finish()
        self._finish_audio()
        self._recording.ended = True

    def _finish_audio(self) -> None:
        if self._audio is not None:
            self._audio.finish()


class _Slots:
    """Puts what comes at times into slots: a slot gets the last one before it, once a later one has come."""

    def __init__(self, stop: float) -> None:
        self._stop = stop  # times far off, as damaged files have them, fill no slots without end
        self._last: Any = None
        self._last_seconds = 0.0
        self._apart_seconds = 0.0
        self.filled = 0
        self.first_real = 0

    def take(self, item: Any, seconds: float) -> Iterator[Any]:
        """What the next slots show, now that ``item`` has come."""
        if self._last is None:
            yield from self._fill(item, seconds)
            self.first_real = self.filled
        elif seconds <= self._last_seconds:
            return
        else:
            self._apart_seconds = seconds - self._last_seconds
            yield from self._fill(self._last, seconds)
        self._last, self._last_seconds = item, seconds

    def finish(self) -> Iterator[Any]:
        if self._last is not None:
            yield from self._fill(self._last, self._last_seconds + self._apart_seconds)

    def _fill(self, item: Any, until: float) -> Iterator[Any]:
        while slot_seconds(self.filled) < min(until, self._stop):
            self.filled += 1
            yield item


class _VideoTrack:
    """Frames as upright RGB pixels in their slots."""

    def __init__(self, recording: Recording, start: float, seconds: float) -> None:
        self._recording = recording
        self._start = start
        self._slots = _Slots(seconds)
        self._reformatter: Any = VideoReformatter()
        self._converted: tuple[Any, Frame] | None = None

    def take(self, frame: Any) -> None:
        if frame.time is None:
            return
        for shown in self._slots.take(frame, frame.time - self._start):
            self._add(shown)
        self._recording.first_real_slot = self._slots.first_real

    def finish(self) -> None:
        for shown in self._slots.finish():
            self._add(shown)

    def planned(self, times: Sequence[tuple[int, float]]) -> list[int]:
        """Which frame each slot will show, of frames given by their ticks and seconds."""
        plan: list[int] = []
        for ticks, seconds in times:
            plan += self._slots.take(ticks, seconds - self._start)
        plan += self._slots.finish()
        self._recording.first_real_slot = self._slots.first_real
        return plan

    def pixels(self, frame: Any) -> Frame:
        """A frame as it is to be seen: u8 (height, width, 3), RGB, in full range, turned as its display matrix says."""
        rgb: Frame = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb

    def _add(self, frame: Any) -> None:
        if self._converted is None or self._converted[0] is not frame:
            self._converted = (frame, self.pixels(frame))
        self._recording.add_slot(self._converted[1])


class _AudioTrack:
    """Resamples to 22,050 Hz mono and keeps the samples at their place in time."""

    def __init__(self, recording: Recording, start: float, seconds: float) -> None:
        self._recording = recording
        self._start = start
        self._stop = seconds
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        self._fed_seconds = 0.0

    def take(self, frame: Any) -> None:
        if frame.time is not None:
            seconds = frame.time - self._start
            behind = min(seconds, self._stop) - self._fed_seconds
            if behind > _RESYNC_SECONDS:
                self._recording.add_samples(np.zeros(round(behind * SAMPLE_RATE), np.int16))
                self._fed_seconds = seconds
        self._fed_seconds += frame.samples / frame.sample_rate
        frame.pts = None  # the place in time is kept here; the resampler must not fill gaps again
        self._keep(self._resampler.resample(frame))

    def finish(self) -> None:
        try:
            self._keep(self._resampler.resample(None))
        except _MEDIA_ERRORS:
            return  # nothing was ever fed

    def _keep(self, frames: list[Any]) -> None:
        for frame in frames:
            samples: NDArray[np.int16] = np.frombuffer(frame.planes[0], np.int16, frame.samples)
            self._recording.add_samples(samples.copy())
