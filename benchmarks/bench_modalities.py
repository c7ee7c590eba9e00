"""All three modalities against each alone: the same network, training and rows, macro-F1 on unseen streamers.

Run after `make run`: it takes data/ and params.yaml, and leaves nothing. Minutes a modality.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import open_store
from merlb_model.evaluation.predict import predict_logits
from merlb_model.evaluation.scores import macro_f1
from merlb_model.labels import MODALITIES
from merlb_model.params import load_params
from merlb_model.tracking import NoRun
from merlb_model.training.train import fit, read_rows


def main() -> None:
    params = load_params(Path("params.yaml"))
    store = open_store(Path("data/store"))
    rows = read_rows(store, Path("data/splits.parquet"), Path("data/train_rows.parquet"))
    test = np.flatnonzero(read_splits(Path("data/splits.parquet"), store) == "test")
    scores = {}
    for modalities in (*((name,) for name in MODALITIES), MODALITIES):
        model = params.model.model_copy(update={"modalities": modalities})
        network, _ = fit(store, rows, model, params.train, NoRun())
        logits = predict_logits(network, store, test, params.evaluate.batch_size)
        scores[" + ".join(modalities)] = {
            task: macro_f1(store.targets(task)[test], values.argmax(axis=-1)) for task, values in logits.items()
        }
        print(pd.DataFrame(scores).T.round(3).to_string(), flush=True)
    if store.meta.get("source") == "sample":
        print("The sample corpus is synthetic: these scores say nothing about real streams.")


if __name__ == "__main__":
    main()
