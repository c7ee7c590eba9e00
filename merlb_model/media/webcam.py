"""Where the webcam stands in the frame, found by the face in it and by the overlay's border about the face."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from merlb_model.media.overlay import FloatArray, find_border, mean_edges, still_edges
from merlb_model.media.recording import Frame
from merlb_model.media.windows import Box

SMALLEST_FACE: Final = 26
"""Pixels, in frames of at most `_DETECTED_LINES` lines; larger frames are shrunk to that many."""
_DETECTED_LINES: Final = 720
_MARGIN: Final = 0.4
"""Share of the face's width kept around it where no border is seen: detectors leave out chin and hair."""
_SAMPLED_FRAMES: Final = 6
_SEEN_SHARE: Final = 0.5
"""A face that less of a clip's sampled frames show at its place passes by in the game."""
_STILL_LEVELS: Final = 1.0
"""A face whose pixels vary by less of 255 is a picture: a portrait in the game's panels, not a person."""
_VISIBLE: Final = 0.15
"""A border that stands out less is none."""


@dataclass(frozen=True)
class Sighting:
    """A face that stays at one place of a clip.

    Attributes:
        face: the median of its boxes, pixels of the frame.
        share: of the sampled frames, those that show it.
    """

    face: Box
    share: float


@dataclass(frozen=True)
class Found:
    """A webcam.

    Attributes:
        box: the overlay's inside.
        face: where in the frame the face usually is.
        confidence: 0 to 1: the share of frames that show the face, by how clear the border is.
    """

    box: Box
    face: Box
    confidence: float


@cache
def _detector() -> Any:
    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))


def find_faces(frame: Frame, smallest: int = SMALLEST_FACE) -> list[Box]:
    """Faces in a frame, largest first.

    Args:
        frame: u8 (height, width, 3), RGB.
        smallest: width of a face, in pixels of a frame of at most 720 lines.
    """
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = max(1.0, grey.shape[0] / _DETECTED_LINES)
    if scale > 1:
        grey = cv2.resize(grey, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if min(grey.shape) < smallest:
        return []
    found = _detector().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=4, minSize=(smallest, smallest))
    edges = [(x * scale, y * scale, (x + w) * scale, (y + h) * scale) for x, y, w, h in found]
    boxes = [(round(left), round(top), round(right), round(bottom)) for left, top, right, bottom in edges]
    return sorted(boxes, key=lambda box: box[0] - box[2])


def at_one_place(one: Box, other: Box) -> bool:
    """Whether two faces are of about one size and lie less than 0.6 of it apart."""
    widths = sorted((one[2] - one[0], other[2] - other[0]))
    apart = np.hypot(one[0] + one[2] - other[0] - other[2], one[1] + one[3] - other[1] - other[3]) / 2
    return bool(apart < 0.6 * widths[1] and widths[1] < 1.6 * widths[0])


def sampled(frames: Sequence[Frame], count: int = _SAMPLED_FRAMES) -> list[Frame]:
    """At most ``count`` of ``frames``, evenly spread, without the first and last where there are more."""
    if len(frames) <= count:
        return list(frames)
    places = (np.arange(count) + 0.5) * len(frames) / count
    return [frames[place] for place in sorted(set(places.astype(int)))]


def sightings(frames: Sequence[Frame], smallest: int = SMALLEST_FACE) -> list[Sighting]:
    """The faces that stay at their places over most of ``frames``, and live; the steadiest first.

    Args:
        frames: of one clip and one size, apart in time.
        smallest: see `find_faces`.
    """
    places: list[list[Box]] = []
    for frame in frames:
        for face in find_faces(frame, smallest):
            place = next((faces for faces in places if at_one_place(faces[-1], face)), None)
            if place is None:
                places.append([face])
            else:
                place.append(face)
    seen = [Sighting(median_box(faces), min(1.0, len(faces) / len(frames))) for faces in places]
    live = [one for one in seen if one.share >= _SEEN_SHARE and (len(frames) < 2 or _moves(frames, one.face))]
    return sorted(live, key=lambda one: -one.share)


def median_box(boxes: Sequence[Box]) -> Box:
    """The median of each edge."""
    left, top, right, bottom = np.median(np.array(boxes), axis=0).round().astype(int).tolist()
    return left, top, right, bottom


def _moves(frames: Sequence[Frame], face: Box) -> bool:
    left, top, right, bottom = face
    crops = [cv2.blur(frame[max(0, top) : bottom, max(0, left) : right], (5, 5)) for frame in frames]
    return bool(np.percentile(np.std(np.array(crops, np.float32), axis=0), 95) >= _STILL_LEVELS)


def webcam_about(face: Box, edges: FloatArray, share: float) -> Found:
    """The webcam of a face: what the border about it encloses, else the face and a margin.

    Args:
        face: where the face usually is.
        edges: f32 (2, height, width): `mean_edges` of the clips that show it.
        share: of the sampled frames, those that show it.
    """
    border = find_border(edges, face)
    if border is not None and border.strength >= _VISIBLE:
        return Found(border.box, face, round(share * (0.5 + 0.5 * border.strength), 3))
    height, width = edges.shape[1:]
    margin = round(_MARGIN * (face[2] - face[0]))
    left, top = max(0, face[0] - margin), max(0, face[1] - margin)
    box = (left, top, min(width, face[2] + margin), min(height, face[3] + margin))
    return Found(box, face, round(share * 0.4, 3))


def find_webcam(frames: Sequence[Frame]) -> Box | None:
    """The webcam's box in the frames of one clip or of a stream's first seconds; None where no face stays."""
    if not frames:
        return None
    few = sampled(frames)
    seen = sightings(few)
    if not seen:
        return None
    edges = mean_edges([still_edges(sampled(frames, 2 * _SAMPLED_FRAMES))])
    return webcam_about(seen[0].face, edges, seen[0].share).box
