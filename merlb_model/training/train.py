"""Training: one network on the training rows, kept where it was best on the validation rows."""

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from merlb_model import tracking
from merlb_model.dataset.loader import batches
from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import ClipStore, open_store, read_table
from merlb_model.errors import MerlbError
from merlb_model.evaluation.calibration import nll
from merlb_model.evaluation.predict import gather_logits
from merlb_model.evaluation.scores import macro_f1
from merlb_model.files import replacing, write_json
from merlb_model.labels import TASK_SETS, TASKS
from merlb_model.nn.audio import audio_level
from merlb_model.nn.model import PRESETS, build_model, weights_hash
from merlb_model.params import ModelParams, TrainParams
from merlb_model.training.augment import augment, withhold

SCHEMA_VERSION = 1
_LEVEL_ROWS = 64  # rows a batch when the audio's levels are measured
_LAST_RATE_SHARE = 0.02


@dataclass
class Rows:
    """Row numbers of the store: i64 arrays."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass
class Best:
    """The best epoch so far: by validation macro-F1, ties by validation loss."""

    epoch: int = 0
    score: tuple[float, float] = (-1.0, -math.inf)
    weights: list[Any] = field(default_factory=list)


def train(
    store: Path,
    splits: Path,
    train_rows: Path,
    model: ModelParams,
    params: TrainParams,
    out: Path,
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """The stage `train`: leave ``merlb.keras``, ``history.csv`` and ``run.json`` in ``out``.

    Each file is whole or absent, and ``run.json``, which names the weights by their hash, is written last.

    Args:
        store: folder of the clip store.
        splits: ``splits.parquet``.
        train_rows: ``train_rows.parquet``.
        model: the section ``model``.
        params: the section ``train``.
        out: the folder ``models``; other files in it stay.
        tracking_uri: where MLflow keeps the run; None logs nowhere.
        tags: tags of the run.

    Raises:
        MerlbError: an input is missing or does not belong to the store, or the loss is no number.
    """
    clips = open_store(store)
    rows = read_rows(clips, splits, train_rows)
    sections = {"model": model.model_dump(mode="json"), "train": params.model_dump(mode="json")}
    git = tracking.git_revision()
    with tracking.start(tracking_uri, "merlb", tags or {}) as log:
        log.params(sections)
        log.tags({"store_hash": clips.store_hash, "git": git})
        network, history = fit(clips, rows, model, params, log)
        run = {
            "schema_version": SCHEMA_VERSION,
            "run_id": log.run_id,
            "tracking_uri": log.uri,
            "store_hash": clips.store_hash,
            "weights_hash": weights_hash(network),
            "git": git,
            "params": sections,
        }
        log.tags({"weights_hash": str(run["weights_hash"])})
        with replacing(out / "merlb.keras") as fresh:
            network.save(fresh)
        with replacing(out / "history.csv") as fresh:
            history.to_csv(fresh, index=False)
        log.file(out / "history.csv")
        write_json(out / "run.json", run)


def log_history(history: Path, log: tracking.RunLog) -> None:
    """Log the curves of ``history.csv``, an epoch a step, and the file."""
    for row in pd.read_csv(history).to_dict(orient="records"):
        epoch = int(row.pop("epoch"))
        log.metrics({str(name): float(value) for name, value in row.items()}, step=epoch)
    log.file(history)


def read_rows(store: ClipStore, splits: Path, train_rows: Path) -> Rows:
    """Training rows, repeated as `oversample` says, and validation rows.

    Raises:
        MerlbError: a table is missing, or its rows are not those of the store's training split.
    """
    split = read_splits(splits, store)
    chosen = read_table(train_rows, "merlb oversample", ("row", "repeats"))
    strangers = set(chosen["row"]) - set(np.flatnonzero(split == "train"))
    if strangers or chosen.empty:
        found = f"row {min(strangers)} is no training row" if strangers else "no rows"
        raise MerlbError(f"{train_rows}: {found}: run `merlb oversample` again")
    return Rows(
        train=np.repeat(chosen["row"].to_numpy(np.int64), chosen["repeats"].to_numpy(np.int64)),
        validation=np.flatnonzero(split == "validation"),
    )


def class_shares(store: ClipStore, rows: NDArray[np.int64], task: str) -> list[float]:
    """Share of each class among ``rows``, in the task's order."""
    counts = np.bincount(store.targets(task)[rows], minlength=len(TASKS[task]))
    return [float(share) for share in counts / counts.sum()]


