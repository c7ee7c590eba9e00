"""The clip store: arrays made from clips; row i of each array and of the table is the same clip."""

import hashlib
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.files import read_json, replacing, sha256_of_json, write_json
from merlb_model.labels import MODALITIES, TASKS

STEPS: Final = 20
"""Time steps of a window: a frame and an audio slice each 0.25 s."""
SLICE_SAMPLES: Final = 5512
"""Samples of an audio slice, at 22,050 Hz mono."""
SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "face": (STEPS, 64, 64, 3),
    "screen": (STEPS, 128, 128, 3),
    "audio": (STEPS, SLICE_SAMPLES),
}
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "face": np.dtype("uint8"),
    "screen": np.dtype("uint8"),
    "audio": np.dtype("<i2"),
}
PRESENT_COLUMNS: Final = tuple(f"present_{modality}" for modality in MODALITIES)
CLIP_COLUMNS: Final = ("file", "streamer", "game", "table", *TASKS, *PRESENT_COLUMNS, "valid_frames")
"""``table`` is the annotation table a row came from (``training``, ``testing``, or empty)."""
SCHEMA_VERSION: Final = 1
BLOCK_ROWS: Final = 64
"""Rows worked on at once where all of a store is gone through: 92 MB."""
_MADE_BY = "merlb convert"


@dataclass(frozen=True)
class ClipStore:
    """A store opened for reading; the arrays are memory-mapped.

    Attributes:
        face: u8 (N, 20, 64, 64, 3), RGB.
        screen: u8 (N, 20, 128, 128, 3), RGB, the webcam painted black.
        audio: i16 (N, 20, 5512), 22,050 Hz mono.
        clips: one row a clip, ordered by file, with the columns ``CLIP_COLUMNS``; labels as words.
        meta: the content of ``meta.json``.
    """

    face: NDArray[np.uint8]
    screen: NDArray[np.uint8]
    audio: NDArray[np.int16]
    clips: pd.DataFrame
    meta: dict[str, Any]

    @property
    def store_hash(self) -> str:
        """SHA-256 of the arrays' data and the canonical rows."""
        return str(self.meta["store_hash"])

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The three arrays by modality, in the order of ``MODALITIES``."""
        return {"face": self.face, "screen": self.screen, "audio": self.audio}

    @property
    def present(self) -> NDArray[np.float32]:
        """Presence of each modality: f32 (N, 3), 1 or 0."""
        return self.clips[list(PRESENT_COLUMNS)].to_numpy(dtype=np.float32)

    def targets(self, task: str) -> NDArray[np.int64]:
        """Class indices of ``task``, i64 (N,)."""
        order = {label: index for index, label in enumerate(TASKS[task])}
        return np.array([order[label] for label in self.clips[task]], dtype=np.int64)


def create_arrays(folder: Path, clips: int) -> dict[str, NDArray[Any]]:
    """Make the store's memory-mapped, zeroed ``.npy`` files of ``clips`` rows in ``folder``."""
    return {
        modality: np.lib.format.open_memmap(
            folder / f"{modality}.npy", mode="w+", dtype=DTYPES[modality], shape=(clips, *SHAPES[modality])
        )
        for modality in MODALITIES
    }


def release_pages(arrays: Iterable[NDArray[Any]]) -> None:
    """Give back the memory of whole memory-mapped arrays: what was read or written so far stays in their files.

    Without it every page that was ever touched counts as this process's memory. Arrays in memory are left alone.
    """
    for array in arrays:
        mapping = getattr(array, "base", None)
        if isinstance(array, np.memmap) and array.mode != "c" and isinstance(mapping, mmap.mmap):
            mapping.madvise(mmap.MADV_DONTNEED)


def compute_store_hash(arrays: dict[str, NDArray[Any]], clips: pd.DataFrame) -> str:
    """SHA-256 over the arrays' data and the canonical rows, never over files (Parquet's bytes are not stable)."""
    digest = hashlib.sha256()
    for modality in MODALITIES:
        array = arrays[modality]
        digest.update(f"{modality}:{array.dtype.str}:{array.shape}".encode())
        for first in range(0, len(array), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(array[first : first + BLOCK_ROWS]).data)
            release_pages([array])
    rows = clips[list(CLIP_COLUMNS)].to_dict(orient="records")
    digest.update(sha256_of_json([{name: _plain(value) for name, value in row.items()} for row in rows]).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def seal_store(folder: Path, arrays: dict[str, NDArray[Any]], clips: pd.DataFrame, extra: dict[str, Any]) -> str:
    """Write ``clips.parquet`` and ``meta.json`` beside the arrays in ``folder`` and return the store's hash."""
    store_hash = compute_store_hash(arrays, clips)
    clips[list(CLIP_COLUMNS)].to_parquet(folder / "clips.parquet", index=False)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "store_hash": store_hash,
        "clips": len(clips),
        "arrays": {
            name: {"dtype": array.dtype.name, "shape": [int(size) for size in array.shape]}
            for name, array in arrays.items()
        },
        **extra,
    }
    write_json(folder / "meta.json", meta)
    return store_hash


def open_store(folder: Path) -> ClipStore:
    """Open the store that ``merlb convert`` wrote in ``folder``.

    Raises:
        MerlbError: it is missing, of another schema version, or its parts do not belong together.
    """
    meta = read_json(folder / "meta.json", _MADE_BY)
    if meta.get("schema_version") != SCHEMA_VERSION:
        raise MerlbError(
            f"{folder}: a store of schema version {meta.get('schema_version')}, this merlb reads "
            f"{SCHEMA_VERSION}: run `{_MADE_BY}` again"
        )
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in MODALITIES}
        clips = pd.read_parquet(folder / "clips.parquet")
    except (OSError, ValueError) as error:
        raise MerlbError(f"{folder}: {error}: run `{_MADE_BY}` again") from None
    for name, array in arrays.items():
        if array.shape != (len(clips), *SHAPES[name]) or array.dtype != DTYPES[name]:
            raise MerlbError(
                f"{folder / name}.npy: {array.dtype} {array.shape}, expected {DTYPES[name]} "
                f"{(len(clips), *SHAPES[name])}: run `{_MADE_BY}` again"
            )
    return ClipStore(arrays["face"], arrays["screen"], arrays["audio"], clips, meta)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table, whole or not at all."""
    with replacing(path) as fresh:
        table.to_parquet(fresh, index=False)


def read_table(path: Path, made_by: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a Parquet table that the command ``made_by`` writes.

    Raises:
        MerlbError: it is missing, unreadable or lacks a column.
    """
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise MerlbError(f"{path} is missing: run `{made_by}` first") from None
    except (OSError, ValueError) as error:
        raise MerlbError(f"{path}: {error}: run `{made_by}` again") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MerlbError(f"{path}: no column {', '.join(missing)}: run `{made_by}` again")
    return table
