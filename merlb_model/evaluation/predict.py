"""A model's logits for rows of a store."""

import math

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from merlb_model.dataset.loader import batches
from merlb_model.dataset.store import ClipStore
from merlb_model.labels import TASKS
from merlb_model.progress import track


def predict_logits(
    model: keras.Model, store: ClipStore, rows: NDArray[np.int64], batch_size: int, label: str | None = None
) -> dict[str, NDArray[np.float32]]:
    """Logits {task: f32 [N, classes]} of ``rows``, in their order; ``label`` names the progress, None shows none."""
    answer = tf.function(lambda windows: model(windows, training=False), reduce_retracing=True, jit_compile=False)
    return gather_logits(answer, model, store, rows, batch_size, label)


def gather_logits(
    answer: "tf.types.experimental.PolymorphicFunction",
    model: keras.Model,
    store: ClipStore,
    rows: NDArray[np.int64],
    batch_size: int,
    label: str | None = None,
) -> dict[str, NDArray[np.float32]]:
    """``predict_logits`` by a function traced before: for those who predict each epoch."""
    kept: dict[str, list[NDArray[np.float32]]] = {
        task: [np.zeros((0, size), np.float32)] for task, size in heads(model).items()
    }
    source = batches(store, rows, batch_size)
    count = math.ceil(len(rows) / batch_size)
    for windows, _ in source if label is None else track(source, label, total=count, unit="batch"):
        for task, logits in answer(windows).items():
            kept[task].append(logits.numpy())
    return {task: np.concatenate(parts) for task, parts in kept.items()}


def heads(model: keras.Model) -> dict[str, int]:
    """Number of classes of each task that the model has."""
    return {task: int(model.output[task].shape[-1]) for task in TASKS if task in model.output}