def fit(
    store: ClipStore, rows: Rows, model: ModelParams, params: TrainParams, log: tracking.RunLog
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a fresh network and return it with its best weights, and a table of one row an epoch.

    Raises:
        MerlbError: the loss is no number.
    """
    once = np.unique(rows.train)
    level_batches = (store.audio[once[first : first + _LEVEL_ROWS]] for first in range(0, len(once), _LEVEL_ROWS))
    tasks = TASK_SETS[model.tasks]
    network = build_model(
        model,
        audio_level(level_batches, PRESETS[model.preset].audio.mels),
        {task: class_shares(store, once, task) for task in tasks},
        params.seed,
    )
    steps = math.ceil(len(rows.train) / params.batch_size)
    optimizer = optimizer_of(params, steps)
    step = training_step(network, optimizer, model, params)
    answer = tf.function(lambda windows: network(windows, training=False), reduce_retracing=True, jit_compile=False)
    source = batches(store, rows.train, params.batch_size, tasks, shuffle_seed=params.seed)
    best, history, started = Best(), [], time.monotonic()
    for epoch in range(1, params.epochs + 1):
        loss = train_epoch(step, source, epoch)
        logits = gather_logits(answer, network, store, rows.validation, 2 * params.batch_size)
        entry = {"loss": loss, **validation_scores(store, rows.validation, logits)}
        log.metrics(entry, step=epoch)
        history.append({"epoch": epoch, **entry})
        keep_if_best(best, network, epoch, entry)
        _say(epoch, params.epochs, entry, best, time.monotonic() - started)
        if epoch - best.epoch >= params.patience:
            break
    network.set_weights(best.weights)
    log.metrics({"best_epoch": best.epoch})
    return network, pd.DataFrame(history)


def optimizer_of(params: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """Adam, its rate falling down a cosine to a fiftieth over ``params.epochs`` of ``steps`` each."""
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(params.learning_rate, params.epochs * steps, _LAST_RATE_SHARE)
    )


def training_step(
    network: keras.Model, optimizer: keras.optimizers.Optimizer, model: ModelParams, params: TrainParams
) -> Callable[..., tf.Tensor]:
    """A step on one batch: (windows, targets, number of the step) → loss, the mean of the tasks' cross-entropies.

    Targets are smoothed: ``params.label_smoothing`` of each is spread over all classes (Szegedy et al. 2016).
    """
    optimizer.build(network.trainable_variables)
    cross_entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=params.label_smoothing)

    # XLA makes a step on a CPU slower.
    @tf.function(reduce_retracing=True, jit_compile=False)
    def step(windows: dict[str, tf.Tensor], targets: dict[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        seed = tf.stack([tf.constant(params.seed, tf.int64), number])
        if params.augment:
            windows = augment(windows, seed)
        windows = withhold(windows, params.modality_dropout, model.modalities, seed)
        with tf.GradientTape() as tape:
            logits = network(windows, training=True)
            losses = [cross_entropy(tf.one_hot(targets[task], len(TASKS[task])), logits[task]) for task in targets]
            loss = tf.add_n(losses) / len(losses)
        gradients = tape.gradient(loss, network.trainable_variables)
        optimizer.apply(gradients, network.trainable_variables)
        return loss

    return step


def train_epoch(step: Callable[..., tf.Tensor], source: tf.data.Dataset, epoch: int) -> float:
    """Run ``step`` over all batches and return the mean loss.

    Raises:
        MerlbError: a loss is no number.
    """
    total, count = 0.0, 0
    for number, (windows, targets) in enumerate(source):
        loss = float(step(windows, targets, tf.constant((epoch << 32) + number, tf.int64)))
        if not math.isfinite(loss):
            raise MerlbError(
                f"train: the loss is {loss} in epoch {epoch}, batch {number + 1}: lower train.learning_rate, or look "
                "for broken clips with `merlb validate`"
            )
        total, count = total + loss, count + 1
    return total / count


def validation_scores(
    store: ClipStore, rows: NDArray[np.int64], logits: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """``validation_loss``, ``validation_macro_f1`` (mean over tasks) and each task's own; nothing without rows."""
    if not len(rows):
        return {}
    targets = {task: store.targets(task)[rows] for task in logits}
    each = {task: macro_f1(targets[task], values.argmax(axis=-1)) for task, values in logits.items()}
    losses = [nll(values, targets[task]) for task, values in logits.items()]
    return {
        "validation_loss": float(np.mean(losses)),
        "validation_macro_f1": float(np.mean(list(each.values()))),
        **{f"validation_{task}_macro_f1": score for task, score in each.items()},
    }


def keep_if_best(best: Best, network: keras.Model, epoch: int, entry: Mapping[str, float]) -> None:
    """Keep the weights of an epoch that is better than those before; without validation rows, of the last."""
    score = (entry.get("validation_macro_f1", float(epoch)), -entry.get("validation_loss", 0.0))
    if score > best.score:
        best.epoch, best.score, best.weights = epoch, score, network.get_weights()


def _say(epoch: int, epochs: int, entry: Mapping[str, float], best: Best, seconds: float) -> None:
    score = ""
    if "validation_macro_f1" in entry:
        score = f", validation macro-F1 {entry['validation_macro_f1']:.3f} (best {best.score[0]:.3f})"
    left = seconds / epoch * (epochs - epoch)
    sys.stderr.write(f"  epoch {epoch}/{epochs}: loss {entry['loss']:.3f}{score}, at most {left:.0f} s left\n")
    sys.stderr.flush()
