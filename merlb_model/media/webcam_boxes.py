"""``webcam_boxes.json``: each streamer's webcam, as published or as found here.

A streamer's entry is the published ``[x1, y1, x2, y2]``, pixels of the frame, for a box that was given; for one that
was looked for, ``{"origin": "found" | "absent", "places": [{"from", "box", "confidence"}, …]}``: a place holds from
the clip ``from`` on (the first: from the start), in the clips' natural order.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.media.windows import Box

Origin = Literal["given", "found", "absent"]
_LARGEST = 100_000
"""No frame has as many pixels a side."""
_FORM = "expected [x1, y1, x2, y2], whole pixels with x1 < x2 and y1 < y2"


@dataclass(frozen=True)
class Place:
    """Where the webcam is from a clip on.

    Attributes:
        since: the clip's file name; empty: from the start.
        box: in pixels of the frame.
        confidence: 0 to 1; 1 for a box that was given.
    """

    since: str
    box: Box
    confidence: float


@dataclass(frozen=True)
class Webcam:
    """A streamer's webcam: its places in the order of clips; none: there is no webcam."""

    origin: Origin
    places: tuple[Place, ...]

    def place_in(self, file: str) -> Place | None:
        """Where it is in the clip ``file``."""
        order = clip_order(file)
        past = [place for place in self.places if not place.since or clip_order(place.since) <= order]
        return past[-1] if past else None

    def box_in(self, file: str) -> Box | None:
        """Its box in the clip ``file``; None: it has no webcam."""
        place = self.place_in(file)
        return place.box if place else None


def given(box: Box) -> Webcam:
    """The webcam whose box is known for all clips."""
    return Webcam("given", (Place("", box, 1.0),))


def clip_order(file: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key by which clip 9 comes before clip 10."""
    runs = re.findall(r"([0-9]+)|([^0-9]+)", file)
    numbered = ((digits.lstrip("0"), text) for digits, text in runs)
    return tuple((1, 0, text) if text else (0, len(digits), digits) for digits, text in numbered)


def read_webcams(path: Path) -> dict[str, Webcam]:
    """Read ``webcam_boxes.json``: each streamer's webcam. A missing file is none.

    Raises:
        MerlbError: an entry is neither a box nor a found webcam's entry; it names the streamer.
    """
    if not path.exists():
        return {}
    content = read_json(path, "merlb ingest")
    if not isinstance(content, dict):
        raise MerlbError(f"{path}: expected {{streamer: [x1, y1, x2, y2]}}, found {type(content).__name__}")
    return {streamer: _as_webcam(entry, f"{path}: {streamer}") for streamer, entry in content.items()}


def as_entries(webcams: Mapping[str, Webcam]) -> dict[str, Any]:
    """What `read_webcams` reads, for JSON."""
    return {streamer: _as_entry(webcam) for streamer, webcam in webcams.items()}


def _as_entry(webcam: Webcam) -> Any:
    if webcam.origin == "given":
        return list(webcam.places[0].box)
    places = [{"from": place.since, "box": list(place.box), "confidence": place.confidence} for place in webcam.places]
    return {"origin": webcam.origin, "places": places}


def _as_webcam(entry: Any, where: str) -> Webcam:
    if not isinstance(entry, dict):
        return given(_as_box(entry, where))
    places, origin = entry.get("places"), entry.get("origin")
    if origin not in ("given", "found", "absent") or not isinstance(places, list):
        raise MerlbError(f"{where}: {_FORM}, or an entry that `merlb ingest` wrote; found {entry!r}")
    if bool(places) == (origin == "absent"):
        raise MerlbError(f"{where}: expected places where origin is found, and none where absent; found {entry!r}")
    return Webcam(origin, tuple(_as_place(place, where) for place in places))


def _as_place(place: Any, where: str) -> Place:
    if not isinstance(place, dict) or not isinstance(place.get("from"), str):
        raise MerlbError(f'{where}: expected {{"from": clip, "box": …, "confidence": …}}, found {place!r}')
    confidence: Any = place.get("confidence")
    if not _is_number(confidence) or not 0 <= confidence <= 1:
        raise MerlbError(f"{where}: expected a confidence from 0 to 1, found {confidence!r}")
    return Place(place["from"], _as_box(place.get("box"), where), float(confidence))


def _as_box(box: Any, where: str) -> Box:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(v) and abs(v) <= _LARGEST for v in box):
        raise MerlbError(f"{where}: {_FORM}, found {box!r}")
    left, top, right, bottom = (round(value) for value in box)
    if not (left < right and top < bottom):
        raise MerlbError(f"{where}: {_FORM}, found {box!r}")
    return left, top, right, bottom


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)
