"""A corpus in the published layout: clips, tables and webcam boxes in one folder."""

from pathlib import Path
from typing import Final

from merlb_model.corpus.annotations import LABEL_COLUMNS, read_rows, write_rows
from merlb_model.errors import MerlbError
from merlb_model.files import copy_file, write_json
from merlb_model.media.webcam_boxes import as_entries, read_webcams
from merlb_model.progress import track

TABLES: Final = {"trainingdata.csv": "training", "testingdata.csv": "testing", "annotations.csv": ""}
CLIP_SUFFIXES: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".ts", ".flv", ".avi"})


def gather(source: Path, out: Path) -> None:
    """Copy the corpus in ``source`` into ``out`` as ``clips/``, ``annotations.csv`` and ``webcam_boxes.json``.

    Clips lie in ``source`` or below it; the copies are flat. Nothing in ``source`` is changed, and links that
    lead out of it are not followed.

    Raises:
        MerlbError: no such folder, no clip, no table, a table without its columns, or two clips of one name.
    """
    if not source.is_dir():
        raise MerlbError(f"corpus.path {source}: no such folder; expected clips and trainingdata.csv there")
    tables = [source / name for name in TABLES if (source / name).is_file()]
    if not tables:
        raise MerlbError(f"{source}: no table; expected {', '.join(TABLES)} with File and {', '.join(LABEL_COLUMNS)}")
    rows = [
        {**row, "Table": TABLES[table.name] or row.get("Table", "")} for table in tables for row in read_rows(table)
    ]
    clips = _clips(source)
    (out / "clips").mkdir(parents=True)
    for clip in track(clips, "copy clips"):
        copy_file(clip, out / "clips" / clip.name)
    write_rows(out / "annotations.csv", rows)
    write_json(out / "webcam_boxes.json", as_entries(read_webcams(source / "webcam_boxes.json")))


def _clips(source: Path) -> list[Path]:
    root = source.resolve()
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in CLIP_SUFFIXES and path.is_file() and path.resolve().is_relative_to(root)
    )
    if not found:
        raise MerlbError(f"{source}: no clip; expected files ending in {', '.join(sorted(CLIP_SUFFIXES))}")
    by_name: dict[str, Path] = {}
    for clip in found:
        if other := by_name.get(clip.name):
            raise MerlbError(f"{clip} and {other} have one name: rename one, since rows name clips by file name")
        by_name[clip.name] = clip
    return found
