"""The annotation table: who streams in a clip, and its labels as words."""

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Final, Literal

import pandas as pd

from merlb_model.corpus.problems import Kind
from merlb_model.errors import MerlbError
from merlb_model.labels import FORERUNNER_COLUMNS, TASKS, annotation_columns

Reason = Literal[
    "missing_file",
    "no_label",
    "invalid_label",
    "duplicate_row",
    "unsafe_name",
    "undecodable",
    "truncated",
    "too_short",
    "too_long",
    "too_large",
    "changed",
    "decoder_crash",
    "timeout",
    "out_of_memory",
]
"""Why a clip is quarantined: the closed list."""

LABEL_COLUMNS: Final = tuple(column for task in TASKS for column in annotation_columns(task))
COLUMNS: Final = ("File", "Streamer", "Game", "Table", *LABEL_COLUMNS)
QUARANTINE_COLUMNS: Final = ("file", "stage", "reason", "detail")

_REASONS: Final[dict[Kind, Reason]] = {
    "unsafe_name": "unsafe_name",
    "no_label": "no_label",
    "empty_label": "invalid_label",
    "nan_label": "invalid_label",
    "not_a_number": "invalid_label",
    "not_one_hot": "invalid_label",
    "contradictory_rows": "duplicate_row",
}
"""The problems of a row that cost the clip, and the reason in quarantine."""
_TASK_COLUMNS: Final = {task: tuple(annotation_columns(task)) for task in TASKS}
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_NAN: Final = frozenset({"nan", "na", "n/a", "<na>", "null", "none"})
_TABLE_RANK: Final = {"testing": 2, "training": 1}
_SHOWN_CHARACTERS: Final = 40


@dataclass(frozen=True)
class Rejection:
    """A clip that is left out, by which stage and why."""

    file: str
    stage: str
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Annotation:
    """A clip's row: labels are words in ``labels.TASKS``' spelling."""

    file: str
    streamer: str
    game: str
    table: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a row."""

    kind: Kind
    detail: str


class Ledger:
    """The rows of a corpus, taken one by one: the clips they label, and the clips they lose.

    Time is linear in the rows; a row that says again what an earlier one said costs nothing.
    """

    def __init__(self) -> None:
        self._clips: dict[str, Annotation | None] = {}
        self.rejected: list[Rejection] = []

    def __contains__(self, file: str) -> bool:
        """Whether a row has named ``file``, usable or not."""
        return file in self._clips

    def annotations(self) -> list[Annotation]:
        """The clips that have a valid label, ordered by file."""
        return sorted((kept for kept in self._clips.values() if kept is not None), key=lambda kept: kept.file)

    def add(self, row: Mapping[str, str]) -> Flaw | None:
        """Take a row; return what is wrong with it, or None."""
        file = row["File"]
        if not is_safe_name(file):
            return self._reject(file, Flaw("unsafe_name", "File is not the plain name of a clip"))
        found = _annotation(row)
        if file in self._clips:
            return self._add_again(file, found)
        if isinstance(found, Flaw):
            self._clips[file] = None
            return self._reject(file, found)
        self._clips[file] = found
        return None

    def _add_again(self, file: str, found: Annotation | Flaw) -> Flaw:
        first = self._clips[file]
        if first is None:
            return Flaw("contradictory_rows", "named again, after a row that could not be used")
        difference = found.detail if isinstance(found, Flaw) else _difference(first, found)
        if difference or isinstance(found, Flaw):
            self._clips[file] = None
            return self._reject(file, Flaw("contradictory_rows", f"named by rows that differ: {difference}"))
        tables = {first.table, found.table}
        self._clips[file] = replace(first, table=max(tables, key=lambda table: _TABLE_RANK.get(table, 0)))
        if tables == set(_TABLE_RANK):
            return Flaw("in_both_tables", "the rows agree")
        return Flaw("doubled_row", "named again, with the same labels")

    def _reject(self, file: str, flaw: Flaw) -> Flaw:
        self.rejected.append(Rejection(file, "ingest", _REASONS[flaw.kind], flaw.detail))
        return flaw


def streamer_of(file: str) -> str:
    """The streamer's id: between the name's first two underscores; a name without one is an id of its own."""
    parts = PurePosixPath(file).stem.split("_")
    return (parts[1].strip() if len(parts) > 2 else "") or PurePosixPath(file).stem


def is_safe_name(file: str) -> bool:
    """Whether ``file`` names a file in the clips' folder itself, in UTF-8."""
    if not file or file in {".", ".."} or set(file) & set("/\\\0"):
        return False
    try:
        file.encode()
    except UnicodeEncodeError:  # bytes of another encoding, or half a surrogate pair
        return False
    return True


