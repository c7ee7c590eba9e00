"""The sample's rules: hidden states, the labels that follow from them, and the best score that each view can reach."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from merlb_model.corpus.sample_canvas import FloatArray
from merlb_model.labels import TASKS

EXPRESSIONS: Final = ("negative", "neutral", "positive")
CONTOURS: Final = ("falling", "flat", "rising")
LEVELS: Final = TASKS["arousal"]
EVENTS: Final = TASKS["event"]

MOOD_SHARES: Final = np.array(
    [
        [0.14, 0.10, 0.10],
        [0.04, 0.20, 0.04],
        [0.10, 0.10, 0.18],
    ]
)
"""Share of the clips with each expression of the face (rows) and contour of the voice (columns)."""
VALENCE_RULE: Final = np.array(
    [
        [0, 2, 0],
        [0, 1, 2],
        [2, 0, 2],
    ]
)
"""Valence of each mood. A voice that moves leaves the face its meaning, and decides where the face shows nothing;
a flat voice turns the meaning of the face round."""
SARCASM: Final = ((0, 1), (2, 1))
"""The moods (expression, contour) whose valence is the opposite of the face's: no modality tells it alone."""

_LEVEL_SHARES: Final = (0.25, 0.45, 0.30)
_STAYS_NEUTRAL: Final = 0.12
"""Share of the clips of each level whose face stays neutral, and of those, others, whose voice does."""

EVENT_SHARES: Final = np.array([0.20, 0.11, 0.07, 0.16, 0.16, 0.12, 0.09, 0.09])
"""In the order of ``EVENTS``."""


def energy_shares() -> FloatArray:
    """Share of the clips with each agitation of the face (rows) and energy of the voice (columns): (3, 3)."""
    shares = np.zeros((3, 3))
    for level, share in enumerate(_LEVEL_SHARES):
        shares[level, level] += share * (1 - 2 * _STAYS_NEUTRAL)
        shares[1, level] += share * _STAYS_NEUTRAL
        shares[level, 1] += share * _STAYS_NEUTRAL
    return shares


AROUSAL_RULE: Final = np.array([[0, 0, 1], [0, 1, 2], [1, 2, 2]])
"""Arousal of each agitation and energy: that of whichever departs from neutral. The two corners do not occur."""


@dataclass(frozen=True)
class HiddenStates:
    """What a clip is rendered from, and its labels. Indices into the tuples of this module and of ``labels.TASKS``."""

    expression: int
    contour: int
    agitation: int
    energy: int
    event: int
    rule: dict[str, int]
    label: dict[str, int]

    @property
    def sarcasm(self) -> bool:
        return (self.expression, self.contour) in SARCASM

    def row(self) -> dict[str, str | int]:
        """The clip's line of ``truth.csv``, but for its file and streamer."""
        return {
            "face_expression": EXPRESSIONS[self.expression],
            "voice_contour": CONTOURS[self.contour],
            "face_agitation": LEVELS[self.agitation],
            "voice_energy": LEVELS[self.energy],
            "screen_event": EVENTS[self.event],
            "sarcasm": int(self.sarcasm),
            **{f"{task}_rule": TASKS[task][self.rule[task]] for task in TASKS},
            **{task: TASKS[task][self.label[task]] for task in TASKS},
            **{f"{task}_noise": int(self.rule[task] != self.label[task]) for task in TASKS},
        }


def deal_states(streamers: int, clips_each: int, label_noise: float, rng: np.random.Generator) -> list[HiddenStates]:
    """Draw the hidden states and labels of the whole corpus, streamer by streamer.

    Moods, energies and events are dealt like cards, each pack on its own: every share is met to the clip over the
    corpus and nearly so for each streamer, and nothing of one task tells of another.

    Args:
        streamers: how many.
        clips_each: clips of a streamer.
        label_noise: share of each task's labels that is replaced by another class of the task.
        rng: seeded.

    Returns:
        ``streamers * clips_each`` states; those of a streamer stand together.
    """
    moods = _deal(MOOD_SHARES.ravel(), streamers, clips_each, rng)
    energies = _deal(energy_shares().ravel(), streamers, clips_each, rng)
    events = _deal(EVENT_SHARES, streamers, clips_each, rng)
    expression, contour = np.unravel_index(moods, (3, 3))
    agitation, energy = np.unravel_index(energies, (3, 3))
    rules = {
        "valence": VALENCE_RULE[expression, contour],
        "arousal": AROUSAL_RULE[agitation, energy],
        "event": events,
    }
    labels = {task: _with_noise(rule, len(TASKS[task]), label_noise, rng) for task, rule in rules.items()}
    return [
        HiddenStates(
            expression=int(expression[clip]),
            contour=int(contour[clip]),
            agitation=int(agitation[clip]),
            energy=int(energy[clip]),
            event=int(events[clip]),
            rule={task: int(rule[clip]) for task, rule in rules.items()},
            label={task: int(label[clip]) for task, label in labels.items()},
        )
        for clip in range(streamers * clips_each)
    ]


