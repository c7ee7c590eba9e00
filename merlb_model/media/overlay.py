"""The border of a webcam overlay: four edges that stay where they are while everything about them moves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.media.recording import Frame
from merlb_model.media.windows import Box

FloatArray = NDArray[np.float32]

_FAINT: Final = 4.0
"""Steps between neighbouring pixels up to this many of 255 levels are noise of the codec."""
_CLEAR: Final = 20.0
"""Steps of this many levels more are as good as any."""
_REACH: Final = (5.0, 4.0)
"""How far from the face, in its widths, a side may lie: across, down."""
_SLACK: Final = 0.1
"""How far a side may cut into the face's box, in its widths: detectors draw wide."""
_CANDIDATES: Final = 24
"""Lines a side that are tried: the likeliest beside the face, and the frame's edge."""
_ASPECTS: Final = (0.5, 3.2)
"""Width by height of an overlay."""
_FRAME_EDGE: Final = 0.22
"""What the frame's edge counts as a side: better than noise, worse than a line that is seen."""

_CUT_SHORT: Final = 0.75
"""How much it counts against a side that its line goes on beyond the corner: it is a room's or a panel's."""
_VISIBLE_SIDES: Final = 2
"""Sides that must not be the frame's edge."""
_CLEAR_SIDE: Final = 0.5
"""How far a line that leaves no doubt stands out."""


@dataclass(frozen=True)
class Border:
    """An overlay's border.

    Attributes:
        box: what lies inside it.
        strength: 0 to 1: how much of its weakest visible side stands out.
    """

    box: Box
    strength: float


def still_edges(frames: Sequence[Frame]) -> NDArray[np.uint8]:
    """How steadily a line lies left of each pixel, and above it: u8 (2, height, width), 255 is always and clearly.

    Args:
        frames: u8 (height, width, 3), of one size, apart in time.
    """
    height, width = frames[0].shape[:2]
    total = np.zeros((2, height, width), np.float32)
    for frame in frames:
        levels = frame.astype(np.int16)
        total[0, :, 1:] += _clearness(levels[:, 1:] - levels[:, :-1])
        total[1, 1:] += _clearness(levels[1:] - levels[:-1])
    return np.asarray(np.round(total * (255 / len(frames))), np.uint8)


def mean_edges(edges: Sequence[NDArray[np.uint8]]) -> FloatArray:
    """The mean of clips' `still_edges`, 0 to 1: f32 (2, height, width)."""
    return np.asarray(np.mean(np.stack(edges), axis=0) / 255, np.float32)


def _clearness(step: NDArray[np.int16]) -> FloatArray:
    return np.clip((np.abs(step).max(axis=2) - np.float32(_FAINT)) / np.float32(_CLEAR), 0, 1)


def find_border(edges: FloatArray, face: Box) -> Border | None:
    """The rectangle about ``face`` whose four sides are the steadiest lines, or None where there is none.

    Every choice of four among the likeliest lines of each side is scored: how much the lines stand out along the
    rectangle's sides, less how much they go on beyond its corners, as the edges of a room or a game's panel do.

    Args:
        edges: f32 (2, height, width), see `mean_edges`.
        face: where the face usually is.
    """
    upright, level = _ridges(edges[0]), np.ascontiguousarray(_ridges(edges[1].T))
    height, width = edges.shape[1:]
    left, top, right, bottom = face
    size = right - left
    slack = round(_SLACK * size)
    across, down = (round(reach * size) for reach in _REACH)
    lefts = _candidates(upright, (top, bottom), left - across, left + slack, 0)
    rights = _candidates(upright, (top, bottom), right - slack, right + across, width)
    tops = _candidates(level, (left, right), top - down, top + slack, 0)
    bottoms = _candidates(level, (left, right), bottom - slack, bottom + down, height)
    beyond = max(6, size // 3)
    sides = np.stack(
        np.broadcast_arrays(
            _side(upright, lefts, tops, bottoms, beyond)[:, None, :, :],
            _side(upright, rights, tops, bottoms, beyond)[None, :, :, :],
            _side(level, tops, lefts, rights, beyond).transpose(1, 2, 0)[:, :, :, None],
            _side(level, bottoms, lefts, rights, beyond).transpose(1, 2, 0)[:, :, None, :],
        )
    )
    score = sides.mean(axis=0) + sides.min(axis=0)
    aspect = (rights[None, :] - lefts[:, None])[:, :, None, None] / (bottoms[None, :] - tops[:, None])
    score[(aspect < _ASPECTS[0]) | (aspect > _ASPECTS[1])] = -1
    place = np.unravel_index(int(score.argmax()), score.shape)
    box = (int(lefts[place[0]]), int(tops[place[2]]), int(rights[place[1]]), int(bottoms[place[3]]))
    shown = sides[:, place[0], place[1], place[2], place[3]]
    visible = shown[
        [edge not in (0, end) for edge, end in zip(_as_sides(box), (width, width, height, height), strict=True)]
    ]
    if len(visible) < _VISIBLE_SIDES:
        return None
    return Border(box, float(np.clip(visible.min() / _CLEAR_SIDE, 0, 1)))


def _as_sides(box: Box) -> tuple[int, int, int, int]:
    """In the order of the scores: left, right, top, bottom."""
    return box[0], box[2], box[1], box[3]


def _ridges(edges: FloatArray) -> FloatArray:
    """How much a line stands out from those beside it: texture, edges everywhere, is no line."""
    near = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1], np.float32)[None] / 6
    return np.asarray(np.clip(edges - cv2.filter2D(edges, -1, near, borderType=cv2.BORDER_REPLICATE), -0.2, 1))


def _candidates(
    ridges: FloatArray, beside: tuple[int, int], first: int, last: int, frame_edge: int
) -> NDArray[np.int64]:
    """The places of the likeliest lines from ``first`` to ``last``, by how they stand out beside the face."""
    length = ridges.shape[1]
    first, last = max(1, first), min(length - 1, last)
    profile = ridges[max(0, beside[0]) : beside[1]].mean(axis=0)
    peaks = [
        place for place in range(first, last + 1) if profile[place] == profile[max(0, place - 1) : place + 2].max()
    ]
    peaks = sorted(sorted(peaks, key=lambda place: -profile[place])[: _CANDIDATES - 1])
    return np.array(sorted({*peaks, frame_edge}), np.int64)


def _side(
    ridges: FloatArray, places: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64], beyond: int
) -> FloatArray:
    """How well each line at ``places`` is a side from each of ``starts`` to each of ``ends``: f32 (p, s, e)."""
    height, width = ridges.shape
    inside = np.minimum(places, width - 1)
    sums = np.zeros((height + 1, len(places)), np.float32)
    np.cumsum(ridges[:, inside], axis=0, out=sums[1:])

    def mean(low: NDArray[np.int64], high: NDArray[np.int64]) -> FloatArray:
        low, high = np.clip(low, 0, height), np.clip(high, 0, height)
        return np.asarray((sums[high] - sums[low]) / np.maximum(1, high - low)[..., None], np.float32)

    along = mean(starts[:, None], ends[None, :])
    before = np.maximum(0, mean(starts - beyond, starts - 2))
    after = np.maximum(0, mean(ends + 2, ends + beyond))
    score = along - _CUT_SHORT * (before[:, None] + after[None, :])
    at_edge = (places == 0) | (places == width)
    score[..., at_edge] = _FRAME_EDGE
    return np.asarray(np.moveaxis(score, -1, 0))
