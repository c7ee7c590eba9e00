import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from merlb_model.dataset.store import open_store
from merlb_model.errors import MerlbError
from merlb_model.evaluation.evaluate import load_trained
from merlb_model.files import read_json
from merlb_model.labels import TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import priors, weights_hash
from merlb_model.params import ModelParams, TrainParams
from merlb_model.tracking import NoRun
from merlb_model.training import train as module
from merlb_model.training.checkpoints import Best
from merlb_model.training.loop import keep_if_best, train_epoch, training_step
from merlb_model.training.train import Rows, class_shares, fit, read_rows, train, validation_scores
from tests.unit.dataset.small_stores import bare_store, write_noisy_store
from tests.unit.nn.conftest import build, random_windows, shake

SPLITS = pd.DataFrame(
    {
        "row": range(6),
        "file": [f"{index:04d}_s{index // 2:02d}_x.mp4" for index in range(6)],  # those of ``write_store``
        "split": ["train", "validation", "train", "test", "train", "validation"],
    }
)
STORE = bare_store(file=SPLITS["file"].tolist())
CHOSEN = pd.DataFrame({"row": [0, 2, 4], "repeats": [1, 3, 2]})
AUDIO = ModelParams(modalities=("audio",))


def write_tables(folder: Path, splits: pd.DataFrame = SPLITS, chosen: pd.DataFrame = CHOSEN) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    splits.to_parquet(folder / "splits.parquet", index=False)
    chosen.to_parquet(folder / "train_rows.parquet", index=False)
    return folder / "splits.parquet", folder / "train_rows.parquet"


def test_training_rows_are_repeated_as_told_and_validation_rows_are_those_of_the_split(tmp_path: Path) -> None:
    rows = read_rows(STORE, *write_tables(tmp_path))
    assert rows.train.tolist() == [0, 2, 2, 2, 4, 4]
    assert rows.validation.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("splits", "chosen", "message"),
    [
        (SPLITS, CHOSEN.assign(row=[0, 5, 1]), "row 1 is no training row: run `merlb oversample` again"),
        (SPLITS, CHOSEN.assign(row=[0, 2, 9]), "row 9 is no training row: run `merlb oversample` again"),
        (SPLITS, CHOSEN.iloc[:0], "no rows: run `merlb oversample` again"),
        (SPLITS.assign(row=range(1, 7)), CHOSEN, "not the rows of this store: run `merlb split` again"),
        (SPLITS.assign(file="other.mp4"), CHOSEN, "not the rows of this store: run `merlb split` again"),
        (SPLITS, CHOSEN[["row"]], "no column repeats: run `merlb oversample` again"),
    ],
)
def test_rows_that_are_not_the_training_splits_are_refused_with_what_to_run(
    tmp_path: Path, splits: pd.DataFrame, chosen: pd.DataFrame, message: str
) -> None:
    with pytest.raises(MerlbError, match=message):
        read_rows(STORE, *write_tables(tmp_path, splits, chosen))


def test_a_missing_table_is_named_with_what_to_run(tmp_path: Path) -> None:
    splits, chosen = write_tables(tmp_path)
    with pytest.raises(MerlbError, match="run `merlb split` first"):
        read_rows(STORE, tmp_path / "none", chosen)
    with pytest.raises(MerlbError, match="run `merlb oversample` first"):
        read_rows(STORE, splits, tmp_path / "none")


def test_class_shares_are_of_the_rows_in_the_tasks_order() -> None:
    store = bare_store(valence=["positive", "negative", "negative", "neutral", "positive"])
    assert class_shares(store, np.array([0, 1, 2, 4]), "valence") == [0.5, 0.0, 0.5]
    assert class_shares(store, np.array([1, 2, 3, 1]), "valence") == [0.75, 0.25, 0.0]


