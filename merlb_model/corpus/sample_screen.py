"""The sample's game: a drawn, fictitious one. The event is told by what happens over time and by nothing else.

Every clip shows the same things: a hero, a foe, a ring, a spark, a troop, a tower, an inventory with a cursor. All
idle, but for those that act the clip's event out. Each thing is half lighter and half darker than the ground by the
same amount, so that averages over large patches do not see it; events come in pairs that differ in direction or path
alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.corpus.sample_canvas import CLIP_SECONDS, HEIGHT, WIDTH, Box, Colour, FloatArray, Frame, as_colour

_HERO_RADIUS: Final = 42
_TRAIL_SECONDS: Final = (0.60, 0.45, 0.30, 0.15)
"""How long ago hero or foe were where each shape of their trail is; who stands still covers the own one."""
_FOE_RADIUS: Final = 42
_RING_RADII: Final = (46, 78)
_TROOPER: Final = 40
_TOWER_WIDTH: Final = 96
_TOWER_HEIGHTS: Final = (16, 122)
_COURSE: Final = 15
"""Height of a tower's course of stones: some 5 of the 128 lines that the model sees."""
_CORE: Final = 2**-0.5
"""Size of the dark core of a shape against the whole: half the area."""
_CELL: Final = 60
_COLUMNS: Final = 3
_ROWS: Final = 2
_CELLS: Final = _ROWS * _COLUMNS
_APPROACH: Final = 110
"""How far from the tower the troop may stand."""
_LANE: Final = (44, WIDTH - 44)
"""How far left and right hero and foe may go."""
_IDLE_HERO: Final = (200, 440)
_FOE_KEEPS_OFF: Final = (140, 190)
"""How far an idle foe is from an idle hero, towards the middle of the lane."""
_CLOUDS: Final = 3

