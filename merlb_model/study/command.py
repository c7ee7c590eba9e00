"""`merlb study`: run what is missing, judge the claims, write the page, log to MLflow."""

from pathlib import Path

from merlb_model import tracking
from merlb_model.corpus.sample_rules import additive_accuracy
from merlb_model.labels import TASKS
from merlb_model.study.answers import Answers
from merlb_model.study.claims import Finding, findings, mean_macro_f1
from merlb_model.study.conduct import conduct
from merlb_model.study.protocol import Protocol, configurations
from merlb_model.study.results import write_results


def study(
    protocol: Protocol, folder: Path, paper: Path, out: Path, workers: int, tracking_uri: str | None = None
) -> list[Finding]:
    """Run what is missing of ``protocol`` and write its results.

    Args:
        protocol: what is to be run.
        folder: where the study's own files are kept.
        paper: the published figures, ``paper_f1.csv``.
        out: the Markdown page; its figures go to ``figures/`` beside it.
        workers: processes of one thread each.
        tracking_uri: where MLflow keeps a run for each configuration; None logs nowhere.
    """
    answers = conduct(protocol, folder, workers)
    found = findings(answers, additive_accuracy(protocol.corpus.label_noise))
    write_results(answers, found, protocol, tracking.git_revision(), paper, out, out.parent / "figures")
    log_study(answers, found, protocol, out, tracking_uri)
    return found


def log_study(answers: Answers, found: list[Finding], protocol: Protocol, page: Path, tracking_uri: str | None) -> None:
    """A run for each configuration, each seed a step, and one for the verdicts; all under one tag, none registered."""
    tag = {"study": f"{protocol.name}-{protocol.key}"}
    for configuration, _ in configurations(protocol):
        with tracking.start(tracking_uri, configuration.name, tag) as log:
            log.params({"model": configuration.model.model_dump(mode="json")})
            log.params({"modality_dropout": configuration.modality_dropout, "labels": configuration.labels})
            for task in filter(answers.logits[configuration.name]["whole"].__contains__, TASKS):
                log.metrics({f"{task}_macro_f1": mean_macro_f1(answers, configuration.name, task)[0]})
    with tracking.start(tracking_uri, protocol.name, tag) as log:
        for finding in found:
            log.tags({finding.claim: finding.verdict})
            log.metrics({f"{finding.claim}_{number}": effect.value for number, effect in enumerate(finding.effects)})
        log.file(page)