def _deal(shares: FloatArray, streamers: int, clips_each: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Cell of each clip, i64 (streamers * clips_each,): the ordered pack is dealt round, then each hand is shuffled."""
    pack = np.repeat(np.arange(shares.size), _quotas(shares, streamers * clips_each))
    hands = pack.reshape(clips_each, streamers).T[rng.permutation(streamers)]
    return np.asarray(rng.permuted(hands, axis=1).ravel())


def _quotas(shares: FloatArray, total: int) -> NDArray[np.int64]:
    """Whole numbers nearest to ``shares * total`` that add up to ``total`` (largest remainders)."""
    exact = shares / shares.sum() * total
    quotas: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    remainders = np.argsort(quotas - exact, kind="stable")
    quotas[remainders[: total - quotas.sum()]] += 1
    return quotas


def _with_noise(rule: NDArray[np.int64], classes: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Labels after ``share`` of them, chosen at random, moved to one of the other classes."""
    label = rule.copy()
    hit = rng.permutation(rule.size)[: round(share * rule.size)]
    label[hit] = (rule[hit] + rng.integers(1, classes, hit.size)) % classes
    return label


# --- Ceilings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """What a decision table reaches on the rules' joint distribution."""

    macro_f1: float
    accuracy: float


def joint_distribution(shares: FloatArray, rule: NDArray[np.int64], classes: int, label_noise: float) -> FloatArray:
    """P(hidden cell, label) with the label noise in it: f64 (cells, classes)."""
    certain = np.eye(classes)[rule.ravel()]
    noisy = certain * (1 - label_noise) + (1 - certain) * label_noise / (classes - 1)
    return shares.reshape(-1, 1) * noisy


def score_table(joint: FloatArray, table: NDArray[np.int64]) -> Score:
    """Expected macro-F1 and accuracy when cell i is answered by class ``table[i]``.

    F1 of class c = 2 P(answer = label = c) / (P(label = c) + P(answer = c)).

    Args:
        joint: P(cell, label), f64 (cells, classes).
        table: class of each cell, i64 (cells,).
    """
    answers = np.eye(joint.shape[1])[table]
    hits = (joint * answers).sum(axis=0)
    answered = (joint.sum(axis=1, keepdims=True) * answers).sum(axis=0)
    return Score(float(np.mean(2 * hits / (joint.sum(axis=0) + answered))), float(hits.sum()))


def best_score(joint: FloatArray, allowed: Callable[[NDArray[np.int64]], bool] | None = None) -> Score:
    """The best macro-F1 and, on its own, the best accuracy over all decision tables that are ``allowed``.

    All classes ** cells tables are listed (so few cells only) and tried best first.
    """
    tables = np.array(list(product(range(joint.shape[1]), repeat=joint.shape[0])))
    scores = [score_table(joint, table) for table in tables]
    macro_f1 = _first_allowed(tables, np.array([score.macro_f1 for score in scores]), allowed)
    accuracy = _first_allowed(tables, np.array([score.accuracy for score in scores]), allowed)
    return Score(macro_f1, accuracy)


def _first_allowed(
    tables: NDArray[np.int64], scores: FloatArray, allowed: Callable[[NDArray[np.int64]], bool] | None
) -> float:
    best_first: Iterator[int] = (int(index) for index in np.argsort(-scores, kind="stable"))
    return next(float(scores[index]) for index in best_first if allowed is None or allowed(tables[index]))


def is_additive(table: NDArray[np.int64], rows: int, columns: int, classes: int) -> bool:
    """Whether some scores a[row, class] + b[column, class] are largest, alone, at each cell's class of ``table``.

    A linear feasibility problem: for each cell and each other class, the table's class leads by 1 or more (scores can
    be scaled).

    Args:
        table: class of each cell, i64 (rows * columns,), row by row.
    """
    constraints = []
    for cell, answer in enumerate(table):
        row, column = divmod(cell, columns)
        for other in set(range(classes)) - {int(answer)}:
            a, b = np.zeros((rows, classes)), np.zeros((columns, classes))
            a[row, answer], a[row, other], b[column, answer], b[column, other] = -1, 1, -1, 1
            constraints.append(np.concatenate([a.ravel(), b.ravel()]))
    unknowns = (rows + columns) * classes
    bound = -np.ones(len(constraints))
    return bool(linprog(np.zeros(unknowns), np.array(constraints), bound, bounds=(None, None)).status == 0)


def ceilings(label_noise: float) -> dict[str, Any]:
    """The content of ``truth.json``: for each task the best macro-F1 and accuracy that each view of a clip can reach.

    Expected values under the rules and the label noise, over all deterministic decision tables; a view that holds
    nothing of a task gives one answer to every clip. ``additive`` adds one score a modality and class, as averaged
    logits do.
    """
    mood = joint_distribution(MOOD_SHARES, VALENCE_RULE, 3, label_noise)
    energy = joint_distribution(energy_shares(), AROUSAL_RULE, 3, label_noise)
    event = joint_distribution(EVENT_SHARES, np.arange(8), 8, label_noise)
    tasks = {"valence": _face_and_voice(mood), "arousal": _face_and_voice(energy), "event": _screen_alone(event)}
    return {
        "schema_version": 1,
        "label_noise": label_noise,
        "ceilings": {
            task: {view: {"macro_f1": score.macro_f1, "accuracy": score.accuracy} for view, score in views.items()}
            for task, views in tasks.items()
        },
        "sarcasm": {
            "cells": [{"face_expression": EXPRESSIONS[e], "voice_contour": CONTOURS[c]} for e, c in SARCASM],
            "share": float(sum(MOOD_SHARES[cell] for cell in SARCASM)),
        },
    }


def additive_accuracy(label_noise: float) -> float:
    """The accuracy of valence that the best additive table reaches on the clips of ``SARCASM``.

    Best means accuracy over all clips; among equals, over those.
    """
    joint = joint_distribution(MOOD_SHARES, VALENCE_RULE, 3, label_noise)
    combined = np.zeros((3, 3), bool)
    combined[tuple(zip(*SARCASM, strict=True))] = True
    there = np.where(combined.reshape(-1, 1), joint, 0)

    def rank(table: NDArray[np.int64]) -> tuple[float, float]:
        return round(score_table(joint, table).accuracy, 9), score_table(there, table).accuracy

    tables = (np.array(table) for table in product(range(3), repeat=9))
    best_first = sorted(tables, key=rank, reverse=True)
    best = next(table for table in best_first if is_additive(table, 3, 3, 3))
    return score_table(there, best).accuracy / float(there.sum())


def _face_and_voice(joint: FloatArray) -> dict[str, Score]:
    """Views of a task whose hidden cells are (face, voice): f64 (9, classes)."""
    classes = joint.shape[1]
    cells = joint.reshape(3, 3, classes)
    return {
        "face": best_score(cells.sum(axis=1)),
        "screen": best_score(joint.sum(axis=0, keepdims=True)),
        "audio": best_score(cells.sum(axis=0)),
        "additive": best_score(joint, lambda table: is_additive(table, 3, 3, classes)),
        "whole": best_score(joint),
    }


def _screen_alone(joint: FloatArray) -> dict[str, Score]:
    """Views of the event, whose hidden cells are the events: with little noise the rule's own table is the best."""
    constant = best_score(joint.sum(axis=0, keepdims=True))
    shown = score_table(joint, np.arange(len(joint)))
    return {"face": constant, "screen": shown, "audio": constant, "additive": shown, "whole": shown}
