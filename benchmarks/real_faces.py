"""Clips with a real face in the webcam: scikit-image's astronaut, moving, over photographs that stand in for a game."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.media.encode import write_clip

Frame = NDArray[np.uint8]
Box = tuple[int, int, int, int]

SIZE: Final = (1280, 720)
_SCREENS: Final = ("coffee", "rocket", "chelsea", "hubble_deep_field", "retina", "immunohistochemistry")
_FACE: Final = (175, 65, 275, 165)
"""The astronaut's face in her picture of 512 × 512, as detectors draw it."""
_SCENE_SECONDS: Final = 1.7


@dataclass(frozen=True)
class Overlay:
    """A webcam with the astronaut in it.

    Attributes:
        face: width of her face, pixels.
        place: the webcam's left and top in the frame.
        shape: its width by its height.
    """

    face: int
    place: tuple[int, int]
    shape: float = 4 / 3

    @property
    def box(self) -> Box:
        """What the webcam covers: left, top, right, bottom."""
        height = round(3.2 * self.face)
        return (*self.place, self.place[0] + round(height * self.shape), self.place[1] + height)


def write_composite(
    path: Path,
    overlay: Overlay | None,
    seed: int,
    seconds: float = 5.0,
    fps: int = 10,
    in_game: bool = False,
    halved: bool = False,
) -> Path:
    """Write a clip of 1280 × 720, or half of it, with a tone.

    Args:
        path: the mp4.
        overlay: the webcam; None: there is none.
        seed: of the game's scenes and the head's motion.
        seconds: its length.
        fps: frames a second.
        in_game: her face flies through the game, too.
        halved: at 640 × 360: every place and length is half of what ``overlay`` says.
    """
    count = round(seconds * fps)
    tone = (3000 * np.sin(np.arange(round(seconds * 22_050)) * 0.06)).astype(np.int16)
    frames = _frames(overlay, np.random.default_rng(seed), count, fps, in_game)
    write_clip(path, map(_half, frames) if halved else frames, fps, tone, 22_050)
    return path


def _half(frame: Frame) -> Frame:
    return np.asarray(cv2.resize(frame, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def _frames(overlay: Overlay | None, rng: np.random.Generator, count: int, fps: int, in_game: bool) -> Iterator[Frame]:
    game = _game(rng, count, fps)
    phases = rng.uniform(0, 2 * np.pi, 3)
    for index in range(count):
        frame = next(game)
        if in_game:
            left = round(100 + 900 * (0.5 + 0.5 * np.sin(1.9 * index / fps + phases[0])))
            top = round(120 + 300 * (0.5 + 0.5 * np.sin(2.7 * index / fps + phases[1])))
            frame[top : top + 150, left : left + 150] = cv2.resize(_astronaut()[40:190, 150:300], (150, 150))
        if overlay is not None:
            left, top, right, bottom = overlay.box
            frame[top:bottom, left:right] = _webcam(overlay, phases, index / fps)
        yield cv2.add(frame, rng.integers(0, 5, frame.shape, dtype=np.uint8))


@cache
def _picture(name: str) -> Frame:
    from skimage import data

    return np.asarray(getattr(data, name)()[..., :3], np.uint8)


def _astronaut() -> Frame:
    return _picture("astronaut")


def _game(rng: np.random.Generator, count: int, fps: int) -> Iterator[Frame]:
    """Photographs panned and zoomed, cut every so often, under panels that stay."""
    width, height = SIZE
    scene: Frame = np.zeros((1, 1, 3), np.uint8)
    start, end = np.zeros(3), np.zeros(3)
    length = round(_SCENE_SECONDS * fps)
    for index in range(count):
        if index % length == 0:
            scene = _picture(str(rng.choice(_SCREENS)))
            start, end = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
        x, y, zoom = start + (end - start) * (index % length) / length
        wide = scene.shape[1] * (0.5 + 0.3 * zoom)
        tall = min(wide * height / width, scene.shape[0])
        left, top = x * (scene.shape[1] - wide), y * (scene.shape[0] - tall)
        scale = np.array([[width / wide, 0, -left * width / wide], [0, height / tall, -top * height / tall]])
        frame = cv2.warpAffine(scene, scale, SIZE, borderMode=cv2.BORDER_REFLECT)
        yield _with_panels(np.asarray(frame, np.uint8), index)


def _with_panels(frame: Frame, index: int) -> Frame:
    """A map with a moving dot, a bar of tools, a line of words: edges that stay, as games have them."""
    cv2.rectangle(frame, (1060, 500), (1270, 710), (30, 40, 36), -1)
    cv2.rectangle(frame, (1060, 500), (1270, 710), (200, 180, 90), 3)
    cv2.circle(frame, (1100 + 3 * index % 140, 600), 6, (250, 60, 60), -1)
    for slot in range(8):
        cv2.rectangle(frame, (400 + 56 * slot, 650), (448 + 56 * slot, 698), (60, 60, 70), -1)
        cv2.rectangle(frame, (400 + 56 * slot, 650), (448 + 56 * slot, 698), (220, 220, 220), 2)
    cv2.putText(frame, "ROUND 3   12 - 7", (520, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    return frame


def _webcam(overlay: Overlay, phases: NDArray[np.float64], seconds: float) -> Frame:
    """The astronaut before her own background: her head sways and nods, what is behind her stays."""
    left, top, right, bottom = overlay.box
    scale = (_FACE[2] - _FACE[0]) / overlay.face
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left].astype(np.float32)
    middle = (_FACE[0] + _FACE[2]) / 2
    x = middle + (columns - (right - left) / 2) * scale
    y = _FACE[1] - 55 + rows * scale
    near = np.exp(-((x - middle) ** 2 + (y - 115) ** 2) / (2 * 75.0**2))
    x += near * 9 * np.sin(2.1 * seconds + phases[0]) + near * 3 * np.sin(5.3 * seconds + phases[1])
    y += near * 6 * np.sin(3.1 * seconds + phases[2])
    picture = cv2.remap(
        _astronaut(), x.astype(np.float32), y.astype(np.float32), cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(picture, np.uint8)
