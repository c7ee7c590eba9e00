"""The clip store as the stages' functions make it, called one after the other: what every driver must come to."""

from pathlib import Path

from merlb_model.corpus.ingest import ingest
from merlb_model.dataset.convert import convert
from merlb_model.dataset.extract import extract
from merlb_model.params import Params


def make_direct_store(params: Params, folder: Path) -> Path:
    ingest(params.corpus, params.ingest, folder / "raw")
    extract(folder / "raw", params.extract, folder / "extract", folder / "shards")
    convert(folder / "raw", [folder / "extract"], params.convert, folder / "store", folder / "shards")
    return folder / "store"
