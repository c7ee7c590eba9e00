"""The model card: what an exported model is for, what it is not, how well it does."""

from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

import merlb_model

_SYNTHETIC = """
> **Trained on the synthetic sample corpus.** Its faces, voices and games are drawn by a program after known rules. The
> scores below say that the code works. They say nothing about real people or broadcasts. Do not use this model on them.
"""


def model_card(
    info: Mapping[str, Any],
    metrics: Mapping[str, Any],
    run: Mapping[str, Any],
    corpus: Mapping[str, Any],
    parameters: int,
) -> str:
    """Markdown text of the card.

    Args:
        info: the content of ``merlb.json``.
        metrics: the content of ``metrics.json``.
        run: the content of ``run.json``.
        corpus: ``source``, ``clips`` and ``streamers`` of what the model was trained on, as far as known.
        parameters: number of weights.
    """
    model = run["params"]["model"]
    template = Template(resources.files(__package__).joinpath("model_card.md").read_text(encoding="utf-8"))
    seen = set(metrics["split"]["train"]) & set(metrics["split"]["test"])
    return template.substitute(
        name=f"MERLB {info['weights_hash'][:12]}",
        warning=_SYNTHETIC if corpus["source"] == "sample" else "",
        weights_hash=info["weights_hash"],
        trained_store_hash=info["store_hash"],
        store_hash=metrics["store_hash"],
        git=info["git"],
        version=merlb_model.__version__,
        preset=model["preset"],
        fusion=model["fusion"],
        modalities=", ".join(model["modalities"]),
        parameters=f"{parameters:,}",
        unseen=f" (but {len(seen)} of them it has)" if seen else "",
        scores=_score_table(metrics),
        interval=f"95% intervals by bootstrap over {metrics['intervals']['over']}.",
        clips=corpus["clips"],
        streamers=corpus["streamers"],
    )


def _score_table(metrics: Mapping[str, Any]) -> str:
    lines = ["| task | clips | macro-F1 | 95% interval | UAR | weakest class |", "|---|---|---|---|---|---|"]
    for task, scores in metrics["tasks"].items():
        bounds = " to ".join(_number(bound) for bound in scores["ci95"]) if scores["ci95"] else "none"
        known = {label: each["f1"] for label, each in scores["per_class"].items() if each["f1"] is not None}
        weakest = min(known, key=lambda label: known[label]) if known else None
        weakest_text = f"{weakest} ({_number(known[weakest])})" if weakest else "none"
        cells = (task, scores["n"], _number(scores["macro_f1"]), bounds, _number(scores["uar"]), weakest_text)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
