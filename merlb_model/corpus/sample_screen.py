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

_HERO_RADIUS: Final = 38
_FOE_RADIUS: Final = 44
_TROOPER: Final = 36
_TOWER_WIDTH: Final = 72
_TOWER_HEIGHTS: Final = (30, 150)
_COURSE: Final = 15
"""Height of a tower's course of stones, pixels: some 5 of the 128 lines that the model sees."""
_CELL: Final = 46
_COLUMNS: Final = 3
_ROWS: Final = 2
_RING_RADII: Final = (34, 78)
_APPROACH: Final = 130
"""How far from the tower the troop may stand, pixels."""


@dataclass(frozen=True)
class Layout:
    """Where things stand in a clip, in pixels of the canvas.

    The half with the webcam also holds the troop, the tower and the inventory; the other one is the arena.
    """

    arena: Box
    tower_x: int
    ground_y: int
    troop_side: int
    inventory: tuple[int, int]


@dataclass
class Tracks:
    """Where everything is in each of n frames: f64 (n, 2) positions, f64 (n,) sizes, i64 (n,) counts."""

    hero: FloatArray
    hero_scale: FloatArray
    foe: FloatArray
    ring: FloatArray
    ring_radius: FloatArray
    spark: FloatArray
    spark_size: FloatArray
    troop: FloatArray
    tower: FloatArray
    cursor: NDArray[np.int64]
    items: NDArray[np.int64]


@dataclass(frozen=True)
class Palette:
    """Ground colour, and for each thing its light and dark tone at equal distance from the ground."""

    ground: FloatArray
    tones: tuple[tuple[Colour, Colour], ...]