def test_validation_scores_are_means_over_the_tasks() -> None:
    store = bare_store(valence=["negative", "neutral", "neutral"], arousal=["low", "low", "low"])
    certain = np.array([[0, 0, 0], [30, 0, 0], [0, 30, 0]], np.float32)
    even = np.tile(np.array([1, 1, 1], np.float32), (3, 1))  # a third each; the first class is said
    scores = validation_scores(store, np.array([1, 2]), {"valence": certain[1:], "arousal": even[1:]})
    # valence: neutral twice, once called negative for sure: F1 2/3, NLL (30 + 0) / 2; arousal: all low, F1 1, NLL ln 3
    assert scores == {
        "validation_valence_macro_f1": pytest.approx(2 / 3),
        "validation_arousal_macro_f1": 1.0,
        "validation_macro_f1": pytest.approx(5 / 6),
        "validation_loss": pytest.approx((15 + math.log(3)) / 2),
    }
    assert validation_scores(store, np.zeros(0, np.int64), {}) == {}


@pytest.mark.parametrize(
    ("epochs", "best"),
    [
        ([(0.5, 1.0), (0.7, 2.0), (0.6, 0.5)], 2),  # the score alone decides
        ([(0.7, 2.0), (0.7, 1.0), (0.7, 1.5)], 2),  # a tie goes to the lower loss
        ([(0.7, 1.0), (0.7, 1.0)], 1),  # a full tie to the earlier
        ([(0.0, 9.0), (0.0, 9.5)], 1),
        ([(None, None), (None, None), (None, None)], 3),  # without validation rows the last
    ],
)
def test_the_epoch_of_the_best_score_is_kept_ties_by_validation_loss(
    epochs: list[tuple[float | None, float | None]], best: int
) -> None:
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    kept = Best()
    for epoch, (score, loss) in enumerate(epochs, start=1):
        network.set_weights([np.full((1, 1), float(epoch))])
        entry = {"loss": 1.0, "validation_macro_f1": score, "validation_loss": loss}
        keep_if_best(kept, network, epoch, {name: value for name, value in entry.items() if value is not None})
    assert kept.epoch == best and [values.tolist() for values in kept.weights] == [[[float(best)]]]


def run_epoch(losses: list[float], epoch: int) -> tuple[float, list[int]]:
    """`train_epoch` over batches of the given losses: its answer and the numbers that the steps were told."""
    numbers: list[int] = []

    def step(windows: float, targets: None, number: int) -> float:
        numbers.append(int(number))
        return windows

    return train_epoch(step, [(loss, None) for loss in losses], epoch), numbers


def test_an_epochs_loss_is_the_mean_and_no_step_of_a_training_has_anothers_number() -> None:
    first, numbers = run_epoch([1.0, 2.0, 6.0], 1)
    _, others = run_epoch([1.0, 2.0, 6.0], 2)
    assert first == 3.0 and len({*numbers, *others}) == 6


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_says_where_and_what_to_do(broken: float) -> None:
    with pytest.raises(
        MerlbError, match=rf"train: the loss is {broken} in epoch 3, batch 2: lower train\.learning_rate"
    ):
        run_epoch([1.0, broken, 1.0], 3)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_a_steps_loss_is_the_tasks_mean_cross_entropy_with_smoothed_targets(smoothing: float) -> None:
    network, windows = shake(build(modalities=("audio",), dropout=0.0)), random_windows(3)
    targets = {"valence": np.array([0, 2, 1]), "arousal": np.array([1, 1, 0]), "event": np.array([7, 0, 3])}
    logits = {task: np.asarray(values, float) for task, values in network(windows, training=True).items()}
    assert all(np.ptp(values, axis=1).min() > 0.1 for values in logits.values())  # else smoothing would not show
    expected = []
    for task, classes in TASKS.items():
        wanted = np.eye(len(classes))[targets[task]] * (1 - smoothing) + smoothing / len(classes)
        expected.append(-(wanted * log_softmax(logits[task], axis=1)).sum(axis=1).mean())
    params = TrainParams(augment=False, modality_dropout=0.0, label_smoothing=smoothing)
    before = weights_hash(network)
    step = training_step(network, keras.optimizers.Adam(1e-3), AUDIO, params)
    windows_given = {name: tf.constant(values) for name, values in windows.items()}
    loss = step(windows_given, {task: tf.constant(each) for task, each in targets.items()}, tf.constant(1, tf.int64))
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-4)
    assert weights_hash(network) != before


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy_store(tmp_path_factory.mktemp("noise") / "store", 3, 2)


