"""What lies in a corpus' folder: clips, tables and webcam boxes."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from merlb_model.corpus.annotations import is_safe_name
from merlb_model.corpus.problems import ProblemTable, printable
from merlb_model.files import sha256_of_file

CLIP_SUFFIXES: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".ts", ".flv", ".avi"})
PUBLISHED_TABLES: Final = {"trainingdata.csv": "training", "testingdata.csv": "testing"}
TABLES: Final = {**PUBLISHED_TABLES, "annotations.csv": ""}
"""Each table's name, and what the column ``Table`` calls its rows."""
BOXES: Final = "webcam_boxes.json"


@dataclass
class Inventory:
    """What a corpus has.

    Attributes:
        clips: each clip by its name; None for a name that different clips share.
        tables: annotation tables, in the order in which they were found.
        boxes: files of webcam boxes.
    """

    clips: dict[str, Path | None] = field(default_factory=dict)
    tables: list[Path] = field(default_factory=list)
    boxes: list[Path] = field(default_factory=list)

    def usable_clips(self) -> dict[str, Path]:
        """The clips whose name is theirs alone, ordered by name."""
        return {name: clip for name, clip in sorted(self.clips.items()) if clip is not None}


def is_part_of_a_corpus(name: str) -> bool:
    """Whether a file of this name is a clip, a table or webcam boxes, and not hidden (macOS' ``._1_ann_x.mp4``)."""
    if name.startswith("."):
        return False
    return Path(name).suffix.lower() in CLIP_SUFFIXES or name in TABLES or name == BOXES


def take_stock(root: Path, inventory: Inventory, problems: ProblemTable, nested_tables: bool) -> None:
    """Add to ``inventory`` what lies in ``root`` or below it; hidden files and folders are passed over.

    Args:
        root: a folder; links that lead out of it are named in ``problems`` and not followed.
        inventory: what is known already; clips of a known name are compared.
        problems: takes what cannot be used.
        nested_tables: whether tables and boxes may lie below ``root``; clips always may.
    """
    for path in _files_below(root, problems):
        if path.suffix.lower() in CLIP_SUFFIXES:
            _add_clip(path, root, inventory, problems)
        elif nested_tables or path.parent == root:
            (inventory.boxes if path.name == BOXES else inventory.tables).append(path)


def _files_below(root: Path, problems: ProblemTable) -> Iterator[Path]:
    resolved = root.resolve()
    for folder, folders, names in os.walk(root, onerror=_cannot_list):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = Path(folder)
        for name in folders:
            if (here / name).is_symlink():
                problems.add(str((here / name).relative_to(root)), "link", "a link to a folder")
        for name in sorted(filter(is_part_of_a_corpus, names)):
            path = here / name
            shown = str(path.relative_to(root))
            if path.is_symlink() and not path.resolve().is_relative_to(resolved):
                problems.add(shown, "link", f"leads to {path.readlink()}")
            elif not path.is_file():
                problems.add(shown, "no_regular_file", _kind_of(path))
            else:
                yield path


def _cannot_list(error: OSError) -> None:
    raise error


def _kind_of(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"a link to {path.readlink()}, which is no file"
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def _add_clip(path: Path, root: Path, inventory: Inventory, problems: ProblemTable) -> None:
    name, shown = path.name, str(path.relative_to(root))
    if not is_safe_name(name):
        problems.add(shown, "unsafe_name", f"a clip named {printable(name)!r}")
    elif name not in inventory.clips:
        inventory.clips[name] = path
    elif other := inventory.clips[name]:
        if path.stat().st_size == other.stat().st_size and sha256_of_file(path) == sha256_of_file(other):
            problems.add(name, "doubled_clip", f"also at {shown}")
        else:
            inventory.clips[name] = None
            problems.add(name, "contradictory_clips", f"at {other} and at {shown}")
    else:
        problems.add(name, "contradictory_clips", f"also at {shown}")
