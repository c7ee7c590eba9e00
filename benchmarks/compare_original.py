"""The preset `paper` against the original's network: macro-F1 on unseen streamers after as many epochs.

Both see the same training rows in batches of the same size and are kept as they were in the epoch that was best on the
validation rows. Each has its own treatment of the inputs, optimiser and loss: the original frames from 0 to 1, audio
z-scored over the clip, Adam at 5e-4 and plain cross-entropy; the preset what params.yaml says. TimeDistributed, as
published: its batch norms count each time step.

Run after `make run`: it takes data/ and params.yaml, and leaves nothing. Many minutes an epoch on two cores.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from original_networks import original_network

from merlb_model.dataset.loader import batches
from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.evaluation.predict import predict_logits
from merlb_model.evaluation.scores import macro_f1
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn import keras, tf
from merlb_model.params import Params, load_params
from merlb_model.tracking import NoRun
from merlb_model.training.train import Rows, fit, read_rows

Answers = dict[str, NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description="The preset `paper` against the original's network, by macro-F1.")
    parser.add_argument("--epochs", type=int, default=6, help="of each (6)")
    parser.add_argument("--workspace", type=Path, default=Path(), help="folder of data/ and params.yaml (this one)")
    given = parser.parse_args()
    params = load_params(given.workspace / "params.yaml")
    data = given.workspace / "data"
    store = open_store(data / "store")
    rows = read_rows(store, data / "splits.parquet", data / "train_rows.parquet")
    test = np.flatnonzero(read_splits(data / "splits.parquet", store) == "test")
    table = {}
    for name, trained in {"original": _original, "paper": _paper}.items():
        started = time.monotonic()
        parameters, answers = trained(store, rows, test, params, given.epochs)
        scores = {task: macro_f1(store.targets(task)[test], each.argmax(axis=-1)) for task, each in answers.items()}
        minutes = (time.monotonic() - started) / 60
        mean = float(np.mean(list(scores.values())))
        table[name] = {**scores, "mean": mean, "parameters": parameters, "minutes": minutes}
        print(pd.DataFrame(table).T.round(3).to_string(), flush=True)
    if store.meta.get("source") == "sample":
        print("The sample corpus is synthetic: these scores say nothing about real streams.")


def _paper(store: ClipStore, rows: Rows, test: NDArray[np.int64], params: Params, epochs: int) -> tuple[int, Answers]:
    model = params.model.model_copy(update={"preset": "paper"})
    train = params.train.model_copy(update={"epochs": epochs, "patience": epochs})
    network, _ = fit(store, rows, model, train, NoRun())
    return network.count_params(), predict_logits(network, store, test, params.evaluate.batch_size)


def _original(
    store: ClipStore, rows: Rows, test: NDArray[np.int64], params: Params, epochs: int
) -> tuple[int, Answers]:
    keras.utils.set_random_seed(params.train.seed)
    network = original_network(time_distributed=True, outer_product=False)
    losses = dict.fromkeys(TASKS, "sparse_categorical_crossentropy")
    network.compile(keras.optimizers.Adam(5e-4), losses, jit_compile=False)  # as in training
    size, tasks = params.train.batch_size, tuple(TASKS)
    network.fit(
        batches(store, rows.train, size, tasks, shuffle_seed=params.train.seed).map(_published),
        validation_data=batches(store, rows.validation, size, tasks).map(_published),
        epochs=epochs,
        shuffle=False,  # the loader does
        callbacks=[keras.callbacks.EarlyStopping(patience=epochs, restore_best_weights=True)],
        verbose=2,
    )
    return network.count_params(), network.predict(batches(store, test, size, tasks).map(_published), verbose=0)


def _published(windows: dict[str, tf.Tensor], targets: dict[str, tf.Tensor]) -> tuple[Any, Any]:
    """The original's inputs. Silence becomes 0, where the original has no number."""
    treated = {name: tf.cast(windows[name], tf.float32) for name in MODALITIES}
    mean, variance = tf.nn.moments(treated["audio"], axes=[1, 2], keepdims=True)
    audio = tf.math.divide_no_nan(treated["audio"] - mean, tf.sqrt(variance))
    return {"face": treated["face"] / 255, "screen": treated["screen"] / 255, "audio": audio[..., None]}, targets


if __name__ == "__main__":
    main()
