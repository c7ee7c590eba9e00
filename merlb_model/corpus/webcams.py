"""Each streamer's webcam, found once from a few clips and followed through the others."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from merlb_model.errors import MerlbError
from merlb_model.files import read_json, sha256_of_json, write_json
from merlb_model.guarded import Limits, guarded_pool
from merlb_model.media.overlay import mean_edges
from merlb_model.media.sightings import Look, Peek, look, peek, shows_face
from merlb_model.media.webcam import Found, Sighting, at_one_place, median_box, webcam_about
from merlb_model.media.webcam_boxes import Place, Webcam, clip_order
from merlb_model.media.windows import Box
from merlb_model.params import IngestParams
from merlb_model.progress import track

K = TypeVar("K")
_FINDING_VERSION: Final = 1
"""Raise it when webcams would be found elsewhere: what is remembered is then found anew."""
_SAME_WEBCAM: Final = 0.8
"""Two boxes that share this much of the area they cover are one webcam."""
_BLOCK: Final = 16
_LIMITS: Final = Limits(seconds=60.0, memory_bytes=2_000_000_000)


@dataclass(frozen=True)
class Clip:
    """A clip of a streamer: its file's name, its hash, and where it lies."""

    file: str
    sha256: str
    path: Path


Map = Callable[..., Iterable[Any]]
"""As the built-in ``map``: a function over clips' paths and further arguments, in order."""


def find_webcams(
    clips: Mapping[str, Sequence[Clip]],
    given: Mapping[str, Webcam],
    params: IngestParams,
    memory: Path | None,
    mapped: Map = map,
) -> dict[str, Webcam]:
    """Each streamer's webcam: the given one as it is, else found; none where no face stays at a place.

    A box that was found before is kept as long as the clips that it was found in are there: a new clip moves nothing.

    Args:
        clips: of each streamer.
        given: webcams that are known, by streamer.
        params: the section ``ingest``.
        memory: a folder that keeps what was found and which clips were checked; None: nothing is kept.
        mapped: how clips are opened: in this process, or as `in_workers`.
    """
    unknown = {streamer: clips[streamer] for streamer in sorted(clips) if streamer not in given}
    webcams = dict(given)
    if not params.find_webcam or not unknown:
        return webcams
    for streamer, theirs in track(list(unknown.items()), "find webcams", unit="streamer"):
        ordered = sorted(theirs, key=lambda clip: clip_order(clip.file))
        webcams[streamer] = _remembering(streamer, ordered, mapped, params, memory)
    return webcams


def first_frames(clips: Mapping[K, Clip], mapped: Map = map) -> dict[K, Peek]:
    """A small picture of each clip that decodes, by the clips' keys; ``mapped`` as for `find_webcams`."""
    peeks: dict[K, Peek] = {}
    keys = list(clips)
    for first in track(range(0, len(keys), _BLOCK), "look at webcams", unit=f"{_BLOCK} clips"):
        block = keys[first : first + _BLOCK]
        shown = mapped(peek, [str(clips[key].path) for key in block])
        peeks |= {key: one for key, one in zip(block, shown, strict=True) if one is not None}
    return peeks


def refuse_outside(webcams: Mapping[str, Webcam], frames: Mapping[str, Peek]) -> None:
    """Refuse given boxes of which nothing lies in the streamer's frames.

    Raises:
        MerlbError: it names each of them.
    """
    outside = [
        f"{streamer}: {list(webcam.places[0].box)} in {frames[streamer].width} x {frames[streamer].height}"
        for streamer, webcam in sorted(webcams.items())
        if webcam.origin == "given" and streamer in frames and not frames[streamer].has(webcam.places[0].box)
    ]
    if outside:
        raise MerlbError(
            f"webcam_boxes.json: {len(outside)} box(es) lie outside the frame: {'; '.join(outside[:5])}: "
            f"mend them, or take them out to have them found"
        )


@contextmanager
def in_workers(workers: int) -> Iterator[Map]:
    """A map in ``workers`` processes (0: one a core); a clip that takes one down is one that does not decode."""
    with guarded_pool(workers or len(os.sched_getaffinity(0)), _LIMITS) as mapped:
        yield mapped


