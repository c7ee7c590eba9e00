from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.dataset.split import split
from merlb_model.dataset.validate import validate
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, write_json
from merlb_model.params import SplitParams, ValidateParams
from tests.unit.dataset.synthetic_store import write_store


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_store(tmp_path / "store", 10, 4)
    split(tmp_path / "store", SplitParams(), tmp_path / "splits.parquet")
    return tmp_path


def run(work: Path, **params: float) -> dict:
    validate(work / "store", work / "splits.parquet", ValidateParams(**params), work / "validation.json")
    return read_json(work / "validation.json", "")


def test_a_sound_store_passes(work: Path) -> None:
    report = run(work)
    assert report["passed"] and all(rule["passed"] for rule in report["rules"] if rule["kind"] == "hard")
    assert sum(report["clips"].values()) == 40


def test_a_changed_array_is_found(work: Path) -> None:
    array = np.load(work / "store" / "audio.npy", mmap_mode="r+")
    array[3, 4, 5] = 1
    array.flush()
    with pytest.raises(MerlbError, match="the store is what convert wrote"):
        run(work)
    assert not read_json(work / "validation.json", "")["passed"]


def test_a_streamer_in_two_splits_is_found(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    streamer = splits["streamer"][0]
    splits.loc[0, "split"] = "test" if splits["split"][0] != "test" else "train"
    splits.to_parquet(work / "splits.parquet")
    with pytest.raises(MerlbError, match=f"no streamer is in two splits: found {streamer}"):
        run(work)


def test_splits_of_another_store_are_found(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    splits.iloc[:-1].to_parquet(work / "splits.parquet")
    with pytest.raises(MerlbError, match="every clip has one split"):
        run(work)


def test_too_few_clips_and_too_many_quarantined_stop_the_run(work: Path) -> None:
    with pytest.raises(MerlbError, match="enough clips: found 40"):
        run(work, minimum_clips=41)
    meta = read_json(work / "store" / "meta.json", "")
    write_json(work / "store" / "meta.json", {**meta, "annotated": 80, "quarantined": {"undecodable": 40}})
    with pytest.raises(MerlbError, match=r"few clips are quarantined: found 50\.0%"):
        run(work, maximum_quarantined=0.3)


def test_a_rare_class_warns_and_goes_on(work: Path) -> None:
    broken = validate(
        work / "store", work / "splits.parquet", ValidateParams(minimum_class_clips=1000), work / "validation.json"
    )
    assert len(broken) == 14 and all(rule.kind == "soft" for rule in broken)
