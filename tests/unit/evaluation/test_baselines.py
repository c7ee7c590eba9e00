from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from merlb_model.evaluation.baselines import majority, streamer_majority, streamer_probe

SHARES = {"valence": [0.2, 0.5, 0.3]}


def macro(actual: list[int], predicted: list[int]) -> Any:
    return pytest.approx(f1_score(actual, predicted, labels=sorted(set(actual)), average="macro", zero_division=0))


def test_the_majority_is_of_the_training_rows_and_scored_on_the_test_rows() -> None:
    actual = {"valence": np.array([0, 0, 0, 1, 2])}
    test = np.array([False, False, True, True, True])
    assert majority(actual, test, SHARES) == {
        "valence": {"label": "neutral", "macro_f1": macro([0, 1, 2], [1, 1, 1]), "accuracy": pytest.approx(1 / 3)}
    }


def test_a_clip_gets_the_class_of_its_streamers_other_clips() -> None:
    """a: three negatives and a positive; the positive is taken for negative. b: two negatives in the training rows."""
    actual = {"valence": np.array([0, 0, 0, 2, 0, 0, 2])}
    streamers = np.array(["a", "a", "a", "a", "b", "b", "b"])
    test = np.array([True, True, True, True, False, False, True])
    expected = [0, 0, 0, 0, 0]
    assert streamer_majority(actual, streamers, test, SHARES)["valence"] == {
        "macro_f1": macro([0, 0, 0, 2, 2], expected),
        "accuracy": pytest.approx(3 / 5),
    }


def test_equal_counts_and_a_lone_clip_are_decided_by_the_training_shares() -> None:
    actual = {"valence": np.array([1, 0, 2, 1, 1])}
    streamers = np.array(["lone", "even", "even", "even", "even"])  # without one of its ones: equal
    answers = [1, 1, 1, 1, 1]
    scores = streamer_majority(actual, streamers, np.ones(5, bool), SHARES)["valence"]
    assert scores == {"macro_f1": macro([1, 0, 2, 1, 1], answers), "accuracy": pytest.approx(3 / 5)}
    other = streamer_majority(actual, streamers, np.ones(5, bool), {"valence": [0.5, 0.2, 0.3]})["valence"]
    assert other["accuracy"] == 0.0  # 0 for the lone clip and for the ones, 1 for the others


def clips_of(streamers: int, each: int) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Classes in turn: every streamer has the same share of each."""
    count = streamers * each
    return np.arange(count) % 3, np.repeat(np.array([f"s{index}" for index in range(streamers)]), each)


def answers_of(actual: NDArray[np.int64], bias: NDArray[np.float64], seed: int = 0) -> NDArray[np.float32]:
    """Probabilities that are sure of the label, somewhat at random, with ``bias`` [N, 3] on the logits."""
    logits = 3 * np.eye(3)[actual] + bias + np.random.default_rng(seed).normal(0, 0.3, (len(actual), 3))
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def test_what_answers_tell_of_the_streamer_beyond_the_label_is_found_and_nothing_else() -> None:
    labels, streamers = clips_of(6, 30)
    own = np.random.default_rng(1).normal(0, 2, (6, 3))[np.unique(streamers, return_inverse=True)[1]]
    biased, honest = (
        streamer_probe({"valence": labels}, {"valence": answers_of(labels, bias)}, streamers, np.ones(180, bool))
        for bias in (own, 0 * own)
    )
    assert biased is not None and honest is not None
    assert biased["chance"] == pytest.approx(1 / 6) and (biased["streamers"], biased["clips"]) == (6, 180)
    assert biased["from_labels_and_answers"] > 0.7 and biased["from_labels"] < 0.3
    assert honest["from_labels_and_answers"] < 0.3


def test_labels_that_differ_by_streamer_tell_them_apart_without_any_answer() -> None:
    streamers, labels = np.repeat(np.array(["a", "b", "c"]), 20), np.repeat([0, 1, 2], 20)
    answers = {"valence": answers_of(labels, np.zeros((60, 3)))}
    found = streamer_probe({"valence": labels}, answers, streamers, np.ones(60, bool))
    assert found is not None and (found["from_labels"], found["from_labels_and_answers"]) == (1.0, 1.0)


def test_only_the_rows_asked_for_and_streamers_with_five_clips_are_told_apart() -> None:
    labels, streamers = clips_of(4, 10)
    rows = (np.arange(40) % 10 < 5) & (streamers != "s3")  # s3 is not asked for
    rows[0] = False  # leaves s0 with four
    answers = {"valence": answers_of(labels, np.zeros((40, 3)))}
    found = streamer_probe({"valence": labels}, answers, streamers, rows)
    assert found is not None and (found["streamers"], found["clips"]) == (2, 10)
    assert streamer_probe({"valence": labels}, answers, streamers, streamers == "s1") is None
    assert streamer_probe({"valence": labels}, answers, streamers, np.zeros(40, bool)) is None
