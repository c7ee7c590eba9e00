import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from merlb_model.evaluation.calibration import fit_temperature, nll


def test_nll_is_the_mean_of_minus_log_of_the_right_classs_probability() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)) + 3  # a constant changes nothing
    assert nll(logits, np.array([0, 2])) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_nll_of_logits_over_a_temperature_is_scikit_learns_log_loss(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits, actual = random.normal(0, 2, (50, 4)).astype(np.float32), random.integers(0, 4, 50)
    powers = np.exp(logits.astype(np.float64) / temperature)
    expected = log_loss(actual, powers / powers.sum(axis=1, keepdims=True), labels=range(4))
    assert nll(logits, actual, temperature) == pytest.approx(expected, rel=1e-6)


def test_nll_of_huge_logits_is_finite() -> None:
    assert nll(np.array([[1000.0, 0.0]], np.float32), np.array([1])) == pytest.approx(1000.0)


@pytest.mark.parametrize(("lead", "right"), [(3.0, 75), (0.5, 90)])
def test_the_fitted_temperature_makes_confidence_the_share_right(lead: float, right: int) -> None:
    """Each row leads class 0 by the same logit: honest is sigmoid(lead / T) = share, so T = lead / ln(share odds)."""
    logits = np.tile(np.array([[lead, 0.0]], np.float32), (100, 1))
    actual = (np.arange(100) >= right).astype(np.int64)
    assert fit_temperature(logits, actual) == pytest.approx(lead / math.log(right / (100 - right)), rel=1e-3)


def test_the_temperature_stays_within_its_bounds_and_is_one_without_rows() -> None:
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (10, 1))
    assert 0.05 <= fit_temperature(logits, np.zeros(10, np.int64)) < 0.1  # all right: as sure as it may be
    assert 19 < fit_temperature(logits, np.ones(10, np.int64)) <= 20  # all wrong: as unsure as it may be
    assert fit_temperature(logits[:0], np.zeros(0, np.int64)) == 1.0
