"""Batches of the clip store for TensorFlow, read row by row from the memory-mapped arrays."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.store import SHAPES, ClipStore
from merlb_model.labels import MODALITIES
from merlb_model.nn import tf


def load_rows(store: ClipStore, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The windows of ``rows``: ``face`` u8, ``screen`` u8, ``audio`` i16 and ``present`` f32 [B, 3], in their order."""
    windows: dict[str, NDArray[Any]] = {name: array[rows] for name, array in store.arrays.items()}
    windows["present"] = store.present[rows]
    return windows


def batches(
    store: ClipStore,
    rows: NDArray[np.int64],
    batch_size: int,
    tasks: Sequence[str] = (),
    shuffle_seed: int | None = None,
) -> tf.data.Dataset:
    """Batches of ``rows`` of the store; the last may be smaller.

    Args:
        store: read where it lies; one batch and those read ahead are in memory.
        rows: row numbers, repeats allowed.
        batch_size: windows a batch.
        tasks: those whose class indices come along.
        shuffle_seed: seed of the order, another one each epoch; None keeps the order of ``rows``.

    Returns:
        A dataset of (windows, targets): ``face`` u8 [B,20,64,64,3], ``screen`` u8 [B,20,128,128,3], ``audio`` i16
        [B,20,5512], ``present`` f32 [B,3]; {task: i64 [B]}.
    """
    targets = {task: store.targets(task) for task in tasks}
    present = store.present
    kinds = [store.arrays[name].dtype for name in MODALITIES]

    def read(chosen: NDArray[np.int64]) -> list[NDArray[Any]]:
        return [store.arrays[name][chosen] for name in MODALITIES]

    def window(chosen: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        arrays = tf.numpy_function(read, [chosen], [tf.as_dtype(kind) for kind in kinds], stateful=False)
        windows = {
            name: tf.ensure_shape(array, (None, *SHAPES[name])) for name, array in zip(MODALITIES, arrays, strict=True)
        }
        windows["present"] = tf.gather(present, chosen)
        return windows, {task: tf.gather(indices, chosen) for task, indices in targets.items()}

    order = tf.data.Dataset.from_tensor_slices(np.asarray(rows, dtype=np.int64))
    if shuffle_seed is not None:
        order = order.shuffle(max(len(rows), 1), seed=shuffle_seed, reshuffle_each_iteration=True)
    return order.batch(batch_size).map(window, num_parallel_calls=1, deterministic=True).prefetch(2)
