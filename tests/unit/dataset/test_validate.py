from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from merlb_model import schemas
from merlb_model.dataset.split import split
from merlb_model.dataset.store import open_store, seal_store
from merlb_model.dataset.validate import validate
from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.params import SplitParams, ValidateParams, load_params
from tests.unit.dataset.small_stores import write_noisy_store

ROOT = Path(__file__).parents[3]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """18 clips of noise, no two alike, of 6 streamers, and their splits."""
    write_noisy_store(tmp_path / "store", 6, 3)
    split(tmp_path / "store", SplitParams(), tmp_path / "splits.parquet")
    return tmp_path


def run(work: Path, **params: Any) -> list[str]:
    """The warnings; ``classes`` is quiet, for 18 clips cannot hold every class in every split."""
    asked = {"minimum_class_clips": 0, **params}
    out, page = work / "validation.json", work / "validation.html"
    broken = validate(work / "store", work / "splits.parquet", ValidateParams(**asked), out, page)
    assert all(rule.kind == "soft" and not rule.passed for rule in broken)
    return [f"{rule.rule}: {rule.found}" for rule in broken]


def report_of(work: Path) -> dict[str, Any]:
    report = read_json(work / "validation.json", "")
    schemas.check("validation", report, where="validation.json", made_by="merlb validate")
    return report


def refuse(work: Path, message: str, **params: Any) -> dict[str, Any]:
    """A hard rule stops the run with one line, and report and page are written all the same."""
    with pytest.raises(MerlbError, match=message) as raised:
        run(work, **params)
    assert "\n" not in str(raised.value)
    assert "broken: stops the run" in (work / "validation.html").read_text(encoding="utf-8")
    report = report_of(work)
    assert not report["passed"]
    return report


def rows_of(work: Path, name: str) -> list[int]:
    return np.flatnonzero(pd.read_parquet(work / "splits.parquet")["split"] == name).tolist()


def rewrite(
    work: Path,
    table: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table,
    meta: dict[str, Any] | None = None,
    **arrays: Callable[[Any], None],
) -> None:
    """Change the store of ``work`` and seal it anew, as if `convert` had left it so."""
    store = open_store(work / "store")
    for name, change in arrays.items():
        change(np.load(work / "store" / f"{name}.npy", mmap_mode="r+"))
    kept = {name: store.meta[name] for name in ("annotated", "quarantined", "source")}
    seal_store(work / "store", store.arrays, table(store.clips), {**kept, **(meta or {})})


def copy_clip(work: Path, source: int, target: int) -> None:
    def change(array: Any) -> None:
        array[target] = array[source]

    rewrite(work, face=change, screen=change, audio=change)


