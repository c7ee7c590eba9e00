"""Writing clips: H.264 and AAC in mp4, the same bytes for the same frames and samples."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from numpy.typing import NDArray

_VIDEO_OPTIONS: Final = {"preset": "ultrafast", "crf": "23", "threads": "1"}
_AUDIO_BITS_PER_SECOND: Final = 96_000


def write_clip(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    fps: int,
    audio: NDArray[np.int16],
    sample_rate: int,
) -> None:
    """Encode frames and sound into an mp4 that can be played while it loads (index first).

    The encoders run in one thread and leave out their versions, so that the bytes depend on the input alone.
    The file is written in place: write to a temporary name and rename it where a kill must leave no half clip.

    Args:
        path: the file to write, in a folder that exists.
        frames: u8 (height, width, 3), RGB, all of one size with even height and width. Frame k is shown at k / fps s.
        fps: frames a second.
        audio: i16 (samples,), mono.
        sample_rate: of the audio, Hz.

    Raises:
        ValueError: no frame, a frame that is not u8 RGB of even size or unlike the first one, or audio that is not i16
            mono.
    """
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise ValueError(f"audio: expected i16 (samples,), received {audio.dtype} {audio.shape}")
    size: tuple[int, ...] | None = None
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=fps, options=_VIDEO_OPTIONS)
        sound = container.add_stream("aac", rate=sample_rate, layout="mono", bit_rate=_AUDIO_BITS_PER_SECOND)
        video.pix_fmt = "yuv420p"
        for stream in (video, sound):
            stream.codec_context.thread_count = 1
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for index, frame in enumerate(frames):
            if size is None:
                size = _checked_size(frame)
                video.height, video.width = size[:2]
            if frame.shape != size or frame.dtype != np.uint8:
                raise ValueError(f"frame {index}: expected u8 {size}, received {frame.dtype} {frame.shape}")
            picture = av.VideoFrame.from_ndarray(cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, fps)
            container.mux(video.encode(picture))
        if size is None:
            raise ValueError("frames: expected at least one, received none")
        container.mux(video.encode(None))
        chunk = av.AudioFrame.from_ndarray(audio[None].astype(np.float32) / 32768, format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts, chunk.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux(sound.encode(chunk))
        container.mux(sound.encode(None))


def _checked_size(frame: NDArray[np.uint8]) -> tuple[int, ...]:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.shape[0] % 2 or frame.shape[1] % 2:
        raise ValueError(f"frame 0: expected (height, width, 3), both even, received {frame.shape}")
    return frame.shape
