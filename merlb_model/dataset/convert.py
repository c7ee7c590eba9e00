"""The ``convert`` stage: decoded shards and labels joined into the clip store."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from merlb_model.corpus.annotations import read_annotations
from merlb_model.dataset.extract import shard_rejections
from merlb_model.dataset.store import BLOCK_ROWS, CLIP_COLUMNS, create_arrays, read_table, release_pages, seal_store
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, replacing
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.params import ConvertParams
from merlb_model.progress import track


def convert(raw: Path, extracted: Sequence[Path], params: ConvertParams, out: Path, cache: Path | None) -> None:
    """Join the shards that ``extracted`` names with the labels of ``raw``; leave the store in ``out``.

    Args:
        raw: what ``merlb ingest`` left; ``clips/`` is not read.
        extracted: what ``merlb extract`` left, one folder or one a shard.
        params: the stage's parameters.
        out: the store's folder.
        cache: where decoded shards are kept; None looks in each folder of ``extracted``.

    Raises:
        MerlbError: a decoded shard is gone, or no clip is both decoded and labelled.
    """
    del params  # the stage has none yet; drivers pass the section all the same
    folders = _shard_folders(extracted, cache)
    annotations, rejected = read_annotations(raw / "annotations.csv")
    labels = {annotation.file: annotation for annotation in annotations}
    # A clip that is not labelled yet is no annotated clip that was lost.
    reasons: Counter[str] = Counter(rejection.reason for rejection in rejected if rejection.reason != "no_label")
    places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
    for folder in folders:
        reasons.update(rejection.reason for rejection in shard_rejections(folder))
        rows = read_table(folder / "rows.parquet", "merlb extract", ("file", "valid_frames"))
        for index, values in enumerate(rows.to_numpy(dtype=object)):
            row = dict(zip(rows.columns, values, strict=True))
            places[row["file"]] = (folder, index, row)
    files = sorted(set(places) & set(labels))
    if not files:
        raise MerlbError(
            f"{raw}: none of {len(places)} decoded clips has a label row among {len(labels)}; "
            "see quarantine.csv for the reasons"
        )
    clips = pd.DataFrame(
        [
            {**places[file][2], "streamer": labels[file].streamer, "game": labels[file].game,
             "table": labels[file].table, **{task: labels[file].labels[task] for task in TASKS}}
            for file in files
        ]
    )[list(CLIP_COLUMNS)]  # fmt: skip
    with replacing(out) as fresh:
        fresh.mkdir()
        arrays = create_arrays(fresh, len(files))
        _fill(arrays, [(places[file][0], places[file][1]) for file in files])
        seal_store(fresh, arrays, clips, _provenance(raw, labels, reasons))


def _provenance(raw: Path, labels: dict[str, Any], reasons: Counter[str]) -> dict[str, Any]:
    return {
        "annotated": len(labels) + sum(reasons.values()),
        "quarantined": dict(sorted(reasons.items())),
        "source": "sample" if (raw / "truth.json").exists() else "folder",
    }


def _shard_folders(extracted: Sequence[Path], cache: Path | None) -> list[Path]:
    folders = [
        (cache or done) / f"{shard}-{key}"
        for done in extracted
        for shard, key in read_json(done / "shards.json", "merlb extract").items()
    ]
    for folder in folders:
        if not folder.is_dir():
            raise MerlbError(f"{folder}: the decoded shard is gone: run `merlb extract` again")
    return sorted(folders)


def _fill(arrays: dict[str, Any], places: list[tuple[Path, int]]) -> None:
    """Copy row by row; after each block, its shards are closed and its pages given back."""
    opened: dict[Path, dict[str, np.ndarray[Any, Any]]] = {}
    for row, (folder, index) in enumerate(track(places, "convert")):
        if row % BLOCK_ROWS == 0:
            opened.clear()
            release_pages(arrays.values())
        if folder not in opened:
            opened[folder] = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in MODALITIES}
        for name in MODALITIES:
            arrays[name][row] = opened[folder][name][index]
    for array in arrays.values():
        array.flush()
