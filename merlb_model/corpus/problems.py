"""What is missing, doubled or contradictory in a corpus as it was brought: ``data/raw/problems.csv``."""

import csv
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

Kind = Literal[
    "no_clip",
    "no_row",
    "no_label",
    "empty_label",
    "nan_label",
    "not_a_number",
    "not_one_hot",
    "doubled_row",
    "contradictory_rows",
    "in_both_tables",
    "other_spelling",
    "unsafe_name",
    "no_streamer_in_name",
    "streamer_in_both_tables",
    "no_table",
    "empty_clip",
    "doubled_clip",
    "contradictory_clips",
    "link",
    "no_regular_file",
    "unknown_streamers_box",
    "no_box",
    "contradictory_boxes",
]
"""The closed list of problems."""

MEANINGS: Final[dict[Kind, str]] = {
    "no_clip": "row names no clip: quarantined",
    "no_row": "clip that no row names: quarantined",
    "no_label": "row without a label in some task: left aside",
    "empty_label": "row with a task left empty: quarantined",
    "nan_label": "row with NaN for a label: quarantined",
    "not_a_number": "row with a label that is not 0 or 1: quarantined",
    "not_one_hot": "row with no class or several for a task: quarantined",
    "doubled_row": "row repeated: used once",
    "contradictory_rows": "rows that say different things of one clip: quarantined",
    "in_both_tables": "clip in the training and the testing table: used for testing only",
    "other_spelling": "row that spells its clip's name otherwise: used",
    "unsafe_name": "name that is no plain file name in UTF-8: quarantined, not copied",
    "no_streamer_in_name": "name without a streamer: the clip counts as a streamer of its own",
    "streamer_in_both_tables": "streamer in the training and the testing table: split.mode published shares them",
    "no_table": "table that the published layout has and this corpus lacks",
    "empty_clip": "clip of 0 bytes: quarantined",
    "doubled_clip": "clip that is there twice, the same bytes: used once",
    "contradictory_clips": "different clips of one name: none is used",
    "link": "link to a folder, or out of the corpus: not followed",
    "no_regular_file": "broken link, pipe, socket or device: not read",
    "unknown_streamers_box": "webcam box of a streamer without clips: not used",
    "no_box": "streamer without a webcam box beside others that have one: the webcam is looked for",
    "contradictory_boxes": "different webcam boxes of one streamer: none is used",
}
"""What each problem is, and what becomes of it."""

PROBLEM_COLUMNS: Final = ("file", "problem", "detail")


class ProblemTable:
    """A CSV table of problems, written as they are found: a million of them need no memory."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, quoting=csv.QUOTE_ALL, lineterminator="\n")  # a name may hold "\r"
        self._writer.writerow(PROBLEM_COLUMNS)

    def __enter__(self) -> "ProblemTable":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def add(self, file: str, kind: Kind, detail: str) -> None:
        """Note a problem of ``file``; bytes of its name that are no UTF-8 are shown as ``\\xff``."""
        self._writer.writerow((printable(file), kind, printable(detail)))


def printable(name: str) -> str:
    """``name`` with what UTF-8 cannot hold (bytes of a foreign encoding) written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def problem_counts(path: Path) -> Counter[str]:
    """How many problems of each kind a corpus has; none if it has no table of problems."""
    counts: Counter[str] = Counter()
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            counts.update(row["problem"] for row in csv.DictReader(file))
    return counts
