"""The annotation table: who streams in a clip, and its labels as words."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import pandas as pd

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS, annotation_columns

Reason = Literal[
    "missing_file", "no_label", "invalid_label", "duplicate_row", "unsafe_name", "undecodable", "truncated", "too_short"
]
"""Why a clip is quarantined: the closed list."""

LABEL_COLUMNS: Final = tuple(column for task in TASKS for column in annotation_columns(task))
COLUMNS: Final = ("File", "Streamer", "Game", "Table", *LABEL_COLUMNS)
QUARANTINE_COLUMNS: Final = ("file", "stage", "reason", "detail")


@dataclass(frozen=True)
class Rejection:
    """A clip that is left out, by which stage and why."""

    file: str
    stage: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Annotation:
    """A clip's row: labels are words in ``labels.TASKS``' spelling."""

    file: str
    streamer: str
    game: str
    table: str
    labels: Mapping[str, str]


def streamer_of(file: str) -> str:
    """The streamer's id: between the name's first two underscores; a name without two is an id of its own."""
    parts = PurePosixPath(file).stem.split("_")
    return parts[1] if len(parts) > 2 else PurePosixPath(file).stem


def is_safe_name(file: str) -> bool:
    """Whether ``file`` names a file in the clips' folder itself."""
    return bool(file) and file not in {".", ".."} and not set(file) & set("/\\\0")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read an annotation table as text; stray spaces in the header are taken off.

    Raises:
        MerlbError: it is no CSV in UTF-8, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
            rows = [{name: (value or "").strip() for name, value in row.items() if name} for row in reader]
    except FileNotFoundError:
        raise MerlbError(f"{path} is missing: expected the annotation table there") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise MerlbError(f"{path} is no CSV table in UTF-8: {error}") from None
    missing = [name for name in ("File", *LABEL_COLUMNS) if name not in (reader.fieldnames or [])]
    if missing:
        raise MerlbError(f"{path}: no column {', '.join(missing)}; expected File and the one-hot label columns")
    return rows


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows with the columns ``COLUMNS``; what a row lacks is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def is_unlabelled(row: Mapping[str, str]) -> bool:
    """Whether a task's cells are all empty: nobody has labelled it yet, or the annotators do not agree."""
    return any(not any(row[column] for column in annotation_columns(task)) for task in TASKS)


def read_annotations(path: Path) -> tuple[list[Annotation], list[Rejection]]:
    """Read an annotation table; rows without a valid label are rejected, the others kept, ordered by file.

    Raises:
        MerlbError: see `read_rows`.
    """
    kept: dict[str, Annotation] = {}
    rejected: list[Rejection] = []
    for row in read_rows(path):
        file = row["File"]
        if not is_safe_name(file):
            rejected.append(_rejection(file, "unsafe_name", "File is not the plain name of a clip"))
        elif file in kept or any(file == other.file for other in rejected):
            kept.pop(file, None)
            rejected.append(_rejection(file, "duplicate_row", "named by more than one row"))
        elif wrong := _wrong_labels(row):
            rejected.append(_rejection(file, "invalid_label", wrong))
        else:
            kept[file] = _annotation(row)
    return [kept[file] for file in sorted(kept)], rejected


def _rejection(file: str, reason: Reason, detail: str) -> Rejection:
    return Rejection(file, "ingest", reason, detail)


def _annotation(row: Mapping[str, str]) -> Annotation:
    labels = {
        task: next(label for column, label in annotation_columns(task).items() if _number(row[column]) == 1)
        for task in TASKS
    }
    streamer = row.get("Streamer") or streamer_of(row["File"])
    return Annotation(row["File"], streamer, row.get("Game", ""), row.get("Table", ""), labels)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _wrong_labels(row: Mapping[str, str]) -> str:
    """What is wrong with a row's one-hot columns, or an empty string."""
    for task in TASKS:
        values = [_number(row[column]) for column in annotation_columns(task)]
        if sorted(-1.0 if value is None else value for value in values) != [0.0] * (len(values) - 1) + [1.0]:
            shown = ", ".join(f"{column}={row[column] or 'empty'}" for column in annotation_columns(task))
            return f"{task} is not one-hot: {shown}"
    return ""


def quarantine_table(rejected: Sequence[Rejection]) -> pd.DataFrame:
    """Rejections as a table with the columns ``QUARANTINE_COLUMNS``, ordered by file."""
    rows = sorted((r.file, r.stage, r.reason, r.detail) for r in rejected)
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype="str")
