"""Where the webcam stands in the frame: given, the streamer's entry, or found by a face detector."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.media.recording import Frame
from merlb_model.media.windows import Box

_SMALLEST_FACE_SHARE = 0.08
_MARGIN = 0.25
"""Share of the face's width kept around it."""
_SAMPLED_FRAMES = 5


@cache
def _detector() -> Any:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))


def find_faces(frame: Frame) -> list[Box]:
    """Faces in a frame, largest first."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    smallest = max(24, int(min(frame.shape[:2]) * _SMALLEST_FACE_SHARE))
    found = _detector().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest))
    boxes = [(int(x), int(y), int(x + w), int(y + h)) for x, y, w, h in found]
    return sorted(boxes, key=lambda box: box[0] - box[2])


def find_webcam(frames: Sequence[Frame]) -> Box | None:
    """The box around the face that most of a few sampled frames show at one place, or None.

    The webcam stays where it is, so a detection seen once is the game, not the streamer.
    """
    if not frames:
        return None
    sampled = [frames[index] for index in np.linspace(0, len(frames) - 1, _SAMPLED_FRAMES).astype(int)]
    faces = [found[0] for found in map(find_faces, sampled) if found]
    if 2 * len(faces) <= len(sampled):
        return None
    left, top, right, bottom = np.median(np.array(faces), axis=0)
    apart = max(abs(face[0] - left) + abs(face[1] - top) for face in faces)
    if apart > right - left:
        return None
    margin = _MARGIN * (right - left)
    height, width = frames[0].shape[:2]
    return (
        int(max(0, left - margin)),
        int(max(0, top - margin)),
        int(min(width, right + margin)),
        int(min(height, bottom + margin)),
    )


def read_boxes(path: Path) -> dict[str, Box]:
    """Read ``webcam_boxes.json``: each streamer's box. A missing file is no boxes.

    Raises:
        MerlbError: an entry is not four whole numbers ``[x1, y1, x2, y2]`` with x1 < x2 and y1 < y2.
    """
    if not path.exists():
        return {}
    content = read_json(path, "merlb ingest")
    if not isinstance(content, dict):
        raise MerlbError(f"{path}: expected {{streamer: [x1, y1, x2, y2]}}, found {type(content).__name__}")
    return {streamer: _as_box(box, f"{path}: {streamer}") for streamer, box in content.items()}


def _as_box(box: Any, where: str) -> Box:
    whole = isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)
    if not whole or not (box[0] < box[2] and box[1] < box[3]):
        raise MerlbError(f"{where}: expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2, found {box!r}")
    return int(box[0]), int(box[1]), int(box[2]), int(box[3])
