"""The ``extract`` stage: clips decoded into arrays, shard by shard; what cannot be used is quarantined."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import pandas as pd

from merlb_model.corpus.annotations import (
    Annotation,
    Reason,
    Rejection,
    quarantine_table,
    read_annotations,
    streamer_of,
)
from merlb_model.corpus.fetch import clip_place
from merlb_model.dataset.decode_clip import ClipJob, Decoded, Refused, RowJob, Rules, decode_clip, decode_into_row
from merlb_model.dataset.store import PRESENT_COLUMNS, create_arrays, read_table
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, remove_partials, replacing, sha256_of_json, write_json
from merlb_model.guarded import Limits, Lost, guarded_map
from merlb_model.labels import MODALITIES
from merlb_model.media.decode import DECODER_VERSION, MediaLimits
from merlb_model.media.webcam_boxes import Webcam, read_webcams
from merlb_model.media.windows import Window
from merlb_model.params import ExtractParams
from merlb_model.progress import track

MANIFEST_COLUMNS: Final = ("uri", "sha256", "bytes", "shard")
_EXTRACTION_VERSION: Final = 3
_REASONS: Final[dict[str, Reason]] = {
    "crash": "decoder_crash",
    "timeout": "timeout",
    "out_of_memory": "out_of_memory",
}


def extract(
    raw: Path,
    params: ExtractParams,
    out: Path,
    cache: Path | None,
    shards: Sequence[str] | None = None,
    clips: str | None = None,
) -> tuple[int, int]:
    """Decode the clips of ``raw``'s manifest, all shards or those named; leave ``shards.json`` and ``quarantine.csv``.

    A shard that ``cache`` holds under its key (clips, boxes, parameters, decoder) is not decoded again.

    Args:
        raw: what ``merlb ingest`` left; ``clips/`` may lie elsewhere.
        params: the stage's parameters.
        out: the folder to leave.
        cache: where decoded shards are kept; None keeps them in ``out``.
        shards: the shards to decode; None is all.
        clips: where the content of ``clips/`` lies, if not in ``raw``.

    Returns:
        How many shards were decoded, and how many the cache held.

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
        folders = {shard: kept / f"{shard}-{key}" for shard, key in keys.items()}
        missing = {folders[shard]: jobs[shard] for shard in jobs if not folders[shard].is_dir()}
        places = {PurePosixPath(uri).name: clip_place(uri, raw, clips) for uri in manifest["uri"]}
        _decode_shards(missing, places, params)
        write_json(fresh / "shards.json", keys)
        mine = _of_shards(rejected, raw, set(keys))
        rejections = [*mine, *(r for folder in folders.values() for r in shard_rejections(folder))]
        quarantine_table(rejections).to_csv(fresh / "quarantine.csv", index=False, lineterminator="\n")
    return len(missing), len(keys) - len(missing)


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
    """One clip, in this process, as a window, or why it cannot be used.

    Without a box the face is absent, or the webcam looked for.
    """
    if not path.is_file():
        return Rejection(job.file, "extract", "missing_file", "the clip is not where the manifest says")
    result = decode_clip(path, job.box, _rules(params), look_for_webcam)
    return Rejection(job.file, "extract", result.reason, result.detail) if isinstance(result, Refused) else result


def _rules(params: ExtractParams) -> Rules:
    return Rules(
        params.minimum_seconds,
        MediaLimits(params.maximum_pixels, params.maximum_seconds),
        params.maximum_megabytes * 1_000_000,
    )


def _decode_shards(missing: dict[Path, list[ClipJob]], places: dict[str, str], params: ExtractParams) -> None:
    """Decode the clips of each folder in ``missing`` and leave the folder once its last clip is done."""
    clips = sum(len(jobs) for jobs in missing.values())
    workers = min(params.workers or len(os.sched_getaffinity(0)), clips)
    limits = Limits(params.timeout_seconds, params.memory_megabytes * 1_000_000)
    rules = _rules(params)
    with ExitStack() as unfinished:
        shards: dict[str, _Shard] = {}

        def row_jobs() -> Iterator[RowJob]:
            for folder, jobs in missing.items():
                shard = _Shard(folder, jobs)
                unfinished.push(shard.leave)
                if not jobs:
                    shard.finish()
                shards[str(shard.fresh)] = shard
                for row, job in enumerate(jobs):
                    yield RowJob(job, places[job.file], rules, str(shard.fresh), row)

        with closing(guarded_map(decode_into_row, row_jobs(), workers, limits)) as results:
            for job, result in track(results, "decode", total=clips):
                shards[job.folder].take(job, result)


class _Shard:
    """A folder of decoded clips in work: under a temporary name until its last clip is done.

    It holds the arrays, a row a usable clip, ordered by file; ``rows.parquet`` and ``rejected.json``.
    """

    def __init__(self, folder: Path, jobs: list[ClipJob]) -> None:
        self._jobs = jobs
        self._replacing = replacing(folder)
        self._results: dict[int, Decoded | Rejection] = {}
        self.fresh = self._replacing.__enter__()
        self.leave = self._replacing.__exit__
        self.fresh.mkdir()
        create_arrays(self.fresh, len(jobs))

    def take(self, job: RowJob, result: Decoded | Refused | Lost) -> None:
        file = job.clip.file
        if isinstance(result, Refused):
            self._results[job.row] = Rejection(file, "extract", result.reason, result.detail)
        elif isinstance(result, Lost):
            self._results[job.row] = Rejection(file, "extract", _REASONS[result.how], result.detail)
        else:
            self._results[job.row] = result
        if len(self._results) == len(self._jobs):
            self.finish()

    def finish(self) -> None:
        used, rows, rejected = [], [], []
        for row, job in enumerate(self._jobs):
            result = self._results[row]
            if isinstance(result, Rejection):
                rejected.append(result)
                continue
            used.append(row)
            rows.append((job.file, *result.present, result.valid_frames))
        if rejected:
            _keep_rows(self.fresh, used)
        table = pd.DataFrame(rows, columns=["file", *PRESENT_COLUMNS, "valid_frames"])
        table.to_parquet(self.fresh / "rows.parquet", index=False)
        write_json(self.fresh / "rejected.json", [asdict(rejection) for rejection in rejected])
        self.leave(None, None, None)


def _keep_rows(folder: Path, used: list[int]) -> None:
    """Make the arrays in ``folder`` anew of their rows ``used``; no more than a row is held."""
    with replacing(folder / "kept") as kept:
        kept.mkdir()
        arrays = create_arrays(kept, len(used))
        for name in MODALITIES:
            every = np.load(folder / f"{name}.npy", mmap_mode="r")
            for row, old in enumerate(used):
                arrays[name][row] = every[old]
    for name in MODALITIES:
        (folder / "kept" / f"{name}.npy").replace(folder / f"{name}.npy")
    (folder / "kept").rmdir()
