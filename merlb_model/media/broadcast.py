"""Coded packets of a file or a live source, in one time line; a network source that breaks off is opened again."""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import av
from av.error import FFmpegError

from merlb_model.media.decode import MediaError

PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each new try to open a source that broke off; the last one stays."""
_GAP_SECONDS: Final = 0.5
"""Where all tracks of a network source leap this far, something was lost and time begins anew: what was cut across the
gap would not be 5 s of the stream. A file's times are its own: a picture may stand still for long."""
_STEP_BACK_SECONDS: Final = 1.0
"""A step back that is smaller is a damaged time, and its packet is left out; a larger one begins time anew."""
_REPEATED_SECONDS: Final = 120
"""A live playlist lists its last minute again when it is opened again."""
_END_SECONDS: Final = 1.0
"""A finite source that ends this near to its length has ended; sooner, it broke off."""
_OPEN_SECONDS: Final = 20.0
_STALL_SECONDS: Final = 30.0
_PACKETS_AHEAD: Final = 512
_POLL_SECONDS: Final = 0.1
_UNDATED: Final = 32
"""H.264 reorders at most 16 pictures: of more packets without a decoding time, none has one."""
# A playlist from outside may name what it likes; none of these reads a file of this machine.
_NETWORK_PROTOCOLS: Final = "crypto,data,hls,http,httpproxy,https,rtmp,rtmps,rtmpt,rtp,rtsp,srt,tcp,tls,udp"
_NOT_FOR_STREAMLINK: Final = (".m3u8", ".m3u", ".mp4", ".mkv", ".webm", ".mov", ".ts", ".flv", ".avi")

Kind = Literal["video", "audio"]


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded packet.

    Attributes:
        kind: ``video`` or ``audio``.
        stream: the opened stream that it came from; keeps its container open, and tells the codec.
        data: the coded bytes.
        pts: when it is shown, in ticks of ``time_base``.
        dts: when it is decoded, in the same ticks.
        duration: in the same ticks; 0 where the source does not tell.
        time_base: seconds a tick.
        key: whether decoding can begin here.
        timeline: raised where the source's time begins anew, or where something is missing.
    """

    kind: Kind
    stream: Any
    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    key: bool
    timeline: int = 0

    @property
    def start(self) -> Fraction:
        """When it is shown, in seconds of the source's clock."""
        return self.pts * self.time_base

    @property
    def end(self) -> Fraction:
        """Until when it is shown, as far as the source tells."""
        return (self.pts + self.duration) * self.time_base


def is_network(source: str) -> bool:
    """Whether ``source`` is a URL rather than a file."""
    return "://" in source and not source.startswith("file:")


