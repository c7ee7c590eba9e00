"""The ``ingest`` stage: the corpus that ``params.yaml`` names, as ``data/raw``."""

from pathlib import Path, PurePosixPath
from typing import Final

import pandas as pd

from merlb_model.corpus import published, sample
from merlb_model.corpus.annotations import read_annotations, streamer_of
from merlb_model.corpus.webcam_sheet import draw_sheet, tiles_of
from merlb_model.corpus.webcams import Clip, find_webcams, first_frames, in_workers, refuse_outside
from merlb_model.files import replacing, sha256_of_file, write_json
from merlb_model.media.webcam_boxes import Webcam, as_entries, clip_order, read_webcams
from merlb_model.params import CorpusParams, IngestParams
from merlb_model.progress import track

MANIFEST_COLUMNS: Final = ("uri", "sha256", "bytes", "shard")


def ingest(corpus: CorpusParams, params: IngestParams, out: Path, memory: Path | None = None) -> None:
    """Leave clips, ``annotations.csv``, ``webcam_boxes.json``, ``webcams.png`` and ``manifest.parquet`` in ``out``.

    A corpus that was brought, not rendered, also leaves ``problems.csv``: what is missing, doubled or contradictory.

    Args:
        corpus: the section ``corpus``: where clips come from.
        params: the section ``ingest``.
        out: the folder to leave.
        memory: a folder that keeps which webcams were found; None: nothing is kept.

    Raises:
        MerlbError: the source is not as `published.gather` expects it, or a given box lies outside the frame.
    """
    with replacing(out) as fresh:
        fresh.mkdir()
        if corpus.source == "sample":
            sample.render(fresh, corpus)
        else:
            published.gather(Path(str(corpus.path)), corpus.source, params, fresh)
        manifest = _manifest(fresh, params.shard_digits)
        manifest.to_parquet(fresh / "manifest.parquet", index=False)
        _add_webcams(fresh, manifest, params, memory)


def _manifest(raw: Path, shard_digits: int) -> pd.DataFrame:
    """A row a clip, ordered by uri; a clip's shard is the first digits of its hash, so a new clip disturbs one."""
    rows = []
    for clip in track(sorted((raw / "clips").iterdir()), "hash clips"):
        digest = sha256_of_file(clip)
        rows.append((f"clips/{clip.name}", digest, clip.stat().st_size, digest[:shard_digits] or "all"))
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))


def _add_webcams(raw: Path, manifest: pd.DataFrame, params: IngestParams, memory: Path | None) -> None:
    """Find the webcams that ``webcam_boxes.json`` lacks, write it anew, and draw the contact sheet."""
    path = raw / "webcam_boxes.json"
    clips = _clips_by_streamer(raw, manifest)
    given = read_webcams(path)
    with in_workers(params.workers) as mapped:
        frames = first_frames({(name, ""): theirs[0] for name, theirs in clips.items()}, mapped)
        refuse_outside(given, {name: frame for (name, _), frame in frames.items()})
        webcams = find_webcams(clips, given, params, memory, mapped)
        here = {name: webcam for name, webcam in webcams.items() if name in clips}
        frames |= first_frames(_moved(here, clips), mapped)
    write_json(path, as_entries(webcams))
    draw_sheet(tiles_of(here, frames), raw)


def _clips_by_streamer(raw: Path, manifest: pd.DataFrame) -> dict[str, list[Clip]]:
    """Each streamer's clips in their natural order."""
    annotations, _ = read_annotations(raw / "annotations.csv")
    named = {annotation.file: annotation.streamer for annotation in annotations}
    clips: dict[str, list[Clip]] = {}
    for uri, sha256 in zip(manifest["uri"], manifest["sha256"], strict=True):
        file = PurePosixPath(uri).name
        clips.setdefault(named.get(file, streamer_of(file)), []).append(Clip(file, sha256, raw / uri))
    return {name: sorted(theirs, key=lambda clip: clip_order(clip.file)) for name, theirs in sorted(clips.items())}


def _moved(webcams: dict[str, Webcam], clips: dict[str, list[Clip]]) -> dict[tuple[str, str], Clip]:
    """The first clip at each place that a webcam moved to."""
    return {
        (name, place.since): next(clip for clip in clips[name] if clip.file == place.since)
        for name, webcam in webcams.items()
        for place in webcam.places[1:]
    }
