"""The component that trains the model."""

from typing import Any

from kfp.dsl import Dataset, Input, Model, Output


def train(
    store: Input[Dataset],
    splits: Input[Dataset],
    train_rows: Input[Dataset],
    model: dict[str, Any],
    params: dict[str, Any],
    tracking_uri: str,
    models: Output[Model],
) -> None:
    """Train with early stopping, keep the best weights, and open the run's MLflow record.

    Args:
        store: the clip store.
        splits: which row is in which split.
        train_rows: which training rows are shown how often.
        model: section ``model`` of ``params.yaml``.
        params: section ``train`` of ``params.yaml``.
        tracking_uri: MLflow as the pod reaches it; empty: nothing is logged.
        models: the Keras model, its history and ``run.json``.
    """
    from pathlib import Path

    from merlb_model.params import ModelParams, TrainParams, parse_section
    from merlb_model.training.train import train as stage

    stage(
        Path(store.path),
        Path(splits.path),
        Path(train_rows.path),
        parse_section(ModelParams, model, "model"),
        parse_section(TrainParams, params, "train"),
        out=Path(models.path),
        tracking_uri=tracking_uri or None,
        tags={"driver": "kubeflow"},
    )