class Broadcast:
    """A source, opened when its packets are asked for.

    Attributes:
        seconds: its length where it has one; None of a live source.
        reopened: how often it had to be opened again.
    """

    def __init__(
        self,
        source: str,
        stop: threading.Event,
        patience_seconds: float = 300.0,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        """
        Args:
            source: a file's path or a URL: what streamlink knows (Twitch), HLS, RTMP and whatever FFmpeg reads.
            stop: when set, the packets end within a tenth of a second.
            patience_seconds: how long a network source that broke off is waited for.
            pauses: seconds before each new try; the last one stays.
        """
        self.seconds: float | None = None
        self.reopened = 0
        self._source = source
        self._stop = stop
        self._patience = patience_seconds
        self._pauses = pauses

    def packets(self) -> Iterator[Coded]:
        """The packets in decoding order, none twice; they end with the source, or when it stays away too long.

        Raises:
            MediaError: it cannot be opened at the first try, or holds no video and no sound.
        """
        line = _TimeLine(_GAP_SECONDS if is_network(self._source) else math.inf)
        connection: _Connection | None = self._connect(again=False)
        attempt, heard = 0, time.monotonic()
        while connection is not None:
            new = False
            for packet in connection.packets(self._stop):
                if (placed := line.place(packet, connection.repeats)) is not None:
                    new = True
                    yield placed
            connection.leave()
            if self._stop.is_set() or connection.is_complete(line.furthest, new):
                return
            if new:
                attempt, heard = 0, time.monotonic()
            connection, attempt = self._reconnect(attempt, heard + self._patience)
            line.reopened()

    def _connect(self, again: bool) -> "_Connection":
        connection = _Connection(self._source, again)
        self.seconds = connection.wait_open(self._stop)
        return connection

    def _reconnect(self, attempt: int, until: float) -> tuple["_Connection | None", int]:
        """Open the source again, with growing pauses; None when nothing new has come ``until`` then, or on stop."""
        while time.monotonic() < until and not self._stop.wait(self._pauses[min(attempt, len(self._pauses) - 1)]):
            attempt += 1
            try:
                connection = self._connect(again=True)
            except MediaError:
                continue
            self.reopened += 1
            return connection, attempt
        return None, attempt


class _TimeLine:
    """Drops what a source tells a second time, and sees where its time leaps."""

    def __init__(self, gap_seconds: float) -> None:
        self.furthest = Fraction(0)
        self._gap = gap_seconds
        self._number = 0
        self._last: dict[str, Fraction] = {}
        self._formats: dict[str, tuple[Any, ...]] = {}
        self._caught_up = False

    def reopened(self) -> None:
        self._caught_up = False

    def place(self, packet: Coded, repeats: float) -> Coded | None:
        """The packet with its time line's number, or None: it has been here before."""
        decoded = packet.dts * packet.time_base
        last = self._last.get(packet.kind)
        if last is not None and decoded <= last:
            back = _STEP_BACK_SECONDS if self._caught_up else max(repeats, _STEP_BACK_SECONDS)
            if last - decoded <= back:
                return None
            self._begin_anew()
        elif self._last and (decoded - self.furthest > self._gap or self._is_other(packet)):
            self._begin_anew()
        if last is not None:
            self._caught_up = True
        self._formats[packet.kind] = _format_of(packet.stream)
        self._last[packet.kind] = decoded
        self.furthest = max(self.furthest, decoded + packet.duration * packet.time_base)
        return replace(packet, timeline=self._number)

    def _begin_anew(self) -> None:
        self._number += 1
        self._last.clear()
        self._formats.clear()
        self.furthest = Fraction(-(10**9))

    def _is_other(self, packet: Coded) -> bool:
        known = self._formats.get(packet.kind)
        return known is not None and known != _format_of(packet.stream)


def _format_of(stream: Any) -> tuple[Any, ...]:
    codec = stream.codec_context
    shape = (codec.width, codec.height) if stream.type == "video" else (codec.sample_rate, codec.layout.name)
    return codec.name, shape, codec.extradata, stream.time_base


class _Connection:
    """One opening of a source. A thread of its own reads, so that nothing the network does holds up a stop."""

    def __init__(self, source: str, again: bool) -> None:
        self.repeats = 0.0
        """How far back from what has been read this source may begin again."""
        self._source = source
        self._again = again
        self._network = is_network(source)
        self._queue: queue.Queue[Coded | BaseException | None] = queue.Queue(_PACKETS_AHEAD)
        self._opened = threading.Event()
        self._left = threading.Event()
        self._broken: MediaError | None = None
        self._page: _PageStream | None = None
        self._seconds: float | None = None
        self._ends_at: float | None = None
        threading.Thread(target=self._read, name=f"reads {source[:40]}", daemon=True).start()

    def wait_open(self, stop: threading.Event) -> float | None:
        """Wait until it is open; return its length, None of a live source."""
        given_up = time.monotonic() + 3 * _OPEN_SECONDS
        while not self._opened.wait(_POLL_SECONDS):
            if stop.is_set():
                return None
            if time.monotonic() > given_up:
                self.leave()
                raise MediaError(f"{self._source}: does not answer: is it on the air?")
        if self._broken is not None:
            raise self._broken
        return self._seconds

    def packets(self, stop: threading.Event) -> Iterator[Coded]:
        """The packets as they come, until it ends, breaks off, or says nothing for long."""
        heard = time.monotonic()
        while not stop.is_set():
            try:
                packet = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._network and time.monotonic() - heard > _STALL_SECONDS:
                    return
                continue
            if not isinstance(packet, Coded):
                return
            yield packet
            heard = time.monotonic()

    def is_complete(self, furthest: Fraction, new: bool) -> bool:
        """Whether the end that was reached is the source's own."""
        if not self._network:
            return True
        if self._page is not None:
            return self._page.is_complete
        if self._ends_at is None:
            return False
        return not new or furthest >= self._ends_at - _END_SECONDS

    def leave(self) -> None:
        self._left.set()

    def _read(self) -> None:
        try:
            container = self._open()
        except MediaError as error:
            self._broken = error
            self._opened.set()
            return
        self._opened.set()
        try:
            for packet in _demux(container):
                if not self._hand_over(packet):
                    return
        except (FFmpegError, OSError):
            pass  # it broke off; what came before counts
        if self._page is not None:
            self._page.close()
        self._hand_over(None)

    def _hand_over(self, packet: Coded | None) -> bool:
        while not self._left.is_set():
            try:
                self._queue.put(packet, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def _open(self) -> Any:
        try:
            container = self._open_container()
        except (FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(f"{self._source}: cannot be opened: {reason}") from None
        if not container.streams.video and not container.streams.audio:
            raise MediaError(f"{self._source}: no video and no sound in it")
        if container.duration is not None:
            self._seconds = container.duration / av.time_base
            self._ends_at = self._seconds + (container.start_time or 0) / av.time_base
        self.repeats = self._repeats(container)
        return container

    def _repeats(self, container: Any) -> float:
        if self._ends_at is not None:
            return math.inf
        tells_again = self._page is not None or container.format.name == "hls"
        return _REPEATED_SECONDS if tells_again else 0.0

    def _open_container(self) -> Any:
        if not self._network:
            path = self._source.removeprefix("file:")
            if not Path(path).is_file():
                raise FileNotFoundError(f"no such file {path}")
            # A path is never read as a protocol, and no playlist inside a file opens anything else.
            return av.open(f"file:{path}", options={"protocol_whitelist": "file"})
        self._page = _from_streamlink(self._source)
        if self._page is not None:
            return av.open(self._page)
        options = {"protocol_whitelist": _NETWORK_PROTOCOLS}
        timeout = (_OPEN_SECONDS, _STALL_SECONDS)
        if not self._again:
            return av.open(self._source, options=options, timeout=timeout)
        try:  # from the oldest segment that is still listed: a short outage then costs nothing
            return av.open(self._source, options={**options, "live_start_index": "0"}, timeout=timeout)
        except ValueError:
            return av.open(self._source, options=options, timeout=timeout)


class _PageStream:
    """What streamlink reads, as a file; where it breaks off, it ends."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except OSError:
            return b""

    @property
    def is_complete(self) -> bool:
        """Whether its playlist has told its end."""
        worker = getattr(self._stream, "worker", None)
        return getattr(worker, "playlist_end", None) is not None

    def close(self) -> None:
        self._stream.close()


def _from_streamlink(url: str) -> _PageStream | None:
    """The best stream behind a page's URL; None where streamlink knows no such page."""
    if url.startswith(("rtmp", "rtsp", "udp", "tcp", "srt")):
        return None
    if url.startswith("http") and url.split("?")[0].lower().endswith(_NOT_FOR_STREAMLINK):
        return None
    from streamlink.exceptions import NoPluginError, StreamlinkError
    from streamlink.session.session import Streamlink

    logging.getLogger("streamlink").addHandler(logging.NullHandler())  # its lines would tear the progress apart
    session = Streamlink()
    session.set_option("stream-timeout", _STALL_SECONDS)
    try:
        session.resolve_url(url, follow_redirect=False)
    except NoPluginError:
        return None
    try:
        streams = session.streams(url)
        if "best" not in streams:
            raise MediaError(f"{url}: nothing is on the air there")
        return _PageStream(streams["best"].open())
    except StreamlinkError as error:
        raise MediaError(f"{url}: {' '.join(str(error).split())}") from None


def _demux(container: Any) -> Iterator[Coded]:
    streams = [*container.streams.video[:1], *container.streams.audio[:1]]
    undated: dict[Kind, list[Coded]] = {"video": [], "audio": []}
    for packet in container.demux(streams):
        if not packet.size or (packet.pts is None and packet.dts is None):
            continue  # the mark at the end, or a packet that tells no time
        coded = _coded(packet)
        waiting = undated[coded.kind]
        if packet.dts is None and len(waiting) < _UNDATED:
            waiting.append(coded)  # some containers tell no decoding time for the first ones
            continue
        if waiting:
            yield from _dated(waiting, coded.dts)
            waiting.clear()
        yield coded
    for waiting in undated.values():
        yield from sorted(waiting, key=lambda coded: coded.dts)


def _coded(packet: Any) -> Coded:
    return Coded(
        kind=packet.stream.type,
        stream=packet.stream,
        data=bytes(packet),
        pts=packet.pts if packet.pts is not None else packet.dts,
        dts=packet.dts if packet.dts is not None else packet.pts,
        duration=packet.duration or 0,
        time_base=packet.time_base,
        key=packet.is_keyframe,
    )


def _dated(packets: list[Coded], before: int) -> Iterator[Coded]:
    """The packets with decoding times counted back from that of the first one that tells it."""
    step = max(1, max(packet.duration for packet in packets))
    for ahead, packet in zip(range(len(packets), 0, -1), packets, strict=True):
        yield replace(packet, dts=before - ahead * step)
