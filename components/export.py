"""The component that makes the SavedModel that is scored live."""

from typing import Any

from kfp.dsl import Artifact, Dataset, Input, Model, Output


def export(
    models: Input[Model],
    reports: Input[Artifact],
    store: Input[Dataset],
    splits: Input[Dataset],
    params: dict[str, Any],
    tracking_uri: str,
    exported: Output[Model],
) -> None:
    """Export one calibrated SavedModel with its card, and register it in MLflow.

    Args:
        models: the trained model with its ``run.json``.
        reports: metrics and calibration.
        store: the clip store.
        splits: which row is in which split.
        params: section ``export`` of ``params.yaml``.
        tracking_uri: MLflow as the pod reaches it; empty: nothing is registered.
        exported: the SavedModel and its model card.
    """
    from pathlib import Path

    from merlb_model.params import ExportParams, parse_section
    from merlb_model.serving.export import export as stage

    stage(
        Path(models.path),
        Path(reports.path),
        Path(store.path),
        Path(splits.path),
        parse_section(ExportParams, params, "export"),
        out=Path(exported.path),
        tracking_uri=tracking_uri or None,
    )
