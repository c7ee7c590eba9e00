"""Cuts coded packets into clips of 5 s: copied where key frames allow it, else encoded anew, exact to the frame."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.error import FFmpegError

from merlb_model.media.broadcast import Coded, Kind

CLIP_SECONDS: Final = 5
_LOOK_AHEAD: Final = Fraction(1)
"""Seconds read past a clip's end before it is cut: sound may come later in the file than its picture."""
_REORDERED: Final = 17
"""Pictures read past a clip's end: a decoder may hold back as many as 16 (H.264)."""
_LATE: Final = Fraction(5)
"""A track that lags this far behind the other is not waited for."""
_TOLERANCE: Final = Fraction(1, 10)
"""How much later than the cut a clip's first frame may come, and how much may be missing at a recording's end."""
_ROUNDING: Final = Fraction(2, 1000)
"""Some containers round times to the millisecond: a frame this little before the cut belongs after it."""
_COPIED_AUDIO: Final = frozenset({"aac", "mp3", "mp3float", "opus", "flac", "ac3", "eac3", "alac"})
_VIDEO_OPTIONS: Final = {"preset": "veryfast", "crf": "18", "bf": "0"}
_AUDIO_BITS_PER_SECOND: Final = 160_000


@dataclass(frozen=True)
class CutClip:
    """A clip, not yet written.

    Attributes:
        start_seconds: where it begins, by the source's clock.
        copied: whether its picture is the source's own packets.
        video: packets in decoding order, their times from the clip's start.
        video_stream: the source's stream where they are copied, else the encoder that made them.
        audio: the same for the sound; the first one or two begin before the clip: decoders need them.
        audio_stream: the source's stream.
    """

    start_seconds: float
    copied: bool
    video: list[Any]
    video_stream: Any
    audio: list[Any]
    audio_stream: Any

    def write(self, path: Path) -> None:
        """Write an mp4 that plays while it loads, in place: give a temporary name and rename it."""
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            pairs = []
            if self.video:
                pairs += [(packet, self._video_track(container)) for packet in self.video[:1]]
                pairs += [(packet, pairs[0][1]) for packet in self.video[1:]]
            if self.audio:
                pairs += self._audio_pairs(container)
            for packet, stream in sorted(pairs, key=lambda pair: Fraction(pair[0].dts * pair[0].time_base)):
                packet.stream = stream
                container.mux_one(packet)

    def _video_track(self, container: Any) -> Any:
        if self.copied:
            return container.add_stream_from_template(self.video_stream)
        encoder = self.video_stream  # its packets hold their own parameter sets
        return container.add_mux_stream("h264", width=encoder.width, height=encoder.height, time_base=encoder.time_base)

    def _audio_pairs(self, container: Any) -> list[tuple[Any, Any]]:
        if self.audio_stream.codec_context.name in _COPIED_AUDIO:
            stream = container.add_stream_from_template(self.audio_stream)
            return [(packet, stream) for packet in self.audio]
        rate = self.audio_stream.codec_context.sample_rate
        stream = container.add_stream("aac", rate=rate, layout="stereo", bit_rate=_AUDIO_BITS_PER_SECOND)
        return [(packet, stream) for packet in _encoded_sound(self.audio, self.audio_stream, stream, rate)]


def cut_clips(packets: Iterable[Coded]) -> Iterator[CutClip]:
    """Clips of 5 s, one after the other from the first key frame on; time that begins anew begins a new clip.

    Memory holds the packets since the last key frame before the clip, and few frames. What is left at the end of a
    time line and is shorter than a clip is dropped.

    Args:
        packets: in decoding order, as `Broadcast.packets` gives them.
    """
    cutter: _Cutter | None = None
    for packet in packets:
        if cutter is None or cutter.timeline != packet.timeline:
            if cutter is not None:
                yield from cutter.finish()
            cutter = _Cutter(packet)
        yield from cutter.take(packet)
    if cutter is not None:
        yield from cutter.finish()


