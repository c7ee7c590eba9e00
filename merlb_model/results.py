"""The F1 table for the terminal."""

from collections.abc import Mapping
from typing import Any

from merlb_model.labels import TASKS

_BAR_WIDTH = 20


def results_table(metrics: Mapping[str, Any], synthetic: bool) -> str:
    """``reports/metrics.json`` as a table: a line a task, then a line a class.

    Args:
        metrics: the file's content.
        synthetic: the scores are of the rendered sample corpus, which is said with them.
    """
    streamers = len(metrics["split"]["test"])
    return _scores_table(f"F1 on the test split ({streamers} streamers that training never saw)", metrics, synthetic)


def cross_validation_table(scores: Mapping[str, Any], synthetic: bool) -> str:
    """``scores.json`` of a cross-validation as a table, as ``results_table``."""
    title = f"F1 over {scores['folds']} folds (each clip tested once, by a network that never saw its streamer)"
    return _scores_table(title, scores, synthetic)


def _scores_table(title: str, metrics: Mapping[str, Any], synthetic: bool) -> str:
    """The title, what the scores say, and ``tasks``."""
    lines = [title]
    if synthetic:
        lines.append(
            "The sample corpus is synthetic: these scores say that the system works, nothing about real streams."
        )
    lines.append("")
    for task in filter(metrics["tasks"].__contains__, TASKS):
        scores = metrics["tasks"][task]
        low, high = scores["ci95"] or (None, None)
        lines.append(
            f"{task:<10} macro-F1 {_number(scores['macro_f1'])}   95% {_number(low)}–{_number(high)}"
            f"   UAR {_number(scores['uar'])}   n {scores['n']}"
        )
        lines += [_class_line(label, of_class) for label, of_class in scores["per_class"].items()]
    return "\n".join(lines)


def _class_line(label: str, scores: Mapping[str, Any] | None) -> str:
    if scores is None or scores["f1"] is None:
        return f"  {label:<14} no clip of it"
    bar = "█" * round(scores["f1"] * _BAR_WIDTH)
    return f"  {label:<14} {scores['f1']:.3f} {bar:<{_BAR_WIDTH}} n {scores['n']}"


def _number(value: float | None) -> str:
    return "  –  " if value is None else f"{value:.3f}"
