"""A trained model's answers for every row of a store, calibrated on its validation rows."""

import sys
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.store import ClipStore
from merlb_model.evaluation.calibration import fit_temperature, nll
from merlb_model.evaluation.subsets import Logits, predict_subsets
from merlb_model.nn.model import answerable, calibrated

SCHEMA_VERSION: Final = 1
"""Of ``metrics.json`` and ``calibration.json``."""


@dataclass(frozen=True)
class Scored:
    """A model's answers for each row of a store, by task.

    Attributes:
        actual: class indices i64 [N].
        probabilities: f32 [N, classes], calibrated.
        uncalibrated: f32 [N, classes], the temperature left at 1.
        by_subset: {subset: {task: f32 logits [n, classes]}} of the n test rows, by what is left of the modalities.
        calibration: the content of ``calibration.json``.
    """

    actual: dict[str, NDArray[np.int64]]
    probabilities: dict[str, NDArray[np.float32]]
    uncalibrated: dict[str, NDArray[np.float32]]
    by_subset: dict[str, Logits]
    calibration: dict[str, Any]

    def predicted(self, task: str) -> NDArray[np.int64]:
        """The class of the highest probability, i64 [N]."""
        return self.probabilities[task].argmax(axis=-1)


def score_rows(network: keras.Model, store: ClipStore, split: NDArray[np.str_], batch_size: int) -> Scored:
    """Answers for every row, with a temperature a task fitted on the validation rows."""
    logits, by_subset = predict_subsets(network, store, split == "test", batch_size, "evaluate")
    actual = {task: store.targets(task) for task in logits}
    fitting = (split == "validation") & np.asarray(answerable(network, store.present))
    if not fitting.any():
        warn("no validation rows to fit a temperature on: it stays 1, probabilities are not calibrated")
    temperature = {task: fit_temperature(values[fitting], actual[task][fitting]) for task, values in logits.items()}
    ones = dict.fromkeys(logits, 1.0)
    before, after = (
        {
            task: nll(logits[task][fitting], actual[task][fitting], by[task]) if fitting.any() else None
            for task in logits
        }
        for by in (ones, temperature)
    )
    uncalibrated, probabilities = (
        {task: np.asarray(values) for task, values in calibrated(network, logits, store.present, by).items()}
        for by in (ones, temperature)
    )
    calibration = {
        "schema_version": SCHEMA_VERSION,
        "temperature": temperature,
        "nll_before": before,
        "nll_after": after,
    }
    return Scored(actual, probabilities, uncalibrated, by_subset, calibration)


def warn(text: str) -> None:
    """Say on stderr what a reader of the scores must know."""
    sys.stderr.write(f"  evaluate: {text}\n")
