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
    epoch: int = 1,
    shares: tuple[range, int] = (range(1), 1),
) -> tf.data.Dataset:
    """Batches of ``rows`` of the store; the last may be smaller.

    Args:
        store: read where it lies; one batch and those read ahead are in memory.
        rows: row numbers, repeats allowed.
        batch_size: windows a batch.
        tasks: those whose class indices come along.
        shuffle_seed: seed of the order, which it and ``epoch`` alone decide; None keeps the order of ``rows``.
        epoch: number of the epoch.
        shares: where several replicas share each batch, those that this process has, and how many there are. The
            dataset holds their shares of the first batch one after the other, then those of the second; window k of a
            batch is replica k's, counted round. In a small last batch some may get none.

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

    order = np.asarray(rows, dtype=np.int64)
    if shuffle_seed is not None:
        order = np.random.default_rng((shuffle_seed, epoch)).permutation(order)
    own, replicas = shares
    chosen = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    if replicas > 1:
        each = tf.data.Dataset.range(own.start, own.stop)
        chosen = chosen.flat_map(lambda batch: each.map(lambda replica: batch[replica::replicas]))
    return chosen.map(window, num_parallel_calls=1, deterministic=True).prefetch(2)
