from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import f1_score

from merlb_model.errors import MerlbError
from merlb_model.evaluation.compare import compare
from merlb_model.files import read_json, write_json
from merlb_model.params import Params, load_params
from merlb_model.training import cross_validate as module
from merlb_model.training.cross_validate import cross_validate
from tests.unit.dataset.small_stores import write_noisy_store

ROOT = Path(__file__).parents[3]


def quick() -> Params:
    params = load_params(ROOT / "params.yaml")
    model = params.model.model_copy(update={"modalities": ("audio",), "tasks": "emo"})
    train = params.train.model_copy(update={"epochs": 1, "batch_size": 2})
    split = params.split.model_copy(update={"validation": 0.3})
    return params.model_copy(update={"model": model, "train": train, "split": split})


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folds")
    write_noisy_store(folder / "store", 4, 2)
    write_json(folder / "validation.json", {"passed": True})
    return folder


def run(here: Path, folds: int | None, kept: str = "kept") -> dict:
    out = here / f"out-{folds}"
    return cross_validate(here / "store", here / "validation.json", quick(), folds, here / kept, out)


@pytest.fixture(scope="module")
def scores(here: Path) -> dict:
    return run(here, 2)


def test_each_clip_is_tested_once_by_a_network_that_never_saw_its_streamer(here: Path, scores: dict) -> None:
    table = pd.read_parquet(here / "out-2" / "predictions.parquet")
    clips = pd.read_parquet(here / "store" / "clips.parquet")
    assert sorted(table["file"]) == sorted(clips["file"])
    tested = []
    for folder in sorted((here / "kept").glob("*/fold-*")):
        split = read_json(folder / "reports" / "metrics.json", "merlb evaluate")["split"]
        assert all(split.values()) and not set(split["test"]) & {*split["train"], *split["validation"]}
        tested += split["test"]
        rows = pd.read_parquet(folder / "train_rows.parquet")["row"]
        assert set(clips["streamer"][rows]) == set(split["train"])
    assert sorted(tested) == sorted(set(clips["streamer"]))


def test_scores_are_over_all_clips_together(here: Path, scores: dict) -> None:
    table = pd.read_parquet(here / "out-2" / "predictions.parquet")
    assert set(scores["tasks"]) == {"valence", "arousal"} and scores["folds"] == 2
    for task, found in scores["tasks"].items():
        seen = sorted(set(table[task]))
        oracle = f1_score(table[task], table[f"{task}_predicted"], labels=seen, average="macro", zero_division=0)
        assert found["macro_f1"] == pytest.approx(oracle) and found["n"] == 8
    assert read_json(here / "out-2" / "scores.json", "merlb cross-validate") == scores
    assert compare(here / "out-2", here / "out-2").clips == 8


def test_what_is_done_is_not_done_again(here: Path, scores: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run(here, 2) == scores


def test_another_setting_begins_anew(here: Path, scores: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise MerlbError("trains")

    monkeypatch.setattr(module, "train", reached)
    changed = quick().model_copy(update={"train": quick().train.model_copy(update={"learning_rate": 1e-4})})
    with pytest.raises(MerlbError, match="trains"):
        cross_validate(here / "store", here / "validation.json", changed, 2, here / "kept", here / "out-2")
    with pytest.raises(MerlbError, match="trains"):
        run(here, None)


def test_too_many_folds_are_refused_before_anything_is_trained(here: Path) -> None:
    with pytest.raises(MerlbError, match="4 streamers cannot fill 5 folds"):
        run(here, 5, "none")
    assert not (here / "none").exists()
