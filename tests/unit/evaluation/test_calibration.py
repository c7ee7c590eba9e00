import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from merlb_model.evaluation.calibration import brier, calibration_scores, ece, fit_temperature, nll


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


def test_ece_weighs_each_bins_gap_by_its_clips() -> None:
    """Bin 0.6 to 0.7: two clips, confidence 0.62 and 0.68, one right; the last bin: 0.9 and 1.0, both right."""
    sure = np.array([0.62, 0.68, 0.9, 1.0], np.float32)
    probabilities, actual = np.stack([1 - sure, sure], axis=1), np.array([1, 0, 1, 1])
    assert ece(probabilities, actual) == pytest.approx(2 / 4 * abs(0.65 - 0.5) + 2 / 4 * abs(0.95 - 1.0), rel=1e-5)


def test_bins_are_a_tenth_wide_each() -> None:
    """Gaps of one bin cancel, gaps of two do not: 0.55 right and 0.65 wrong are in two, 0.61 and 0.69 in one."""
    two = np.array([[0.45, 0.55], [0.35, 0.65]], np.float32)
    one = np.array([[0.39, 0.61], [0.31, 0.69]], np.float32)
    assert ece(two, np.array([1, 0])) == pytest.approx((0.45 + 0.65) / 2, rel=1e-5)
    assert ece(one, np.array([1, 0])) == pytest.approx(abs(0.39 - 0.69) / 2, rel=1e-5)


def test_brier_is_the_squared_error_summed_over_classes() -> None:
    """(0.5 - 1)² + 0.25² + 0.25² of the first row, 0.1² + 0.8² + (0.1 - 1)² of the second."""
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)
    assert brier(probabilities, np.array([0, 2])) == pytest.approx((0.375 + 1.46) / 2, rel=1e-6)


def test_brier_of_two_classes_is_twice_scikit_learns() -> None:
    sure, actual = np.array([0.9, 0.3, 0.6, 0.1]), np.array([1, 1, 0, 0])
    both = np.stack([1 - sure, sure], axis=1).astype(np.float32)
    assert brier(both, actual) == pytest.approx(2 * brier_score_loss(actual, sure), rel=1e-6)


def test_calibration_scores_are_finite_and_none_without_rows() -> None:
    sure_and_wrong = np.array([[1.0, 0.0]], np.float32)
    scores = calibration_scores(sure_and_wrong, np.array([1]))
    assert scores == {"ece": 1.0, "nll": pytest.approx(-math.log(1.1754944e-38), rel=1e-5), "brier": 2.0}
    nothing = {"ece": None, "nll": None, "brier": None}
    assert calibration_scores(sure_and_wrong[:0], np.zeros(0, np.int64)) == nothing


def test_calibration_scores_nll_is_that_of_the_probabilities() -> None:
    probabilities, actual = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32), np.array([0, 2])
    expected = -(math.log(0.5) + math.log(0.1)) / 2
    assert calibration_scores(probabilities, actual)["nll"] == pytest.approx(expected, rel=1e-5)