# The webcam takes one of the corners. The lane across the middle, for hero and foe, and the middle of the bands above,
# for the inventory, and below, for troop and tower, are free of it whichever it is.
_LANE_Y: Final = HEIGHT / 2
_INVENTORY: Final = (WIDTH // 2 - _COLUMNS * _CELL // 2, 8)
_GROUND_Y: Final = HEIGHT - 10
_TOWER_X: Final = WIDTH // 2 + 90

_AXES: Final = {
    "inventory": (1.0, 1.0, 1.0),
    "tower": (0.9, 0.7, -1.0),
    "troop": (-0.9, 0.4, 0.9),
    "ring": (0.9, 0.9, 0.9),
    "foe": (1.1, -0.6, -0.6),
    "hero": (1.1, -0.9, 1.1),
    "spark": (1.2, 1.2, 1.2),
}
"""Which way from the ground's colour, in red, green and blue, each thing's light tone lies; the dark one opposite."""


@dataclass
class Tracks:
    """Where everything is in each of n frames: f64 (n, 2) positions, f64 (n,) sizes, i64 (n,) counts."""

    hero: FloatArray
    hero_scale: FloatArray
    foe: FloatArray
    ring_radius: FloatArray
    spark: FloatArray
    spark_size: FloatArray
    troop: FloatArray
    tower: FloatArray
    cursor: NDArray[np.int64]
    items: NDArray[np.int64]


Tones = tuple[Colour, Colour]
"""A thing's light and dark tone."""


@dataclass(frozen=True)
class Palette:
    """Ground colour, and for each thing its light and dark tone at equal distance from the ground."""

    ground: FloatArray
    tones: dict[str, Tones]


class Screen:
    """A clip's screen, without the webcam: drawn frame by frame."""

    def __init__(self, event: str, style: "ScreenStyle", times: FloatArray, rng: np.random.Generator) -> None:
        """Lay the clip out.

        Args:
            event: one of ``labels.TASKS["event"]``.
            style: the streamer's.
            times: of the frames, seconds, f64 (n,).
            rng: of the clip.
        """
        self._palette = _mix_palette(style, rng)
        self._inventory = _INVENTORY[0] + int(rng.integers(-8, 9)), _INVENTORY[1] + int(rng.integers(-4, 5))
        self._tower_x, self._ground_y = _TOWER_X + int(rng.integers(-8, 9)), _GROUND_Y + int(rng.integers(-4, 5))
        self._lowest_course = int(rng.integers(2))
        self._tracks = _idle(times, rng)
        _ACTS[event](_Stage(self._tracks, times, rng))
        self._background = _paint_background(self._palette, rng)
        self._clouds = rng.uniform([0, 0, 30, -30, -12], [WIDTH, HEIGHT, 70, 30, 12], (_CLOUDS, 5))
        self._cloud_tones = [as_colour(self._palette.ground + shift) for shift in rng.uniform(-8, 8, _CLOUDS)]
        self._times = times
        self._mirrored = style.mirrored

    def draw(self, index: int) -> Frame:
        """Frame ``index``: u8 (360, 640, 3), RGB, a new array."""
        canvas = self._background.copy()
        for (x, y, radius, dx, dy), tone in zip(self._clouds, self._cloud_tones, strict=True):
            moment = self._times[index]
            cv2.circle(canvas, (int(x + dx * moment), int(y + dy * moment)), int(radius), tone, -1)
        tracks, tones = self._tracks, self._palette.tones
        self._draw_inventory(canvas, int(tracks.cursor[index]), int(tracks.items[index]), tones["inventory"])
        self._draw_tower(canvas, int(tracks.tower[index]), tones["tower"])
        self._draw_troop(canvas, tracks.troop[index], tones["troop"])
        _draw_ring(canvas, tracks.hero[index], int(tracks.ring_radius[index]), tones["ring"])
        self._draw_mover(canvas, index, _draw_diamond, tracks.foe, _FOE_RADIUS, tones["foe"])
        self._draw_mover(canvas, index, _draw_disc, tracks.hero, _HERO_RADIUS * tracks.hero_scale[index], tones["hero"])
        _draw_spark(canvas, tracks.spark[index], int(tracks.spark_size[index]), tones["spark"])
        return np.ascontiguousarray(canvas[:, ::-1]) if self._mirrored else canvas

    def _draw_mover(
        self,
        canvas: Frame,
        index: int,
        draw: Callable[[Frame, FloatArray, int, Tones], None],
        path: FloatArray,
        size: float,
        tones: Tones,
    ) -> None:
        for rank, seconds in enumerate(_TRAIL_SECONDS):
            before = int(np.searchsorted(self._times, self._times[index] - seconds))
            draw(canvas, path[before], int(size * (0.35 + 0.12 * rank)), tones)
        draw(canvas, path[index], int(size), tones)

    def _draw_inventory(self, canvas: Frame, cursor: int, items: int, tones: Tones) -> None:
        left, top = self._inventory
        for cell in range(_CELLS):
            x, y = left + _CELL * (cell % _COLUMNS), top + _CELL * (cell // _COLUMNS)
            _draw_frame(canvas, (x + 3, y + 3, x + _CELL - 3, y + _CELL - 3), 2, tones)
            if cell == cursor:
                _draw_frame(canvas, (x, y, x + _CELL, y + _CELL), 9, tones)
            if cell < items:
                _draw_disc(canvas, np.array([x + _CELL / 2, y + _CELL / 2]), 22, tones[::-1])

    def _draw_tower(self, canvas: Frame, height: int, tones: Tones) -> None:
        left, bottom = self._tower_x - _TOWER_WIDTH // 2, self._ground_y
        for course, low in enumerate(range(0, height, _COURSE)):
            top = bottom - min(low + _COURSE, height)
            cv2.rectangle(
                canvas, (left, top), (left + _TOWER_WIDTH, bottom - low), tones[(course + self._lowest_course) % 2], -1
            )

    def _draw_troop(self, canvas: Frame, place: FloatArray, tones: Tones) -> None:
        """Three squares, two below, one on top; ``place`` is how far they are from the tower and above the ground."""
        half, core = _TROOPER // 2, round(_TROOPER / 2 * _CORE)
        middle = self._tower_x - _TOWER_WIDTH / 2 - _TROOPER - place[0]
        for dx, dy in ((-half - 1, 0), (half + 1, 0), (0, -_TROOPER - 2)):
            x, y = int(middle + dx), int(self._ground_y - half - place[1] + dy)
            for reach, tone in zip((half, core), tones, strict=True):
                cv2.rectangle(canvas, (x - reach, y - reach), (x + reach, y + reach), tone, -1)


@dataclass(frozen=True)
class ScreenStyle:
    """What a streamer's game looks like.

    Attributes:
        hue: of the ground, degrees.
        lightness: of the ground, of 255.
        contrast: how far things stand out from the ground, of 255.
        mirrored: left and right are exchanged.
    """

    hue: float
    lightness: float
    contrast: float
    mirrored: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "ScreenStyle":
        hue, lightness, contrast = rng.uniform([0, 105, 62], [360, 150, 78])
        return cls(float(hue), float(lightness), float(contrast), bool(rng.integers(2)))


# --- What is seen -----------------------------------------------------------------------------------------------------


def _mix_palette(style: ScreenStyle, rng: np.random.Generator) -> Palette:
    hue = (style.hue + rng.normal(0, 15)) % 360
    lightness = np.clip(style.lightness + rng.normal(0, 8), 95, 160)
    ground = lightness + 26 * np.cos(np.radians(hue + np.array([0.0, 120.0, 240.0])))
    tones = {}
    for thing, axis in _AXES.items():
        step = style.contrast * (np.array(axis) + rng.uniform(-0.08, 0.08, 3))
        tones[thing] = as_colour(ground + step), as_colour(ground - step)
    return Palette(ground=ground, tones=tones)


def _paint_background(palette: Palette, rng: np.random.Generator) -> Frame:
    """A calm ground with a slope of light and some faint landmarks: u8 (360, 640, 3)."""
    corners = palette.ground + rng.uniform(-10, 10, (2, 2, 1))
    ground = cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    canvas: Frame = np.clip(ground, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 7)):
        x, y = int(rng.uniform(0, WIDTH)), int(rng.uniform(0, HEIGHT))
        width, height = (int(side) for side in rng.uniform(20, 110, 2))
        tone = as_colour(palette.ground + rng.uniform(-8, 8))
        if rng.integers(2):
            cv2.ellipse(canvas, (x, y), (width, height), float(rng.uniform(0, 180)), 0, 360, tone, -1)
        else:
            cv2.rectangle(canvas, (x, y), (x + width, y + height), tone, -1)
    return canvas


def _draw_disc(canvas: Frame, place: FloatArray, radius: int, tones: Tones) -> None:
    """A disc with a dark core of half its area."""
    centre = int(place[0]), int(place[1])
    cv2.circle(canvas, centre, radius, tones[0], -1, cv2.LINE_AA)
    cv2.circle(canvas, centre, round(radius * _CORE), tones[1], -1, cv2.LINE_AA)


def _draw_diamond(canvas: Frame, place: FloatArray, radius: int, tones: Tones) -> None:
    """A diamond with a dark core of half its area."""
    x, y = int(place[0]), int(place[1])
    for reach, tone in zip((radius, round(radius * _CORE)), tones, strict=True):
        corners = np.array([(x, y - reach), (x + reach, y), (x, y + reach), (x - reach, y)], np.int32)
        cv2.fillConvexPoly(canvas, corners, tone, cv2.LINE_AA)


def _draw_frame(canvas: Frame, box: Box, width: int, tones: Tones) -> None:
    """A light frame and a dark one inside it, each ``width`` wide."""
    for inset, tone in zip((0, width), tones, strict=True):
        near, far = (box[0] + inset, box[1] + inset), (box[2] - inset, box[3] - inset)
        cv2.rectangle(canvas, near, far, tone, width)


def _draw_ring(canvas: Frame, place: FloatArray, radius: int, tones: Tones) -> None:
    centre = int(place[0]), int(place[1])
    cv2.circle(canvas, centre, radius + 4, tones[0], 8, cv2.LINE_AA)
    cv2.circle(canvas, centre, max(1, radius - 4), tones[1], 8, cv2.LINE_AA)


def _draw_spark(canvas: Frame, place: FloatArray, size: int, tones: Tones) -> None:
    if size < 4:
        return
    x, y = int(place[0]), int(place[1])
    slant = int(size * 0.7)
    cv2.line(canvas, (x - size, y), (x + size, y), tones[0], 7)
    cv2.line(canvas, (x, y - size), (x, y + size), tones[0], 7)
    cv2.line(canvas, (x - slant, y - slant), (x + slant, y + slant), tones[1], 7)
    cv2.line(canvas, (x - slant, y + slant), (x + slant, y - slant), tones[1], 7)


# --- What happens -----------------------------------------------------------------------------------------------------


def _idle(times: FloatArray, rng: np.random.Generator) -> Tracks:
    """Everything in its place, swaying a little: the ring about the hero, the spark with the foe."""
    n = len(times)
    hero, foe = _in_lane(rng), _in_lane(rng)
    hero[0] = rng.uniform(*_IDLE_HERO)
    foe[0] = hero[0] + np.copysign(rng.uniform(*_FOE_KEEPS_OFF), WIDTH / 2 - hero[0])
    sway = [_sway(times, 3, rng) for _ in range(4)]
    hero_path = hero + sway[0] + _drift(times, 24, rng)
    foe_path = foe + sway[1] + _drift(times, 24, rng)
    return Tracks(
        hero=hero_path,
        hero_scale=np.full(n, rng.uniform(0.75, 0.95)),
        foe=foe_path,
        ring_radius=rng.uniform(*_middle(_RING_RADII)) + sway[2][:, 0],
        spark=foe_path,
        spark_size=rng.uniform(16, 30) + 2 * sway[2][:, 1],
        troop=np.array([rng.uniform(*_middle((0, _APPROACH))), 2]) + 0.6 * sway[3],
        tower=np.full(n, rng.uniform(*_middle(_TOWER_HEIGHTS))),
        cursor=np.full(n, rng.integers(_CELLS)),
        items=np.full(n, rng.integers(2, 5)),
    )


def _middle(reach: tuple[float, float]) -> tuple[float, float]:
    """The middle two fifths of what an act goes through: what idles there is as in the middle of an act."""
    return reach[0] + 0.3 * (reach[1] - reach[0]), reach[0] + 0.7 * (reach[1] - reach[0])


def _in_lane(rng: np.random.Generator) -> FloatArray:
    return np.array([rng.uniform(*_LANE), _LANE_Y + rng.uniform(-10, 10)])


def _sway(times: FloatArray, amplitude: float, rng: np.random.Generator) -> FloatArray:
    """A small wave in x and y: f64 (n, 2)."""
    rates, phases = rng.uniform(0.2, 0.7, 2), rng.uniform(0, 2 * np.pi, 2)
    return amplitude * np.sin(2 * np.pi * rates * times[:, None] + phases)


def _drift(times: FloatArray, distance: float, rng: np.random.Generator) -> FloatArray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.outer(times / CLIP_SECONDS - 0.5, distance * np.array([np.cos(angle), 0.3 * np.sin(angle)]))


@dataclass
class _Stage:
    """What an act works on: it overwrites the tracks of those who play in it."""

    tracks: Tracks
    times: FloatArray
    rng: np.random.Generator


def _progress(stage: _Stage) -> FloatArray:
    """From 0 to 1 between a random early and a random late moment: f64 (n,)."""
    start, end = stage.rng.uniform(0.2, 0.9), stage.rng.uniform(4.0, 4.8)
    return np.clip((stage.times - start) / (end - start), 0, 1)


def _route(stage: _Stage) -> None:
    """The hero goes straight and far."""
    rng = stage.rng
    left, right = _in_lane(rng), _in_lane(rng)
    left[0], right[0] = _LANE[0] + rng.uniform(0, 70), _LANE[1] - rng.uniform(0, 70)
    start, end = rng.permutation([left, right])
    stage.tracks.hero = start + np.outer(_progress(stage), end - start)


def _explore(stage: _Stage) -> None:
    """The hero wanders: legs to and fro, with pauses."""
    rng = stage.rng
    places = [_in_lane(rng)]
    moments = [-rng.uniform(0, 0.5)]
    heading = 1 if places[0][0] < WIDTH / 2 else -1
    while moments[-1] < CLIP_SECONDS:
        place = _in_lane(rng)
        place[0] = np.clip(places[-1][0] + heading * rng.uniform(140, 260), *_LANE)
        arrival = moments[-1] + abs(float(place[0] - places[-1][0])) / rng.uniform(150, 220)
        moments += [arrival, arrival + rng.uniform(0.2, 0.5)]
        places += [place, place]
        heading = -heading
    path = np.array(places)
    stage.tracks.hero = np.stack([np.interp(stage.times, moments, path[:, axis]) for axis in (0, 1)], axis=1)


def _respawn(stage: _Stage) -> None:
    """The hero grows out of nothing while the ring closes in."""
    _fade(stage.tracks, _progress(stage))


def _fall(stage: _Stage) -> None:
    """The reverse: the hero shrinks away while the ring opens."""
    _fade(stage.tracks, 1 - _progress(stage))


def _fade(tracks: Tracks, alive: FloatArray) -> None:
    narrow, wide = _RING_RADII
    tracks.hero_scale = np.clip(alive, 0.04, 1)
    tracks.ring_radius = wide - (wide - narrow) * alive


def _punch(stage: _Stage) -> None:
    """The troop comes up to the tower, which is worn down."""
    _siege(stage, _progress(stage))


def _defend(stage: _Stage) -> None:
    """The reverse: the tower is built up again and the troop driven off."""
    _siege(stage, 1 - _progress(stage))


def _siege(stage: _Stage, fallen: FloatArray) -> None:
    rng = stage.rng
    low, high = _TOWER_HEIGHTS
    distance = _APPROACH * np.clip(1 - 2 * fallen, 0, 1)
    strike = 8 * np.abs(np.sin(2 * np.pi * rng.uniform(0.7, 1.1) * stage.times)) * (distance == 0)
    stage.tracks.tower = high - (high - low) * fallen
    stage.tracks.troop[:, 0] = distance + strike


def _fight(stage: _Stage) -> None:
    """Hero and foe dash at each other again and again; sparks fly where they meet."""
    rng = stage.rng
    middle = np.array([rng.uniform(_LANE[0] + 150, _LANE[1] - 150), _LANE_Y]) + _drift(stage.times, 60, rng)
    axis = np.array([rng.choice([-1, 1]), rng.uniform(-0.1, 0.1)])
    swing = 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(0.9, 1.3) * stage.times + rng.uniform(0, 2 * np.pi))
    apart = np.outer(32 + rng.uniform(65, 90) * swing, axis)
    stage.tracks.hero, stage.tracks.foe = middle + apart, middle - apart
    stage.tracks.hero_scale = np.full(len(stage.times), rng.uniform(0.8, 1.0))
    stage.tracks.spark = middle
    stage.tracks.spark_size = 60 * np.clip(0.9 - 1.8 * swing, 0, 0.75)


def _procure(stage: _Stage) -> None:
    """The cursor hops over the cells, items drop in."""
    rng = stage.rng
    hops = np.cumsum(rng.uniform(0.4, 0.65, 16)) - rng.uniform(0, 0.5)
    steps = np.searchsorted(hops, stage.times, side="right")
    stays = np.cumsum(rng.integers(1, _CELLS, 17)) % _CELLS
    stage.tracks.cursor = stays[steps]
    stage.tracks.items = np.minimum(_CELLS, rng.integers(0, 2) + steps // 2)


_ACTS: Final[dict[str, Callable[[_Stage], None]]] = {
    "routing": _route,
    "procurement": _procure,
    "respawning": _respawn,
    "exploring": _explore,
    "fighting": _fight,
    "punching": _punch,
    "defending": _defend,
    "defeated": _fall,
}