class _Cutter:
    """One time line."""

    def __init__(self, first: Coded) -> None:
        self.timeline = first.timeline
        streams = first.stream.container.streams
        self._kinds: list[Kind] = [kind for kind in ("video", "audio") if getattr(streams, kind)]
        self._packets: dict[Kind, list[Coded]] = {"video": [], "audio": []}
        self._last: dict[Kind, Fraction] = {}
        self._furthest: dict[Kind, Fraction] = {}
        self._start: Fraction | None = None
        self._pictures = _Pictures()

    def take(self, packet: Coded) -> Iterator[CutClip]:
        if self._start is None:
            self._start = self._joined_at(packet)
        if self._start is None and packet.kind == "video":
            return  # nothing can be decoded before the first key frame
        self._packets[packet.kind].append(packet)
        self._last[packet.kind] = packet.dts * packet.time_base
        self._furthest[packet.kind] = max(packet.end, self._furthest.get(packet.kind, packet.end))
        if self._start is None:
            self._forget_sound(packet.end - _LATE)
            return
        while self._is_in():
            yield self._cut(last=False)

    def finish(self) -> Iterator[CutClip]:
        """What is still whole at the time line's end."""
        if self._start is None:
            return
        end = max(self._furthest.values())
        while self._start + CLIP_SECONDS <= end + _TOLERANCE:
            yield self._cut(last=True)

    def _joined_at(self, packet: Coded) -> Fraction | None:
        if "video" in self._kinds:
            return packet.start if packet.kind == "video" and packet.key else None
        return packet.start

    def _is_in(self) -> bool:
        assert self._start is not None
        end = self._start + CLIP_SECONDS
        if max(self._last.values()) < end + _LOOK_AHEAD:
            return False
        return all(self._is_past(kind, end) for kind in self._kinds)

    def _is_past(self, kind: Kind, end: Fraction) -> bool:
        furthest = max(self._last.values())
        if furthest >= end + _LATE and self._last.get(kind, end) <= furthest - _LATE:
            return True  # it has stopped, or comes too late
        later = _REORDERED if kind == "video" else 1
        packets = self._packets[kind]
        return len(packets) >= later and packets[-later].dts * packets[-later].time_base >= end

    def _cut(self, last: bool) -> CutClip:
        assert self._start is not None
        start, end = self._start, self._start + CLIP_SECONDS
        run = self._copyable(start, end)
        if run:
            self._pictures.forget()
            base = min(start, run[0].start)
            video, stream = _from(base, run, end), run[0].stream
        else:
            base = start
            video, stream = self._pictures.encoded(self._packets["video"], start, end, last)
        sound = [packet for packet in self._packets["audio"] if packet.start < end and _swings_in(packet) > start]
        self._start = end
        self._forget_sound(end - Fraction(1, 4))
        self._packets["video"] = self._pictures.still_needed(self._packets["video"], end - _ROUNDING)
        return CutClip(
            start_seconds=float(start),
            copied=bool(run),
            video=video,
            video_stream=stream,
            audio=_from(base, sound, None),
            audio_stream=sound[0].stream if sound else None,
        )

    def _copyable(self, start: Fraction, end: Fraction) -> list[Coded]:
        """The packets of the clip's pictures, if they can stand alone: an unbroken run that begins with a key frame."""
        packets = self._packets["video"]
        inside = [index for index, packet in enumerate(packets) if start <= packet.start + _ROUNDING < end]
        if not inside or inside[-1] - inside[0] + 1 != len(inside):
            return []
        run = packets[inside[0] : inside[-1] + 1]
        first = run[0]
        in_time = first.start - start <= _TOLERANCE
        is_h264 = first.stream.codec_context.name == "h264"
        return run if first.key and in_time and is_h264 and first.start == min(p.start for p in run) else []

    def _forget_sound(self, before: Fraction) -> None:
        sound = self._packets["audio"]
        if sound and sound[0].end < before:
            self._packets["audio"] = [packet for packet in sound if packet.end >= before]


def _swings_in(packet: Coded) -> Fraction:
    """Up to where a packet of sound is of use: the decoder needs the one before the first that is heard."""
    rate = packet.stream.codec_context.sample_rate or 48_000
    length = max(packet.duration * packet.time_base, Fraction(1024, rate))
    return packet.start + 2 * length


def _from(base: Fraction, packets: list[Coded], end: Fraction | None) -> list[Any]:
    """The packets with times from ``base`` on; with ``end`` the last one lasts until there."""
    if not packets:
        return []
    first = packets[0]
    offset = round(base / first.time_base)
    durations = [packet.duration for packet in packets]
    if end is not None:
        durations[-1] = max(1, round((end - first.start) / first.time_base) - (packets[-1].dts - first.dts))
    return [
        _packet(p.data, p.pts - offset, p.dts - offset, duration, p.time_base, p.key)
        for p, duration in zip(packets, durations, strict=True)
    ]


def _packet(data: bytes, pts: int, dts: int, duration: int, time_base: Fraction, key: bool) -> Any:
    packet = av.Packet(data)
    packet.pts, packet.dts, packet.duration = pts, dts, duration
    packet.time_base, packet.is_keyframe = time_base, key
    return packet


