"""Modalities, tasks and classes: the one place where their names and orders stand."""

from itertools import combinations
from typing import Final

MODALITIES: Final = ("face", "screen", "audio")
SUBSETS: Final[dict[str, tuple[str, ...]]] = {
    "+".join(names): names for size in range(1, len(MODALITIES) + 1) for names in combinations(MODALITIES, size)
}
"""Names of the seven subsets of the modalities, and what is in each; the whole set comes last."""
WHOLE: Final = "+".join(MODALITIES)
INCOMPLETE: Final = {subset: names for subset, names in SUBSETS.items() if subset != WHOLE}
"""The other six."""

TASKS: Final[dict[str, tuple[str, ...]]] = {
    "valence": ("negative", "neutral", "positive"),
    "arousal": ("low", "neutral", "high"),
    "event": (
        "routing",
        "procurement",
        "respawning",
        "exploring",
        "fighting",
        "punching",
        "defending",
        "defeated",
    ),
}

TASK_SETS: Final[dict[str, tuple[str, ...]]] = {
    "both": ("valence", "arousal", "event"),
    "emo": ("valence", "arousal"),
    "game": ("event",),
}


def class_index(task: str, label: str) -> int:
    """Index of ``label`` in its task's order.

    Raises:
        ValueError: ``label`` is no class of ``task``.
    """
    classes = TASKS[task]
    if label not in classes:
        raise ValueError(f"{label!r} is no {task}; expected one of {', '.join(classes)}")
    return classes.index(label)


def annotation_columns(task: str) -> dict[str, str]:
    """The annotation table's one-hot column of each class: ``{"Valence_Negative": "negative", ...}``."""
    prefix = "" if task == "event" else f"{task.capitalize()}_"
    return {f"{prefix}{label.capitalize()}": label for label in TASKS[task]}


FORERUNNER_COLUMNS: Final = {
    "V_Neg": "Valence_Negative",
    "V_Neut": "Valence_Neutral",
    "V_Pos": "Valence_Positive",
    "A_Neut": "Arousal_Neutral",
    "A_Pos": "Arousal_High",
    "Laning": "Routing",
    "Shopping": "Procurement",
    "Returning": "Respawning",
    "Roaming": "Exploring",
    "Pushing": "Punching",
    "Dead": "Defeated",
}
"""Column names of Ringer, Walker and Nicolaou's tables (2019), which had two classes of arousal: none is low."""
