import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.errors import MerlbError
from merlb_model.evaluation import evaluate as stage  # its test_scores would be taken for a test
from merlb_model.evaluation.predict import predict_logits
from merlb_model.files import read_json, write_json
from merlb_model.labels import TASKS
from merlb_model.nn import keras
from merlb_model.nn.model import weights_hash
from merlb_model.params import EvaluateParams
from merlb_model.schemas import check
from merlb_model.tracking import NoRun
from tests.unit.dataset.small_stores import bare_store, write_noisy_store
from tests.unit.nn.conftest import PRIOR, build, shake

PARAMS = EvaluateParams(batch_size=4)
SPLIT = np.array(["train"] * 2 + ["validation"] * 4 + ["test"] * 4)  # of five streamers with two clips each


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy_store(tmp_path_factory.mktemp("noise") / "store", 5, 2)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return shake(build(modalities=("audio",)))


@pytest.fixture(scope="module")
def models(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    network.save(folder / "merlb.keras")
    pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]}).to_csv(folder / "history.csv", index=False)
    write_json(folder / "run.json", {"run_id": "", "weights_hash": weights_hash(network)})
    return folder


def write_splits(path: Path, store: Path, split: np.ndarray = SPLIT) -> Path:
    table = pd.DataFrame({"row": range(len(split)), "file": open_store(store).clips["file"], "split": split})
    table.sample(frac=1, random_state=1).to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def reports(models: Path, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    stage.evaluate(models, store, write_splits(folder / "splits.parquet", store), PARAMS, folder / "reports")
    return folder / "reports"


def test_it_leaves_scores_tables_and_figures_and_nothing_else(reports: Path) -> None:
    left = {str(path.relative_to(reports)) for path in reports.rglob("*") if path.is_file()}
    assert left == {
        "metrics.json", "predictions.parquet", "calibration.json", "slices.csv",
        "figures/reliability.png", "figures/training.png",
        *(f"confusion/{task}.csv" for task in TASKS), *(f"figures/confusion_{task}.png" for task in TASKS),
    }  # fmt: skip
    assert {name.split("/")[0] for name in left} == set(stage.LEFT)


def test_metrics_are_of_the_test_rows_alone_and_name_store_weights_and_streamers(
    reports: Path, store: Path, network: keras.Model
) -> None:
    metrics, clips = read_json(reports / "metrics.json", ""), open_store(store)
    table = pd.read_parquet(reports / "predictions.parquet")
    test = table[table["split"] == "test"]
    assert table["file"].tolist() == clips.clips["file"].tolist() and table["split"].tolist() == SPLIT.tolist()
    for task, scores in metrics["tasks"].items():
        labels = np.unique(test[task])
        expected = f1_score(test[task], test[f"{task}_predicted"], labels=labels, average="macro", zero_division=0)
        assert scores["n"] == 4 and scores["macro_f1"] == pytest.approx(expected)
        assert scores["ci95"][0] <= scores["macro_f1"] <= scores["ci95"][1]
        counted = pd.read_csv(reports / "confusion" / f"{task}.csv")
        assert counted.to_numpy().tolist() == test[[task, f"{task}_predicted"]].to_numpy().tolist()
    assert metrics["split"] == {"train": ["s00"], "validation": ["s01", "s02"], "test": ["s03", "s04"]}
    assert metrics["intervals"]["over"] == "clips"  # of two streamers
    assert (metrics["store_hash"], metrics["weights_hash"]) == (clips.store_hash, weights_hash(network))


def test_no_task_is_scored_or_drawn_by_the_answers_to_another(tmp_path: Path) -> None:
    """Valence always right, arousal always one class off, event right in every other clip."""
    clips = bare_store(streamer=[f"s{index:02d}" for index in range(12)])
    split = np.array(["test"] * 12)
    actual = {"valence": np.arange(12) % 3, "arousal": np.arange(12) % 3, "event": np.arange(12) % 8}
    answered = {
        "valence": actual["valence"],
        "arousal": (actual["arousal"] + 1) % 3,
        "event": np.where(np.arange(12) % 2, actual["event"], (actual["event"] + 1) % 8),
    }
    answers = {task: np.eye(len(TASKS[task]), dtype=np.float32)[each] for task, each in answered.items()}
    scored = stage.Scored(actual, answers, answers, {}, {})
    scores = stage.test_scores(clips, split, scored)["tasks"]
    assert [scores[task]["uar"] for task in ("valence", "arousal")] == [1.0, 0.0]
    assert scores["event"]["macro_f1"] == pytest.approx(
        f1_score(actual["event"], answered["event"], average="macro", zero_division=0)
    )
    stage.write_pictures(tmp_path, tmp_path / "none.csv", split, scored)
    for task, classes in TASKS.items():
        drawn = pd.read_csv(tmp_path / "confusion" / f"{task}.csv")
        assert drawn["actual"].tolist() == [classes[each] for each in actual[task]]
        assert drawn["predicted"].tolist() == [classes[each] for each in answered[task]]


def test_predictions_are_the_networks_logits_over_the_temperature(
    reports: Path, store: Path, network: keras.Model
) -> None:
    logits = predict_logits(network, open_store(store), np.arange(10), 3)
    table, calibration = pd.read_parquet(reports / "predictions.parquet"), read_json(reports / "calibration.json", "")
    for task, classes in TASKS.items():
        expected = softmax(logits[task].astype(float) / calibration["temperature"][task], axis=1)
        found = table[[f"{task}_{label}" for label in classes]].to_numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert [list(classes).index(label) for label in table[f"{task}_predicted"]] == found.argmax(axis=1).tolist()
        assert calibration["nll_after"][task] <= calibration["nll_before"][task] + 1e-9


def test_calibration_before_and_after_is_of_the_test_rows(reports: Path, store: Path, network: keras.Model) -> None:
    logits = predict_logits(network, open_store(store), np.flatnonzero(SPLIT == "test"), 4)
    temperature = read_json(reports / "calibration.json", "")["temperature"]
    metrics, actual = read_json(reports / "metrics.json", ""), open_store(store).targets("event")[SPLIT == "test"]
    found = metrics["tasks"]["event"]["calibration"]
    for scores, by in ((found["before"], 1.0), (found, temperature["event"])):
        probabilities = softmax(logits["event"].astype(float) / by, axis=1)
        assert scores["nll"] == pytest.approx(log_loss(actual, probabilities, labels=range(8)), rel=1e-4)
        squares = ((probabilities - np.eye(8)[actual]) ** 2).sum(axis=1)
        assert scores["brier"] == pytest.approx(squares.mean(), rel=1e-4)


def test_subsets_and_slices_are_of_the_test_rows(reports: Path) -> None:
    metrics, slices = read_json(reports / "metrics.json", ""), pd.read_csv(reports / "slices.csv", dtype={"name": str})
    assert metrics["subsets"]["face+screen+audio"] == {
        task: pytest.approx(each["macro_f1"]) for task, each in metrics["tasks"].items()
    }
    # the model hears and does not see: without audio it says what was most frequent in training
    for task, each in metrics["baselines"]["majority"].items():
        assert metrics["subsets"]["face+screen"][task] == pytest.approx(each["macro_f1"])
        assert each["label"] == TASKS[task][int(np.argmax(PRIOR[task]))]
    assert metrics["subsets"]["audio"] == metrics["subsets"]["face+screen+audio"]
    of_streamers = slices[(slices["by"] == "streamer") & (slices["task"] == "event")]
    assert of_streamers[["name", "n"]].to_numpy().tolist() == [["s03", 2], ["s04", 2]]
    table = pd.read_parquet(reports / "predictions.parquet").query("streamer == 's03'")
    assert of_streamers["accuracy"].iloc[0] == (table["event"] == table["event_predicted"]).mean()


def test_the_streamers_that_answers_are_probed_for_are_those_of_the_training_rows() -> None:
    streamers = np.repeat(["a", "b", "c"], 6)
    labels = np.arange(18) % 3
    answers = {"valence": np.eye(3, dtype=np.float32)[labels]}
    scored = stage.Scored({"valence": labels}, answers, answers, {}, {})
    split = np.array(["train"] * 12 + ["test"] * 6)
    found = stage.baseline_scores(bare_store(streamer=streamers), split, scored, {"valence": PRIOR["valence"]})
    assert (found["streamer_probe"]["streamers"], found["streamer_probe"]["clips"]) == (2, 12)
    assert found["majority"]["valence"]["accuracy"] == pytest.approx(1 / 3)


def test_metrics_of_before_the_additions_are_still_valid(reports: Path) -> None:
    metrics = read_json(reports / "metrics.json", "")
    old = {name: value for name, value in metrics.items() if name not in ("source", "subsets", "baselines")}
    old["tasks"] = {
        task: {name: value for name, value in each.items() if name != "calibration"}
        for task, each in metrics["tasks"].items()
    }
    check("metrics", old, where="here", made_by="test")
    wrong = {**metrics, "subsets": {"face+smell": {"event": 0.5}}}
    with pytest.raises(MerlbError, match="face\\+smell"):
        check("metrics", wrong, where="here", made_by="test")


def relabelled(store: ClipStore, rows: np.ndarray) -> ClipStore:
    """``store`` with each label of ``rows`` moved on to the next class."""
    clips = store.clips.copy()
    for task, classes in TASKS.items():
        moved = [classes[(list(classes).index(label) + 1) % len(classes)] for label in clips.loc[rows, task]]
        clips.loc[rows, task] = moved
    return replace(store, clips=clips)


def test_the_temperature_is_fitted_on_the_validation_rows_alone(store: Path, network: keras.Model) -> None:
    clips = open_store(store)
    as_is = stage.score_rows(network, clips, SPLIT, 4).calibration
    others = stage.score_rows(network, relabelled(clips, SPLIT != "validation"), SPLIT, 4).calibration
    validation = stage.score_rows(network, relabelled(clips, SPLIT == "validation"), SPLIT, 4).calibration
    assert others == as_is
    assert validation["temperature"] != as_is["temperature"]


@pytest.mark.parametrize("lost", [("face", "screen", "audio"), ("audio",)])
def test_rows_in_which_the_model_has_nothing_to_go_by_do_not_bend_the_temperature(
    store: Path, network: keras.Model, lost: tuple[str, ...]
) -> None:
    clips = open_store(store)
    absent = clips.clips.copy()
    absent.loc[2, [f"present_{name}" for name in lost]] = False
    empty = replace(clips, clips=absent)
    other = stage.score_rows(network, relabelled(empty, np.arange(10) == 2), SPLIT, 4).calibration
    assert other == stage.score_rows(network, empty, SPLIT, 4).calibration


def test_without_validation_rows_the_temperature_is_one_and_it_says_so(
    store: Path, network: keras.Model, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = stage.score_rows(network, open_store(store), np.array(["test"] * 10), 4).calibration
    assert calibration["temperature"] == dict.fromkeys(TASKS, 1.0)
    assert calibration["nll_before"] == calibration["nll_after"] == dict.fromkeys(TASKS)
    assert "not calibrated" in capsys.readouterr().err


def test_figures_and_tables_of_an_earlier_model_go(models: Path, store: Path, tmp_path: Path) -> None:
    for stale in ("confusion/smell.csv", "figures/confusion_smell.png"):
        (tmp_path / "reports" / stale).parent.mkdir(parents=True)
        (tmp_path / "reports" / stale).touch()
    stage.evaluate(models, store, write_splits(tmp_path / "splits.parquet", store), PARAMS, tmp_path / "reports")
    assert not list((tmp_path / "reports").rglob("*smell*"))


def test_without_test_rows_scores_are_empty_and_every_clip_is_predicted(
    models: Path, store: Path, tmp_path: Path
) -> None:
    splits = write_splits(tmp_path / "splits.parquet", store, np.array(["train"] * 6 + ["validation"] * 4))
    stage.evaluate(models, store, splits, PARAMS, tmp_path / "reports")
    tasks = read_json(tmp_path / "reports" / "metrics.json", "")["tasks"]
    assert {(each["n"], each["macro_f1"], each["ci95"]) for each in tasks.values()} == {(0, None, None)}
    assert len(pd.read_parquet(tmp_path / "reports" / "predictions.parquet")) == 10
    metrics = read_json(tmp_path / "reports" / "metrics.json", "")
    assert metrics["subsets"]["face"] == dict.fromkeys(TASKS)
    assert metrics["baselines"]["streamer_majority"]["event"] == {"macro_f1": None, "accuracy": None}
    assert pd.read_csv(tmp_path / "reports" / "slices.csv").empty


def test_a_model_that_is_not_the_runs_or_a_missing_one_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match=r"run\.json is missing: run `merlb train` first"):
        stage.load_trained(tmp_path)
    shutil.copy(models / "merlb.keras", tmp_path)
    write_json(tmp_path / "run.json", {"run_id": "", "weights_hash": "e" * 64})
    with pytest.raises(MerlbError, match=r"run\.json names e{12}….*run `merlb train` again"):
        stage.load_trained(tmp_path)


FILES = ["a.mp4", "b.mp4", "c.mp4"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"row": [0, 1, 3]}, "not the rows of this store: run `merlb split` again"),
        ({"file": ["a.mp4", "c.mp4", "b.mp4"]}, "not the rows of this store"),
        ({"split": ["train", "test", "dev"]}, "expected the splits train, validation, test"),
    ],
)
def test_splits_are_taken_in_the_stores_order_and_those_of_another_are_refused(
    tmp_path: Path, wrong: Mapping[str, Any], message: str
) -> None:
    table = pd.DataFrame({"row": [0, 1, 2], "file": FILES, "split": ["train", "test", "validation"]})
    table.iloc[[2, 0, 1]].to_parquet(tmp_path / "splits.parquet")
    store = bare_store(file=FILES)
    assert read_splits(tmp_path / "splits.parquet", store).tolist() == ["train", "test", "validation"]
    table.assign(**wrong).to_parquet(tmp_path / "splits.parquet")
    with pytest.raises(MerlbError, match=message):
        read_splits(tmp_path / "splits.parquet", store)


