"""The ``extract`` stage: clips decoded into arrays, shard by shard; what cannot be used is quarantined."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pandas as pd

from merlb_model.corpus.annotations import Annotation, Rejection, quarantine_table, read_annotations, streamer_of
from merlb_model.dataset.store import create_arrays, read_table
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, remove_partials, replacing, sha256_of_json, write_json
from merlb_model.labels import MODALITIES
from merlb_model.media.decode import DECODER_VERSION, MediaError, read_clip
from merlb_model.media.webcam import find_webcam
from merlb_model.media.webcam_boxes import Webcam, read_webcams
from merlb_model.media.windows import WINDOW_SECONDS, Box, Window, cut
from merlb_model.params import ExtractParams
from merlb_model.processes import worker_pool
from merlb_model.progress import track

MANIFEST_COLUMNS: Final = ("uri", "sha256", "bytes", "shard")
_EXTRACTION_VERSION: Final = 2
_LOST_SECONDS: Final = 0.5
"""A clip that ends this much before its header says is cut off; less is how encoders round."""


@dataclass(frozen=True)
class ClipJob:
    """A clip to decode."""

    file: str
    sha256: str
    box: Box | None


def clip_path(uri: str, raw: Path, clips: str | None) -> Path:
    """Where the clip of a manifest's ``uri`` can be opened: below ``clips`` where given, else below ``raw``.

    The one place that turns a uri into something to open.

    Raises:
        MerlbError: the place is no folder that this machine can open.
    """
    for place in (clips or "", uri):
        if "://" in place and not place.startswith("file://"):
            raise MerlbError(f"{place}: only clips in folders can be opened; copy them to a folder first")
    if clips is None:
        return raw / uri
    return Path(clips.removeprefix("file://")) / PurePosixPath(uri).name


def extract(
    raw: Path,
    params: ExtractParams,
    out: Path,
    cache: Path | None,
    shards: Sequence[str] | None = None,
    clips: str | None = None,
) -> None:
    """Decode the clips of ``raw``'s manifest, all shards or those named; leave ``shards.json`` and ``quarantine.csv``.

    A shard that ``cache`` holds under its key (clips, boxes, parameters, decoder) is not decoded again.

    Args:
        raw: what ``merlb ingest`` left; ``clips/`` may lie elsewhere.
        params: the stage's parameters.
        out: the folder to leave.
        cache: where decoded shards are kept; None keeps them in ``out``.
        shards: the shards to decode; None is all.
        clips: where the content of ``clips/`` lies, if not in ``raw``.

    Raises:
        MerlbError: the manifest is missing or a named shard is not in it.
    """
    manifest = _manifest(raw, shards)
    annotations, rejected = read_annotations(raw / "annotations.csv")
    rejected = [*rejected, *_unmatched(raw, annotations, rejected)]
    jobs = _jobs(manifest, annotations, read_webcams(raw / "webcam_boxes.json"))
    with replacing(out) as fresh:
        fresh.mkdir()
        keys = {shard: _key(shard_jobs, params) for shard, shard_jobs in jobs.items()}
        kept = fresh if cache is None else cache
        kept.mkdir(parents=True, exist_ok=True)
        remove_partials(kept)
        missing = [shard for shard, key in keys.items() if not (kept / f"{shard}-{key}").is_dir()]
        places = {str(PurePosixPath(uri).name): clip_path(uri, raw, clips) for uri in manifest["uri"]}
        with _pool(params.workers, sum(len(jobs[shard]) for shard in missing)) as pool:
            _decode_shards(missing, jobs, keys, places, kept, params, pool)
        write_json(fresh / "shards.json", keys)
        mine = _of_shards(rejected, raw, set(keys))
        rejections = [*mine, *(r for shard, key in keys.items() for r in shard_rejections(kept / f"{shard}-{key}"))]
        quarantine_table(rejections).to_csv(fresh / "quarantine.csv", index=False, lineterminator="\n")


def shard_rejections(folder: Path) -> list[Rejection]:
    """The clips of a decoded shard that could not be used."""
    return [Rejection(**row) for row in read_json(folder / "rejected.json", "merlb extract")]


def _manifest(raw: Path, shards: Sequence[str] | None) -> pd.DataFrame:
    manifest = read_table(raw / "manifest.parquet", "merlb ingest", MANIFEST_COLUMNS)
    if shards is None:
        return manifest
    known = sorted(set(manifest["shard"]))
    for shard in shards:
        if shard not in known:
            raise MerlbError(f"shard {shard}: not in {raw / 'manifest.parquet'}; expected one of {', '.join(known)}")
    return manifest[manifest["shard"].isin(list(shards))]


def _unmatched(raw: Path, annotations: list[Annotation], rejected: list[Rejection]) -> list[Rejection]:
    """Rows that name no clip of the corpus, and clips that no row names."""
    manifest = read_table(raw / "manifest.parquet", "merlb ingest", MANIFEST_COLUMNS)
    files = {PurePosixPath(uri).name for uri in manifest["uri"]}
    named = {annotation.file for annotation in annotations}
    seen = named | {rejection.file for rejection in rejected}
    return [
        *(Rejection(file, "extract", "missing_file", "its row names no clip") for file in sorted(named - files)),
        *(Rejection(file, "extract", "no_label", "no row names it") for file in sorted(files - seen)),
    ]


def _of_shards(rejected: list[Rejection], raw: Path, shards: set[str]) -> list[Rejection]:
    """The rejections that belong to ``shards``; those of no clip belong to the manifest's first shard."""
    manifest = read_table(raw / "manifest.parquet", "merlb ingest", MANIFEST_COLUMNS)
    home = {PurePosixPath(uri).name: shard for uri, shard in zip(manifest["uri"], manifest["shard"], strict=True)}
    first = min(manifest["shard"], default="all")
    return [rejection for rejection in rejected if home.get(rejection.file, first) in shards]


