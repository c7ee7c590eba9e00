"""The verdicts on the claims of docs/study.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from merlb_model.evaluation.bootstrap import macro_f1_of, mean_difference_interval
from merlb_model.evaluation.permutation import holm
from merlb_model.evaluation.scores import macro_f1
from merlb_model.labels import INCOMPLETE, MODALITIES, TASKS
from merlb_model.study.answers import Answers, Floats

DRAWS: Final = 2_000
_EQUIVALENT: Final = 0.02
_PERMUTATIONS: Final = 2_000
_EMOTION: Final = ("valence", "arousal")

Verdict = Literal["holds", "fails", "inconclusive"]


@dataclass(frozen=True)
class Effect:
    """A number that a claim rests on, with its 95% interval, and what the claim asks of it."""

    name: str
    value: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class Finding:
    """A claim, what was found, and the verdict."""

    claim: str
    text: str
    effects: tuple[Effect, ...]

    @property
    def verdict(self) -> Verdict:
        """Fails where a part fails, holds where all parts hold."""
        verdicts = {effect.verdict for effect in self.effects}
        if "fails" in verdicts:
            return "fails"
        return "holds" if verdicts == {"holds"} else "inconclusive"


def _effect(
    name: str, first: Floats, second: Floats, answers: Answers, rows: NDArray[np.bool_], judge: Callable[..., Verdict]
) -> Effect:
    """The mean difference of two configurations' hits on ``rows``, its interval over streamers, and the verdict."""
    tested = rows & ~np.isnan(first) & ~np.isnan(second)
    one, two = first[tested], second[tested]
    low, high = mean_difference_interval(one, two, answers.streamers[tested], draws=DRAWS)
    return Effect(name, float(np.mean(one - two)), low, high, judge(low, high))


def _above(bound: float) -> Callable[[float, float], Verdict]:
    def judge(low: float, high: float) -> Verdict:
        return "holds" if low > bound else "fails" if high < bound else "inconclusive"

    return judge


def _not_above_zero(low: float, _: float) -> Verdict:
    return "holds" if low <= 0 else "fails"


def _equivalent(low: float, high: float) -> Verdict:
    if low > -_EQUIVALENT and high < _EQUIVALENT:
        return "holds"
    return "fails" if low > _EQUIVALENT or high < -_EQUIVALENT else "inconclusive"


def best_single(answers: Answers, rows: NDArray[np.bool_], task: str) -> str:
    """The modality that alone is right most often on ``rows``."""
    return max(MODALITIES, key=lambda name: float(np.nanmean(answers.hits(name, [task])[rows])))


def findings(answers: Answers, additive_ceiling: float) -> list[Finding]:
    """The verdicts on H1 to H6.

    Args:
        answers: of all configurations.
        additive_ceiling: the accuracy that the best additive rule reaches on the clips that need the combination.
    """
    return [
        _combinations_are_used(answers),
        _elsewhere_equivalent(answers),
        _combinations_are_where_they_belong(answers, additive_ceiling),
        _chance_on_permuted_labels(answers),
        _modality_dropout_pays(answers),
        _key_segments_are_better(answers),
    ]


def _combinations_are_used(answers: Answers) -> Finding:
    hits = {name: answers.hits(name, ["valence"]) for name in ("merlb", "late", *MODALITIES)}
    single = best_single(answers, answers.sarcasm, "valence")
    return Finding(
        "H1",
        "where the label needs the combination: merlb > late > best single modality",
        (
            _effect("merlb − late", hits["merlb"], hits["late"], answers, answers.sarcasm, _above(0)),
            _effect(f"late − {single} alone", hits["late"], hits[single], answers, answers.sarcasm, _above(0)),
        ),
    )


def _elsewhere_equivalent(answers: Answers) -> Finding:
    merlb, late = (answers.hits(name, ["valence"]) for name in ("merlb", "late"))
    effect = _effect("merlb − late", merlb, late, answers, ~answers.sarcasm, _equivalent)
    return Finding("H2", "elsewhere: merlb and late are equivalent", (effect,))