def test_it_stops_when_patience_is_over_and_gives_back_the_best_epochs_weights(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network's answers on the validation rows are played: right in epoch 2 alone."""
    clips, rows = open_store(store), Rows(train=np.array([0, 2]), validation=np.array([1, 5]))
    weights: list[str] = []

    def play(
        answer: object, network: keras.Model, store: object, chosen: NDArray[np.int64], size: int
    ) -> dict[str, NDArray[np.float32]]:
        weights.append(weights_hash(network))
        shift = 0 if len(weights) == 2 else 1
        return {
            task: np.eye(len(classes), dtype=np.float32)[(clips.targets(task)[chosen] + shift) % len(classes)]
            for task, classes in TASKS.items()
        }

    monkeypatch.setattr(module, "gather_logits", play)
    params = TrainParams(epochs=30, patience=2, batch_size=2, augment=False, modality_dropout=0.0)
    network, history = fit(clips, rows, AUDIO, params, NoRun())
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["validation_macro_f1"].tolist()[1] == 1.0 > history["validation_macro_f1"].drop(1).max()
    assert len(set(weights)) == 4 and weights_hash(network) == weights[1]


def test_a_learning_rate_that_breaks_the_network_ends_in_the_clear_error_and_leaves_nothing(
    store: Path, tmp_path: Path
) -> None:
    params = TrainParams(epochs=5, batch_size=2, learning_rate=1e38, augment=False)
    with pytest.raises(MerlbError, match=r"the loss is (nan|inf) in epoch \d"):
        train(store, *write_tables(tmp_path), AUDIO, params, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.fixture(scope="module")
def trained(store: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings of the same seed, of all modalities and with all that training changes."""
    folder = tmp_path_factory.mktemp("trained")
    params = TrainParams(epochs=2, batch_size=3, modality_dropout=0.3)
    for name in ("one", "two"):
        train(store, *write_tables(folder), ModelParams(), params, folder / name, tags={"kind": "test"})
    return [folder / "one", folder / "two"]


def test_training_leaves_model_history_and_run_that_belong_together(trained: list[Path], store: Path) -> None:
    assert sorted(path.name for path in trained[0].iterdir()) == ["history.csv", "merlb.keras", "run.json"]
    run, network = load_trained(trained[0])
    clips = open_store(store)
    assert run["weights_hash"] == weights_hash(network) and run["store_hash"] == clips.store_hash
    assert (run["run_id"], run["tracking_uri"], run["params"]["train"]["epochs"]) == ("", None, 2)
    events = [
        list(TASKS["event"]).index(label) for label in clips.clips["event"].to_numpy()[[0, 2, 4]]
    ]  # each row once
    assert priors(network)["event"] == pytest.approx((np.bincount(events, minlength=8) / 3).tolist())


def test_the_history_has_a_row_an_epoch(trained: list[Path]) -> None:
    history = pd.read_csv(trained[0] / "history.csv")
    each = [f"validation_{task}_macro_f1" for task in TASKS]
    assert list(history.columns) == ["epoch", "loss", "validation_loss", "validation_macro_f1", *each]
    assert history["epoch"].tolist() == [1, 2] and np.isfinite(history.to_numpy()).all()
    np.testing.assert_allclose(history["validation_macro_f1"], history[each].mean(axis=1))


def test_the_same_seed_gives_the_same_weights(trained: list[Path]) -> None:
    one, two = (read_json(folder / "run.json", "")["weights_hash"] for folder in trained)
    assert one == two
    assert (trained[0] / "history.csv").read_text() == (trained[1] / "history.csv").read_text()
