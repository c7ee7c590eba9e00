"""What one clip tells about its webcam. Made for worker processes: a clip that cannot be decoded tells nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.media.decode import MediaError, read_clip
from merlb_model.media.overlay import still_edges
from merlb_model.media.recording import Frame
from merlb_model.media.webcam import Sighting, at_one_place, find_faces, sampled, sightings
from merlb_model.media.windows import WINDOW_SECONDS, Box

PICTURE: Final = (272, 153)
_EDGE_FRAMES: Final = 10
_CHECK_SECONDS: Final = 1.5
_CHECKED_FRAMES: Final = 2


@dataclass(frozen=True)
class Peek:
    """What a clip looks like.

    Attributes:
        picture: u8 (height, width, 3), RGB: a frame made small.
        width: of the clip's frames, pixels.
        height: the same.
    """

    picture: Frame
    width: int
    height: int

    def has(self, box: Box) -> bool:
        """Whether any of ``box`` lies inside the clip's frames."""
        return max(0, box[0]) < min(self.width, box[2]) and max(0, box[1]) < min(self.height, box[3])


@dataclass(frozen=True)
class Look:
    """One clip, looked at thoroughly.

    Attributes:
        seen: the faces that stay in it.
        edges: u8 (2, height, width), its `still_edges`.
    """

    seen: tuple[Sighting, ...]
    edges: NDArray[np.uint8]


def look(path: str, smallest_face: int, frames: int) -> Look | None:
    """Decode a clip and look for faces in ``frames`` of its frames; None where no frame decodes."""
    pictures = _frames(path, WINDOW_SECONDS)
    if not pictures:
        return None
    seen = sightings(sampled(pictures, frames), smallest_face)
    return Look(tuple(seen), still_edges(sampled(pictures, _EDGE_FRAMES)))


def shows_face(path: str, face: Box) -> bool:
    """Whether the clip's first second shows a face where ``face`` is: a tenth of the work of `look`."""
    width = face[2] - face[0]
    left, top = max(0, face[0] - width), max(0, face[1] - width)
    for frame in sampled(_frames(path, _CHECK_SECONDS), _CHECKED_FRAMES):
        about = frame[top : face[3] + width, left : face[2] + width]
        if not about.size:
            continue
        for found in find_faces(np.ascontiguousarray(about), max(20, width // 2)):
            there = (found[0] + left, found[1] + top, found[2] + left, found[3] + top)
            if at_one_place(there, face):
                return True
    return False


def peek(path: str) -> Peek | None:
    """A frame of the clip's first second, no larger than ``PICTURE``; None where none decodes."""
    pictures = _frames(path, 1.0)
    if not pictures:
        return None
    height, width = pictures[-1].shape[:2]
    scale = min(PICTURE[0] / width, PICTURE[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Peek(cv2.resize(pictures[-1], size, interpolation=cv2.INTER_AREA), width, height)


def _frames(path: str, seconds: float) -> list[Frame]:
    """The frames on the grid, those of the first one's size."""
    cv2.setNumThreads(1)  # there is a worker for each core
    try:
        recording = read_clip(Path(path), seconds)
    except MediaError:
        return []
    pictures = [recording.frames[slot] for slot in sorted(recording.frames)]
    return [picture for picture in pictures if picture.shape == pictures[0].shape]