def test_from_eight_test_streamers_on_intervals_are_drawn_over_them() -> None:
    """Four of eight streamers are all right, four all wrong: drawn whole they make a far wider interval than clips.

    The share right has a deviation of √(¼/8) = 0.177 over 8 draws, of √(¼/320) = 0.028 over 320; 95% are ±1.96 of it.
    """
    count = 8 * 40
    streamers = np.repeat([f"s{index}" for index in range(8)], 40)
    actual = np.tile([0, 1], count // 2)
    predicted = np.where(np.arange(count) < count // 2, actual, 1 - actual)
    answers = {"valence": np.eye(3, dtype=np.float32)[predicted]}
    scored = stage.Scored({"valence": actual}, answers, answers, {}, {})
    split = np.array(["test"] * count)
    whole = stage.test_scores(bare_store(streamer=streamers), split, scored)
    few = stage.test_scores(bare_store(streamer=np.where(streamers == "s7", "s6", streamers)), split, scored)
    assert (whole["intervals"]["over"], few["intervals"]["over"]) == ("streamers", "clips")
    widths = [high - low for low, high in (each["tasks"]["valence"]["ci95"] for each in (whole, few))]
    assert widths == [pytest.approx(2 * 1.96 * 0.177, abs=0.1), pytest.approx(2 * 1.96 * 0.028, abs=0.02)]


def test_what_has_no_score_is_not_logged_and_what_was_left_is(
    reports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: dict[str, Any] = {}

    class Log(NoRun):
        def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            logged["metrics"] = dict(metrics)

        def tags(self, tags: Mapping[str, str]) -> None:
            logged["tags"] = dict(tags)

        def file(self, path: Path, folder: str = "") -> None:
            assert path.exists()
            logged[path.name] = folder

    stage.log_reports(reports, Log())
    metrics = read_json(reports / "metrics.json", "")
    seen = {
        f"test_event_f1_{label}": each["f1"]
        for label, each in metrics["tasks"]["event"]["per_class"].items()
        if each["n"]
    }
    found = {name: value for name, value in logged["metrics"].items() if name.startswith("test_event_f1_")}
    assert found == seen and len(seen) < 8
    assert logged["metrics"]["test_event_ece"] == metrics["tasks"]["event"]["calibration"]["ece"]
    assert logged["metrics"]["test_valence_macro_f1"] == metrics["tasks"]["valence"]["macro_f1"]
    assert logged["tags"]["store_hash"] == metrics["store_hash"]
    assert (logged["metrics.json"], logged["figures"], logged["confusion"]) == ("", "figures", "confusion")
