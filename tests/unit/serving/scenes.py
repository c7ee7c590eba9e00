"""Recordings for tests of live scoring: every second looks and sounds otherwise."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merlb_model.media.encode import write_clip


def frames(seconds: float, fps: int = 10) -> Iterator[NDArray[np.uint8]]:
    """A scene that changes over time, so that a frame in the wrong step changes the score."""
    rows, columns = np.mgrid[0:180, 0:320]
    for index in range(round(seconds * fps)):
        red = (rows + 9 * index) % 256
        green = (columns * (1 + index % 7)) % 256
        yield np.stack([red, green, np.full_like(red, 5 * index % 256)], axis=2).astype(np.uint8)


def sound(seconds: float) -> NDArray[np.int16]:
    """A tone that swells and fades, at 22,050 Hz."""
    time = np.arange(round(seconds * 22_050)) / 22_050
    return (np.sin(2 * np.pi * 220 * time) * (1 + np.sin(time * 2)) * 9000).astype(np.int16)


def write_scene(path: Path, video: float, audio: float) -> Path:
    """An mp4 of 320×180 at 10 frames a second with ``video`` and ``audio`` seconds."""
    write_clip(path, frames(video), 10, sound(audio), 22_050)
    return path
