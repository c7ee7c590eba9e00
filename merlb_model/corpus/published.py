"""A corpus in the published layout, in a folder or in archives: clips, tables and webcam boxes."""

import shutil
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from merlb_model.corpus.annotations import LABEL_COLUMNS, Annotation, Ledger, iterate_rows, streamer_of, write_rows
from merlb_model.corpus.archives import ARCHIVE_SUFFIXES, is_archive, unpack
from merlb_model.corpus.folder import (
    BOXES,
    CLIP_SUFFIXES,
    PUBLISHED_TABLES,
    TABLES,
    Inventory,
    is_part_of_a_corpus,
    take_stock,
)
from merlb_model.corpus.problems import ProblemTable
from merlb_model.errors import MerlbError
from merlb_model.files import copy_file, write_json
from merlb_model.media.webcam_boxes import Webcam, as_entries, read_webcams
from merlb_model.params import IngestParams
from merlb_model.progress import track

_TABLES_OF: Final = {"published": PUBLISHED_TABLES, "folder": TABLES}


def gather(source: Path, layout: Literal["published", "folder"], params: IngestParams, out: Path) -> None:
    """Copy the corpus into ``out``: ``clips/``, ``annotations.csv``, ``webcam_boxes.json`` and ``problems.csv``.

    Clips may lie below ``source`` or in its archives; the copies are flat. Nothing in ``source`` is changed, and what
    cannot be used, or is unlikely, is named in ``problems.csv``.

    Args:
        source: a folder, which may hold archives, or one archive.
        layout: ``published`` has ``trainingdata.csv`` and ``testingdata.csv``; ``folder`` may have ``annotations.csv``
            instead, and its tables lie in ``source`` itself.
        params: bounds for archives.
        out: an empty folder.

    Raises:
        MerlbError: no such place, no clip, no table, a table without its columns, or an archive to be refused.
    """
    unpacked = out / "unpacked"
    with ProblemTable(out / "problems.csv") as problems:
        inventory = _inventory(source, layout, params, unpacked, problems)
        ledger = Ledger()
        write_rows(out / "annotations.csv", track(_rows(inventory, ledger, problems), "read rows", unit="row"))
        annotations = ledger.annotations()
        if not annotations:
            first = f"{ledger.rejected[0].file}: {ledger.rejected[0].detail}" if ledger.rejected else "no row at all"
            raise MerlbError(f"{source}: no clip has its labels ({first}); mend the tables, or use `merlb label`")
        _compare_with_clips(annotations, ledger, inventory, problems)
        _compare_streamers(annotations, problems)
        write_json(out / BOXES, as_entries(_webcams(annotations, inventory, problems)))
    _bring_clips(inventory.usable_clips(), unpacked, out / "clips")
    shutil.rmtree(unpacked, ignore_errors=True)


# --- Files ------------------------------------------------------------------------------------------------------------


def _inventory(source: Path, layout: str, params: IngestParams, unpacked: Path, problems: ProblemTable) -> Inventory:
    inventory = Inventory()
    if source.is_dir():
        take_stock(source, inventory, problems, nested_tables=layout == "published")
        archives = sorted(path for path in source.iterdir() if path.is_file() and is_archive(path))
    elif source.is_file() and is_archive(source):
        archives = [source]
    else:
        raise MerlbError(
            f"corpus.path {source}: no such folder or archive; expected clips and trainingdata.csv there "
            f"({', '.join(ARCHIVE_SUFFIXES)})"
        )
    for archive in archives:
        unpack(archive, unpacked / archive.name, params, wanted=is_part_of_a_corpus)
        take_stock(unpacked / archive.name, inventory, problems, nested_tables=True)
    inventory.tables = [table for table in inventory.tables if table.name in _TABLES_OF[layout]]
    _check_complete(source, layout, inventory, problems)
    return inventory


def _check_complete(source: Path, layout: str, inventory: Inventory, problems: ProblemTable) -> None:
    if not inventory.tables:
        raise MerlbError(
            f"{source}: no table; expected {', '.join(_TABLES_OF[layout])} with File and {', '.join(LABEL_COLUMNS)}"
        )
    if not inventory.usable_clips():
        raise MerlbError(
            f"{source}: no clip; expected files ending in {', '.join(sorted(CLIP_SUFFIXES))} "
            "(links that lead out of it are not followed)"
        )
    if layout == "published":
        names = {table.name for table in inventory.tables}
        for name in sorted(PUBLISHED_TABLES.keys() - names):
            problems.add(name, "no_table", f"{source} has {', '.join(sorted(names))} only")


