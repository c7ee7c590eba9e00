"""The sample corpus: streamers, clips and labels rendered here, so that everything can be tried without anyone's data.

Synthetic through and through: drawn faces, a made-up game, a synthesised voice. The labels follow ``sample_rules``.
"""

import csv
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from merlb_model.corpus import sample_rules, sample_voice
from merlb_model.corpus.sample_canvas import CLIP_SECONDS, HEIGHT, WIDTH, Box, Frame
from merlb_model.corpus.sample_face import Face, FaceStyle
from merlb_model.corpus.sample_rules import HiddenStates
from merlb_model.corpus.sample_screen import Screen, ScreenStyle
from merlb_model.corpus.sample_voice import VoiceStyle
from merlb_model.files import write_json
from merlb_model.labels import TASKS, annotation_columns
from merlb_model.media.encode import write_clip
from merlb_model.params import CorpusParams
from merlb_model.processes import worker_pool
from merlb_model.progress import track

_GAMES: Final = ("Emberfall", "Tidewatch", "Nine Lanterns", "Gravel Run")
# What a random stream is for; with the corpus seed, and the streamer's or clip's number, it makes the stream's seed.
_LABELS, _STREAMER, _CLIP = 0, 1, 2


@dataclass(frozen=True)
class _Clip:
    """One clip to be rendered, and its number in the corpus."""

    number: int
    streamer: int
    file: str
    states: HiddenStates


@dataclass(frozen=True)
class _Style:
    """Everything that is a streamer's own."""

    face: FaceStyle
    screen: ScreenStyle
    voice: VoiceStyle
    game: str


def render(out: Path, params: CorpusParams, workers: int = 0) -> None:
    """Render the sample corpus: the same bytes for the same ``params``, whatever the number of workers.

    Leaves ``clips/<number>_<streamer>_sample.mp4``, ``annotations.csv`` (File, Streamer, Game, one-hot labels),
    ``webcam_boxes.json`` (pixels), ``truth.csv`` (hidden states of each clip) and ``truth.json`` (the best scores that
    the rules allow).

    Args:
        out: an empty folder; rename it when this returns, so that a kill leaves no half corpus.
        params: the section ``corpus``.
        workers: rendering processes; 0: one a core.
    """
    clips = _plan(params)
    (out / "clips").mkdir(parents=True, exist_ok=True)
    for _ in track(_rendered(clips, params, out, workers), "render", total=len(clips)):
        pass
    names = [_streamer_name(streamer, params) for streamer in range(params.streamers)]
    boxes = [_scaled_box(_style(streamer, params).face.box, params) for streamer in range(params.streamers)]
    _write_table(out / "annotations.csv", [_annotation(clip, params) for clip in clips])
    _write_table(out / "truth.csv", [_truth(clip, params) for clip in clips])
    write_json(out / "webcam_boxes.json", dict(zip(names, boxes, strict=True)))
    write_json(out / "truth.json", sample_rules.ceilings(params.label_noise))


# --- Plan and tables --------------------------------------------------------------------------------------------------


def _generator(params: CorpusParams, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence((params.seed, *key)))


def _plan(params: CorpusParams) -> list[_Clip]:
    states = sample_rules.deal_states(
        params.streamers, params.clips_per_streamer, params.label_noise, _generator(params, _LABELS)
    )
    digits = max(4, len(str(len(states) - 1)))
    clips = []
    for number, state in enumerate(states):
        streamer = number // params.clips_per_streamer
        file = f"{number:0{digits}d}_{_streamer_name(streamer, params)}_sample.mp4"
        clips.append(_Clip(number, streamer, file, state))
    return clips


def _streamer_name(streamer: int, params: CorpusParams) -> str:
    return f"streamer{streamer:0{max(2, len(str(params.streamers - 1)))}d}"


def _style(streamer: int, params: CorpusParams) -> _Style:
    rng = _generator(params, _STREAMER, streamer)
    face, screen, voice = FaceStyle.draw(rng), ScreenStyle.draw(rng), VoiceStyle.draw(rng)
    return _Style(face, screen, voice, str(rng.choice(_GAMES)))


def _scaled_box(box: Box, params: CorpusParams) -> list[int]:
    """The webcam's box in pixels of the clips, which are the canvas scaled."""
    scales = (params.width / WIDTH, params.height / HEIGHT) * 2
    return [round(edge * scale) for edge, scale in zip(box, scales, strict=True)]


def _annotation(clip: _Clip, params: CorpusParams) -> dict[str, str | int]:
    one_hot = {
        column: int(TASKS[task][clip.states.label[task]] == label)
        for task in TASKS
        for column, label in annotation_columns(task).items()
    }
    game = _style(clip.streamer, params).game
    return {"File": clip.file, "Streamer": _streamer_name(clip.streamer, params), "Game": game, **one_hot}


def _truth(clip: _Clip, params: CorpusParams) -> dict[str, str | int]:
    return {"file": clip.file, "streamer": _streamer_name(clip.streamer, params), **clip.states.row()}


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


# --- Clips ------------------------------------------------------------------------------------------------------------


def _rendered(clips: list[_Clip], params: CorpusParams, out: Path, workers: int) -> Iterator[None]:
    """Render the clips in this process or in ``workers`` of its own; yield once a clip is done."""
    workers = workers or len(os.sched_getaffinity(0))
    if workers == 1:
        for clip in clips:
            _render_clip(clip, params, out)
            yield
        return
    with worker_pool(workers, _draw_in_one_thread) as pool:
        tasks = [pool.submit(_render_clip, clip, params, out) for clip in clips]
        for task in as_completed(tasks):
            task.result()
            yield


def _draw_in_one_thread() -> None:
    cv2.setNumThreads(1)  # there is a worker for each core


def _render_clip(clip: _Clip, params: CorpusParams, out: Path) -> None:
    style = _style(clip.streamer, params)
    states = clip.states
    rng = _generator(params, _CLIP, clip.number)
    times = np.arange(round(CLIP_SECONDS * params.fps)) / params.fps
    screen = Screen(sample_rules.EVENTS[states.event], style.screen, times, rng)
    face = Face(states.expression, states.agitation, style.face, times, rng)
    sound = sample_voice.synthesise(states.contour, states.energy, style.voice, rng)
    frames = _frames(screen, face, style.face.box, params, len(times))
    write_clip(out / "clips" / clip.file, frames, params.fps, sound, sample_voice.SAMPLE_RATE)


def _frames(screen: Screen, face: Face, box: Box, params: CorpusParams, count: int) -> Iterable[Frame]:
    """The clip's frames: u8 (height, width, 3), RGB, the webcam over the screen."""
    x1, y1, x2, y2 = box
    for index in range(count):
        canvas = screen.draw(index)
        canvas[y1:y2, x1:x2] = face.draw(index)
        if (params.width, params.height) != (WIDTH, HEIGHT):
            canvas = cv2.resize(canvas, (params.width, params.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        yield canvas
