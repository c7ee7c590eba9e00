"""Scores of one task, by scikit-learn. A class without support has no scores and stays out of the means."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from merlb_model.errors import MerlbError
from merlb_model.evaluation.bootstrap import interval
from merlb_model.labels import TASKS, class_index

Indices = NDArray[np.int64]


def class_indices(labels: pd.Series, task: str) -> Indices:
    """Place of each label in the task's order, i64 [N].

    Raises:
        MerlbError: one is no class of the task.
    """
    try:
        return np.array([class_index(task, label) for label in labels], dtype=np.int64)
    except ValueError as error:
        raise MerlbError(f"{error}: run `merlb evaluate` again") from None


def macro_f1(actual: Indices, predicted: Indices) -> float:
    """Mean F1 over the classes that occur in ``actual``; NaN where nothing does.

    Args:
        actual: class indices, i64 [N].
        predicted: class indices, i64 [N].
    """
    if not len(actual):
        return float("nan")
    return float(f1_score(actual, predicted, labels=np.unique(actual), average="macro", zero_division=0.0))


def confusion(actual: Indices, predicted: Indices, task: str) -> NDArray[np.int64]:
    """Counts i64 [classes, classes]: rows are actual, columns predicted, in the task's order."""
    if not len(actual):  # scikit-learn refuses
        return np.zeros((len(TASKS[task]), len(TASKS[task])), np.int64)
    counts: NDArray[np.int64] = confusion_matrix(actual, predicted, labels=np.arange(len(TASKS[task])))
    return counts


def score_task(actual: Indices, predicted: Indices, task: str) -> dict[str, Any]:
    """``n, macro_f1, weighted_f1, uar`` and ``per_class`` of a task, as ``metrics.json`` holds them (without ``ci95``).

    ``uar`` is the unweighted average recall: the mean recall over the classes that occur.
    """
    classes = TASKS[task]
    if not len(actual):
        nothing = {"f1": None, "precision": None, "recall": None, "n": 0}
        per_class = {label: dict(nothing) for label in classes}
        return {"n": 0, "macro_f1": None, "weighted_f1": None, "uar": None, "per_class": per_class}
    precision, recall, f1, support = precision_recall_fscore_support(
        actual, predicted, labels=np.arange(len(classes)), zero_division=0.0
    )
    seen = support > 0
    return {
        "n": len(actual),
        "macro_f1": float(f1[seen].mean()),
        "weighted_f1": float(np.average(f1, weights=support)),
        "uar": float(recall[seen].mean()),
        "per_class": {
            label: {
                "f1": float(f1[index]) if seen[index] else None,
                "precision": float(precision[index]) if seen[index] else None,
                "recall": float(recall[index]) if seen[index] else None,
                "n": int(support[index]),
            }
            for index, label in enumerate(classes)
        },
    }


def score_with_interval(actual: Indices, predicted: Indices, task: str, groups: Indices) -> dict[str, Any]:
    """``score_task`` and ``ci95``, the macro-F1's interval from draws of ``groups``, i64 [N]; None without rows."""
    bounds = interval(actual, predicted, groups, len(TASKS[task]))
    return {**score_task(actual, predicted, task), "ci95": list(bounds) if bounds else None}
