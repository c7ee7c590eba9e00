"""Losses against numbers worked out by hand and by SciPy."""

import numpy as np
import pytest
from scipy.special import softmax

from merlb_model.errors import MerlbError
from merlb_model.nn import tf
from merlb_model.params import TrainParams
from merlb_model.training.losses import class_weights, window_losses

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-1.0, 3.0, 0.0]], np.float32)
TARGETS = np.array([0, 2, 0])


def losses(weights: dict[str, list[float]] | None = None, **params: object) -> np.ndarray:
    loss = window_losses(TrainParams.model_validate(params), weights)
    return np.asarray(loss({"valence": tf.constant(TARGETS)}, {"valence": tf.constant(LOGITS)}))


def smoothed(smoothing: float) -> np.ndarray:
    return np.eye(3)[TARGETS] * (1 - smoothing) + smoothing / 3


def test_class_weights_are_one_in_the_mean_over_rows_and_inverse_to_the_counts() -> None:
    targets = np.array([0, 0, 0, 1])
    assert class_weights(targets, 3) == pytest.approx([4 / (2 * 3), 4 / (2 * 1), 0.0])
    assert np.mean([class_weights(targets, 3)[each] for each in targets]) == pytest.approx(1.0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_the_smoothed_targets(smoothing: float) -> None:
    expected = -(smoothed(smoothing) * np.log(softmax(LOGITS.astype(float), axis=1))).sum(axis=1)
    np.testing.assert_allclose(losses(loss="cross_entropy", label_smoothing=smoothing), expected, rtol=1e-5)


def test_weighted_cross_entropy_is_weighed_by_the_windows_class() -> None:
    plain = losses(loss="cross_entropy", label_smoothing=0.1)
    weighted = losses({"valence": [0.5, 1.0, 3.0]}, loss="weighted_cross_entropy", label_smoothing=0.1)
    np.testing.assert_allclose(weighted, plain * [0.5, 3.0, 0.5], rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_focal_loss_counts_easy_windows_less(smoothing: float) -> None:
    """Lin et al. 2017: -Σ y (1 - p)^γ log p."""
    shares = softmax(LOGITS.astype(float), axis=1)
    expected = -(smoothed(smoothing) * (1 - shares) ** 2.0 * np.log(shares)).sum(axis=1)
    found = losses(loss="focal", focal_gamma=2.0, label_smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_class_weights_that_are_missing_are_one_clear_error() -> None:
    with pytest.raises(MerlbError, match="needs the weight of each class"):
        losses(loss="weighted_cross_entropy")
