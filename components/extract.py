"""The component that decodes one shard of clips."""

from typing import Any

from kfp.dsl import Dataset, Input, Output


def extract(index: Input[Dataset], shard: str, params: dict[str, Any], extracted: Output[Dataset]) -> None:
    """Decode the clips of one shard; quarantine those that cannot be used.

    Args:
        index: manifest, annotations and webcam boxes; its metadata ``clips`` says where the clips are.
        shard: the shard's name, as the manifest has it.
        params: section ``extract`` of ``params.yaml``.
        extracted: the decoded shard and ``quarantine.csv``.
    """
    from pathlib import Path

    from merlb_model.dataset.extract import extract as stage
    from merlb_model.params import ExtractParams, parse_section

    stage(
        Path(index.path),
        parse_section(ExtractParams, params, "extract"),
        out=Path(extracted.path),
        cache=None,
        shards=[shard],
        clips=index.metadata["clips"],
    )
