"""The component that checks the data before a model sees it."""

from typing import Any

from kfp.dsl import HTML, Artifact, Dataset, Input, Output


def validate(
    store: Input[Dataset],
    splits: Input[Dataset],
    params: dict[str, Any],
    validation: Output[Artifact],
    page: Output[HTML],
) -> None:
    """Check the store and the splits; a broken hard rule fails the task, and with it the run.

    Args:
        store: the clip store.
        splits: which row is in which split.
        params: section ``validate`` of ``params.yaml``.
        validation: the report of every rule (JSON).
        page: the same for people, with pictures.
    """
    from pathlib import Path

    from merlb_model.dataset.validate import validate as stage
    from merlb_model.params import ValidateParams, parse_section

    stage(
        Path(store.path),
        Path(splits.path),
        parse_section(ValidateParams, params, "validate"),
        out=Path(validation.path),
        page=Path(page.path),
    )
