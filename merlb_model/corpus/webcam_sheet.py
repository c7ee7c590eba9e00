"""The contact sheet: each streamer's picture with the webcam's box, so that a person sees at a glance what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from merlb_model.media.sightings import PICTURE, Peek
from merlb_model.media.webcam_boxes import Webcam
from merlb_model.media.windows import Box

_CAPTION: Final = 36
_GAP: Final = 6
_COLUMNS: Final = 6
_TILES: Final = 60
"""On a page; the next is ``webcams-2.png``."""
_DOUBTFUL: Final = 0.6
_COLOURS: Final = {
    "given": (110, 190, 255),
    "found": (90, 230, 110),
    "doubtful": (255, 190, 60),
    "absent": (255, 90, 90),
}


@dataclass(frozen=True)
class Tile:
    """One picture of the sheet.

    Attributes:
        streamer: whose.
        since: the clip from which the box holds; empty: from the start.
        frame: what the clip looks like; None where none decodes.
        box: the webcam; None: there is none.
        confidence: of the box.
        origin: given, found or absent.
    """

    streamer: str
    since: str
    frame: Peek | None
    box: Box | None
    confidence: float
    origin: str

    @property
    def verdict(self) -> str:
        """The colour it is drawn in: that of the origin, or doubtful."""
        return "doubtful" if self.origin == "found" and self.confidence < _DOUBTFUL else self.origin


def tiles_of(webcams: Mapping[str, Webcam], frames: Mapping[tuple[str, str], Peek]) -> list[Tile]:
    """A tile a streamer, and one more for each place that a webcam moved to; what needs a look comes first."""
    tiles = []
    for streamer, webcam in sorted(webcams.items()):
        if not webcam.places:
            tiles.append(Tile(streamer, "", frames.get((streamer, "")), None, 0.0, webcam.origin))
        for place in webcam.places:
            picture = frames.get((streamer, place.since))
            tiles.append(Tile(streamer, place.since, picture, place.box, place.confidence, webcam.origin))
    order = ("absent", "doubtful", "found", "given")
    return sorted(tiles, key=lambda tile: order.index(tile.verdict))


def draw_sheet(tiles: Sequence[Tile], folder: Path) -> list[Path]:
    """Write ``webcams.png``, and ``webcams-2.png`` … where the tiles need more pages; return what was written."""
    pages = [tiles[first : first + _TILES] for first in range(0, len(tiles), _TILES)]
    written = []
    for number, page in enumerate(pages, start=1):
        path = folder / ("webcams.png" if number == 1 else f"webcams-{number}.png")
        _draw_page(page).save(path, optimize=False)
        written.append(path)
    return written


def _draw_page(tiles: Sequence[Tile]) -> Image.Image:
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width, height = PICTURE[0] + _GAP, PICTURE[1] + _CAPTION + _GAP
    page = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP), (24, 24, 28))
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # it has Greek, Cyrillic and more
    font = ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 12)
    for index, tile in enumerate(tiles):
        corner = _GAP + index % columns * width, _GAP + index // columns * height
        page.paste(_picture(tile), corner)
        draw = ImageDraw.Draw(page)
        place = corner[0] + 2, corner[1] + PICTURE[1] + 2
        draw.text(place, _fitting(tile.streamer, font), (240, 240, 240), font)
        below = place[0], place[1] + 16
        draw.text(below, _fitting(_verdict(tile), font), _COLOURS[tile.verdict], font)
    return page


def _verdict(tile: Tile) -> str:
    if tile.origin == "absent":
        return "no face found: absent" if tile.frame is not None else "no clip decodes: absent"
    said = "given" if tile.origin == "given" else f"found, confidence {tile.confidence:.2f}"
    return f"{said}, from {tile.since}" if tile.since else said


def _fitting(text: str, font: ImageFont.FreeTypeFont) -> str:
    """One line no wider than a tile."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:200])
    if font.getlength(text) <= PICTURE[0]:
        return text
    while text and font.getlength(f"{text}…") > PICTURE[0]:
        text = text[:-1]
    return f"{text}…"


def _picture(tile: Tile) -> Image.Image:
    picture = Image.new("RGB", PICTURE, (60, 60, 64))
    if tile.frame is None:
        return picture
    height, width = tile.frame.picture.shape[:2]
    scale = min(PICTURE[0] / tile.frame.width, PICTURE[1] / tile.frame.height)
    corner = (PICTURE[0] - width) // 2, (PICTURE[1] - height) // 2
    picture.paste(Image.fromarray(tile.frame.picture), corner)
    if tile.box is not None:
        left, top, right, bottom = (round(edge * scale) + corner[place % 2] for place, edge in enumerate(tile.box))
        ends = (left, top, max(left, right - 1), max(top, bottom - 1))
        ImageDraw.Draw(picture).rectangle(ends, outline=_COLOURS[tile.verdict], width=2)
    return picture
