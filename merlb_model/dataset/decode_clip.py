"""One clip decoded: what a worker of ``merlb extract`` does, so it imports no more than that takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from merlb_model.corpus.fetch import ClipTooLargeError, as_file
from merlb_model.files import sha256_of_file
from merlb_model.labels import MODALITIES
from merlb_model.media.decode import MediaError, MediaLimits, read_clip
from merlb_model.media.webcam import find_webcam
from merlb_model.media.windows import WINDOW_SECONDS, Box, Window, cut

if TYPE_CHECKING:  # pandas alone would double a worker's start
    from merlb_model.corpus.annotations import Reason

_LOST_SECONDS: Final = 0.5
"""A clip that ends this much before its header says is cut off; less is how encoders round."""


@dataclass(frozen=True)
class ClipJob:
    """A clip to decode."""

    file: str
    sha256: str
    box: Box | None


@dataclass(frozen=True)
class Rules:
    """What a clip must be: section ``extract`` of the parameters, as far as a worker needs it."""

    minimum_seconds: float
    limits: MediaLimits
    maximum_bytes: int


@dataclass(frozen=True)
class Refused:
    """Why a clip cannot be used."""

    reason: "Reason"
    detail: str


@dataclass(frozen=True)
class RowJob:
    """A clip whose arrays go to row ``row`` of the ``.npy`` files in ``folder``, or nowhere."""

    clip: ClipJob
    place: str
    rules: Rules
    folder: str
    row: int


@dataclass(frozen=True)
class Decoded:
    """What is told of a clip whose arrays are written."""

    present: tuple[bool, ...]
    valid_frames: int


def decode_into_row(job: RowJob) -> Decoded | Refused:
    """Decode a clip of the manifest and write its row. A row that is refused may hold anything."""
    cv2.setNumThreads(1)  # there is a worker for each core
    folder = Path(job.folder)
    try:
        with as_file(job.place, folder, job.rules.maximum_bytes) as path:
            if sha256_of_file(path) != job.clip.sha256:
                return Refused("changed", "its bytes are not those that were ingested: run `merlb ingest` again")
            window = decode_clip(path, job.clip.box, job.rules)
    except (FileNotFoundError, IsADirectoryError):
        return Refused("missing_file", "the clip is not where the manifest says")
    except ClipTooLargeError as error:
        return Refused("too_large", str(error))
    if isinstance(window, Refused):
        return window
    for name in MODALITIES:
        row = np.load(folder / f"{name}.npy", mmap_mode="r+")
        row[job.row] = getattr(window, name)
    return Decoded(tuple(bool(flag) for flag in window.present), window.valid_frames)


def decode_clip(path: Path, box: Box | None, rules: Rules, look_for_webcam: bool = False) -> Window | Refused:
    """One clip as a window, or why it cannot be used; without a box the face is absent, or the webcam looked for."""
    try:
        recording = read_clip(path, WINDOW_SECONDS, rules.limits)
    except MediaError as error:
        return Refused(error.reason, str(error))
    longest = max(recording.video_seconds, recording.audio_seconds)
    found = f"video {recording.video_seconds:.2f} s, audio {recording.audio_seconds:.2f} s"
    if min(recording.promised_seconds, WINDOW_SECONDS) - longest > _LOST_SECONDS:
        promise = f"the file's header promises {recording.promised_seconds:.2f} s"
        return Refused("truncated", f"{found}; {promise}: fetch the clip again")
    if longest < rules.minimum_seconds:
        return Refused("too_short", f"{found}; expected {rules.minimum_seconds:g} s of either")
    if box is None and look_for_webcam:
        box = find_webcam([recording.frames[slot] for slot in sorted(recording.frames)])
    return cut(recording, 0.0, box, rules.minimum_seconds)
