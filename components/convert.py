"""The component that makes the clip store of the decoded shards."""

from typing import Any

from kfp.dsl import Dataset, Input, Output


def convert(
    index: Input[Dataset], extracted: Input[list[Dataset]], params: dict[str, Any], store: Output[Dataset]
) -> None:
    """Join the decoded shards and the labels into one clip store.

    Args:
        index: manifest, annotations and webcam boxes.
        extracted: the decoded shards, in any order.
        params: section ``convert`` of ``params.yaml``.
        store: the clip store: arrays, ``clips.parquet`` and ``meta.json``.
    """
    from pathlib import Path

    from merlb_model.dataset.convert import convert as stage
    from merlb_model.params import ConvertParams, parse_section

    stage(
        Path(index.path),
        [Path(shard.path) for shard in extracted],
        parse_section(ConvertParams, params, "convert"),
        out=Path(store.path),
        cache=None,
    )
