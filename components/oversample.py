"""The component that balances the training rows."""

from typing import Any

from kfp.dsl import Artifact, Dataset, Input, Output


def oversample(
    store: Input[Dataset],
    splits: Input[Dataset],
    validation: Input[Artifact],
    params: dict[str, Any],
    train_rows: Output[Dataset],
) -> None:
    """Say which training rows are shown how often; no array is copied.

    Args:
        store: the clip store.
        splits: which row is in which split.
        validation: the report of data that passed its checks.
        params: section ``oversample`` of ``params.yaml``.
        train_rows: the table of rows and repeats (Parquet).
    """
    from pathlib import Path

    from merlb_model.dataset.oversample import oversample as stage
    from merlb_model.params import OversampleParams, parse_section

    stage(
        Path(store.path),
        Path(splits.path),
        Path(validation.path),
        parse_section(OversampleParams, params, "oversample"),
        out=Path(train_rows.path),
    )
