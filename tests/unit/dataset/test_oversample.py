from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.dataset.oversample import balance, one_hot, oversample
from merlb_model.dataset.split import split
from merlb_model.dataset.store import open_store
from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.params import OversampleParams, SplitParams
from tests.unit.dataset.synthetic_store import write_store


def test_classes_of_one_task_are_balanced() -> None:
    targets = np.array([0] * 6 + [1] * 3 + [2] * 2)
    repeats = balance(one_hot([targets], [3]), maximum_repeats=5, seed=1)
    assert np.bincount(targets, weights=repeats).tolist() == [6, 6, 6]
    assert (repeats[:6] == 1).all()


def test_only_clips_that_lack_the_commonest_class_are_repeated() -> None:
    # class 0 has rows 0-3, class 1 rows 3 and 4: row 3 has both, so row 4 alone is repeated, twice
    has = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 1]], bool)
    assert balance(has, maximum_repeats=9, seed=0).tolist() == [1, 1, 1, 1, 3]


def test_it_ends_when_no_clip_is_left() -> None:
    has = np.array([[1, 1], [1, 0], [1, 0]], bool)  # the only clip of the rarest class has the commonest too
    assert balance(has, maximum_repeats=9, seed=0).tolist() == [1, 1, 1]


def test_a_clip_is_used_so_often_at_most_and_uses_are_spread() -> None:
    targets = np.array([0] * 20 + [1, 1])
    assert balance(one_hot([targets], [2]), 3, 0)[20:].tolist() == [3, 3]
    repeats = balance(one_hot([np.array([0] * 8 + [1, 1, 1])], [2]), 9, 0)[8:]
    assert repeats.sum() == 8 and repeats.max() - repeats.min() <= 1


def _prepare(tmp_path: Path) -> tuple[Path, Path, Path]:
    store = write_store(tmp_path / "store", 20, 3)
    split(store, SplitParams(), tmp_path / "splits.parquet")
    write_json(tmp_path / "validation.json", {"passed": True})
    return store, tmp_path / "splits.parquet", tmp_path / "validation.json"


def test_only_training_rows_are_used_and_the_seed_decides(tmp_path: Path) -> None:
    inputs = _prepare(tmp_path)
    params = OversampleParams(tasks=("event",), seed=3)
    oversample(*inputs, params, tmp_path / "a.parquet")
    oversample(*inputs, params, tmp_path / "b.parquet")
    rows = pd.read_parquet(tmp_path / "a.parquet")
    splits = pd.read_parquet(inputs[1])
    assert rows["row"].tolist() == splits.loc[splits["split"] == "train", "row"].tolist()
    assert rows.equals(pd.read_parquet(tmp_path / "b.parquet"))
    events = open_store(inputs[0]).targets("event")[rows["row"]]
    plain, used = np.bincount(events, minlength=8), np.bincount(events, weights=rows["repeats"], minlength=8)
    assert used.max() - used.min() < plain.max() - plain.min()


def test_no_tasks_is_no_oversampling(tmp_path: Path) -> None:
    oversample(*_prepare(tmp_path), OversampleParams(tasks=()), tmp_path / "a.parquet")
    assert set(pd.read_parquet(tmp_path / "a.parquet")["repeats"]) == {1}


def test_a_store_that_failed_validation_is_refused(tmp_path: Path) -> None:
    store, splits, validation = _prepare(tmp_path)
    write_json(validation, {"passed": False})
    with pytest.raises(MerlbError, match="a hard rule is broken"):
        oversample(store, splits, validation, OversampleParams(), tmp_path / "a.parquet")
