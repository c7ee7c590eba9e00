"""The clip store's loader against the original's way, clips a second: one ``.npy`` of f64 for each clip and modality.

Both read the same clips, which lie in a temporary folder and in the page cache, and hand out batches of arrays.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from interleaved import medians
from numpy.typing import NDArray

from merlb_model.dataset.loader import batches
from merlb_model.dataset.store import ClipStore, create_arrays, open_store, seal_store
from merlb_model.labels import MODALITIES, TASKS

CLIPS = 64
BATCH = 16


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = _store(Path(folder) / "store")
        clips = _one_file_each(store, Path(folder) / "clips")
        rows = np.arange(CLIPS)
        ours, original = medians(
            lambda: sum(len(windows["face"]) for windows, _ in batches(store, rows, BATCH, tuple(TASKS), 7)),
            lambda: sum(len(windows["face"]) for windows in _original(clips)),
            rounds=5,
        )
    values = sum(array[0].size for array in store.arrays.values())
    stored = sum(array[0].nbytes for array in store.arrays.values())
    print(f"an epoch of {CLIPS} clips in batches of {BATCH}")
    print(f"  the store's loader    {CLIPS / ours:6.0f} clips a second, {stored / 1e6:.1f} MB a clip")
    print(f"  np.load of f64 a clip {CLIPS / original:6.0f} clips a second, {8 * values / 1e6:.1f} MB a clip")
    print(f"  {original / ours:.1f} times as fast")


def _store(folder: Path) -> ClipStore:
    random = np.random.default_rng(7)
    folder.mkdir()
    arrays = create_arrays(folder, CLIPS)
    for array in arrays.values():
        bounds = np.iinfo(array.dtype)
        array[:] = random.integers(bounds.min, bounds.max, array.shape, array.dtype, endpoint=True)
    clips = pd.DataFrame(
        {
            "file": [f"{index:02d}_a_b.mp4" for index in range(CLIPS)],
            "streamer": "a",
            "game": "",
            "table": "",
            **{task: random.choice(labels, CLIPS) for task, labels in TASKS.items()},
            **{f"present_{name}": True for name in MODALITIES},
            "valid_frames": 20,
        }
    )
    seal_store(folder, arrays, clips, {})
    return open_store(folder)


def _one_file_each(store: ClipStore, folder: Path) -> Path:
    for index in range(CLIPS):
        (folder / str(index)).mkdir(parents=True)
        for name, array in store.arrays.items():
            np.save(folder / str(index) / f"{name}.npy", array[index].astype(np.float64) / np.iinfo(array.dtype).max)
    return folder


def _original(clips: Path) -> Iterator[dict[str, NDArray[Any]]]:
    order = np.random.default_rng(7).permutation(CLIPS)
    for first in range(0, CLIPS, BATCH):
        chosen = order[first : first + BATCH]
        yield {name: np.array([np.load(clips / str(index) / f"{name}.npy") for index in chosen]) for name in MODALITIES}


if __name__ == "__main__":
    main()