def _combinations_are_where_they_belong(answers: Answers, ceiling: float) -> Finding:
    whole, additive = (answers.hits("merlb", ["valence"], view) for view in ("whole", "additive"))
    at_ceiling = np.full_like(additive, ceiling)
    there, elsewhere = answers.sarcasm, ~answers.sarcasm
    return Finding(
        "H3",
        "the additive projection loses what merlb owes to combinations, and nothing else",
        (
            _effect("merlb − projection, combinations", whole, additive, answers, there, _above(0)),
            _effect("projection − additive ceiling", additive, at_ceiling, answers, there, _not_above_zero),
            _effect("merlb − projection, elsewhere", whole, additive, answers, elsewhere, _equivalent),
        ),
    )


def _chance_on_permuted_labels(answers: Answers) -> Finding:
    """Each task's macro-F1 beside what shuffled test labels give: its middle 95%."""
    random = np.random.default_rng(0)
    rows, values, bounds, chances = {}, [], [], []
    for task in TASKS:
        predicted = answers.predicted("merlb-permuted", task)[0]
        rows[task] = predicted >= 0
        actual, answer = answers.actual[task][rows[task]], predicted[rows[task]]
        shuffled = _shuffled_macro_f1(actual, answer, len(TASKS[task]), random)
        values.append(macro_f1(actual, answer))
        bounds.append(np.percentile(shuffled, (2.5, 97.5)))
        chances.append((1 + int((shuffled >= values[-1]).sum())) / (1 + _PERMUTATIONS))
    effects = tuple(
        Effect(
            f"{task} macro-F1 (interval: chance), p = {chance:.2f}",
            value,
            float(low),
            float(high),
            "holds" if chance > 0.05 else "fails",
        )
        for task, value, (low, high), chance in zip(TASKS, values, bounds, holm(chances), strict=True)
    )
    return Finding("H4", "on permuted labels: chance", effects)


def _shuffled_macro_f1(
    actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int, random: np.random.Generator
) -> Floats:
    """Macro-F1 of the answers against labels dealt out anew: f64 [draws]."""
    dealt = random.permuted(np.tile(actual, (_PERMUTATIONS, 1)), axis=1)
    cells = (np.arange(_PERMUTATIONS)[:, None] * classes + dealt) * classes + predicted
    counts = np.bincount(cells.ravel(), minlength=_PERMUTATIONS * classes**2)
    return macro_f1_of(counts.reshape(_PERMUTATIONS, classes, classes))


def _modality_dropout_pays(answers: Answers) -> Finding:
    every = np.ones_like(answers.sarcasm)
    effects = []
    for view in ("whole", *INCOMPLETE):
        with_dropout, without = (answers.hits(name, tuple(TASKS), view) for name in ("merlb", "merlb-complete"))
        bound = -_EQUIVALENT if view == "whole" else 0.0
        name = "complete" if view == "whole" else view
        effects.append(_effect(name, with_dropout, without, answers, every, _above(bound)))
    text = "modality dropout: at most 2 points lost when complete, better on every subset"
    return Finding("H5", text, tuple(effects))


def _key_segments_are_better(answers: Answers) -> Finding:
    key, random = (answers.hits(f"merlb-{name}_segments", _EMOTION) for name in ("key", "random"))
    effect = _effect("key − random segments", key, random, answers, np.ones_like(answers.sarcasm), _above(0))
    return Finding("H6", "key segments > random segments at equal compute", (effect,))


def mean_macro_f1(answers: Answers, configuration: str, task: str) -> tuple[float, float]:
    """Mean over seeds of the macro-F1 on all clips tested, and its standard deviation over seeds."""
    predicted = answers.predicted(configuration, task)
    actual = answers.actual[task]
    scores = [macro_f1(actual[each >= 0], each[each >= 0]) for each in predicted]
    return float(np.mean(scores)), float(np.std(scores, ddof=1)) if len(scores) > 1 else float("nan")


def accuracy(answers: Answers, configuration: str, rows: NDArray[np.bool_], tasks: Sequence[str]) -> float:
    """Share of right answers on ``rows``, over seeds and ``tasks``."""
    return float(np.nanmean(answers.hits(configuration, tasks)[rows]))
