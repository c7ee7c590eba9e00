"""The ``ingest`` stage: the corpus that ``params.yaml`` names, as ``data/raw``."""

from pathlib import Path
from typing import Final

import pandas as pd

from merlb_model.corpus import published, sample
from merlb_model.files import replacing, sha256_of_file
from merlb_model.params import CorpusParams, IngestParams
from merlb_model.progress import track

MANIFEST_COLUMNS: Final = ("uri", "sha256", "bytes", "shard")


def ingest(corpus: CorpusParams, params: IngestParams, out: Path) -> None:
    """Leave ``clips/``, ``annotations.csv``, ``webcam_boxes.json`` and ``manifest.parquet`` in ``out``.

    A corpus that was brought, not rendered, also leaves ``problems.csv``: what is missing, doubled or contradictory.

    Raises:
        MerlbError: the source is not as `published.gather` expects it.
    """
    with replacing(out) as fresh:
        fresh.mkdir()
        if corpus.source == "sample":
            sample.render(fresh, corpus)
        else:
            published.gather(Path(str(corpus.path)), corpus.source, params, fresh)
        _manifest(fresh, params.shard_digits).to_parquet(fresh / "manifest.parquet", index=False)


def _manifest(raw: Path, shard_digits: int) -> pd.DataFrame:
    """A row a clip, ordered by uri; a clip's shard is the first digits of its hash, so a new clip disturbs one."""
    rows = []
    for clip in track(sorted((raw / "clips").iterdir()), "hash clips"):
        digest = sha256_of_file(clip)
        rows.append((f"clips/{clip.name}", digest, clip.stat().st_size, digest[:shard_digits] or "all"))
    return pd.DataFrame(rows, columns=list(MANIFEST_COLUMNS))
