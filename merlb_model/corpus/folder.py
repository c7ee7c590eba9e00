"""A corpus in the published layout: clips, tables and webcam boxes in one folder."""

from pathlib import Path
from typing import Final

from merlb_model.corpus.annotations import LABEL_COLUMNS, is_unlabelled, read_rows, write_rows
from merlb_model.errors import MerlbError
from merlb_model.files import copy_file, write_json
from merlb_model.media.webcam import read_boxes
from merlb_model.progress import track

TABLES: Final = {"trainingdata.csv": "training", "testingdata.csv": "testing", "annotations.csv": ""}
CLIP_SUFFIXES: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".ts", ".flv", ".avi"})


def gather(source: Path, out: Path) -> None:
    """Copy the corpus in ``source`` into ``out`` as ``clips/``, ``annotations.csv`` and ``webcam_boxes.json``.

    Clips lie in ``source`` or below it; the copies are flat. Nothing in ``source`` is changed, and links that
    lead out of it are not followed. Clips that ``annotations.csv`` lists without a label in each task are left aside.

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
    waiting = {row["File"] for row in rows if not row["Table"] and is_unlabelled(row)}
    rows = [row for row in rows if row["File"] not in waiting]
    clips = [clip for clip in _clips(source) if clip.name not in waiting]
    if waiting:
        print(f"  {len(waiting)} clip(s) not yet labelled are left aside: go on with `merlb label`")
    if not rows:
        raise MerlbError(f"{source}: no clip is labelled in all three tasks yet: go on with `merlb label`")
    (out / "clips").mkdir(parents=True)
    for clip in track(clips, "copy clips"):
        copy_file(clip, out / "clips" / clip.name)
    write_rows(out / "annotations.csv", rows)
    write_json(
        out / "webcam_boxes.json", {name: list(box) for name, box in read_boxes(source / "webcam_boxes.json").items()}
    )


def _clips(source: Path) -> list[Path]:
    root = source.resolve()
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in CLIP_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(source).parts)  # half written
        and path.is_file()
        and path.resolve().is_relative_to(root)
    )
    if not found:
        raise MerlbError(f"{source}: no clip; expected files ending in {', '.join(sorted(CLIP_SUFFIXES))}")
    by_name: dict[str, Path] = {}
    for clip in found:
        if other := by_name.get(clip.name):
            raise MerlbError(f"{clip} and {other} have one name: rename one, since rows name clips by file name")
        by_name[clip.name] = clip
    return found
