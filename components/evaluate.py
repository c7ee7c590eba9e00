"""The component that scores the model on streamers it has not seen."""

from typing import Any

from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output


def evaluate(
    models: Input[Model],
    store: Input[Dataset],
    splits: Input[Dataset],
    params: dict[str, Any],
    tracking_uri: str,
    reports: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Calibrate on the validation split and score the test split.

    Args:
        models: the trained model with its ``run.json``.
        store: the clip store.
        splits: which row is in which split.
        params: section ``evaluate`` of ``params.yaml``.
        tracking_uri: MLflow as the pod reaches it; empty: nothing is logged.
        reports: ``metrics.json``, predictions, calibration, confusion tables and figures.
        metrics: macro-F1 a task, for Kubeflow's page.
    """
    from pathlib import Path

    from merlb_model.evaluation.evaluate import evaluate as stage
    from merlb_model.files import read_json
    from merlb_model.params import EvaluateParams, parse_section

    stage(
        Path(models.path),
        Path(store.path),
        Path(splits.path),
        parse_section(EvaluateParams, params, "evaluate"),
        out=Path(reports.path),
        tracking_uri=tracking_uri or None,
    )
    for task, scores in read_json(Path(reports.path) / "metrics.json", "merlb evaluate")["tasks"].items():
        if scores["macro_f1"] is not None:
            metrics.log_metric(f"{task}_macro_f1", scores["macro_f1"])
