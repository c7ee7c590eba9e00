"""What ``validate`` found as one HTML page that needs nothing beside it, with pictures."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from merlb_model.dataset.store import STEPS, ClipStore
from merlb_model.dataset.validation.near_duplicates import STEP_SECONDS, NearDuplicate
from merlb_model.dataset.validation.signals import Signals
from merlb_model.files import replacing
from merlb_model.labels import TASKS

_MOST_SHOWN: Final = 12
"""Pairs, and clips of a defect, that are shown; the JSON report lists more."""
_FRAMES_SHOWN: Final = 5
_GAP_PIXELS: Final = 4
_PAPER: Final = 255


def write_page(
    out: Path,
    report: Mapping[str, Any],
    store: ClipStore | None,
    near_duplicates: Sequence[NearDuplicate],
    defects: Mapping[str, NDArray[np.int64]],
    signals: Signals | None,
) -> None:
    """Write the page.

    Args:
        out: the HTML file. Names of clips and streamers come from outside: they are escaped.
        report: what is written as JSON.
        store: where the pictures come from; None where it could not be read.
        near_duplicates: all pairs; those in two splits are shown first.
        defects: rows of the store by defect, e.g. "frozen face".
        signals: what was measured.
    """
    pictures: dict[str, Any] = {"pairs": [], "defects": {}}
    if store is not None and signals is not None:
        pairs = report["near_duplicates"]["pairs"]
        order = sorted(range(len(pairs)), key=lambda index: len(set(pairs[index]["splits"])), reverse=True)
        pictures["pairs"] = [
            {**pairs[index], "strips": pair_strips(store, near_duplicates[index])} for index in order[:_MOST_SHOWN]
        ]
        pictures["defects"] = {
            name: [_defective(store, signals, int(row), name) for row in rows[:_MOST_SHOWN]]
            for name, rows in defects.items()
            if len(rows)
        }
    text = _template().render(
        report=report, pictures=pictures, tasks=TASKS, splits=("train", "validation", "test"), shown=_MOST_SHOWN
    )
    with replacing(out) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _template() -> jinja2.Template:
    language = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return language.from_string(resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def pair_strips(store: ClipStore, pair: NearDuplicate) -> tuple[str, str]:
    """Frames of both clips from the seconds they share, of the same time one above the other, as data URIs."""
    shift = round(pair.offset_seconds / STEP_SECONDS)
    shared = range(max(0, shift), min(STEPS, STEPS + shift))  # steps of the first
    steps = [shared[index] for index in _spread(len(shared))]
    return (
        _strip([_scene(store, pair.first, step) for step in steps]),
        _strip([_scene(store, pair.second, step - shift) for step in steps]),
    )


def _spread(count: int) -> list[int]:
    """Up to ``_FRAMES_SHOWN`` different numbers below ``count``, evenly spread."""
    return sorted({int(index) for index in np.linspace(0, count - 1, _FRAMES_SHOWN).round()}) if count else []


def _defective(store: ClipStore, signals: Signals, row: int, defect: str) -> dict[str, Any]:
    found = {"file": str(store.clips["file"].iloc[row]), "streamer": str(store.clips["streamer"].iloc[row])}
    name = defect.split()[1]
    if name == "audio":
        detail = f"{signals.loudness[row]:.0f} dB"
    elif defect.startswith("black"):
        detail = f"mean grey level {np.nanmean(signals.brightness[name][row]):.1f}"
    else:
        detail = f"median change {np.nanmedian(signals.change[name][row]):.0f} grey levels a step"
    return {**found, "detail": detail, "strip": _strip([_scene(store, row, step) for step in _spread(STEPS)])}


def _scene(store: ClipStore, row: int, step: int) -> NDArray[np.uint8]:
    """One step's screen with the face beside it, as large: u8 (128, 256, 3)."""
    screen, face = store.screen[row, step], store.face[row, step]
    larger = screen.shape[0] // face.shape[0]
    return np.concatenate([screen, face.repeat(larger, axis=0).repeat(larger, axis=1)], axis=1)


def _strip(scenes: Sequence[NDArray[np.uint8]]) -> str:
    """Pictures side by side as the data URI of a JPEG."""
    gap = np.full((scenes[0].shape[0], _GAP_PIXELS, 3), _PAPER, np.uint8)
    content = io.BytesIO()
    parts = [part for scene in scenes for part in (scene, gap)][:-1]
    Image.fromarray(np.concatenate(parts, axis=1)).save(content, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{b64encode(content.getvalue()).decode()}"