def test_a_sound_store_passes_without_a_warning(work: Path) -> None:
    assert run(work) == []
    report = report_of(work)
    assert report["passed"] and report["schema_version"] == 2
    assert sum(report["clips"].values()) == 18
    assert sum(report["classes"]["event"]["train"].values()) == report["clips"]["train"] == 9
    assert (work / "validation.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_shipped_thresholds_are_the_defaults() -> None:
    assert load_params(ROOT / "params.yaml").validate_ == ValidateParams()


def test_a_changed_array_is_found(work: Path) -> None:
    array = np.load(work / "store" / "audio.npy", mmap_mode="r+")
    array[3, 4, 5] += 1
    array.flush()
    refuse(work, "the store is what convert wrote")


def test_an_array_of_another_shape_is_found(work: Path) -> None:
    np.save(work / "store" / "face.npy", np.zeros((18, 20, 32, 32, 3), np.uint8))
    refuse(work, r"store and splits can be read: found .*face\.npy: uint8 \(18, 20, 32, 32, 3\)")


def test_an_array_of_another_type_is_found(work: Path) -> None:
    np.save(work / "store" / "audio.npy", np.zeros((18, 20, 5512), np.float32))
    refuse(work, r"store and splits can be read: found .*audio\.npy: float32")


def test_a_row_too_many_is_found(work: Path) -> None:
    table = pd.read_parquet(work / "store" / "clips.parquet")
    table.iloc[:-1].to_parquet(work / "store" / "clips.parquet")
    refuse(work, r"store and splits can be read: found .*\(17, 20")


def test_a_stage_that_has_not_run_is_no_finding(work: Path) -> None:
    (work / "splits.parquet").unlink()
    with pytest.raises(MerlbError, match="run `merlb split` first"):
        run(work)
    assert not (work / "validation.json").exists()


def test_a_nan_in_the_table_is_found(work: Path) -> None:
    rewrite(work, lambda table: table.assign(game=[None, *table["game"][1:]]))
    refuse(work, "the clip table keeps its schema: found game")


def test_labels_that_do_not_add_up_to_one_are_found(work: Path) -> None:
    rewrite(work, lambda table: table.assign(valence=["angry", *table["valence"][1:]]))
    refuse(work, r"valence labels add up to one: found 0000_s00_x\.mp4 \(angry\)")


def test_an_absent_modality_that_is_not_zero_is_found(work: Path) -> None:
    rewrite(work, lambda table: table.assign(present_face=[False] * 2 + [True] * 16))
    refuse(work, r"absent modalities hold zeros: found 0000_s00_x\.mp4 \(face\), 0001_s00_x\.mp4 \(face\)")


def test_a_streamer_in_two_splits_is_found(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    streamer = splits["streamer"][0]
    splits.loc[0, "split"] = "test" if splits["split"][0] != "test" else "train"
    splits.to_parquet(work / "splits.parquet")
    refuse(work, f"no streamer is in two splits: found {streamer}")
    assert run(work, hard=[]) == [f"no streamer is in two splits: {streamer}"]


def test_the_published_split_may_share_streamers_with_a_warning(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    tested = open_store(work / "store").clips["table"] == "testing"
    splits.assign(split=np.where(tested, "test", "train")).to_parquet(work / "splits.parquet")
    assert [warning for warning in run(work) if warning.startswith("no streamer is in two splits: s00")]


def test_splits_of_another_store_are_found(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    splits.iloc[:-1].to_parquet(work / "splits.parquet")
    refuse(work, "every clip has one split")


def test_a_split_without_a_name_is_found(work: Path) -> None:
    splits = pd.read_parquet(work / "splits.parquet")
    splits.assign(split="holdout").to_parquet(work / "splits.parquet")
    refuse(work, "the split table keeps its schema: found split: 'holdout' .*18 rows")


def test_too_few_clips_and_too_many_quarantined_stop_the_run(work: Path) -> None:
    refuse(work, "enough clips: found 18", minimum_clips=19)
    rewrite(work, meta={"annotated": 36, "quarantined": {"undecodable": 18}})
    refuse(work, r"few clips are quarantined: found 50\.0%", maximum_quarantined=0.3)
    assert run(work, maximum_quarantined=0.3, hard=[]) == ["few clips are quarantined: 50.0%"]


def test_many_annotations_that_are_not_one_hot_warn(work: Path) -> None:
    rewrite(work, meta={"annotated": 20, "quarantined": {"invalid_label": 2}})
    assert run(work) == ["annotated labels add up to one: 2 of 20 rows do not (10.0%)"]
    assert run(work, maximum_invalid_labels=0.1) == []


def test_a_rare_class_warns_in_each_split_and_goes_on(work: Path) -> None:
    warnings = run(work, minimum_class_clips=1000)
    assert [warning.split(":")[0] for warning in warnings] == [
        f"clips a class in {name}" for name in ("train", "validation", "test")
    ]
    refuse(work, "clips a class in train", minimum_class_clips=1000, hard=["classes"])


def test_a_near_duplicate_in_another_split_stops_the_run_and_is_named(work: Path) -> None:
    train, test = rows_of(work, "train")[0], rows_of(work, "test")[0]
    copy_clip(work, train, test)
    names = open_store(work / "store").clips["file"]
    report = refuse(work, "no clip has a near-duplicate in another split: found 1 pair")
    (pair,) = report["near_duplicates"]["pairs"]
    assert set(pair["files"]) == {names[train], names[test]} and set(pair["splits"]) == {"train", "test"}
    assert pair["bits"] == 0 and pair["offset_seconds"] == 0 and pair["sound"] == pytest.approx(1)
    assert len(run(work, hard=["quarantined", "streamers"])) == 1


def test_a_near_duplicate_in_its_own_split_warns(work: Path) -> None:
    first, second = rows_of(work, "train")[:2]
    copy_clip(work, first, second)
    (warning,) = run(work)
    assert warning.startswith("few clips have a near-duplicate in their own split: 2 of 18 (11.1%)")
    assert run(work, maximum_doubled=0.12) == []


def silence(array: Any) -> None:
    array[:2] = 0


def darken(array: Any) -> None:
    array[:2] = np.random.default_rng(0).integers(0, 6, array[:2].shape)


def freeze(array: Any) -> None:
    array[:2] = array[:2, :1]


@pytest.mark.parametrize(
    ("modality", "change", "defect", "rule"),
    [
        ("audio", silence, "silent audio", "silent"),
        ("screen", darken, "black screen", "black"),
        ("face", darken, "black face", "black"),
        ("screen", freeze, "frozen screen", "frozen"),
        ("face", freeze, "frozen face", "frozen"),
    ],
)
def test_defective_clips_warn_and_are_named(
    work: Path, modality: str, change: Callable[[Any], None], defect: str, rule: str
) -> None:
    rewrite(work, **{modality: change})
    (warning,) = [warning for warning in run(work) if "clips with" in warning]
    assert warning == f"few clips with {defect}: 2 of 18 (11.1%): 0000_s00_x.mp4, 0001_s00_x.mp4"
    assert report_of(work)["defects"][defect] == {"n": 2, "files": ["0000_s00_x.mp4", "0001_s00_x.mp4"]}
    assert not [warning for warning in run(work, **{f"maximum_{rule}": 0.12}) if "clips with" in warning]
    refuse(work, f"few clips with {defect}", hard=[rule])


def test_test_clips_unlike_the_training_clips_warn(tmp_path: Path) -> None:
    write_noisy_store(tmp_path / "store", 12, 2)
    split(tmp_path / "store", SplitParams(), tmp_path / "splits.parquet")
    tested = rows_of(tmp_path, "test")

    def soften(array: Any) -> None:
        array[tested] //= 8

    rewrite(tmp_path, audio=soften)
    (warning,) = [warning for warning in run(tmp_path) if "loudness" in warning]
    assert warning.startswith("loudness: test is like training: index ")
    drift = next(drift for drift in report_of(tmp_path)["drift"] if drift["feature"] == "loudness")
    assert drift["drifts"] and drift["test"][0] == 1
    refuse(tmp_path, "loudness: test is like training", hard=["drift"])
    assert not [warning for warning in run(tmp_path, maximum_psi=50) if "loudness" in warning]
