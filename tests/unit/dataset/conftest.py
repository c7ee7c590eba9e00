from pathlib import Path

import pytest

from merlb_model.corpus.annotations import write_rows
from merlb_model.corpus.ingest import ingest
from merlb_model.files import write_json
from merlb_model.params import CorpusParams, IngestParams
from tests.media_clips import write_media
from tests.unit.corpus.test_annotations import row


def raw_from(source: Path, raw: Path) -> Path:
    ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), raw)
    return raw


def write_good_clips(source: Path) -> list[dict[str, str]]:
    """Five clips of two streamers that can be used, and their rows."""
    source.mkdir(parents=True)
    rows = []
    for index in range(5):
        name = f"{index}_{'ann' if index % 2 else 'bob'}_x.mp4"
        write_media(source / name, fps=10, size=(96, 64), tone_hz=200.0 + 50 * index)
        rows.append(row(name))
    write_json(source / "webcam_boxes.json", {"ann": [0, 0, 48, 32]})
    return rows


@pytest.fixture(scope="session")
def good_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("good") / "source"
    write_rows(source / "annotations.csv", write_good_clips(source))
    return source


@pytest.fixture(scope="session")
def raw(good_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return raw_from(good_source, tmp_path_factory.mktemp("raw") / "raw")
