import math

import numpy as np
import pytest

from merlb_model.evaluation.scores import confusion, macro_f1, score_task

ACTUAL = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 0])
# class 0: 2 hits of 3 predicted, 3 there: F1 2·2/(3+3); class 1: 2 hits of 3, 2 there: F1 2·2/(3+2); class 2: none


def test_scores_are_those_worked_out_by_hand() -> None:
    scores = score_task(ACTUAL, PREDICTED, "valence")
    assert scores["n"] == 6
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)
    assert scores["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 4 / 5 + 1 * 0) / 6)
    assert scores["uar"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    two_thirds = pytest.approx(2 / 3)
    assert scores["per_class"] == {
        "negative": {"f1": two_thirds, "precision": two_thirds, "recall": two_thirds, "n": 3},
        "neutral": {"f1": pytest.approx(4 / 5), "precision": two_thirds, "recall": 1.0, "n": 2},
        "positive": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "n": 1},
    }
    assert macro_f1(ACTUAL, PREDICTED) == pytest.approx(22 / 45)


def test_a_class_without_support_has_no_scores_and_stays_out_of_the_means() -> None:
    actual, predicted = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    scores = score_task(actual, predicted, "arousal")
    assert scores["per_class"]["high"] == {"f1": None, "precision": None, "recall": None, "n": 0}
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2) == macro_f1(actual, predicted)
    assert scores["uar"] == pytest.approx((1 / 2 + 1) / 2)


def test_without_rows_there_is_nothing_to_score() -> None:
    nothing = np.zeros(0, np.int64)
    scores = score_task(nothing, nothing, "event")
    assert (scores["n"], scores["macro_f1"], scores["weighted_f1"], scores["uar"]) == (0, None, None, None)
    assert len(scores["per_class"]) == 8 and all(each["f1"] is None for each in scores["per_class"].values())
    assert math.isnan(macro_f1(nothing, nothing))


def test_confusion_has_actual_down_predicted_across_and_every_class_of_the_task() -> None:
    assert confusion(ACTUAL, PREDICTED, "valence").tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert confusion(ACTUAL, PREDICTED, "event").shape == (8, 8)


def test_confusion_of_no_rows_is_all_zeros() -> None:
    nothing = np.zeros(0, np.int64)
    assert confusion(nothing, nothing, "valence").tolist() == [[0, 0, 0]] * 3