# --- One streamer -----------------------------------------------------------------------------------------------------


def _remembering(streamer: str, clips: list[Clip], mapped: Map, params: IngestParams, memory: Path | None) -> Webcam:
    path = None if memory is None else memory / f"{_key(streamer, params)}.json"
    search = _Search(clips, mapped, params)
    if path is not None and path.exists():
        search.recall(read_json(path, "merlb ingest"))
    search.run()
    if path is not None:
        write_json(path, search.memory())
    return search.webcam()


def _key(streamer: str, params: IngestParams) -> str:
    decides = params.model_dump(include={"webcam_clips", "webcam_frames", "smallest_face", "check_every"})
    return sha256_of_json([_FINDING_VERSION, streamer, decides])[:16]


@dataclass
class _Known:
    """A webcam that was found, and the clips that it was found in, by hash."""

    found: Found
    evidence: list[str] = field(default_factory=list)


class _Search:
    """The webcams of one streamer's clips, and which clip shows which."""

    def __init__(self, clips: list[Clip], mapped: Map, params: IngestParams) -> None:
        self._clips = clips
        self._map = mapped
        self._params = params
        self._known: list[_Known] = []
        self._labels: dict[int, int] = {}  # index of a clip: index of the webcam it shows
        self._checked: set[int] = set()  # clips that were held against all known webcams
        self._explored: set[int] = set()  # clips without a label whose neighbourhood was searched for a new webcam

    def recall(self, memory: dict[str, Any]) -> None:
        """Take over what was found before, as long as the clips that it rests on are still there."""
        index_of = {clip.sha256: index for index, clip in enumerate(self._clips)}
        if not all(digest in index_of for webcam in memory["webcams"] for digest in webcam["evidence"]):
            return
        for webcam in memory["webcams"]:
            found = Found(tuple(webcam["box"]), tuple(webcam["face"]), webcam["confidence"])
            self._known.append(_Known(found, webcam["evidence"]))
        self._labels = {index_of[clip]: label for clip, label in memory["labels"].items() if clip in index_of}
        self._explored = {index_of[clip] for clip in memory["explored"] if clip in index_of}
        self._checked = {index_of[clip] for clip in memory["checked"] if clip in index_of}

    def memory(self) -> dict[str, Any]:
        """What `recall` takes."""
        names = [clip.sha256 for clip in self._clips]
        webcams = [{**asdict(known.found), "evidence": known.evidence} for known in self._known]
        return {
            "webcams": webcams,
            "labels": {names[index]: label for index, label in self._labels.items()},
            "checked": [names[index] for index in sorted(self._checked)],
            "explored": [names[index] for index in sorted(self._explored)],
        }

    def webcam(self) -> Webcam:
        """The places in the order of the clips; a clip that shows no face has the webcam of the one before."""
        places: list[Place] = []
        current: int | None = None
        for index in sorted(self._labels):
            if self._labels[index] != current:
                current = self._labels[index]
                found = self._known[current].found
                since = self._clips[index].file if places else ""
                places.append(Place(since, found.box, found.confidence))
        return Webcam("found" if places else "absent", tuple(places))

    def run(self) -> None:
        """Hold clips against the known webcams; search where two in a row show none of them."""
        if self._known:
            new = [index for index in range(len(self._clips)) if index not in self._checked]
            self._check(new, range(len(self._known)))
        while run := self._next_run():
            known = len(self._known)
            told = self._explore(run)
            self._explored |= set(run)
            if told:
                self._check(run, range(known, len(self._known)))
                self._explored -= set(run)  # each turn gives labels, so that this ends

    def _next_run(self) -> list[int]:
        """The first clips in a row without a webcam that were not searched; a lone one is let be, an only one not."""
        run: list[int] = []
        for index in range(len(self._clips) + 1):
            if index < len(self._clips) and index not in self._labels:
                run.append(index)
                continue
            if len(run) >= min(2, len(self._clips)) and not set(run) <= self._explored:
                return run
            run = []
        return []

    def _explore(self, run: list[int]) -> bool:
        few = self._params.webcam_clips
        if self._look_at(run[:few]):
            return True
        rest = run[few:]
        spread = {rest[place] for place in np.linspace(0, len(rest) - 1, few).astype(int)} if rest else set()
        return self._look_at(sorted(spread))

    def _look_at(self, indexes: Sequence[int]) -> bool:
        """Look at clips thoroughly; whether that told which webcam any of them shows."""
        paths = [str(self._clips[index].path) for index in indexes]
        smallest, frames = self._params.smallest_face, self._params.webcam_frames
        looks = self._map(look, paths, [smallest] * len(paths), [frames] * len(paths))
        seen = {index: shown for index, shown in zip(indexes, looks, strict=True) if shown is not None and shown.seen}
        told = False
        while place := _steadiest(seen, min(2, len(self._clips))):
            found = _webcam_of([seen[index] for index in place], list(place.values()))
            label = self._label_of(found, [self._clips[index].sha256 for index in place])
            of_it = [index for index, shown in seen.items() if index in place or _inside(shown, found)]
            for index in of_it:
                self._labels[index] = label
                del seen[index]
            told = True
        return told

    def _label_of(self, found: Found, evidence: list[str]) -> int:
        for label, known in enumerate(self._known):
            if _overlap(known.found.box, found.box) >= _SAME_WEBCAM:
                return label
        self._known.append(_Known(found, evidence))
        return len(self._known) - 1

    def _check(self, indexes: Sequence[int], labels: Sequence[int]) -> None:
        """See which clips show which of the webcams ``labels``: every n-th clip, and those about a no."""
        every = self._params.check_every
        waiting = [index for index in indexes if index not in self._labels]
        asked = sorted({*waiting[::every], *waiting[-1:]}) if every else []
        self._ask(asked, labels)
        refused = [index for index in asked if index not in self._labels]
        doubted = {near for no in refused for near in range(no - every + 1, no + every)}.intersection(waiting)
        self._ask(sorted(doubted - set(asked)), labels)
        self._checked |= doubted | set(asked)
        self._fill(set(waiting) - self._checked)

    def _fill(self, passed_over: set[int]) -> None:
        """Clips that were not opened show what the one before shows."""
        label: int | None = None
        for index in range(len(self._clips)):
            label = self._labels.get(index, label)
            if index in passed_over and label is not None:
                self._labels[index] = label

    def _ask(self, indexes: Sequence[int], labels: Sequence[int]) -> None:
        for label in labels:
            face = self._known[label].found.face
            open_ = [index for index in indexes if index not in self._labels]
            paths = [str(self._clips[index].path) for index in open_]
            answers = self._map(shows_face, paths, [face] * len(paths))
            self._labels |= {index: label for index, shown in zip(open_, answers, strict=True) if shown}