def _jobs(
    manifest: pd.DataFrame, annotations: list[Annotation], webcams: dict[str, Webcam]
) -> dict[str, list[ClipJob]]:
    """The clips of each shard, ordered by file. Labels play no part: a changed label decodes nothing."""
    streamers = {annotation.file: annotation.streamer for annotation in annotations}
    jobs: dict[str, list[ClipJob]] = {shard: [] for shard in sorted(set(manifest["shard"]))}
    for row in manifest.sort_values("uri").itertuples():
        file = PurePosixPath(str(row.uri)).name
        webcam = webcams.get(streamers.get(file, streamer_of(file)))
        box = webcam.box_in(file) if webcam else None
        jobs[str(row.shard)].append(ClipJob(file, str(row.sha256), box))
    return jobs


def _key(jobs: list[ClipJob], params: ExtractParams) -> str:
    decides = params.model_dump(exclude={"workers"})
    content = [_EXTRACTION_VERSION, DECODER_VERSION, decides, [asdict(job) for job in jobs]]
    return sha256_of_json(content)[:16]


def decode(path: Path, job: ClipJob, params: ExtractParams, look_for_webcam: bool = False) -> Window | Rejection:
    """One clip as a window, or why it cannot be used; without a box, the face is absent or the webcam looked for."""
    if not path.is_file():
        return Rejection(job.file, "extract", "missing_file", "the clip is not where the manifest says")
    try:
        recording = read_clip(path, WINDOW_SECONDS)
    except MediaError as error:
        return Rejection(job.file, "extract", "undecodable", str(error))
    longest = max(recording.video_seconds, recording.audio_seconds)
    found = f"video {recording.video_seconds:.2f} s, audio {recording.audio_seconds:.2f} s"
    if min(recording.promised_seconds, WINDOW_SECONDS) - longest > _LOST_SECONDS:
        promise = f"the file's header promises {recording.promised_seconds:.2f} s"
        return Rejection(job.file, "extract", "truncated", f"{found}; {promise}: fetch the clip again")
    if longest < params.minimum_seconds:
        return Rejection(job.file, "extract", "too_short", f"{found}; expected {params.minimum_seconds:g} s of either")
    box = job.box
    if box is None and look_for_webcam:
        box = find_webcam([recording.frames[slot] for slot in sorted(recording.frames)])
    return cut(recording, 0.0, box, params.minimum_seconds)


def _decode_in_worker(path: str, job: ClipJob, params: dict[str, Any]) -> Window | Rejection:
    return decode(Path(path), job, ExtractParams(**params))


@contextmanager
def _pool(workers: int, clips: int) -> Iterator[ProcessPoolExecutor | None]:
    """Decoding processes: as many as cores, or ``workers``; none for a handful of clips."""
    count = min(workers or os.cpu_count() or 1, clips)
    if count < 2 or clips < 4:
        yield None
        return
    with worker_pool(count) as pool:
        yield pool


def _decode_shards(
    shards: list[str],
    jobs: dict[str, list[ClipJob]],
    keys: dict[str, str],
    places: dict[str, Path],
    cache: Path,
    params: ExtractParams,
    pool: ProcessPoolExecutor | None,
) -> None:
    ordered = [job for shard in shards for job in jobs[shard]]
    arguments = (
        [str(places[job.file].resolve()) for job in ordered],
        ordered,
        [params.model_dump()] * len(ordered),
    )
    results = map(_decode_in_worker, *arguments) if pool is None else pool.map(_decode_in_worker, *arguments)
    decoded = track(results, "decode", total=len(ordered))
    for shard in shards:
        _write_shard(cache / f"{shard}-{keys[shard]}", jobs[shard], decoded)


def _write_shard(folder: Path, jobs: list[ClipJob], decoded: Iterator[Window | Rejection]) -> None:
    """Take this shard's results from ``decoded`` and write arrays, ``rows.parquet`` and ``rejected.json``."""
    windows: list[Window] = []
    rows: list[dict[str, Any]] = []
    rejected: list[Rejection] = []
    for job, result in zip(jobs, decoded, strict=False):
        if isinstance(result, Rejection):
            rejected.append(result)
            continue
        windows.append(result)
        flags = {f"present_{name}": bool(result.present[index]) for index, name in enumerate(MODALITIES)}
        rows.append({"file": job.file, **flags, "valid_frames": result.valid_frames})
    with replacing(folder) as fresh:
        fresh.mkdir()
        arrays = create_arrays(fresh, len(windows))
        for index, window in enumerate(windows):
            for name in MODALITIES:
                arrays[name][index] = getattr(window, name)
        columns = ["file", *(f"present_{name}" for name in MODALITIES), "valid_frames"]
        pd.DataFrame(rows, columns=columns).to_parquet(fresh / "rows.parquet", index=False)
        write_json(fresh / "rejected.json", [asdict(rejection) for rejection in rejected])
