import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.dataset.store import CLIP_COLUMNS, compute_store_hash, open_store
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, write_json
from tests.unit.dataset.synthetic_store import write_store


def test_the_hash_is_over_data_and_rows_as_documented(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store", 2, 2))
    digest = hashlib.sha256()
    for name, dtype, shape in (
        ("face", "|u1", (4, 20, 64, 64, 3)),
        ("screen", "|u1", (4, 20, 128, 128, 3)),
        ("audio", "<i2", (4, 20, 5512)),
    ):
        digest.update(f"{name}:{dtype}:{shape}".encode() + np.ascontiguousarray(store.arrays[name]).tobytes())
    rows = json.loads(store.clips[list(CLIP_COLUMNS)].to_json(orient="records"))
    canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    digest.update(hashlib.sha256(canonical.encode()).hexdigest().encode())
    assert store.store_hash == digest.hexdigest()


def test_the_hash_sees_a_sample_and_a_label_but_no_file_layout(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store", 2, 2))
    arrays = {name: np.array(array) for name, array in store.arrays.items()}
    assert compute_store_hash(arrays, store.clips) == store.store_hash
    arrays["audio"][0, 0, 0] += 1
    assert compute_store_hash(arrays, store.clips) != store.store_hash
    arrays["audio"][0, 0, 0] -= 1
    relabelled = store.clips.assign(valence=store.clips["valence"].replace({"neutral": "positive"}))
    assert compute_store_hash(arrays, relabelled) != store.store_hash


def test_targets_are_indices_in_the_tasks_order(tmp_path: Path) -> None:
    store = open_store(write_store(tmp_path / "store", 3, 3))
    names = np.array(["negative", "neutral", "positive"])
    assert names[store.targets("valence")].tolist() == store.clips["valence"].tolist()


def test_a_missing_store_an_older_version_and_a_cut_array_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match="run `merlb convert` first"):
        open_store(tmp_path / "none")
    folder = write_store(tmp_path / "store", 2, 2)
    meta = read_json(folder / "meta.json", "")
    write_json(folder / "meta.json", {**meta, "schema_version": 0})
    with pytest.raises(MerlbError, match="schema version 0"):
        open_store(folder)
    write_json(folder / "meta.json", meta)
    pd.read_parquet(folder / "clips.parquet").iloc[:2].to_parquet(folder / "clips.parquet")
    with pytest.raises(MerlbError, match=r"face\.npy"):
        open_store(folder)
