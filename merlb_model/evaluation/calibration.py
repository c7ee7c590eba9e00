"""How honest probabilities are, and temperature scaling (Guo et al. 2017): one number a task that makes them so."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS: Final = 10
"""Bins of the confidence, of equal width."""
_SMALLEST: Final = float(np.finfo(np.float32).tiny)
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


def confidence_bin(confidence: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of the ``BINS`` bins of equal width a probability [N] lies in, i64 [N]; 1 is in the last."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def ece(probabilities: NDArray[np.float32], actual: NDArray[np.int64]) -> float:
    """Expected calibration error: ``Σ_b n_b/N · |share right - mean confidence|`` over the bins b of the confidence.

    Args:
        probabilities: f32 [N, classes], N > 0; the confidence is the highest of a row.
        actual: class indices, i64 [N].
    """
    confidence = probabilities.max(axis=-1)
    gap = (probabilities.argmax(axis=-1) == actual) - confidence.astype(np.float64)
    return float(np.abs(np.bincount(confidence_bin(confidence), gap)).sum() / len(actual))


def brier(probabilities: NDArray[np.float32], actual: NDArray[np.int64]) -> float:
    """Brier score, 0 to 2: squared distance of the probabilities from 1 and 0, summed over classes, mean over rows."""
    right = np.eye(probabilities.shape[-1])[actual]
    return float(np.square(probabilities - right).sum(axis=-1).mean())


def calibration_scores(probabilities: NDArray[np.float32], actual: NDArray[np.int64]) -> dict[str, float | None]:
    """``ece``, ``nll`` (nats; a probability counts as 1e-38 at least) and ``brier``; None without rows.

    Args:
        probabilities: f32 [N, classes].
        actual: class indices, i64 [N].
    """
    if not len(actual):
        return {"ece": None, "nll": None, "brier": None}
    return {
        "ece": ece(probabilities, actual),
        "nll": nll(np.log(np.maximum(probabilities, _SMALLEST)), actual),
        "brier": brier(probabilities, actual),
    }
