"""Scores of a file or stream, one every second of its time; only the new second is encoded."""

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from merlb_model.corpus.annotations import streamer_of
from merlb_model.errors import MerlbError
from merlb_model.labels import MODALITIES
from merlb_model.media.decode import is_url, read
from merlb_model.media.recording import SAMPLE_RATE, Recording
from merlb_model.media.webcam import find_webcam
from merlb_model.media.webcam_boxes import Webcam
from merlb_model.media.windows import WINDOW_SECONDS, Box, Steps, Window, as_window, box_in, cut_steps, slice_start
from merlb_model.serving.scorer import STEPS_PER_SECOND, Features, Scorer

HOP_SECONDS: Final = 1
MINIMUM_SECONDS: Final = 2.5
_HOPS: Final = round(WINDOW_SECONDS / HOP_SECONDS)
_PATIENCE_SECONDS: Final = 3.0
"""A network stream whose sound or video lags this far is scored without what is missing: memory stays bounded."""


@dataclass(frozen=True)
class WindowScore:
    """What one window of a stream shows.

    Attributes:
        start_seconds: its start, from the stream's start.
        end_seconds: its end.
        probabilities: calibrated, by task and class.
        labels: the most probable class of each task.
        present: whether face, screen and audio were there.
        absent: what was not, and why, in words.
        valid_frames: of its 20 steps, those with a frame of their own time.
    """

    start_seconds: float
    end_seconds: float
    probabilities: Mapping[str, Mapping[str, float]]
    labels: Mapping[str, str]
    present: Mapping[str, bool]
    absent: tuple[str, ...]
    valid_frames: int


def box_for(source: str, webcams: Mapping[str, Webcam]) -> tuple[Box | None, bool]:
    """The box in the clip ``source``, whose file name tells the streamer; and whether ``webcams`` knows that streamer.

    One who is known to have no webcam has no box, and none need be looked for.
    """
    file = PurePosixPath(urlsplit(source).path if is_url(source) else source).name
    webcam = webcams.get(streamer_of(file))
    return (webcam.box_in(file) if webcam else None), webcam is not None


def score_stream(
    source: str,
    scorer: Scorer,
    box: Box | None = None,
    look_for_webcam: bool = True,
    minimum_seconds: float = MINIMUM_SECONDS,
) -> Iterator[WindowScore]:
    """Score each window of 5 s, one a second, as it comes in; a shorter file is one padded window.

    Args:
        source: a file's path or a URL (HLS, RTMP, … as the decoder reads them).
        scorer: the model.
        box: the webcam's place; None: looked for in the first 5 s, once.
        look_for_webcam: False: without ``box`` the face is absent.
        minimum_seconds: what is shorter is refused, and a modality with less of it in a window is absent.

    Raises:
        MerlbError: nothing decodes, or less than ``minimum_seconds``.
    """
    hops: _Hops | None = None
    patience = _PATIENCE_SECONDS if is_url(source) else math.inf
    for recording in read(source):
        ready = _seconds_in(recording, patience)
        if hops is None and (ready >= WINDOW_SECONDS or recording.ended):
            if ready < minimum_seconds:
                raise MerlbError(
                    f"{source}: video {recording.video_seconds:.2f} s, audio {recording.audio_seconds:.2f} s; "
                    f"expected {minimum_seconds:g} s of either: give a longer recording"
                )
            if box is None and look_for_webcam:
                box = find_webcam([recording.frames[slot] for slot in sorted(recording.frames)])
            box = box_in(recording, box)
            hops = _Hops(scorer, recording, box, minimum_seconds)
        if hops is not None:
            yield from hops.until(ready)
    if hops is not None:
        yield from hops.pad()


def _seconds_in(recording: Recording, patience: float) -> float:
    furthest = max(recording.video_seconds, recording.audio_seconds)
    return max(recording.seconds, furthest - patience)