def _bring_clips(clips: dict[str, Path], unpacked: Path, out: Path) -> None:
    """Copy the clips of the source, and move those of archives.

    Never links: DVC takes the write permission from what it caches, and people's clips are theirs to change.
    """
    out.mkdir()
    for name, clip in track(clips.items(), "copy clips", total=len(clips)):
        if clip.is_relative_to(unpacked) and not clip.is_symlink():
            clip.rename(out / name)
        else:
            copy_file(clip, out / name)


# --- Rows -------------------------------------------------------------------------------------------------------------


def _rows(inventory: Inventory, ledger: Ledger, problems: ProblemTable) -> Iterator[dict[str, str]]:
    """The tables' rows, with ``Table`` and their clip's own spelling of its name; the ledger takes them on the way."""
    spellings = {_spelling(name): name for name in inventory.clips}
    for table in inventory.tables:
        for line, row in iterate_rows(table):
            file = row["File"]
            where = f"{table.name} line {line}"
            if file not in inventory.clips and (name := spellings.get(_spelling(file))):
                problems.add(name, "other_spelling", f"{where}: {file!r}")
                row["File"] = name
            row["Table"] = TABLES[table.name] or row.get("Table", "")
            if flaw := ledger.add(row):
                problems.add(row["File"], flaw.kind, f"{where}: {flaw.detail}")
            yield row


def _spelling(name: str) -> str:
    """What is left of a clip's name without what systems and spreadsheets change.

    Stray spaces, the suffix, and the form of accented letters (macOS writes them in two parts).
    """
    bare = unicodedata.normalize("NFC", name).strip()
    return bare[: -len(suffix)] if (suffix := PurePosixPath(bare).suffix).lower() in CLIP_SUFFIXES else bare


def _compare_with_clips(
    annotations: list[Annotation], ledger: Ledger, inventory: Inventory, problems: ProblemTable
) -> None:
    clips = inventory.usable_clips()
    for annotation in annotations:
        if annotation.file not in clips:
            detail = "clips of this name differ" if annotation.file in inventory.clips else "there is no such clip"
            problems.add(annotation.file, "no_clip", detail)
    for name, clip in clips.items():
        if name not in ledger:
            problems.add(name, "no_row", "no table names it")
        if clip.stat().st_size == 0:
            problems.add(name, "empty_clip", "0 bytes")


def _compare_streamers(annotations: list[Annotation], problems: ProblemTable) -> None:
    counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for annotation in annotations:
        counts[annotation.streamer][annotation.table] += 1
        if annotation.streamer == PurePosixPath(annotation.file).stem:
            problems.add(annotation.file, "no_streamer_in_name", "expected <n>_<streamer>_<…>, or a column Streamer")
    for streamer, tables in sorted(counts.items()):
        if tables.keys() >= {"training", "testing"}:
            detail = f"{streamer}: {tables['training']} training and {tables['testing']} testing clips"
            problems.add("", "streamer_in_both_tables", detail)


def _webcams(annotations: list[Annotation], inventory: Inventory, problems: ProblemTable) -> dict[str, Webcam]:
    """The webcam of each streamer that has one entry and only one."""
    found: dict[str, set[Webcam]] = defaultdict(set)
    for path in inventory.boxes:
        for streamer, webcam in read_webcams(path).items():
            found[streamer].add(webcam)
    if not found:
        return {}
    labelled = {annotation.streamer for annotation in annotations}
    known = labelled | {streamer_of(name) for name in inventory.clips}
    for streamer in sorted(found.keys() - known):
        problems.add(BOXES, "unknown_streamers_box", streamer)
    for streamer in sorted(labelled - found.keys()):
        problems.add(BOXES, "no_box", streamer)
    for streamer, webcams in sorted(found.items()):
        if len(webcams) > 1:
            boxes = sorted(place.box for webcam in webcams for place in webcam.places)
            problems.add(BOXES, "contradictory_boxes", f"{streamer}: {boxes}")
    return {streamer: next(iter(webcams)) for streamer, webcams in found.items() if len(webcams) == 1}
