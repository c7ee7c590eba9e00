"""Labels that people give to clips of their own: a table an annotator, and the consensus in ``annotations.csv``."""

import csv
import fcntl
import threading
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from merlb_model.corpus.annotations import COLUMNS, is_safe_name, read_rows, streamer_of, write_rows
from merlb_model.corpus.capture import read_captured
from merlb_model.corpus.folder import CLIP_SUFFIXES, PUBLISHED_TABLES
from merlb_model.errors import MerlbError
from merlb_model.files import remove_partials, replacing
from merlb_model.labels import TASKS, annotation_columns
from merlb_model.media.webcam_boxes import clip_order

TABLE: Final = "annotations.csv"
LABELS: Final = "labels"
EARLIER: Final = "earlier table"
"""The annotator to whom the labels of an ``annotations.csv`` are ascribed that was there before the first stroke."""
_LOCK: Final = ".lock"
_MAX_NAME_BYTES: Final = 80

ClipLabels = dict[str, str]
"""A clip's labels of one annotator: {task: class}; a task without an answer is not in it."""


class LabelError(MerlbError):
    """A stroke that cannot be taken: unknown clip, task or class, or a name that no file can have."""


@dataclass(frozen=True)
class Agreement:
    """How far the annotators agree in a task.

    Attributes:
        clips: labelled by two annotators or more.
        kappa: Cohen's, over the clips that both labelled; None unless there are just two annotators, and where chance
            alone would agree always.
        alpha: Krippendorff's, nominal, over all annotators; None where it is not defined.
    """

    clips: int
    kappa: float | None
    alpha: float | None


class Labels:
    """The labels of one source; every change is on the disk before it returns.

    ``labels/<annotator>.csv`` (File, Valence, Arousal, Event: class names) are the truth; ``annotations.csv`` is
    written anew from them with the published columns. A task's class is the one that most annotators gave; where two
    lead, and where nobody answered, its cells stay empty.
    """

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: ``data/sources/<name>``, with ``clips/``.

        Raises:
            MerlbError: no clip there, a table that is not ours to write, or another ``merlb label`` at work.
        """
        self._folder = folder
        self._guard = threading.Lock()
        self.clips = _clips(folder)
        """Names of the clips, in the order they were captured."""
        for other in PUBLISHED_TABLES:
            if (folder / other).exists():
                raise MerlbError(f"{folder / other}: these clips have a published table: label those of another folder")
        first_time = not (folder / LABELS).is_dir()
        (folder / LABELS).mkdir(exist_ok=True)
        self._lock = _locked(folder / LABELS / _LOCK)
        remove_partials(folder)
        remove_partials(folder / LABELS)
        self._rows = self._known_rows()
        self._by_annotator = {path.stem: self._read(path) for path in sorted((folder / LABELS).glob("*.csv"))}
        if first_time and (earlier := _labels_in(self._rows)):
            self._by_annotator[EARLIER] = earlier
            self._write(EARLIER)
        self._write_consensus()

    def close(self) -> None:
        """Let another ``merlb label`` in."""
        self._lock.close()

    @property
    def annotators(self) -> list[str]:
        """Those with a table, by name."""
        return sorted(self._by_annotator)

    def has(self, file: str) -> bool:
        """Whether it is one of the clips."""
        return file in self._rows

    def refresh(self) -> None:
        """See clips that were captured since."""
        with self._guard:
            self.clips = _clips(self._folder)
            self._rows = self._known_rows()
            self._write_consensus()

    def of(self, annotator: str) -> dict[str, ClipLabels]:
        """{clip: labels} of one annotator; a new one has none."""
        return {file: dict(labels) for file, labels in self._by_annotator.get(annotator, {}).items() if labels}

    def streamer(self, file: str) -> str:
        """Who broadcasts in the clip."""
        return self._rows[file]["Streamer"]

    def put(self, annotator: str, file: str, task: str, label: str | None) -> str | None:
        """Set an annotator's label of a clip's task, or take it back with None; return the one before.

        Raises:
            LabelError: the clip, task or class is unknown, or the annotator's name cannot be a file's.
        """
        annotator = annotator_name(annotator)
        if file not in self._rows:
            raise LabelError(f"no clip {file!r} in {self._folder / 'clips'}")
        if task not in TASKS or (label is not None and label not in TASKS[task]):
            raise LabelError(f"{task} {label}: expected one of {', '.join(TASKS.get(task, TASKS))}")
        with self._guard:
            labels = self._by_annotator.setdefault(annotator, {}).setdefault(file, {})
            former = labels.pop(task, None)
            if label is not None:
                labels[task] = label
            try:
                self._write(annotator)
                self._write_consensus()
            except OSError:
                labels.pop(task, None)
                labels.update({} if former is None else {task: former})
                raise
        return former

    def agreement(self) -> dict[str, Agreement]:
        """By task."""
        with self._guard:
            answers = {
                task: [
                    {file: labels[task] for file, labels in clips.items() if task in labels}
                    for clips in self._by_annotator.values()
                ]
                for task in TASKS
            }
        return {task: agreement(TASKS[task], given) for task, given in answers.items()}

    def _known_rows(self) -> dict[str, dict[str, str]]:
        """A row a clip: what the table before this told, and who was captured."""
        table = self._folder / TABLE
        before = {row["File"]: row for row in read_rows(table)} if table.is_file() else {}
        captured = read_captured(self._folder)
        rows = {}
        for file in self.clips:
            known = {**captured.get(file, {}), **{name: text for name, text in before.get(file, {}).items() if text}}
            rows[file] = {column: known.get(column, "") for column in COLUMNS}
            rows[file] |= {"File": file, "Streamer": rows[file]["Streamer"] or streamer_of(file)}
        return rows

    def _read(self, path: Path) -> dict[str, ClipLabels]:
        """An annotator's table; rows of clips that are not there now are kept."""
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
        except (csv.Error, UnicodeDecodeError) as error:
            raise MerlbError(f"{path} is no CSV table in UTF-8: {error}") from None
        labels: dict[str, ClipLabels] = {}
        for number, row in enumerate(rows, start=2):
            given = {task: row.get(task.capitalize()) or "" for task in TASKS}
            wrong = [f"{task} {label}" for task, label in given.items() if label and label not in TASKS[task]]
            if not row.get("File") or wrong:
                raise MerlbError(f"{path}, line {number}: {', '.join(wrong) or 'no File'}: mend that line")
            labels[row["File"]] = {task: label for task, label in given.items() if label}
        return labels

    def _write(self, annotator: str) -> None:
        rows = [["File", *(task.capitalize() for task in TASKS)]]
        for name, labels in sorted(self._by_annotator[annotator].items()):
            if labels:
                rows.append([name, *(labels.get(task, "") for task in TASKS)])
        path = self._folder / LABELS / f"{annotator}.csv"
        with replacing(path, durable=True) as fresh, fresh.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
            file.flush()

    def _write_consensus(self) -> None:
        rows = []
        for file in self.clips:
            cells: dict[str, str] = {}
            for task in TASKS:
                chosen = consensus([clips.get(file, {}).get(task) for clips in self._by_annotator.values()])
                cells |= {
                    column: "" if chosen is None else str(int(label == chosen))
                    for column, label in annotation_columns(task).items()
                }
            rows.append({**self._rows[file], **cells})
        with replacing(self._folder / TABLE, durable=True) as fresh:
            write_rows(fresh, rows)


