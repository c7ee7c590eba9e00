"""Training: one network on the training rows, kept where it was best on the validation rows."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from merlb_model.files import replacing, sha256_of_json, write_json
from merlb_model.labels import TASK_SETS, TASKS
from merlb_model.nn.audio import audio_level
from merlb_model.nn.model import PRESETS, build_model, weights_hash
from merlb_model.params import ModelParams, TrainParams
from merlb_model.training.augment import augment, set_spec_augment
from merlb_model.training.checkpoints import Checkpoint
from merlb_model.training.devices import arithmetic, has_gpu, is_chief, prepare_devices, synchronize_norms
from merlb_model.training.loop import Batches, run_epochs
from merlb_model.training.losses import class_weights

SCHEMA_VERSION = 1
_LEVEL_ROWS = 64  # rows a batch when the audio's levels are measured


@dataclass
class Rows:
    """Row numbers of the store: i64 arrays."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


def train(
    store: Path,
    splits: Path,
    train_rows: Path,
    model: ModelParams,
    params: TrainParams,
    out: Path,
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
    checkpoints: Path | None = None,
) -> None:
    """The stage `train`: leave ``merlb.keras``, ``history.csv`` and ``run.json`` in ``out``.

    Each file is whole or absent, and ``run.json``, which names the weights by their hash, is written last.

    On several machines each runs this same call with its own ``TF_CONFIG`` in the environment, which is read here
    (``devices.prepare_devices``): a batch is shared out among all, and only the chief writes and logs. A process that
    has used TensorFlow before cannot join.

    Args:
        store: folder of the clip store.
        splits: ``splits.parquet``.
        train_rows: ``train_rows.parquet``.
        model: the section ``model``.
        params: the section ``train``.
        out: the folder ``models``; other files in it stay.
        tracking_uri: where MLflow keeps the run; None logs nowhere.
        tags: tags of the run.
        checkpoints: folder in which the training is kept after each epoch, so that the same call goes on after a kill;
            emptied of it at the end. Where several machines train, one that all see. None keeps nothing.

    Raises:
        MerlbError: an input is missing or does not belong to the store, rare classes are favoured twice, the loss is
            no number, or ``TF_CONFIG`` is broken.
    """
    strategy = prepare_devices(os.environ.get("TF_CONFIG"))
    chief = is_chief(strategy)
    clips = open_store(store)
    rows = read_rows(clips, splits, train_rows)
    sections = {"model": model.model_dump(mode="json"), "train": params.model_dump(mode="json")}
    checkpoint = None
    if checkpoints is not None:
        checkpoint = Checkpoint(checkpoints, _key(sections, clips, rows), writes=chief)
    git = tracking.git_revision()
    with _run(tracking_uri if chief else None, tags or {}, checkpoint) as log:
        log.params(sections)
        log.tags({"store_hash": clips.store_hash, "git": git})
        with strategy.scope():
            network, history = fit(clips, rows, model, params, log, checkpoint)
        if not chief:
            return
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
    if checkpoint is not None:
        checkpoint.remove()


def _key(sections: Mapping[str, Any], store: ClipStore, rows: Rows) -> str:
    """What tells a training from every other: parameters, data and rows."""
    chosen = {"train": rows.train.tolist(), "validation": rows.validation.tolist()}
    return sha256_of_json({**sections, "store_hash": store.store_hash, "rows": chosen})


@contextmanager
def _run(uri: str | None, tags: Mapping[str, str], checkpoint: Checkpoint | None) -> Iterator[tracking.RunLog]:
    """The run of the training that was cut short, where it is known; else a new one, which is told what was done."""
    kept = {"run_id": checkpoint.run_id if checkpoint else ""}
    known = uri is not None and kept["run_id"] and tracking.is_known(uri, kept)
    with tracking.resume(uri, kept) if known else tracking.start(uri, "merlb", tags) as log:
        if checkpoint is not None:
            if not known:
                _log_epochs(checkpoint.history, log)
            checkpoint.run_id = log.run_id
        yield log


def log_history(history: Path, log: tracking.RunLog) -> None:
    """Log the curves of ``history.csv``, an epoch a step, and the file."""
    _log_epochs(pd.read_csv(history).to_dict(orient="records"), log)
    log.file(history)


def _log_epochs(history: Iterable[Mapping[Any, float]], log: tracking.RunLog) -> None:
    for row in history:
        log.metrics({name: float(value) for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))


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
    store: ClipStore,
    rows: Rows,
    model: ModelParams,
    params: TrainParams,
    log: tracking.RunLog,
    checkpoint: Checkpoint | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a fresh network and return it with its best weights, and a table of one row an epoch.

    Within the scope of a ``tf.distribute`` strategy it trains by that strategy.

    Raises:
        MerlbError: the loss is no number, or rows are repeated and ``params.loss`` favours rare classes too.
    """
    once = np.unique(rows.train)
    if params.loss != "cross_entropy" and len(once) < len(rows.train):
        raise MerlbError(
            f"train.loss: {params.loss}, and training rows are repeated: both favour rare classes: set "
            "oversample.tasks: [] and run `merlb oversample` again, or train.loss: cross_entropy"
        )
    strategy, tasks = tf.distribute.get_strategy(), TASK_SETS[model.tasks]
    level_batches = (store.audio[once[first : first + _LEVEL_ROWS]] for first in range(0, len(once), _LEVEL_ROWS))
    level = audio_level(level_batches, PRESETS[model.preset].audio.mels)
    prior = {task: class_shares(store, once, task) for task in tasks}
    of_16_bits = params.mixed_precision and has_gpu()
    with arithmetic(of_16_bits):
        network = build_model(model, level, prior, params.seed)
    set_spec_augment(network, params.augment)
    answer = tf.function(lambda windows: network(windows, training=False), reduce_retracing=True, jit_compile=False)

    def source(epoch: int) -> Batches:
        return _shared_out(store, rows.train, tasks, params, epoch)

    def score() -> dict[str, float]:
        logits = gather_logits(answer, network, store, rows.validation, 2 * params.batch_size)
        return validation_scores(store, rows.validation, logits)

    history = run_epochs(
        network,
        source,
        score,
        model,
        params,
        steps=math.ceil(len(rows.train) / params.batch_size),
        change=augment if params.augment else None,
        weights={task: class_weights(store.targets(task)[rows.train], len(TASKS[task])) for task in tasks},
        log=log,
        checkpoint=checkpoint,
        say=is_chief(strategy),
    )
    synchronize_norms(network, False)  # whoever loads it trains on one device, until told otherwise
    if of_16_bits:
        trained, network = network, build_model(model, level, prior, params.seed)
        network.set_weights(trained.get_weights())
    return network, history


def _shared_out(
    store: ClipStore, rows: NDArray[np.int64], tasks: Sequence[str], params: TrainParams, epoch: int
) -> Batches:
    """The batches of an epoch in an order of its own; each replica gets its share of every batch."""
    strategy = tf.distribute.get_strategy()

    def own(worker: tf.distribute.InputContext) -> tf.data.Dataset:
        replicas = worker.num_replicas_in_sync
        local = replicas // worker.num_input_pipelines
        first = worker.input_pipeline_id * local
        shares = (range(first, first + local), replicas)
        return batches(store, rows, params.batch_size, tasks, params.seed, epoch, shares)

    if strategy.num_replicas_in_sync == 1:
        return own(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(own)


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
