"""Clips scored to a table; one that cannot be scored is listed beside it and stops nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from merlb_model.corpus.annotations import Rejection, quarantine_table, streamer_of
from merlb_model.corpus.folder import CLIP_SUFFIXES
from merlb_model.dataset.decode_clip import ClipJob
from merlb_model.dataset.extract import decode
from merlb_model.dataset.store import PRESENT_COLUMNS, write_table
from merlb_model.errors import MerlbError
from merlb_model.files import replacing
from merlb_model.labels import MODALITIES
from merlb_model.media.webcam_boxes import Webcam
from merlb_model.media.windows import Window
from merlb_model.params import ExtractParams
from merlb_model.progress import track
from merlb_model.serving.live import box_for
from merlb_model.serving.scorer import Scorer

_BATCH: Final = 16
_STAGE: Final = "predict"


@dataclass(frozen=True)
class PredictSummary:
    """What `predict` did.

    Attributes:
        scored: clips in ``table``.
        quarantined: clips in ``quarantine``.
        table: the Parquet file.
        quarantine: the CSV file beside it: file, stage, reason, detail.
    """

    scored: int
    quarantined: int
    table: Path
    quarantine: Path

    def __str__(self) -> str:
        """One line for the person who ran it."""
        left_out = f"; {self.quarantined} could not be, see {self.quarantine}" if self.quarantined else ""
        return f"{self.scored} clips scored: {self.table}{left_out}"


def predict(
    paths: Sequence[Path],
    scorer: Scorer,
    webcams: Mapping[str, Webcam],
    out: Path,
    params: ExtractParams,
    look_for_webcam: bool = True,
) -> PredictSummary:
    """Score clips and write ``out`` and, beside it, ``<out's name>.quarantine.csv``.

    ``out`` has a row a clip: ``file`` (below the folder given, else the name), ``streamer``, a task's
    ``<task>_predicted`` word and ``<task>_<class>`` f32 probabilities, ``present_face``, ``present_screen``,
    ``present_audio`` and ``valid_frames``.

    Args:
        paths: clips, or folders with clips in them or below.
        scorer: the model.
        webcams: by streamer, who is read from a clip's name; for others it is looked for in each clip.
        out: the Parquet file to write.
        params: how clips are decoded.
        look_for_webcam: False: the face of streamers that ``webcams`` lacks is absent.

    Raises:
        MerlbError: no path is given, or the folders hold no clip.
    """
    clips = _clips(paths)
    decoded = ((name, _decode(name, path, webcams, params, look_for_webcam)) for name, path in clips.items())
    rows: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    waiting: list[tuple[str, Window]] = []
    for file, result in track(decoded, "score", total=len(clips)):
        if isinstance(result, Rejection):
            rejected.append(result)
            continue
        waiting.append((file, result))
        if len(waiting) == _BATCH:
            rows += _score(waiting, scorer)
            waiting = []
    if waiting:
        rows += _score(waiting, scorer)
    quarantine = out.with_name(f"{out.name}.quarantine.csv")
    write_table(out, _table(rows, scorer))
    with replacing(quarantine) as fresh:
        quarantine_table(rejected).to_csv(fresh, index=False, lineterminator="\n")
    return PredictSummary(len(rows), len(rejected), out, quarantine)


def _clips(paths: Sequence[Path]) -> dict[str, Path]:
    """The clips by the name they have in the table.

    Raises:
        MerlbError: there is none, or two have one name.
    """
    clips: dict[str, Path] = {}
    for path in paths:
        within = sorted(p for p in path.rglob("*") if p.suffix.lower() in CLIP_SUFFIXES) if path.is_dir() else [path]
        for clip in within:
            name = clip.relative_to(path).as_posix() if path.is_dir() else clip.name
            if clips.setdefault(name, clip) != clip:
                raise MerlbError(f"{clip} and {clips[name]} would both be {name!r} in the table: score them apart")
    if not clips:
        raise MerlbError(
            f"{', '.join(map(str, paths)) or 'nothing given'}: no clip; expected files or folders of "
            f"{', '.join(sorted(CLIP_SUFFIXES))}"
        )
    return clips


def _decode(
    name: str, path: Path, webcams: Mapping[str, Webcam], params: ExtractParams, look_for_webcam: bool
) -> Window | Rejection:
    if not path.is_file():
        return Rejection(name, _STAGE, "missing_file", f"{path}: no such file")
    box, known = box_for(path.name, webcams)
    try:
        result = decode(path, ClipJob(name, "", box), params, look_for_webcam and not known)
    except Exception as error:  # whatever a broken file does to a decoder, the other clips are scored
        return Rejection(name, _STAGE, "undecodable", " ".join(f"{type(error).__name__}: {error}".split()))
    return replace(result, stage=_STAGE) if isinstance(result, Rejection) else result


def _score(clips: Sequence[tuple[str, Window]], scorer: Scorer) -> list[dict[str, Any]]:
    windows = [window for _, window in clips]
    arrays = {name: np.stack([getattr(window, name) for window in windows]) for name in MODALITIES}
    present = np.stack([window.present for window in windows]).astype(np.float32)
    scores = scorer.score(**arrays, present=present)
    rows = []
    for index, (file, window) in enumerate(clips):
        row: dict[str, Any] = {"file": file, "streamer": streamer_of(file)}
        for task, classes in scorer.tasks.items():
            row[f"{task}_predicted"] = classes[int(scores[task][index].argmax())]
            row |= {f"{task}_{label}": scores[task][index, place] for place, label in enumerate(classes)}
        row |= dict(zip(PRESENT_COLUMNS, map(bool, window.present), strict=True))
        rows.append(row | {"valid_frames": window.valid_frames})
    return rows


def _table(rows: Sequence[Mapping[str, Any]], scorer: Scorer) -> pd.DataFrame:
    of_tasks = [
        column
        for task, classes in scorer.tasks.items()
        for column in (f"{task}_predicted", *(f"{task}_{label}" for label in classes))
    ]
    return pd.DataFrame(rows, columns=["file", "streamer", *of_tasks, *PRESENT_COLUMNS, "valid_frames"])