def iterate_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Read an annotation table as text, row by row: the number of the row's last line, and its fields by column.

    Stray spaces are taken off the header and the fields, but for ``File``: a name may begin or end with one. The
    forerunner's columns get today's names. What a row has too little is empty; what it has too much stays in its last
    field, where it is no label.

    Raises:
        MerlbError: it is no CSV in UTF-8, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            columns, absent = _header(path, next(reader, []))
            place_of_file, last = columns.index("File"), len(columns) - 1
            for values in reader:
                if not values:
                    continue
                values += [""] * (len(columns) - len(values))
                if len(values) > len(columns):
                    values[last:] = [", ".join([values[last], *filter(str.strip, values[last + 1 :])])]
                row = dict(zip(columns, map(str.strip, values), strict=True)) | absent
                row["File"] = values[place_of_file]
                yield reader.line_num, row
    except FileNotFoundError:
        raise MerlbError(f"{path} is missing: expected the annotation table there") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise MerlbError(f"{path} is no CSV table in UTF-8: {error}") from None


def _header(path: Path, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """A table's columns by today's names, and the columns that it rightly lacks, as every row has them."""
    stripped = [name.strip() for name in names]
    columns = [FORERUNNER_COLUMNS.get(name, name) for name in stripped]
    absent = {"Arousal_Low": "0"} if {"A_Neut", "A_Pos"} <= set(stripped) and "Arousal_Low" not in columns else {}
    expected = ("File", *LABEL_COLUMNS)
    if missing := [name for name in expected if name not in columns and name not in absent]:
        raise MerlbError(f"{path}: no column {', '.join(missing)}; expected File and the one-hot label columns")
    if doubled := [name for name in COLUMNS if columns.count(name) > 1]:
        raise MerlbError(f"{path}: column {', '.join(doubled)} twice; expected each column once: take one out")
    return columns, absent


def read_rows(path: Path) -> list[dict[str, str]]:
    """All rows of an annotation table; see `iterate_rows`.

    Raises:
        MerlbError: it is no CSV in UTF-8, or lacks a column.
    """
    return [row for _, row in iterate_rows(path)]


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write rows with the columns ``COLUMNS``; what a row lacks is empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        # All fields quoted: Python's writer leaves a name with "\r" bare, which then reads as two rows.
        writer = csv.DictWriter(
            file, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n", quoting=csv.QUOTE_ALL
        )
        writer.writeheader()
        writer.writerows(rows)


def read_annotations(path: Path) -> tuple[list[Annotation], list[Rejection]]:
    """Read an annotation table: the clips that have a valid label, ordered by file, and the others, each once.

    A row repeated is read once; a clip that the training and the testing table name is for testing.

    Raises:
        MerlbError: see `iterate_rows`.
    """
    ledger = Ledger()
    for _, row in iterate_rows(path):
        ledger.add(row)
    return ledger.annotations(), ledger.rejected


def _annotation(row: Mapping[str, str]) -> Annotation | Flaw:
    values = tuple(tuple(row[column] for column in columns) for columns in _TASK_COLUMNS.values())
    labels = _labels(values)
    if isinstance(labels, Flaw):
        return labels
    file = row["File"]
    streamer = sys.intern(row.get("Streamer") or streamer_of(file))
    return Annotation(file, streamer, sys.intern(row.get("Game", "")), sys.intern(row.get("Table", "")), labels)


@lru_cache(maxsize=4096)
def _labels(values: tuple[tuple[str, ...], ...]) -> Mapping[str, str] | Flaw:
    """A row's labels from the fields of each task's columns. Rows repeat themselves, so answers are kept and shared."""
    labels = {}
    empty = [task for task, fields in zip(TASKS, values, strict=True) if not any(fields)]
    for task, fields in zip(TASKS, values, strict=True):
        if task in empty:
            continue  # nobody has labelled it yet, or the annotators do not agree
        if kind := _wrong_fields(fields):
            what = {"empty_label": "empty", "nan_label": "NaN", "not_a_number": "not 0 or 1"}.get(kind, "not one-hot")
            shown = ", ".join(
                f"{column}={field[:_SHOWN_CHARACTERS] or 'empty'}"
                for column, field in zip(_TASK_COLUMNS[task], fields, strict=True)
            )
            return Flaw(kind, f"{task} is {what}: {shown}")
        labels[task] = TASKS[task][[float(field) for field in fields].index(1.0)]
    return Flaw("no_label", f"no label yet for {', '.join(empty)}") if empty else MappingProxyType(labels)


def _wrong_fields(fields: tuple[str, ...]) -> Kind | None:
    if not all(fields):
        return "empty_label"
    if any(field.casefold() in _NAN for field in fields):
        return "nan_label"
    if not all(_NUMBER.fullmatch(field) and float(field) in (0.0, 1.0) for field in fields):
        return "not_a_number"
    return None if sum(float(field) for field in fields) == 1.0 else "not_one_hot"


def _difference(first: Annotation, other: Annotation) -> str:
    """Where two rows of one clip differ, or an empty string."""
    pairs = {task: (first.labels[task], other.labels[task]) for task in TASKS}
    pairs |= {"streamer": (first.streamer, other.streamer), "game": (first.game, other.game)}
    return ", ".join(f"{name} {one} or {two}" for name, (one, two) in pairs.items() if one != two)


def quarantine_table(rejected: Sequence[Rejection]) -> pd.DataFrame:
    """Rejections as a table with the columns ``QUARANTINE_COLUMNS``, ordered by file."""
    rows = sorted((r.file, r.stage, r.reason, r.detail) for r in rejected)
    return pd.DataFrame(rows, columns=list(QUARANTINE_COLUMNS), dtype="str")
