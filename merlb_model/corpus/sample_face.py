"""The sample's streamers as their webcams show them: a plain drawn face with an expression and a level of agitation."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from merlb_model.corpus.sample_canvas import HEIGHT, WIDTH, Box, Colour, FloatArray, Frame, as_colour

_SKINS: Final = ((198, 170, 150), (184, 152, 126), (170, 134, 106), (152, 114, 88), (132, 98, 76))
_HAIRS: Final = (
    (40, 30, 24),
    (84, 54, 34),
    (150, 104, 54),
    (200, 170, 110),
    (110, 48, 34),
    (96, 96, 104),
    (70, 60, 130),
)
_EYES: Final = ((60, 40, 26), (50, 80, 60), (46, 70, 110))
_SWAYS: Final = ((0.004, 0.15), (0.040, 0.55), (0.095, 1.2))
"""Amplitude (share of the webcam's height) and rate (Hz) of the head's motion at low, neutral and high agitation."""
_STROKE: Final = 52.0
"""How much darker than the skin the mouth is, and how much lighter its edges, of 255."""
_LIDS: Final = (0.45, 0.62, 0.80)
"""How far the eyes are open at each level, against their width."""
_BLINKS: Final = (0.1, 0.35, 0.9)
"""Blinks a second at each level."""
_TALKS: Final = (1.0, 2.2, 4.0)
"""Mouth openings a second at each level."""
_BLINK_SECONDS: Final = 0.16


@dataclass(frozen=True)
class FaceStyle:
    """A streamer's webcam and face. Lengths are shares of the webcam's height.

    Attributes:
        box: place of the webcam: x1, y1, x2, y2 in pixels of the 640 x 360 canvas.
    """

    box: Box
    skin: FloatArray
    hair: Colour
    eyes: Colour
    room: FloatArray
    width: float
    height: float
    eye_gap: float
    eye_size: float
    brow_width: float
    mouth_width: float
    fringe: float
    long_hair: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "FaceStyle":
        skin = np.array(_SKINS[rng.integers(len(_SKINS))]) + rng.uniform(-10, 10) + rng.uniform(-4, 4, 3)
        return cls(
            box=_place_webcam(rng),
            skin=skin,
            hair=_HAIRS[rng.integers(len(_HAIRS))],
            eyes=_EYES[rng.integers(len(_EYES))],
            room=rng.uniform(60, 190, 3),
            width=float(rng.uniform(0.31, 0.345)),
            height=float(rng.uniform(0.405, 0.435)),
            eye_gap=float(rng.uniform(0.135, 0.15)),
            eye_size=float(rng.uniform(0.058, 0.066)),
            brow_width=float(rng.uniform(0.032, 0.040)),
            mouth_width=float(rng.uniform(0.155, 0.175)),
            fringe=float(rng.uniform(0.20, 0.27)),
            long_hair=bool(rng.integers(2)),
        )


def _place_webcam(rng: np.random.Generator) -> Box:
    """A box in one of the four corners, some pixels off the edges; it leaves free what the screen needs."""
    width, height = int(rng.integers(122, 161)), int(rng.integers(116, 131))
    margin_x, margin_y = (int(margin) for margin in rng.integers(0, 7, 2))
    x = margin_x if rng.integers(2) else WIDTH - margin_x - width
    y = margin_y if rng.integers(2) else HEIGHT - margin_y - height
    return x, y, x + width, y + height


class Face:
    """A clip's webcam picture, drawn frame by frame."""

    def __init__(
        self, expression: int, agitation: int, style: FaceStyle, times: FloatArray, rng: np.random.Generator
    ) -> None:
        """Fix what the clip shows.

        Args:
            expression: 0 negative, 1 neutral, 2 positive.
            agitation: 0 low, 1 neutral, 2 high.
            style: the streamer's.
            times: of the frames, seconds, f64 (n,).
            rng: of the clip.
        """
        self._style = style
        self._height = style.box[3] - style.box[1]
        self._width = style.box[2] - style.box[0]
        strength = rng.uniform(0.9, 1.1)
        self._mood = (expression - 1) * strength
        self._skin = style.skin * rng.uniform(0.96, 1.04)
        self._open_eyes = _LIDS[agitation]
        self._room = self._paint_room(rng)
        self._head, self._mask = self._paint_head()
        self._moves = _head_motion(agitation, times, rng)
        self._lids = _blinks(agitation, times, rng)
        self._mouth = _mouth_motion(agitation, times, rng)

    def draw(self, index: int) -> Frame:
        """Frame ``index``: u8 (height, width, 3) of the box, RGB, a new array."""
        head = self._head.copy()
        self._draw_eyes(head, float(self._lids[index]))
        self._draw_brows(head)
        self._draw_mouth(head, float(self._mouth[index]))
        dx, dy, degrees, scale = self._moves[index]
        turn = cv2.getRotationMatrix2D((self._width / 2, self._height * 0.6), float(degrees), float(scale))
        turn[:, 2] += np.array([dx, dy]) * self._height
        size = (self._width, self._height)
        picture: Frame = self._room.copy()
        # The shoulders go on below the picture: what comes in from there is a copy of the last line.
        moved, seen = (
            cv2.warpAffine(layer, turn, size, borderMode=cv2.BORDER_REPLICATE) for layer in (head, self._mask)
        )
        cv2.copyTo(moved, cv2.threshold(seen, 127, 255, cv2.THRESH_BINARY)[1], picture)
        return picture

    # Lengths below are shares of the webcam's height, measured from the middle of the face.

    def _point(self, x: float, y: float) -> tuple[int, int]:
        return round(self._width / 2 + x * self._height), round(self._height * (0.53 + y))

    def _length(self, share: float) -> int:
        return max(1, round(share * self._height))

    def _paint_room(self, rng: np.random.Generator) -> Frame:
        corners = np.clip(self._style.room + rng.uniform(-22, 22, (2, 2, 1)), 0, 255)
        room: Frame = cv2.resize(corners, (self._width, self._height)).astype(np.uint8)
        x = int(rng.integers(0, self._width))
        tone = np.clip(self._style.room + rng.uniform(-30, 30), 0, 255).tolist()
        cv2.rectangle(room, (x, 0), (x + self._width // 4, self._height // 2), tone, -1)
        return room

    def _paint_head(self) -> tuple[Frame, Frame]:
        """Hair, shoulders and shaded skin, without what moves in the face; and the mask of it all."""
        style = self._style
        head: Frame = np.zeros((self._height, self._width, 3), np.uint8)
        mask: Frame = np.zeros((self._height, self._width), np.uint8)
        shirt = as_colour(255 - style.room)
        for canvas, shirt_tone, hair_tone, skin_tone in (
            (head, shirt, style.hair, as_colour(self._skin)),
            (mask, 255, 255, 255),
        ):
            cv2.ellipse(canvas, self._point(0, 0.62), self._lengths(0.44, 0.24), 0, 0, 360, shirt_tone, -1)
            hair_height = style.height + (0.05 if style.long_hair else 0.02)
            hair = self._lengths(style.width + 0.045, hair_height)
            cv2.ellipse(canvas, self._point(0, -0.03), hair, 0, 0, 360, hair_tone, -1)
            cv2.ellipse(canvas, self._point(0, 0.30), self._lengths(0.11, 0.18), 0, 0, 360, skin_tone, -1)
            cv2.ellipse(canvas, self._point(0, 0), self._lengths(style.width, style.height), 0, 0, 360, skin_tone, -1)
        self._shade(head)
        crown = self._point(0, -style.height - 0.02)
        fringe = self._lengths(style.width * 0.92, style.height - style.fringe + 0.03)
        cv2.ellipse(head, crown, fringe, 0, 0, 360, style.hair, -1, cv2.LINE_AA)
        return head, mask

    def _lengths(self, across: float, down: float) -> tuple[int, int]:
        return self._length(across), self._length(down)

    def _shade(self, head: Frame) -> None:
        """Darken rim, eye sockets and the nose's sides; lighten nose and cheeks. Detectors go by these shades."""
        style = self._style
        shade = np.zeros(head.shape[:2], np.float32)
        oval = self._lengths(style.width * 0.98, style.height * 0.98)
        cv2.ellipse(shade, self._point(0, 0), oval, 0, 0, 360, 1.0, -1)
        rim = cv2.GaussianBlur(shade, (0, 0), self._height * 0.05)
        light = 0.72 + 0.28 * rim
        for x, y, across, down, change in (
            (-style.eye_gap, -0.055, 0.085, 0.05, -0.26),
            (style.eye_gap, -0.055, 0.085, 0.05, -0.26),
            (0, 0.02, 0.028, 0.13, 0.14),
            (0, 0.125, 0.06, 0.018, -0.22),
            (-0.14, 0.12, 0.06, 0.05, 0.08),
            (0.14, 0.12, 0.06, 0.05, 0.08),
        ):
            spot = np.zeros_like(shade)
            cv2.ellipse(spot, self._point(x, y), self._lengths(across, down), 0, 0, 360, 1.0, -1)
            light += change * cv2.GaussianBlur(spot, (0, 0), self._height * 0.018)
        inside = shade > 0
        head[inside] = np.clip(self._skin * light[inside][:, None], 0, 255).astype(np.uint8)

    def _draw_eyes(self, head: Frame, lid: float) -> None:
        style = self._style
        size, white, lash = style.eye_size, as_colour(style.skin * 0.3 + 120), as_colour(style.skin * 0.3)
        for side in (-1, 1):
            centre = self._point(side * style.eye_gap, -0.05)
            if lid > 0.6:
                lids = self._lengths(size * 1.1, size * 0.3)
                cv2.ellipse(head, centre, lids, 0, 0, 180, lash, self._length(0.022), cv2.LINE_AA)
                continue
            cv2.ellipse(
                head,
                centre,
                self._lengths(size * 1.1, size * 1.05 * self._open_eyes),
                0,
                0,
                360,
                white,
                -1,
                cv2.LINE_AA,
            )
            iris = self._lengths(size * 0.66, size * min(0.66, self._open_eyes))
            cv2.ellipse(head, centre, iris, 0, 0, 360, style.eyes, -1, cv2.LINE_AA)
            cv2.circle(head, centre, self._length(size * 0.34), (12, 10, 10), -1, cv2.LINE_AA)
            rim = self._lengths(size * 1.15, size * 1.1 * self._open_eyes)
            cv2.ellipse(head, centre, rim, 0, 180, 360, lash, self._length(0.018), cv2.LINE_AA)

    def _draw_brows(self, head: Frame) -> None:
        """Inner ends down and outer ends up when negative, the other way round when positive."""
        style, mood = self._style, self._mood
        inner = -0.155 + 0.030 * max(0.0, -mood) - 0.022 * max(0.0, mood)
        outer = -0.155 - 0.030 * max(0.0, -mood) + 0.022 * max(0.0, mood)
        for side in (-1, 1):
            line = [
                self._point(side * (style.eye_gap - 0.072), inner),
                self._point(side * style.eye_gap, (inner + outer) / 2 - 0.012),
                self._point(side * (style.eye_gap + 0.075), outer),
            ]
            brow = as_colour(self._skin * 0.45)
            points = [np.array(line, np.int32)]
            cv2.polylines(head, points, False, brow, self._length(style.brow_width), cv2.LINE_AA)

    def _draw_mouth(self, head: Frame, opening: float) -> None:
        """A curve whose ends go up when positive and down when negative, the thicker for ``opening`` (0 to 1)."""
        style, mood = self._style, self._mood
        across = np.linspace(-1, 1, 13)
        bend = 0.115 * mood * (0.5 - across**2)
        reach = style.mouth_width
        line = [self._point(x * reach, 0.225 + y) for x, y in zip(across, bend, strict=True)]
        self._draw_stroke(head, line, 0.036 + 0.022 * opening)

    def _draw_stroke(self, head: Frame, line: list[tuple[int, int]], width: float) -> None:
        """A dark line between two light ones that make up for it: averages over patches do not see where it runs."""
        points = [np.array(line, np.int32)]
        for times, change in ((2, _STROKE), (1, -_STROKE)):
            cv2.polylines(head, points, False, as_colour(self._skin + change), times * self._length(width), cv2.LINE_AA)


def _head_motion(agitation: int, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Shift in x and y (shares of the height), turn (degrees) and scale of the head: f64 (n, 4)."""
    amplitude, rate = _SWAYS[agitation]
    rates = rate * rng.uniform(0.8, 1.2, (2, 4))
    phases = rng.uniform(0, 2 * np.pi, (2, 4))
    waves = np.sin(2 * np.pi * rates[0] * times[:, None] + phases[0])
    waves = 0.75 * waves + 0.25 * np.sin(4.3 * np.pi * rates[1] * times[:, None] + phases[1])
    reach = amplitude * np.array([1.0, 0.6, 70.0, 0.4]) * rng.uniform(0.85, 1.15)
    rest = np.array([rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02), rng.uniform(-3, 3), rng.uniform(0.95, 1.02)])
    return np.asarray(rest + reach * waves)


def _blinks(agitation: int, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How far the lids are shut, 0 or 1: f64 (n,)."""
    starts = np.cumsum(rng.exponential(1 / _BLINKS[agitation], 12) + _BLINK_SECONDS)
    since = times[:, None] - starts
    return ((since >= 0) & (since < _BLINK_SECONDS)).any(axis=1).astype(float)


def _mouth_motion(agitation: int, times: FloatArray, rng: np.random.Generator) -> FloatArray:
    """How far the mouth is open, 0 to 1: f64 (n,).

    Not by the voice's syllables: they would tell its energy to the eye, and the face alone would know more than the
    rules say.
    """
    rate = _TALKS[agitation] * rng.uniform(0.85, 1.15)
    speech = np.sin(2 * np.pi * rate * times + rng.uniform(0, 2 * np.pi)) + 0.4 * np.sin(3.7 * rate * times)
    return np.clip(speech, 0, 1)
