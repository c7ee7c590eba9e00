"""What a model must be better than, and whether it knows the streamer rather than the emotion."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlb_model.evaluation.scores import macro_f1
from merlb_model.labels import TASKS

_FOLDS: Final = 5
_SMALLEST: Final = 1e-12  # of a probability, before its logarithm

Indices = NDArray[np.int64]
Rows = NDArray[np.bool_]


def majority(actual: Mapping[str, Indices], test: Rows, shares: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Scores on the test rows of the answer that is always the training rows' most frequent class, by task.

    Args:
        actual: class indices i64 [N] of all rows, by task.
        test: which rows are scored, bool [N].
        shares: class shares of the training rows, by task (``nn.model.priors``).
    """
    best = {task: int(np.argmax(shares[task])) for task in actual}
    return {
        task: {"label": TASKS[task][best[task]], **_scores(each[test], np.full(int(test.sum()), best[task]))}
        for task, each in actual.items()
    }


def streamer_majority(
    actual: Mapping[str, Indices], streamers: NDArray[np.str_], test: Rows, shares: Mapping[str, list[float]]
) -> dict[str, dict[str, Any]]:
    """Scores on the test rows of the answer that knows who streams and nothing else, by task.

    A clip's answer is the most frequent class of its streamer's *other* clips, of all splits; equal counts, and a
    streamer without other clips, are decided by the training rows' shares. A model that is not above this could do by
    telling streamers apart. Leaving the clip out makes its own class the rarer one: with evenly spread labels this
    falls below ``majority``, and says that the streamer tells nothing.

    Args:
        actual: class indices i64 [N] of all rows, by task.
        streamers: each row's, [N].
        test: which rows are scored, bool [N].
        shares: class shares of the training rows, by task.
    """
    _, members = np.unique(streamers, return_inverse=True)
    scores = {}
    for task, each in actual.items():
        counts = np.zeros((int(members.max(initial=-1)) + 1, len(TASKS[task])))
        np.add.at(counts, (members, each), 1)
        others = counts[members] - np.eye(len(TASKS[task]))[each]
        answers = (others + 0.5 * np.asarray(shares[task])).argmax(axis=-1)  # shares below 1 decide between equals
        scores[task] = _scores(each[test], answers[test])
    return scores


def streamer_probe(
    actual: Mapping[str, Indices],
    probabilities: Mapping[str, NDArray[np.float32]],
    streamers: NDArray[np.str_],
    rows: Rows,
    seed: int = 0,
) -> dict[str, Any] | None:
    """How much of who streams is in a model's answers, beyond what the labels tell of it.

    The streamers of ``rows`` are told apart by logistic regression in 5-fold cross-validation over clips: by the true
    labels alone, which tell something where streamers differ in their moods and games, and by labels and answers
    (centred logarithms of the probabilities) together. If the second is no better than the first, the answers are about
    the emotion; the more it is above it, the more the model knows the streamer. A clip left out makes its own labels
    rarer in its streamer: with few clips a streamer both fall below chance.

    Args:
        actual: class indices i64 [N] of all rows, by task.
        probabilities: f32 [N, classes], by task.
        streamers: each row's, [N].
        rows: bool [N]; of these, streamers with fewer than 5 clips are left out.
        seed: of the folds.

    Returns:
        ``streamers`` and ``clips`` that were told apart, and the balanced accuracies ``chance`` (1 / streamers),
        ``from_labels`` and ``from_labels_and_answers``; None below two streamers.
    """
    names, counts = np.unique(streamers[rows], return_counts=True)
    names = names[counts >= _FOLDS]
    if len(names) < 2:
        return None
    used = rows & np.isin(streamers, names)
    labels = np.concatenate([np.eye(len(TASKS[task]))[each[used]] for task, each in actual.items()], axis=1)
    answers = np.concatenate([_centred_logs(probabilities[task][used]) for task in actual], axis=1)
    return {
        "streamers": len(names),
        "clips": int(used.sum()),
        "chance": 1 / len(names),
        "from_labels": _told_apart(labels, streamers[used], seed),
        "from_labels_and_answers": _told_apart(np.concatenate([labels, answers], axis=1), streamers[used], seed),
    }


def _centred_logs(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """What is left of the logits: a linear probe can take a label's share from them, not from probabilities."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), _SMALLEST))
    return logs - logs.mean(axis=-1, keepdims=True)


def _told_apart(features: NDArray[np.float64], streamers: NDArray[np.str_], seed: int) -> float:
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    return float(balanced_accuracy_score(streamers, cross_val_predict(probe, features, streamers, cv=folds)))


def _scores(actual: Indices, predicted: Indices) -> dict[str, float | None]:
    if not len(actual):
        return {"macro_f1": None, "accuracy": None}
    return {"macro_f1": macro_f1(actual, predicted), "accuracy": float((actual == predicted).mean())}
