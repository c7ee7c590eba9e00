"""What the fusions are trained on: features of every clip, by encoders that have not seen the clip's fold.

The encoders are trained once a fold and modality, each with heads of its own, and then stand still: the fusions differ
in nothing but the fusion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.loader import batches
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.files import replacing
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn import tf
from merlb_model.study.protocol import EncoderJob, Protocol, encoder_training
from merlb_model.tracking import NoRun
from merlb_model.training.augment import augment
from merlb_model.training.train import Rows, fit

_BATCH: Final = 32
Features = dict[str, NDArray[np.float32]]


def targets_of(store: ClipStore, train: NDArray[np.int64], labels: str) -> dict[str, NDArray[np.int64]]:
    """Class indices of every clip, i64 [N] a task; ``permuted`` deals those of the training clips out anew.

    All tasks' labels of a clip stay together, so that nothing but their belonging to the clip is lost.
    """
    targets = {task: store.targets(task) for task in TASKS}
    if labels == "true":
        return targets
    dealt = np.random.default_rng(0).permutation(train)
    for indices in targets.values():
        indices[train] = indices[dealt]
    return targets


def relabelled(store: ClipStore, targets: Mapping[str, NDArray[np.int64]]) -> ClipStore:
    """The store with other labels."""
    words = {task: np.array(TASKS[task], dtype=object)[indices] for task, indices in targets.items()}
    return ClipStore(store.face, store.screen, store.audio, store.clips.assign(**words), store.meta)


def make_features(job: EncoderJob, protocol: Protocol, store: Path, folds: NDArray[np.int64], out: Path) -> None:
    """Train the encoder of ``job`` and leave its features of the clips in ``out``.

    Leaves ``clips.npy``, f32 [N, T, width], and ``augmented.npy``, f32 [copies, training clips, T, width].
    """
    clips = open_store(store)
    train = np.flatnonzero(folds != job.fold)
    model, params = encoder_training(protocol, job)
    seen = relabelled(clips, targets_of(clips, train, job.labels))
    network, _ = fit(seen, Rows(train, np.zeros(0, np.int64)), model, params, NoRun())
    encoder = network.get_layer(f"{job.modality}_encoder")
    encode = tf.function(lambda inputs: encoder(inputs, training=False), reduce_retracing=True, jit_compile=False)

    def features(rows: NDArray[np.int64], copy: int | None = None) -> NDArray[np.float32]:
        parts = []
        for number, (windows, _) in enumerate(batches(clips, rows, _BATCH)):
            if copy is not None:
                windows = augment(windows, tf.constant([copy, number], tf.int64))
            parts.append(encode(windows[job.modality]).numpy())
        return np.concatenate(parts)

    with replacing(out) as fresh:
        fresh.mkdir()
        np.save(fresh / "clips.npy", features(np.arange(len(clips))))
        np.save(fresh / "augmented.npy", np.stack([features(train, copy) for copy in range(protocol.copies)]))


def open_features(folders: Mapping[str, Path], shapes: Mapping[str, Any]) -> tuple[Features, Features]:
    """Features of all clips, f32 [N, T, width], and augmented ones of the training clips, [copies, n, T, width].

    A modality that is not among ``folders`` is zeros of its (T, width) in ``shapes``.
    """
    plain = {name: np.load(folder / "clips.npy", mmap_mode="r") for name, folder in folders.items()}
    augmented = {name: np.load(folder / "augmented.npy", mmap_mode="r") for name, folder in folders.items()}
    clips, (copies, trained) = len(next(iter(plain.values()))), next(iter(augmented.values())).shape[:2]
    for name in set(MODALITIES) - set(folders):
        plain[name] = np.zeros((clips, *shapes[name]), np.float32)
        augmented[name] = np.zeros((copies, trained, *shapes[name]), np.float32)
    return plain, augmented