class _Pictures:
    """Decodes on from clip to clip, so that a recording with few key frames is decoded once, and encodes."""

    def __init__(self) -> None:
        self._decoder: Any = None
        self._time_base = Fraction(1)
        self._fed = 0  # packets of the cutter's list that the decoder has had
        self._ahead: deque[Any] = deque()  # decoded, of the next clip
        self._held: Any = None  # the frame that is still shown when the clip begins

    def forget(self) -> None:
        """Clips that were copied lie between: decoding begins at a key frame again."""
        self._decoder = self._held = None
        self._fed = 0
        self._ahead.clear()

    def encoded(self, packets: list[Coded], start: Fraction, end: Fraction, last: bool) -> tuple[list[Any], Any]:
        """The pictures from ``start`` to ``end`` as packets with times from ``start``, and their encoder."""
        encoder: _Encoder | None = None
        for frame in self._frames(packets, end, last):
            at = frame.pts * frame.time_base
            if at + _ROUNDING < start:
                self._held = frame
                continue
            if encoder is None:
                encoder = _Encoder(frame, start)
                if self._held is not None and at - start > _TOLERANCE:
                    encoder.add(self._held, start)
            encoder.add(frame, at)
            self._held = frame
        if encoder is None and self._held is not None:
            encoder = _Encoder(self._held, start)
            encoder.add(self._held, start)
        return encoder.finish(end) if encoder else ([], None)

    def _frames(self, packets: list[Coded], end: Fraction, last: bool) -> Iterator[Any]:
        while self._ahead:
            if self._is_after(self._ahead[0], end):
                return
            yield self._ahead.popleft()
        while not self._ahead and self._fed < len(packets):
            packet = packets[self._fed]
            self._fed += 1
            yield from self._parted(self._decode(packet), end)
        if last and not self._ahead and self._decoder is not None:
            yield from self._parted(self._drain(), end)

    def _parted(self, frames: list[Any], end: Fraction) -> Iterator[Any]:
        for frame in frames:
            if self._ahead or self._is_after(frame, end):
                self._ahead.append(frame)
            else:
                yield frame

    @staticmethod
    def _is_after(frame: Any, end: Fraction) -> bool:
        return bool(frame.pts * frame.time_base + _ROUNDING >= end)

    def _decode(self, packet: Coded) -> list[Any]:
        if self._decoder is None:  # kept when the source is opened again: its pictures build on each other
            self._decoder = packet.stream.codec_context
            self._time_base = packet.time_base
            self._decoder.flush_buffers()
        coded = _packet(packet.data, packet.pts, packet.dts, packet.duration, packet.time_base, packet.key)
        return _decoded(self._decoder, coded, packet.time_base)

    def _drain(self) -> list[Any]:
        frames = _decoded(self._decoder, None, self._time_base)
        self._decoder.flush_buffers()
        return frames

    def still_needed(self, packets: list[Coded], start: Fraction) -> list[Coded]:
        """Packets for clips from ``start`` on: all from the key frame before it, less what has been decoded."""
        keys = [index for index, packet in enumerate(packets) if packet.key and packet.start <= start]
        first = keys[-1] if keys else 0
        if self._decoder is not None:  # it decodes on, and needs no key frame
            later = [index for index, packet in enumerate(packets) if packet.start >= start]
            first = max(first, min([self._fed, *later[:1]]))
        self._fed = max(0, self._fed - first)
        return packets[first:]


def _decoded(decoder: Any, packet: Any, time_base: Fraction) -> list[Any]:
    try:
        frames = [frame for frame in decoder.decode(packet) if frame.pts is not None]
    except FFmpegError:
        return []  # a damaged packet costs itself alone
    for frame in frames:
        frame.time_base = time_base  # the last ones out of a decoder tell none
    return frames


class _Encoder:
    """H.264 of one clip; each frame keeps its time."""

    def __init__(self, frame: Any, start: Fraction) -> None:
        self._start = start
        self._packets: list[Any] = []
        self._latest = -1
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height = frame.width // 2 * 2, frame.height // 2 * 2
        codec.pix_fmt = "yuvj420p" if frame.format.name == "yuvj420p" else "yuv420p"
        codec.time_base = frame.time_base
        codec.options = dict(_VIDEO_OPTIONS)
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(codec, name, getattr(frame, name))
        self._codec = codec

    def add(self, frame: Any, at: Fraction) -> None:
        ticks = max(0, round((at - self._start) / self._codec.time_base))
        if ticks <= self._latest:
            return
        self._latest = ticks
        fitted = frame.reformat(width=self._codec.width, height=self._codec.height, format=self._codec.pix_fmt)
        kept, fitted.pts = fitted.pts, ticks
        fitted.pict_type = 0  # the encoder chooses, not the source
        self._packets += self._codec.encode(fitted)
        fitted.pts = kept  # the same frame may open the next clip

    def finish(self, end: Fraction) -> tuple[list[Any], Any]:
        self._packets += self._codec.encode(None)
        for packet, following in zip(self._packets, self._packets[1:], strict=False):
            packet.duration = following.dts - packet.dts
        whole = round((end - self._start) / self._codec.time_base)
        self._packets[-1].duration = max(1, whole - self._packets[-1].pts)
        return self._packets, self._codec


def _encoded_sound(packets: list[Any], source: Any, target: Any, rate: int) -> Iterator[Any]:
    """AAC of a sound that mp4 does not take: 5 s from the clip's start."""
    decoder = source.codec_context
    decoder.flush_buffers()
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
    frames = [frame for packet in packets for frame in _decoded(decoder, packet, packet.time_base)]
    if not frames:
        return
    before = max(0, -round(frames[0].pts * frames[0].time_base * rate))
    late = max(0, round(frames[0].pts * frames[0].time_base * rate))
    parts = [part.to_ndarray() for frame in frames for part in resampler.resample(frame)]
    samples = np.concatenate(parts, axis=1)[:, before : before + CLIP_SECONDS * rate - late]
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, late, Fraction(1, rate)
    yield from target.encode(frame)
    yield from target.encode(None)
