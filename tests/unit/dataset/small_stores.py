"""Clip stores for tests that score and train: arrays of noise on disk, and bare rows without arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from merlb_model.dataset.store import ClipStore, create_arrays, open_store, seal_store
from tests.unit.dataset.synthetic_store import write_store


def write_noisy_store(folder: Path, streamers: int, clips_each: int, seed: int = 0) -> Path:
    """``write_store`` with noise in its arrays."""
    clips = open_store(write_store(folder, streamers, clips_each, seed)).clips
    random = np.random.default_rng(seed)
    arrays = create_arrays(folder, len(clips))
    for array in arrays.values():
        low, high = (-9_000, 9_000) if array.dtype == np.int16 else (0, 256)
        array[:] = random.integers(low, high, array.shape, dtype=array.dtype)
    seal_store(folder, arrays, clips, {"annotated": len(clips), "quarantined": {}, "source": "folder"})
    return folder


def bare_store(**columns: Any) -> ClipStore:
    """A store of the rows ``columns`` whose arrays hold nothing."""
    clips = pd.DataFrame(columns)
    nothing = np.zeros((len(clips), 0), np.uint8)
    return ClipStore(nothing, nothing, nothing.astype(np.int16), clips, {"store_hash": "5" * 64})
