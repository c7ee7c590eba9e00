"""Temperature scaling (Guo et al. 2017): one number a task that makes the probabilities honest."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LOG_BOUNDS: Final = (float(np.log(0.05)), float(np.log(20.0)))


def nll(logits: NDArray[np.float32], actual: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood, in nats, of logits [N, classes] over ``temperature``."""
    log_probabilities = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return float(-log_probabilities[np.arange(len(actual)), actual].mean())


def fit_temperature(logits: NDArray[np.float32], actual: NDArray[np.int64]) -> float:
    """The temperature between 0.05 and 20 of the least NLL on these rows; 1 without rows.

    Args:
        logits: f32 [N, classes].
        actual: class indices, i64 [N].
    """
    if not len(actual):
        return 1.0
    best = minimize_scalar(lambda log: nll(logits, actual, float(np.exp(log))), bounds=_LOG_BOUNDS, method="bounded")
    return float(np.exp(best.x))
