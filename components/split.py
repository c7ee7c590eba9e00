"""The component that splits the clips into train, validation and test."""

from typing import Any

from kfp.dsl import Dataset, Input, Output


def split(store: Input[Dataset], params: dict[str, Any], splits: Output[Dataset]) -> None:
    """Give each streamer, and so each clip, to one split.

    Args:
        store: the clip store.
        params: section ``split`` of ``params.yaml``.
        splits: the table of rows, files, streamers and splits (Parquet).
    """
    from pathlib import Path

    from merlb_model.dataset.split import split as stage
    from merlb_model.params import SplitParams, parse_section

    stage(Path(store.path), parse_section(SplitParams, params, "split"), out=Path(splits.path))
