"""One training of a fusion on kept features, and its answers on the fold that it has not seen."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.store import open_store
from merlb_model.files import replacing
from merlb_model.labels import INCOMPLETE, MODALITIES, TASK_SETS, TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.describe import totals_of
from merlb_model.nn.model import build_fuse
from merlb_model.params import ModelParams, TrainParams
from merlb_model.study.answers import array_name
from merlb_model.study.emap import additive_projection
from merlb_model.study.features import Features, open_features, targets_of
from merlb_model.study.protocol import Configuration, FusionJob, Protocol
from merlb_model.training.loop import run_epochs

_ON_EVERY_SUBSET: Final = ("merlb", "merlb-complete")
_PROJECTED: Final = ("merlb",)


def run_fusion(
    job: FusionJob, protocol: Protocol, store: Path, folds: NDArray[np.int64], features: Mapping[str, Path], out: Path
) -> None:
    """Train ``job`` and leave its logits on the tested fold in ``out``, an ``.npz``.

    Args:
        job: configuration, seed and fold.
        protocol: of the study.
        store: the study's clip store.
        folds: fold of each clip, i64 [N].
        features: folders that ``make_features`` left, by modality.
        out: the file: ``rows`` i64 [n] of the store, and the logits of each view and task.
    """
    clips = open_store(store)
    model = job.configuration.model
    train, test = np.flatnonzero(folds != job.fold), np.flatnonzero(folds == job.fold)
    targets = targets_of(clips, train, job.configuration.labels)
    of_tasks = {task: targets[task][train] for task in TASK_SETS[model.tasks]}
    keras.utils.set_random_seed(job.seed)
    network = build_fuse(model, {task: _shares(of_tasks[task], task) for task in of_tasks}, job.seed)
    plain, augmented = open_features(features, {name: network.input[name].shape[1:] for name in MODALITIES})
    _train(network, augmented, clips.present[train], of_tasks, job, protocol)
    tested = {**{name: np.asarray(plain[name][test]) for name in MODALITIES}, "present": clips.present[test]}
    answers = _answers(network, tested, job.configuration)
    with replacing(out) as fresh, fresh.open("wb") as file:
        np.savez(file, allow_pickle=False, rows=test, **answers)


def epochs_of(configuration: Configuration, protocol: Protocol) -> int:
    """Epochs of a configuration: fewer, for as many multiply-adds, where its compute is held to another front end's."""
    if configuration.same_compute_as is None:
        return protocol.epochs
    audio = configuration.model.audio.model_copy(update={"frontend": configuration.same_compute_as})
    other = configuration.model.model_copy(update={"audio": audio})
    return max(1, round(protocol.epochs * _cost(other) / _cost(configuration.model)))


def _cost(model: ModelParams) -> int:
    """Multiply-adds a window behind the encoders."""
    even = {task: [1 / len(TASKS[task])] * len(TASKS[task]) for task in TASK_SETS[model.tasks]}
    return totals_of(build_fuse(model, even, seed=0))["multiply_adds"]


def _shares(targets: NDArray[np.int64], task: str) -> list[float]:
    counts = np.bincount(targets, minlength=len(TASKS[task]))
    return [float(share) for share in counts / counts.sum()]


def _train(
    network: keras.Model,
    augmented: Features,
    present: NDArray[np.float32],
    targets: Mapping[str, NDArray[np.int64]],
    job: FusionJob,
    protocol: Protocol,
) -> None:
    """Train on one of the kept copies of each clip, another draw each epoch."""
    params = TrainParams(
        seed=job.seed,
        epochs=epochs_of(job.configuration, protocol),
        augment=False,  # the kept copies are
        modality_dropout=job.configuration.modality_dropout,
    )

    def source(epoch: int) -> tf.data.Dataset:
        return _epoch(augmented, present, targets, params, epoch)

    steps = math.ceil(len(present) / params.batch_size)
    run_epochs(network, source, dict, job.configuration.model, params, steps, say=False)


def _epoch(
    augmented: Features,
    present: NDArray[np.float32],
    targets: Mapping[str, NDArray[np.int64]],
    params: TrainParams,
    epoch: int,
) -> tf.data.Dataset:
    random = np.random.default_rng((params.seed, epoch))
    order = random.permutation(len(present))
    copies = random.integers(len(next(iter(augmented.values()))), size=len(present))
    windows = {name: np.asarray(augmented[name][copies, order]) for name in MODALITIES}
    answers = {task: indices[order] for task, indices in targets.items()}
    return tf.data.Dataset.from_tensor_slices(({**windows, "present": present[order]}, answers)).batch(
        params.batch_size
    )


def _answers(network: keras.Model, windows: dict[str, Any], configuration: Configuration) -> dict[str, NDArray[Any]]:
    """Logits by view and task, as ``answers.array_name`` names them."""
    answer = tf.function(lambda inputs: network(inputs, training=False), reduce_retracing=True, jit_compile=False)
    views = {"whole": windows["present"]}
    if configuration.name in _ON_EVERY_SUBSET:
        for subset, names in INCOMPLETE.items():
            kept = np.array([name in names for name in MODALITIES], np.float32)
            views[subset] = windows["present"] * kept
    logits = {
        array_name(view, task): values.numpy()
        for view, present in views.items()
        for task, values in answer({**windows, "present": present}).items()
    }
    if configuration.name in _PROJECTED:
        logits |= {array_name("additive", task): values for task, values in _projected(network, windows).items()}
    return logits


def _projected(network: keras.Model, windows: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """The additive projection of a tensor-train network's answers, from the modalities' vectors on."""
    vectors = [network.get_layer(f"{name}_if_present").output for name in MODALITIES]
    usable = network.get_layer("usable").output
    before = keras.Model(network.input, [*vectors, usable])
    behind = keras.Model([*vectors, usable], network.output)
    answer = tf.function(lambda inputs: behind(inputs, training=False), reduce_retracing=True, jit_compile=False)
    *of_clips, there = (values.numpy() for values in before(windows, training=False))
    inputs = dict(zip(MODALITIES, of_clips, strict=True))

    tasks = [task for task in TASKS if task in network.output]

    def side_by_side(mixed: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        logits = answer([*(mixed[name] for name in MODALITIES), there])
        return np.concatenate([logits[task] for task in tasks], axis=-1)

    projected = additive_projection(side_by_side, inputs, MODALITIES).astype(np.float32)
    borders = np.cumsum([len(TASKS[task]) for task in tasks])[:-1]
    return dict(zip(tasks, np.split(projected, borders, axis=-1), strict=True))