def _steadiest(seen: Mapping[int, Look], least: int) -> dict[int, Sighting]:
    """The place at which most clips show a face, ``least`` or more: each one's sighting there; else empty."""
    best: dict[int, Sighting] = {}
    for shown in seen.values():
        for sighting in shown.seen:
            there = {
                index: max(near, key=lambda one: one.share)
                for index, other in seen.items()
                if other.edges.shape == shown.edges.shape
                and (near := [one for one in other.seen if at_one_place(one.face, sighting.face)])
            }
            if len(there) >= least and _weight(there) > _weight(best):
                best = there
    return best


def _weight(place: Mapping[int, Sighting]) -> float:
    return sum(sighting.share for sighting in place.values())


def _webcam_of(looks: Sequence[Look], there: Sequence[Sighting]) -> Found:
    edges = mean_edges([shown.edges for shown in looks])
    share = float(np.mean([sighting.share for sighting in there]))
    return webcam_about(median_box([sighting.face for sighting in there]), edges, share)


def _inside(shown: Look, found: Found) -> bool:
    left, top, right, bottom = found.box
    return any(
        left <= (one.face[0] + one.face[2]) / 2 < right and top <= (one.face[1] + one.face[3]) / 2 < bottom
        for one in shown.seen
    )


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = float(max(0, width) * max(0, height))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)
