"""Verdicts on made-up answers whose truth is known: each claim is met once and missed once."""

import numpy as np
import pytest

from merlb_model.labels import INCOMPLETE
from merlb_model.study.answers import Answers
from merlb_model.study.claims import Finding, accuracy, best_single, findings, mean_macro_f1
from tests.unit.study.made_up import SARCASM, made_up, permuted_at_chance

CEILING = 0.5
GOOD_THERE = {"merlb": 0.95, "late": 0.5, "face": 0.05, "screen": 0.2, "audio": 0.1, "merlb|additive": 0.4}
GOOD_ELSEWHERE = {
    "merlb": 1.0,
    "late": 1.0,
    "merlb|additive": 1.0,
    "merlb-complete": 0.99,
    "merlb-key_segments": 0.95,
    "merlb-random_segments": 0.7,
    **{f"merlb|{subset}": 0.8 for subset in INCOMPLETE},
    **{f"merlb-complete|{subset}": 0.4 for subset in INCOMPLETE},
}


def judged(answers: Answers, permuted: float = 0.0) -> dict[str, Finding]:
    permuted_at_chance(answers, permuted)
    return {finding.claim: finding for finding in findings(answers, CEILING)}


@pytest.fixture(scope="module")
def good() -> dict[str, Finding]:
    return judged(made_up({**GOOD_ELSEWHERE, **GOOD_THERE}, GOOD_ELSEWHERE))


def test_claims_that_are_true_hold(good: dict[str, Finding]) -> None:
    assert {claim: finding.verdict for claim, finding in good.items()} == dict.fromkeys(
        ("H1", "H2", "H3", "H4", "H5", "H6"), "holds"
    )


def test_effects_are_differences_of_shares_of_right_answers(good: dict[str, Finding]) -> None:
    over_late, over_single = good["H1"].effects
    assert over_late.value == pytest.approx(0.45, abs=0.08)
    assert over_late.low < over_late.value < over_late.high
    assert over_single.name == "late − screen alone"
    assert over_single.value == pytest.approx(0.3, abs=0.08)


@pytest.mark.parametrize(
    ("claim", "there", "elsewhere", "verdict"),
    [
        ("H1", {**GOOD_THERE, "merlb": 0.2}, GOOD_ELSEWHERE, "fails"),
        ("H1", {**GOOD_THERE, "late": 0.2, "screen": 0.2}, GOOD_ELSEWHERE, "inconclusive"),
        ("H2", GOOD_THERE, {**GOOD_ELSEWHERE, "late": 0.8}, "fails"),
        ("H3", {**GOOD_THERE, "merlb|additive": 0.95}, GOOD_ELSEWHERE, "fails"),
        ("H3", GOOD_THERE, {**GOOD_ELSEWHERE, "merlb|additive": 0.8}, "fails"),
        ("H5", GOOD_THERE, {**GOOD_ELSEWHERE, "merlb|face": 0.1}, "fails"),
        ("H5", GOOD_THERE, {**GOOD_ELSEWHERE, "merlb": 0.8}, "fails"),
        ("H6", GOOD_THERE, {**GOOD_ELSEWHERE, "merlb-key_segments": 0.6}, "fails"),
    ],
)
def test_claims_that_are_not_true_do_not_hold(
    claim: str, there: dict[str, float], elsewhere: dict[str, float], verdict: str
) -> None:
    assert judged(made_up(there, elsewhere))[claim].verdict == verdict


def test_a_model_that_learnt_from_permuted_labels_is_found_out() -> None:
    assert judged(made_up(GOOD_THERE, GOOD_ELSEWHERE), permuted=0.5)["H4"].verdict == "fails"


def test_the_best_single_modality_is_chosen_on_the_clips_in_question() -> None:
    answers = made_up({"face": 0.1, "screen": 0.6, "audio": 0.3}, {"face": 1.0, "screen": 0.1, "audio": 0.3})
    assert best_single(answers, SARCASM, "valence") == "screen"
    assert best_single(answers, ~SARCASM, "valence") == "face"


def test_scores_leave_out_clips_that_were_not_tested() -> None:
    answers = made_up({"merlb": 1.0}, {"merlb": 0.5})
    answers.logits["merlb"]["whole"]["valence"][:, ~SARCASM] = np.nan
    assert mean_macro_f1(answers, "merlb", "valence") == (1.0, 0.0)
    assert accuracy(answers, "merlb", np.ones_like(SARCASM), ["valence"]) == 1.0