def _clips(folder: Path) -> list[str]:
    """Names of the clips, in the order they were captured; links that lead out of the folder are left out."""
    root = folder.resolve()
    names = [
        path.name
        for path in (folder / "clips").glob("[!.]*")
        if path.suffix.lower() in CLIP_SUFFIXES and path.is_file() and path.resolve().is_relative_to(root)
    ]
    if not names:
        raise MerlbError(f"{folder / 'clips'}: no clip to label: run `merlb capture` first, or put clips there")
    return sorted(names, key=clip_order)


def _locked(path: Path) -> IO[str]:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise MerlbError(f"{path.parent}: another `merlb label` is at work there: use its page, or stop it") from None
    return file


def _labels_in(rows: Mapping[str, Mapping[str, str]]) -> dict[str, ClipLabels]:
    """Labels that the rows' one-hot cells hold; a task that is not one-hot has none."""
    found = {}
    for file, row in rows.items():
        labels = {}
        for task in TASKS:
            marked = [label for column, label in annotation_columns(task).items() if row[column] in {"1", "1.0"}]
            if len(marked) == 1:
                labels[task] = marked[0]
        if labels:
            found[file] = labels
    return found


def annotator_name(name: str) -> str:
    """The name as its file bears it: composed Unicode, no spaces around it.

    Raises:
        LabelError: no file can be called so.
    """
    name = unicodedata.normalize("NFC", name).strip()
    if not is_safe_name(name) or name.startswith(".") or not name.isprintable():
        raise LabelError("annotator: expected a name without slashes and not beginning with a dot")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise LabelError(f"annotator: expected a name of at most {_MAX_NAME_BYTES} bytes")
    return name


def consensus(answers: Sequence[str | None]) -> str | None:
    """The class that most annotators gave; None where nobody answered, or two classes lead."""
    counts = Counter(answer for answer in answers if answer is not None).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def agreement(classes: Sequence[str], answers: Sequence[Mapping[str, str]]) -> Agreement:
    """Cohen's kappa and Krippendorff's alpha (nominal) of one task.

    Args:
        classes: the task's.
        answers: {clip: class} of each annotator.
    """
    import numpy as np
    from krippendorff import alpha

    given = [answer for answer in answers if answer]
    counts = Counter(file for answer in given for file in answer)
    shared = sorted(file for file, count in counts.items() if count > 1)
    kappa = _kappa(*([answer[file] for file in shared] for answer in given)) if len(given) == 2 and shared else None
    codes = {label: float(code) for code, label in enumerate(classes)}
    table = np.array([[codes.get(answer.get(file, ""), np.nan) for file in shared] for answer in given])
    several = len({answer[file] for answer in given for file in shared if file in answer}) > 1
    value = float(alpha(reliability_data=table, level_of_measurement="nominal")) if several else None
    return Agreement(len(shared), kappa, value)


def _kappa(first: list[str], second: list[str]) -> float | None:
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return None  # one class alone: chance agrees as well
    return float(cohen_kappa_score(first, second))
