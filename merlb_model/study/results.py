"""What a study found, for people: docs/results.md and its figures."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from merlb_model.evaluation.bootstrap import mean_difference_interval
from merlb_model.evaluation.permutation import holm, permutation_test
from merlb_model.evaluation.report import save_figure
from merlb_model.files import replacing
from merlb_model.labels import INCOMPLETE, MODALITIES, TASKS
from merlb_model.study.answers import Answers
from merlb_model.study.claims import Finding, accuracy, mean_macro_f1
from merlb_model.study.protocol import FRONTENDS, FUSIONS, Protocol

_EMOTION: Final = ("valence", "arousal")
_COMMAND: Final = "make study"


def write_results(
    answers: Answers, findings: Sequence[Finding], protocol: Protocol, git: str, paper: Path, out: Path, figures: Path
) -> None:
    """Write the page and its figures.

    Args:
        answers: of all configurations.
        findings: the verdicts.
        protocol: what was run.
        git: the code's revision.
        paper: ``paper_f1.csv``, the published figures.
        out: the Markdown file.
        figures: folder for its PNGs, beside it.
    """
    draw_combinations(answers, figures / "study_combinations.png")
    draw_effects(findings, figures / "study_effects.png")
    sections = [
        _head(answers, protocol, git),
        _verdicts(findings, figures.name),
        _fusions(answers, figures.name),
        _against_merlb(answers),
        _frontends(answers, protocol),
        _subsets(answers),
        _published(paper),
    ]
    with replacing(out) as fresh:
        fresh.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def _points(value: float) -> str:
    """A difference in points of a hundred, with its sign; − is a minus, not a hyphen."""
    return f"{100 * value:+.1f}".replace("-", "−")


def _head(answers: Answers, protocol: Protocol, git: str) -> str:
    corpus = protocol.corpus
    clips, combined = len(answers.sarcasm), int(answers.sarcasm.sum())
    return f"""# What the study found

Written by `{_COMMAND}`; what was claimed beforehand, and how it was run, stands in [study.md](study.md).
**The corpus is synthetic: these figures say what the fusions can and cannot do, nothing about real people or streams.**

{clips} clips of {corpus.streamers} streamers (seed {corpus.seed}), {protocol.folds} folds over streamers, seeds \
{", ".join(map(str, protocol.seeds))}; {combined} clips need the combination of face and voice. Protocol \
`{protocol.key}`, code `{git}`."""


def _verdicts(findings: Sequence[Finding], figures: str) -> str:
    rows = []
    for finding in findings:
        for number, effect in enumerate(finding.effects):
            in_points = "macro-F1" not in effect.name
            show = _points if in_points else "{:.3f}".format
            rows.append(
                (
                    f"**{finding.claim}** {finding.text}" if not number else "",
                    effect.name,
                    f"{show(effect.value)} ({show(effect.low)} to {show(effect.high)})",
                    effect.verdict,
                    f"**{finding.verdict}**" if not number else "",
                )
            )
    table = _table(("claim", "what", "effect in points (95% interval)", "this part", "verdict"), rows)
    return f"## Verdicts\n\n{table}\n\n![Effects and their intervals]({figures}/study_effects.png)"


def _fusions(answers: Answers, figures: str) -> str:
    rows = []
    for name in (*FUSIONS, *MODALITIES):
        scores = [_score(answers, name, task) for task in TASKS]
        there, elsewhere = (accuracy(answers, name, each, ["valence"]) for each in (answers.sarcasm, ~answers.sarcasm))
        rows.append((name if name in FUSIONS else f"{name} alone", *scores, f"{there:.3f}", f"{elsewhere:.3f}"))
    every = _table(
        ("all tasks", "valence", "arousal", "event", "valence accuracy, combination", "elsewhere"),
        rows,
    )
    fewer = _table(
        ("one task set", "valence (`emo`)", "arousal (`emo`)", "event (`game`)"),
        [
            (
                name,
                *(_score(answers, f"{name}-emo", task) for task in _EMOTION),
                _score(answers, f"{name}-game", "event"),
            )
            for name in FUSIONS
        ],
    )
    return f"""## Fusions

Macro-F1 over all clips, mean over seeds ± standard deviation over seeds. Behind it the accuracy of valence on the clips
that need the combination, and on the others.

{every}

![Accuracy of valence where the combination is needed, and elsewhere]({figures}/study_combinations.png)

Trained on fewer tasks, one seed:

