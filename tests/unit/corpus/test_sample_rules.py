"""The hidden states that are dealt, and the ceilings: by hand, by scikit-learn, and by brute force of another kind."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score

from merlb_model.corpus import sample_rules as rules
from merlb_model.labels import TASKS

NOISE = 0.04


def deal(seed: int = 1, noise: float = NOISE) -> list[rules.HiddenStates]:
    return rules.deal_states(40, 10, noise, np.random.default_rng(seed))


def kept(accuracy: float, classes: int = 3, noise: float = NOISE) -> float:
    """Accuracy under label noise of what is right ``accuracy`` of the time without it."""
    return accuracy * (1 - noise) + (1 - accuracy) * noise / (classes - 1)


# --- Dealing ----------------------------------------------------------------------------------------------------------


def test_shares_add_up_to_one() -> None:
    for shares in (rules.MOOD_SHARES, rules.energy_shares(), rules.EVENT_SHARES):
        assert shares.sum() == pytest.approx(1)


def test_every_mood_and_event_gets_its_share_of_the_clips() -> None:
    states = deal()
    moods = np.zeros((3, 3))
    events = np.zeros(8)
    for state in states:
        moods[state.expression, state.contour] += 1
        events[state.event] += 1
    np.testing.assert_allclose(moods, 400 * rules.MOOD_SHARES)
    np.testing.assert_allclose(events, 400 * rules.EVENT_SHARES)


def test_every_streamer_gets_nearly_the_same_hand() -> None:
    events = np.array([state.event for state in deal()]).reshape(40, 10)
    for event, share in enumerate(rules.EVENT_SHARES):
        each = (events == event).sum(axis=1)
        assert set(each) <= {int(10 * share), int(10 * share) + 1}


def test_the_states_of_one_task_tell_nothing_of_another() -> None:
    states = deal()
    valence, event = (np.array([state.rule[task] for state in states]) for task in ("valence", "event"))
    together = np.histogram2d(valence, event, (3, 8))[0] / 400
    apart = np.outer(together.sum(axis=1), together.sum(axis=0))
    assert np.abs(together - apart).max() < 0.03


def test_the_given_share_of_labels_is_replaced_in_each_task() -> None:
    states = deal(noise=0.1)
    for task in TASKS:
        assert sum(state.rule[task] != state.label[task] for state in states) == 40


def test_no_noise_leaves_the_rules_labels() -> None:
    assert all(state.rule == state.label for state in deal(noise=0.0))


def test_arousal_follows_whichever_departs_from_neutral() -> None:
    for state in deal():
        shown = {state.agitation, state.energy} - {1} or {1}
        assert shown == {state.rule["arousal"]}


def test_sarcasm_is_an_expressive_face_with_a_flat_voice_and_means_its_opposite() -> None:
    for state in deal():
        assert state.sarcasm == (state.contour == 1 and state.expression != 1)
        if state.sarcasm:
            assert state.rule["valence"] == 2 - state.expression


def test_the_same_seed_deals_the_same_states() -> None:
    assert deal(3) == deal(3)
    assert deal(3) != deal(4)


# --- Ceilings ---------------------------------------------------------------------------------------------------------


def test_a_tables_score_is_scikit_learns_on_the_weighted_cells() -> None:
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.ones(15)).reshape(5, 3)
    table = np.array([0, 2, 1, 1, 0])
    cells, labels = (index.ravel() for index in np.indices(joint.shape))
    weights = joint.ravel()
    score = rules.score_table(joint, table)
    assert score.macro_f1 == pytest.approx(f1_score(labels, table[cells], average="macro", sample_weight=weights))
    assert score.accuracy == pytest.approx(accuracy_score(labels, table[cells], sample_weight=weights))


def test_valence_accuracies_are_those_worked_out_by_hand() -> None:
    """Face: .24 (negative) + .20 (neutral) + .28 (positive). Voice: .18 + .20 + .22. Additive: see below."""
    ceilings = rules.ceilings(NOISE)["ceilings"]["valence"]
    assert ceilings["face"]["accuracy"] == pytest.approx(kept(0.72))
    assert ceilings["audio"]["accuracy"] == pytest.approx(kept(0.60))
    assert ceilings["whole"]["accuracy"] == pytest.approx(kept(1.0))
    # A falling voice leaves both expressive faces their meaning and a flat one turns both round: no sum of scores does
    # that (the four inequalities add up to 0 > 0), nor with a rising one. One flat cell given up mends both; the
    # two have .10 each, against .10 + .10 for one cell each of falling and rising.
    assert ceilings["additive"]["accuracy"] == pytest.approx(kept(0.90))


def test_arousal_is_additive_and_each_modality_alone_misses_what_it_keeps_neutral() -> None:
    ceilings = rules.ceilings(NOISE)["ceilings"]["arousal"]
    assert ceilings["additive"] == ceilings["whole"]
    for modality in ("face", "audio"):
        assert ceilings[modality]["accuracy"] == pytest.approx(kept(1 - 0.12 * 0.55))


def test_the_additive_ceiling_is_what_random_scores_reach_at_best() -> None:
    joint = rules.joint_distribution(rules.MOOD_SHARES, rules.VALENCE_RULE, 3, NOISE)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):  # some tables are reached by one draw in 10⁵
        face, voice = rng.standard_normal((2, 100_000, 3, 3))
        found.append(np.unique((face[:, :, None] + voice[:, None]).argmax(axis=-1).reshape(-1, 9), axis=0))
    tables = np.unique(np.concatenate(found), axis=0)
    scores = [rules.score_table(joint, table) for table in tables]
    ceiling = rules.ceilings(NOISE)["ceilings"]["valence"]["additive"]
    assert ceiling["macro_f1"] == pytest.approx(max(score.macro_f1 for score in scores))
    assert ceiling["accuracy"] == pytest.approx(max(score.accuracy for score in scores))


def test_valence_needs_the_combination() -> None:
    ceilings = rules.ceilings(NOISE)["ceilings"]["valence"]
    alone = max(ceilings[modality]["macro_f1"] for modality in ("face", "screen", "audio"))
    assert alone + 0.1 < ceilings["additive"]["macro_f1"] < ceilings["whole"]["macro_f1"] - 0.04


def test_no_other_table_beats_the_events_own() -> None:
    """All 8 ** 8 tables, as the first two cells' classes and the 8 ** 6 tables of the other six."""
    joint = rules.joint_distribution(rules.EVENT_SHARES, np.arange(8), 8, NOISE)
    hits, answered = tables_of(joint[2:])
    best = 0.0
    for first, second in product(range(8), repeat=2):
        extra_hits, extra_answered = np.zeros(8), np.zeros(8)
        for cell, answer in enumerate((first, second)):
            extra_hits[answer] += joint[cell, answer]
            extra_answered[answer] += joint[cell].sum()
        f1 = 2 * (hits + extra_hits) / (joint.sum(axis=0) + answered + extra_answered)
        best = max(best, float(f1.mean(axis=1).max()))
    assert rules.ceilings(NOISE)["ceilings"]["event"]["screen"]["macro_f1"] == pytest.approx(best)


def tables_of(joint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct and given answers of each class, f64 (tables, 8), for all tables over the cells of ``joint``."""
    hits, answered = np.zeros((1, 8)), np.zeros((1, 8))
    for cell in joint:
        hits = (hits[:, None] + np.diag(cell)).reshape(-1, 8)
        answered = (answered[:, None] + np.eye(8) * cell.sum()).reshape(-1, 8)
    return hits, answered


def test_the_sarcastic_cells_share_is_written_down() -> None:
    sarcasm = rules.ceilings(NOISE)["sarcasm"]
    assert sarcasm["share"] == pytest.approx(0.20)
    assert {cell["voice_contour"] for cell in sarcasm["cells"]} == {"flat"}
