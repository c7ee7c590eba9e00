"""Small real clips for tests: flat grey frames whose level tells their number, and a tone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LEVELS = 2
"""Grey levels between one frame and the next."""


def grey_of(index: int) -> int:
    return 20 + LEVELS * index


def write_media(
    path: Path,
    seconds: float = 5.0,
    fps: int = 20,
    video: bool = True,
    audio: bool = True,
    size: tuple[int, int] = (128, 96),
    tone_hz: float = 440.0,
    audio_seconds: float | None = None,
    index_first: bool = False,
) -> Path:
    """An H.264 + AAC clip; frame k is flat grey of level ``grey_of(k)``.

    An mp4's index stands at its end, so that half a file is none, or with ``index_first`` before what it lists.
    """
    width, height = size
    rate = 44_100
    sound_seconds = seconds if audio_seconds is None else audio_seconds
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        pictures = (
            container.add_stream("libx264", rate=fps, options={"crf": "1", "preset": "ultrafast"}) if video else None
        )
        sound = container.add_stream("aac", rate=rate, layout="mono") if audio else None
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = width, height, "yuv420p"
            for index in range(round(seconds * fps)):
                pixels = np.full((height, width, 3), grey_of(index) % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if sound is not None:
            times = np.arange(round(sound_seconds * rate)) / rate
            samples = (8000 * np.sin(2 * np.pi * tone_hz * times)).astype(np.int16)
            for first in range(0, len(samples), 1024):
                block = av.AudioFrame.from_ndarray(samples[None, first : first + 1024], format="s16", layout="mono")
                block.sample_rate, block.pts, block.time_base = rate, first, Fraction(1, rate)
                container.mux(sound.encode(block))
            container.mux(sound.encode(None))
    return path
