"""The orders that weights, logits and tables rest on, written down a second time: a change here must be meant."""

import pytest

from merlb_model.labels import MODALITIES, TASK_SETS, TASKS, annotation_columns, class_index


def test_orders_are_those_of_the_published_tables() -> None:
    assert MODALITIES == ("face", "screen", "audio")
    assert TASKS == {
        "valence": ("negative", "neutral", "positive"),
        "arousal": ("low", "neutral", "high"),
        "event": ("routing", "procurement", "respawning", "exploring", "fighting", "punching", "defending", "defeated"),
    }
    assert list(TASKS) == ["valence", "arousal", "event"]
    assert {"both": tuple(TASKS), "emo": ("valence", "arousal"), "game": ("event",)} == TASK_SETS


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("valence", ["Valence_Negative", "Valence_Neutral", "Valence_Positive"]),
        ("arousal", ["Arousal_Low", "Arousal_Neutral", "Arousal_High"]),
        (
            "event",
            ["Routing", "Procurement", "Respawning", "Exploring", "Fighting", "Punching", "Defending", "Defeated"],
        ),
    ],
)
def test_each_published_column_is_its_class(task: str, columns: list[str]) -> None:
    found = annotation_columns(task)
    assert [found[column] for column in columns] == list(TASKS[task])
    assert [class_index(task, found[column]) for column in columns] == list(range(len(columns)))