class Screen:
    """A clip's screen, without the webcam: drawn frame by frame."""

    def __init__(
        self, event: str, style: "ScreenStyle", webcam: Box, times: FloatArray, rng: np.random.Generator
    ) -> None:
        """Lay the clip out.

        Args:
            event: one of ``labels.TASKS["event"]``.
            style: the streamer's.
            webcam: of the streamer, in pixels of the canvas.
            times: of the frames, seconds, f64 (n,).
            rng: of the clip.
        """
        layout = _lay_out(webcam, rng)
        self._layout = layout
        self._palette = _mix_palette(style, rng)
        self._tracks = _idle(layout, times, rng)
        _ACTS[event](_Stage(self._tracks, layout, times, rng))
        self._background = _paint_background(self._palette, rng)
        self._clouds = rng.uniform([0, 0, 30, -12, -8], [WIDTH, HEIGHT, 60, 12, 8], (3, 5))
        self._cloud_tones = [as_colour(self._palette.ground + shift) for shift in rng.uniform(-14, 14, 3)]
        self._times = times

    def draw(self, index: int) -> Frame:
        """Frame ``index``: u8 (360, 640, 3), RGB, a new array."""
        canvas = self._background.copy()
        for (x, y, radius, dx, dy), tone in zip(self._clouds, self._cloud_tones, strict=True):
            moment = self._times[index]
            cv2.circle(canvas, (int(x + dx * moment), int(y + dy * moment)), int(radius), tone, -1)
        tracks, tones = self._tracks, self._palette.tones
        self._draw_inventory(canvas, int(tracks.cursor[index]), int(tracks.items[index]), tones[0])
        self._draw_tower(canvas, int(tracks.tower[index]), tones[1])
        self._draw_troop(canvas, tracks.troop[index], tones[2])
        _draw_ring(canvas, tracks.ring[index], int(tracks.ring_radius[index]), tones[3])
        _draw_foe(canvas, tracks.foe[index], tones[4])
        _draw_ball(canvas, tracks.hero[index], int(_HERO_RADIUS * tracks.hero_scale[index]), tones[5])
        _draw_spark(canvas, tracks.spark[index], int(tracks.spark_size[index]), tones[6])
        return canvas

    def _draw_inventory(self, canvas: Frame, cursor: int, items: int, tones: tuple[Colour, Colour]) -> None:
        left, top = self._layout.inventory
        for cell in range(_ROWS * _COLUMNS):
            x, y = left + _CELL * (cell % _COLUMNS), top + _CELL * (cell // _COLUMNS)
            cv2.rectangle(canvas, (x + 3, y + 3), (x + _CELL - 3, y + _CELL - 3), tones[cell % 2], 2)
            if cell < items:
                _draw_ball(canvas, np.array([x + _CELL / 2, y + _CELL / 2]), 14, tones)
            if cell == cursor:
                cv2.rectangle(canvas, (x, y), (x + _CELL, y + _CELL), tones[0], 5)
                cv2.rectangle(canvas, (x + 5, y + 5), (x + _CELL - 5, y + _CELL - 5), tones[1], 6)

    def _draw_tower(self, canvas: Frame, height: int, tones: tuple[Colour, Colour]) -> None:
        left, bottom = self._layout.tower_x - _TOWER_WIDTH // 2, self._layout.ground_y
        for course, low in enumerate(range(0, height, _COURSE)):
            top = bottom - min(low + _COURSE, height)
            cv2.rectangle(canvas, (left, top), (left + _TOWER_WIDTH, bottom - low), tones[course % 2], -1)

    def _draw_troop(self, canvas: Frame, place: FloatArray, tones: tuple[Colour, Colour]) -> None:
        half = _TROOPER // 2
        for dx, dy in ((-half - 1, 0), (half + 1, 0), (0, -_TROOPER - 2)):
            x, y = int(place[0] + dx), int(place[1] + dy)
            cv2.rectangle(canvas, (x - half, y - _TROOPER), (x + half, y - half), tones[0], -1)
            cv2.rectangle(canvas, (x - half, y - half), (x + half, y), tones[1], -1)


@dataclass(frozen=True)
class ScreenStyle:
    """What a streamer's game looks like: hue of the ground (degrees), its lightness and how far things stand out."""

    hue: float
    lightness: float
    contrast: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "ScreenStyle":
        return cls(float(rng.uniform(0, 360)), float(rng.uniform(105, 150)), float(rng.uniform(62, 78)))


# --- What is seen -----------------------------------------------------------------------------------------------------


def _lay_out(webcam: Box, rng: np.random.Generator) -> Layout:
    """Random places for everything, clear of the webcam."""
    webcam_above = webcam[1] + webcam[3] < HEIGHT
    webcam_left = webcam[0] + webcam[2] < WIDTH
    top = 0 if webcam_above else HEIGHT // 2
    arena = (10, HEIGHT // 2 + 4, WIDTH - 10, HEIGHT - 4) if webcam_above else (10, 4, WIDTH - 10, HEIGHT // 2 - 4)
    left, right = (webcam[2] + 8, WIDTH - 8) if webcam_left else (8, webcam[0] - 8)
    panel, field = _COLUMNS * _CELL, _TOWER_WIDTH + _APPROACH + 2 * _TROOPER + 10
    spare = max(0, right - left - panel - field)
    gap, margin = (int(part) for part in np.diff(np.sort(rng.uniform(0, spare, 2)), prepend=0))
    panel_first = bool(rng.integers(2))
    panel_x = left + margin + (0 if panel_first else field + gap)
    field_x = left + margin + (panel + gap if panel_first else 0)
    troop_side = int(rng.choice([-1, 1]))
    tower_x = field_x + _TOWER_WIDTH // 2 if troop_side > 0 else field_x + field - _TOWER_WIDTH // 2
    return Layout(
        arena=arena,
        tower_x=int(tower_x),
        ground_y=int(top + rng.integers(162, 174)),
        troop_side=troop_side,
        inventory=(int(panel_x), int(top + rng.integers(8, 172 - _ROWS * _CELL))),
    )


def _mix_palette(style: ScreenStyle, rng: np.random.Generator) -> Palette:
    hue = (style.hue + rng.normal(0, 25)) % 360
    lightness = np.clip(style.lightness + rng.normal(0, 8), 95, 160)
    ground = lightness + 26 * np.cos(np.radians(hue + np.array([0.0, 120.0, 240.0])))
    tones = []
    for _ in range(7):
        step = style.contrast + 14 * np.cos(np.radians(rng.uniform(0, 360) + np.array([0.0, 120.0, 240.0])))
        tones.append((as_colour(ground + step), as_colour(ground - step)))
    return Palette(ground=ground, tones=tuple(tones))


def _paint_background(palette: Palette, rng: np.random.Generator) -> Frame:
    """A calm ground with a slope of light and some faint landmarks: u8 (360, 640, 3)."""
    corners = palette.ground + rng.uniform(-10, 10, (2, 2, 1))
    ground = cv2.resize(corners, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    canvas: Frame = np.clip(ground, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(3, 7)):
        x, y = int(rng.uniform(0, WIDTH)), int(rng.uniform(0, HEIGHT))
        width, height = (int(side) for side in rng.uniform(20, 110, 2))
        tone = as_colour(palette.ground + rng.uniform(-18, 18))
        if rng.integers(2):
            cv2.ellipse(canvas, (x, y), (width, height), float(rng.uniform(0, 180)), 0, 360, tone, -1)
        else:
            cv2.rectangle(canvas, (x, y), (x + width, y + height), tone, -1)
    return canvas


def _draw_ball(canvas: Frame, place: FloatArray, radius: int, tones: tuple[Colour, Colour]) -> None:
    centre = int(place[0]), int(place[1])
    cv2.circle(canvas, centre, radius, tones[0], -1, cv2.LINE_AA)
    cv2.ellipse(canvas, centre, (radius, radius), 0, 0, 180, tones[1], -1, cv2.LINE_AA)


def _draw_foe(canvas: Frame, place: FloatArray, tones: tuple[Colour, Colour]) -> None:
    x, y = int(place[0]), int(place[1])
    top, bottom = (x, y - _FOE_RADIUS), (x, y + _FOE_RADIUS)
    for side, tone in zip((-_FOE_RADIUS, _FOE_RADIUS), tones, strict=True):
        cv2.fillConvexPoly(canvas, np.array([top, (x + side, y), bottom], np.int32), tone, cv2.LINE_AA)


def _draw_ring(canvas: Frame, place: FloatArray, radius: int, tones: tuple[Colour, Colour]) -> None:
    centre = int(place[0]), int(place[1])
    cv2.circle(canvas, centre, radius + 4, tones[0], 8, cv2.LINE_AA)
    cv2.circle(canvas, centre, max(1, radius - 4), tones[1], 8, cv2.LINE_AA)


def _draw_spark(canvas: Frame, place: FloatArray, size: int, tones: tuple[Colour, Colour]) -> None:
    if size < 4:
        return
    x, y = int(place[0]), int(place[1])
    slant = int(size * 0.7)
    cv2.line(canvas, (x - size, y), (x + size, y), tones[0], 7)
    cv2.line(canvas, (x, y - size), (x, y + size), tones[0], 7)
    cv2.line(canvas, (x - slant, y - slant), (x + slant, y + slant), tones[1], 7)
    cv2.line(canvas, (x - slant, y + slant), (x + slant, y - slant), tones[1], 7)


# --- What happens -----------------------------------------------------------------------------------------------------


def _idle(layout: Layout, times: FloatArray, rng: np.random.Generator) -> Tracks:
    """Everything in its place, swaying a little."""
    n = len(times)
    hero, foe = _inside(layout.arena, 50, rng), _inside(layout.arena, 50, rng)
    around_hero = rng.random() < 0.5
    ring = hero if around_hero else _inside(layout.arena, 60, rng)
    sway = [_sway(times, 3, rng) for _ in range(5)]
    troop_x = layout.tower_x + layout.troop_side * (_TOWER_WIDTH / 2 + _TROOPER + rng.uniform(0, _APPROACH))
    return Tracks(
        hero=hero + sway[0] + _drift(times, 20, rng),
        hero_scale=np.full(n, rng.uniform(0.7, 1.0) if rng.random() < 0.8 else rng.uniform(0.2, 0.7)),
        foe=foe + sway[1] + _drift(times, 20, rng),
        ring=ring + sway[2],
        ring_radius=rng.uniform(*_RING_RADII) + sway[2][:, 0],
        spark=_inside(layout.arena, 40, rng) + sway[3],
        spark_size=rng.uniform(16, 34) + 2 * sway[3][:, 1],
        troop=np.array([troop_x, layout.ground_y]) + sway[4] * [1, 0.5],
        tower=np.full(n, rng.uniform(*_TOWER_HEIGHTS)),
        cursor=np.full(n, rng.integers(_ROWS * _COLUMNS)),
        items=np.full(n, rng.integers(_ROWS * _COLUMNS + 1)),
    )


def _inside(arena: Box, margin: int, rng: np.random.Generator) -> FloatArray:
    return rng.uniform([arena[0] + margin, arena[1] + margin], [arena[2] - margin, arena[3] - margin])


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
    layout: Layout
    times: FloatArray
    rng: np.random.Generator


def _progress(stage: _Stage) -> FloatArray:
    """From 0 to 1 between a random early and a random late moment: f64 (n,)."""
    start, end = stage.rng.uniform(0.2, 0.9), stage.rng.uniform(4.0, 4.8)
    return np.clip((stage.times - start) / (end - start), 0, 1)


def _route(stage: _Stage) -> None:
    """The hero goes straight and far."""
    rng = stage.rng
    left, top, right, bottom = stage.layout.arena
    ends = np.array(
        [
            [rng.uniform(left + 45, left + 110), rng.uniform(top + 45, bottom - 45)],
            [rng.uniform(right - 110, right - 45), rng.uniform(top + 45, bottom - 45)],
        ]
    )
    start, end = ends[rng.permutation(2)]
    stage.tracks.hero = start + np.outer(_progress(stage), end - start)


def _explore(stage: _Stage) -> None:
    """The hero wanders: legs to and fro, with pauses."""
    rng = stage.rng
    left, top, right, bottom = stage.layout.arena
    x = rng.uniform(left + 160, right - 160)
    heading = rng.choice([-1, 1])
    moments, places = [0.0], [np.array([x, rng.uniform(top + 45, bottom - 45)])]
    while moments[-1] < CLIP_SECONDS:
        reach = rng.uniform(110, 220)
        x = float(np.clip(x + heading * reach, left + 45, right - 45))
        heading = -heading if rng.random() < 0.85 or not left + 150 < x < right - 150 else heading
        place = np.array([x, rng.uniform(top + 45, bottom - 45)])
        arrival = moments[-1] + float(np.linalg.norm(place - places[-1])) / rng.uniform(170, 240)
        moments += [arrival, arrival + rng.uniform(0.15, 0.4)]
        places += [place, place]
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
    tracks.ring = tracks.hero
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
    away = _TOWER_WIDTH / 2 + _TROOPER + distance + strike
    stage.tracks.troop[:, 0] = stage.layout.tower_x + stage.layout.troop_side * away


def _fight(stage: _Stage) -> None:
    """Hero and foe dash at each other again and again; sparks fly where they meet."""
    rng = stage.rng
    left, top, right, bottom = stage.layout.arena
    middle = rng.uniform([left + 170, top + 60], [right - 170, bottom - 60]) + _drift(stage.times, 60, rng)
    turn = rng.uniform(-0.35, 0.35) + np.pi * rng.integers(2)
    axis = np.array([np.cos(turn), np.sin(turn)])
    swing = 0.5 + 0.5 * np.cos(2 * np.pi * rng.uniform(0.75, 1.15) * stage.times + rng.uniform(0, 2 * np.pi))
    apart = np.outer(32 + rng.uniform(75, 100) * swing, axis)
    stage.tracks.hero, stage.tracks.foe = middle + apart, middle - apart
    stage.tracks.hero_scale = np.full(len(stage.times), rng.uniform(0.8, 1.0))
    stage.tracks.spark = middle
    stage.tracks.spark_size = 36 * np.clip(1 - 2 * swing, 0, 1)


def _procure(stage: _Stage) -> None:
    """The cursor hops over the cells, items drop in."""
    rng = stage.rng
    cells = _ROWS * _COLUMNS
    hops = np.cumsum(rng.uniform(0.4, 0.65, 16)) - rng.uniform(0, 0.5)
    steps = np.searchsorted(hops, stage.times, side="right")
    stays = np.cumsum(rng.integers(1, cells, 17)) % cells
    stage.tracks.cursor = stays[steps]
    stage.tracks.items = np.minimum(cells, rng.integers(0, 2) + steps // 2)


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
