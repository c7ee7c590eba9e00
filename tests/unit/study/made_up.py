"""Answers of a made-up study, in which it is known who is right where."""

import numpy as np
from numpy.typing import NDArray

from merlb_model.labels import INCOMPLETE, TASKS
from merlb_model.study.answers import Answers
from merlb_model.study.protocol import STUDY, configurations

CLIPS_EACH = 10
STREAMERS = 30
CLIPS = STREAMERS * CLIPS_EACH
SARCASM = np.arange(CLIPS) % 5 == 0


def logits_of(predicted: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    return np.eye(classes, dtype=np.float32)[predicted]


def made_up(right_there: dict[str, float], right_elsewhere: dict[str, float], default: float = 0.8) -> Answers:
    """Each configuration's answers are right in the given shares of the clips; views as ``name|view``."""
    random = np.random.default_rng(5)
    actual = {task: random.integers(len(classes), size=CLIPS) for task, classes in TASKS.items()}
    logits: dict[str, dict[str, dict[str, NDArray[np.float32]]]] = {}
    for configuration, seeds in configurations(STUDY):
        views = {"whole", "additive", *INCOMPLETE} if configuration.name.startswith("merlb") else {"whole"}
        for view in sorted(views):
            key = configuration.name if view == "whole" else f"{configuration.name}|{view}"
            share = np.where(SARCASM, right_there.get(key, default), right_elsewhere.get(key, default))
            for task, classes in TASKS.items():
                right = random.random((len(seeds), CLIPS)) < share
                predicted = np.where(right, actual[task], (actual[task] + 1) % len(classes))
                logits.setdefault(configuration.name, {}).setdefault(view, {})[task] = logits_of(
                    predicted, len(classes)
                )
    streamers = np.repeat(np.arange(STREAMERS), CLIPS_EACH)
    return Answers(actual, streamers, SARCASM, logits)


def permuted_at_chance(answers: Answers, share: float) -> None:
    """Let ``merlb-permuted`` answer at random but for ``share`` of the clips, where it is right."""
    random = np.random.default_rng(9)
    for task, classes in TASKS.items():
        guessed = random.integers(len(classes), size=(1, CLIPS))
        right = random.random((1, CLIPS)) < share
        predicted = np.where(right, answers.actual[task], guessed)
        answers.logits["merlb-permuted"]["whole"][task] = logits_of(predicted, len(classes))
