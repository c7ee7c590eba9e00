"""What a model says with some of the modalities withheld: all seven subsets, each clip encoded once."""

import math
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from merlb_model.dataset.loader import batches
from merlb_model.dataset.store import ClipStore
from merlb_model.evaluation.predict import heads
from merlb_model.evaluation.scores import macro_f1
from merlb_model.labels import INCOMPLETE, MODALITIES, SUBSETS, WHOLE
from merlb_model.nn.model import encode, fuse
from merlb_model.progress import track

Logits = dict[str, NDArray[np.float32]]


def predict_subsets(
    model: keras.Model, store: ClipStore, test: NDArray[np.bool_], batch_size: int, label: str | None = None
) -> tuple[Logits, dict[str, Logits]]:
    """A model's logits for every row, and for the test rows by subset, what is not in the subset called absent.

    Where a clip holds nothing of a subset, the answer is the training prior.

    Args:
        model: what ``build_model`` made.
        store: of the clips.
        test: which rows are asked about by subset, bool [N].
        batch_size: windows a batch.
        label: names the progress; None shows none.

    Returns:
        {task: f32 [N, classes]} and, with the test rows in their order, {subset: {task: f32 [n, classes]}}.
    """
    encoded = tf.function(lambda windows: encode(model, windows), reduce_retracing=True, jit_compile=False)
    fused = tf.function(lambda *inputs: fuse(model, *inputs), reduce_retracing=True, jit_compile=False)
    kept: dict[str, dict[str, list[NDArray[np.float32]]]] = {
        subset: {task: [np.zeros((0, size), np.float32)] for task, size in heads(model).items()} for subset in SUBSETS
    }
    order = np.argsort(~test, kind="stable")  # test rows first: few batches are asked more than once
    source, left = batches(store, order, batch_size), int(test.sum())
    count = math.ceil(len(order) / batch_size)
    for windows, _ in source if label is None else track(source, label, total=count, unit="batch"):
        present = windows.pop("present")
        features = encoded(windows)
        _keep(kept[WHOLE], fused(features, present))
        if left > 0:
            tested = {name: values[:left] for name, values in features.items()}
            for subset, names in INCOMPLETE.items():
                there = tf.constant([[float(name in names) for name in MODALITIES]])
                _keep(kept[subset], fused(tested, present[:left] * there))
            left -= len(present)
    joined = {subset: {task: np.concatenate(parts) for task, parts in each.items()} for subset, each in kept.items()}
    logits = {task: values[np.argsort(order)] for task, values in joined[WHOLE].items()}
    return logits, {**joined, WHOLE: {task: values[test] for task, values in logits.items()}}


def _keep(parts: dict[str, list[NDArray[np.float32]]], answer: Mapping[str, tf.Tensor]) -> None:
    for task, logits in answer.items():
        parts[task].append(logits.numpy())


def subset_scores(
    by_subset: Mapping[str, Mapping[str, NDArray[np.float32]]], actual: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, float | None]]:
    """Macro-F1 {subset: {task: …}} of logits against class indices i64 [N] of the same rows; None without rows."""
    return {
        subset: {
            task: macro_f1(actual[task], values.argmax(axis=-1)) if len(values) else None
            for task, values in logits.items()
        }
        for subset, logits in by_subset.items()
    }