class _Hops:
    """The last five seconds of a stream: their steps, for what is present, and their features."""

    def __init__(self, scorer: Scorer, recording: Recording, box: Box | None, minimum_seconds: float) -> None:
        self._scorer = scorer
        self._recording = recording
        self._box = box
        self._minimum_seconds = minimum_seconds
        self._seconds = 0
        self._steps: deque[Steps] = deque(maxlen=_HOPS)
        self._features: deque[Features] = deque(maxlen=_HOPS)

    def until(self, seconds: float) -> Iterator[WindowScore]:
        """Take in every whole second before ``seconds``; give the score of each window that it ends."""
        while self._seconds + HOP_SECONDS <= seconds:
            self._take_second()
            if len(self._steps) == _HOPS:
                yield self._score()

    def pad(self) -> Iterator[WindowScore]:
        """At the stream's end: the one window of a stream that had none."""
        if self._seconds >= WINDOW_SECONDS:
            return
        while self._seconds < WINDOW_SECONDS:
            self._take_second()
        yield self._score()

    def _take_second(self) -> None:
        first = self._seconds * STEPS_PER_SECOND
        cut = cut_steps(self._recording, first - 1, STEPS_PER_SECOND + 1, self._box)  # one step of context
        steps = Steps(cut.face[1:], cut.screen[1:], cut.audio[1:], cut.valid[1:])
        if self._steps and self._recording.video_slots < first:
            steps.face[:] = self._steps[-1].face[-1]  # the video has ended: its last picture stays, as in a clip
            steps.screen[:] = self._steps[-1].screen[-1]
        self._steps.append(steps)
        self._features.append(self._scorer.encode(steps.face[None], steps.screen[None], cut.audio[None]))
        self._seconds += HOP_SECONDS
        self._recording.forget_before(self._seconds - 1 / STEPS_PER_SECOND)

    def _score(self) -> WindowScore:
        start = self._seconds - WINDOW_SECONDS
        window = self._window(round(start * STEPS_PER_SECOND))
        features = {name: np.concatenate([hop[name] for hop in self._features], axis=1) for name in MODALITIES}
        scores = self._scorer.fuse(features, window.present[None].astype(np.float32))
        probabilities = {
            task: dict(zip(classes, map(float, scores[task][0]), strict=True))
            for task, classes in self._scorer.tasks.items()
        }
        return WindowScore(
            start_seconds=start,
            end_seconds=float(self._seconds),
            probabilities=probabilities,
            labels={task: max(of_class, key=lambda label: of_class[label]) for task, of_class in probabilities.items()},
            present=dict(zip(MODALITIES, map(bool, window.present), strict=True)),
            absent=_absent(window, self._recording, self._box),
            valid_frames=window.valid_frames,
        )

    def _window(self, first: int) -> Window:
        steps = Steps(
            *(
                np.concatenate([getattr(hop, name) for hop in self._steps])
                for name in ("face", "screen", "audio", "valid")
            )
        )
        samples = self._recording.audio_samples - slice_start(first)
        inside = max(0, min(samples, round(WINDOW_SECONDS * SAMPLE_RATE)))
        return as_window(steps, inside, self._box is not None, self._minimum_seconds)


def _absent(window: Window, recording: Recording, box: Box | None) -> tuple[str, ...]:
    face, screen, audio = window.present
    words = []
    if not screen:
        words.append("video too short" if recording.has_video else "no video")
    elif not face:
        words.append("no webcam" if box is None else "no face")
    if not audio:
        words.append("sound too short" if recording.has_audio else "no sound")
    return tuple(words)


def as_line(score: WindowScore) -> str:
    """A score as a line for people: the window's end, the likeliest class of each task, what was absent."""
    minutes, seconds = divmod(round(score.end_seconds), 60)
    columns = [
        f"{task} {label:<{max(map(len, score.probabilities[task]))}} {score.probabilities[task][label]:.2f}"
        for task, label in score.labels.items()
    ]
    absent = f"   ({', '.join(score.absent)})" if score.absent else ""
    return f"{minutes:3d}:{seconds:02d}   {'   '.join(columns)}{absent}"


def as_json(score: WindowScore) -> str:
    """A score as one line of JSON, with every class's probability."""
    return json.dumps(asdict(score), ensure_ascii=False, allow_nan=False)


def print_stream(
    source: str,
    scorer: Scorer,
    box: Box | None = None,
    look_for_webcam: bool = True,
    minimum_seconds: float = MINIMUM_SECONDS,
    json_lines: bool = False,
    write: Callable[[str], None] = lambda line: print(line, flush=True),
) -> int:
    """Print a line a second, see `score_stream`; return how many windows were scored."""
    form = as_json if json_lines else as_line
    windows = 0
    for score in score_stream(source, scorer, box, look_for_webcam, minimum_seconds):
        write(form(score))
        windows += 1
    return windows
