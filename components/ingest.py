"""The component that gathers the corpus."""

from typing import Any

from kfp.dsl import Dataset, Output


def ingest(corpus: dict[str, Any], params: dict[str, Any], raw: Output[Dataset], index: Output[Dataset]) -> list[str]:
    """Gather the clips and their tables; name the shards that extraction fans out over.

    Args:
        corpus: section ``corpus`` of ``params.yaml``: where clips come from.
        params: section ``ingest`` of ``params.yaml``.
        raw: the whole corpus: ``clips/``, annotations, webcam boxes and the manifest.
        index: the same without ``clips/``: what a pod needs to know of the corpus. Its metadata
            ``clips`` says where the clips are, so that a pod opens its own and is sent no others.

    Returns:
        The names of the shards.
    """
    import shutil
    from pathlib import Path

    import pandas as pd

    from merlb_model.corpus.ingest import ingest as stage
    from merlb_model.params import CorpusParams, IngestParams, parse_section

    stage(
        parse_section(CorpusParams, corpus, "corpus"),
        parse_section(IngestParams, params, "ingest"),
        out=Path(raw.path),
    )
    shutil.copytree(raw.path, index.path, ignore=shutil.ignore_patterns("clips"))
    index.metadata["clips"] = f"{raw.uri}/clips"
    return sorted(pd.read_parquet(Path(index.path) / "manifest.parquet")["shard"].unique())