{fewer}"""


def _score(answers: Answers, configuration: str, task: str) -> str:
    mean, deviation = mean_macro_f1(answers, configuration, task)
    return f"{mean:.3f}" if np.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _against_merlb(answers: Answers) -> str:
    rows = []
    for task in TASKS:
        others = [name for name in FUSIONS if name != "merlb"]
        merlb = answers.hits("merlb", [task])
        differences, chances = [], []
        for name in others:
            other = answers.hits(name, [task])
            low, high = mean_difference_interval(merlb, other, answers.streamers, draws=2_000)
            differences.append(f"{_points(float(np.mean(merlb - other)))} ({_points(low)} to {_points(high)})")
            chances.append(permutation_test(merlb, other, answers.streamers))
        rows += [
            (task, name, difference, f"{chance:.3f}" if chance >= 0.0005 else "< 0.001")
            for name, difference, chance in zip(others, differences, holm(chances), strict=True)
        ]
    table = _table(("task", "merlb against", "accuracy, points (95% interval)", "p, permutation, Holm"), rows)
    return (
        f"## merlb against each other fusion\n\nOver all clips, every fusion with as many parameters (±5%).\n\n{table}"
    )


def _frontends(answers: Answers, protocol: Protocol) -> str:
    rows = [(f"`{name}`", *(_score(answers, f"merlb-{name}", task) for task in TASKS)) for name in FRONTENDS]
    table = _table(("audio front end", "valence", "arousal", "event"), rows)
    return (
        f"## Audio front ends at equal compute\n\nmerlb, macro-F1; {protocol.segments} of 19 segments where some are "
        f"taken.\n\n{table}"
    )


def _subsets(answers: Answers) -> str:
    rows = [
        (
            "complete" if view == "whole" else view,
            *(f"{_in_view(answers, 'merlb', view, task):.3f}" for task in TASKS),
            *(f"{_in_view(answers, 'merlb-complete', view, task):.3f}" for task in TASKS),
        )
        for view in ("whole", *INCOMPLETE)
    ]
    header = ("present", *TASKS, *(f"{task}, without modality dropout" for task in TASKS))
    return f"## When modalities are missing\n\nAccuracy of merlb.\n\n{_table(header, rows)}"


def _in_view(answers: Answers, configuration: str, view: str, task: str) -> float:
    return float(np.nanmean(answers.hits(configuration, [task], view)))


def _published(paper: Path) -> str:
    with paper.open(newline="", encoding="utf-8") as file:
        published = list(csv.DictReader(file))
    classes = [name for name in published[0] if name not in ("dataset", "fusion", "task")]
    groups = {
        "valence": [name for name in classes if name.startswith("valence")],
        "arousal": [name for name in classes if name.startswith("arousal")],
    }
    groups["event"] = [name for name in classes if name not in (*groups["valence"], *groups["arousal"])]
    rows = [
        (
            row["dataset"],
            row["fusion"],
            row["task"],
            *(f"{np.mean([float(row[name]) for name in groups[task]]):.3f}" for task in TASKS),
        )
        for row in published
    ]
    table = _table(("dataset", "fusion", "training", *(f"{task}, mean F1 of the classes" for task in TASKS)), rows)
    return f"""## The paper's own figures

Abbas, Schuller, Li, Lin, Li, "Emotion recognition in live broadcasting: a multimodal deep learning framework",
Multimedia Systems 31:253 (2025), doi 10.1007/s00530-025-01780-y: F1 by class on LoLs and FIFA, here averaged over the
classes of a task (by class in [{paper.name}]({paper.name})). **Not comparable with the tables above: other data, other
labels, another split.** They were not reproduced here; the datasets cannot be had.

{table}"""


def draw_combinations(answers: Answers, path: Path) -> None:
    """Accuracy of valence on the clips that need the combination and on the others, by fusion, as PNG."""
    names = (*FUSIONS, *MODALITIES)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(names))
    for offset, rows, label in ((-0.2, answers.sarcasm, "combination needed"), (0.2, ~answers.sarcasm, "elsewhere")):
        values = [accuracy(answers, name, rows, ["valence"]) for name in names]
        bars = axes.bar(places + offset, values, width=0.38, label=label)
        axes.bar_label(bars, fmt="%.2f", fontsize=8)
    axes.set_xticks(places, [name if name in FUSIONS else f"{name}\nalone" for name in names])
    axes.set_ylim(0, 1.08)
    axes.set_ylabel("accuracy of valence")
    axes.set_title("Synthetic corpus, streamers not trained on")
    axes.legend()
    save_figure(figure, path)


def draw_effects(findings: Sequence[Finding], path: Path) -> None:
    """Each claim's differences with their intervals, as PNG; H4, which is no difference, is left out."""
    effects = [
        (f"{finding.claim}  {effect.name}", effect)
        for finding in findings
        for effect in finding.effects
        if "macro-F1" not in effect.name
    ]
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(effects)), layout="constrained")
    axes = figure.subplots()
    colours = {"holds": "tab:green", "fails": "tab:red", "inconclusive": "tab:orange"}
    for place, (_, effect) in enumerate(effects):
        axes.plot([100 * effect.low, 100 * effect.high], [place, place], color=colours[effect.verdict])
        axes.plot(100 * effect.value, place, marker="o", color=colours[effect.verdict])
    for verdict, colour in colours.items():
        axes.plot([], [], color=colour, label=verdict)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(effects)), [name for name, _ in effects])
    axes.invert_yaxis()
    axes.set_xlabel("difference in accuracy, points, with 95% interval over streamers")
    axes.legend()
    save_figure(figure, path)
