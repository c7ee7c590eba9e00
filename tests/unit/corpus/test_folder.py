import os
from pathlib import Path

import pandas as pd
import pytest

from merlb_model.corpus.annotations import write_rows
from merlb_model.corpus.folder import gather
from merlb_model.corpus.ingest import ingest
from merlb_model.errors import MerlbError
from merlb_model.files import sha256_of_file, write_json
from merlb_model.params import CorpusParams, IngestParams
from tests.media_clips import write_media
from tests.unit.corpus.test_annotations import row


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "videos").mkdir(parents=True)
    write_media(folder / "videos" / "1_ann_x.mp4", seconds=1.0)
    (folder / "videos" / "2_bob_x.mp4").write_text("no film")
    write_rows(folder / "trainingdata.csv", [row("1_ann_x.mp4")])
    write_rows(folder / "testingdata.csv", [row("2_bob_x.mp4")])
    write_json(folder / "webcam_boxes.json", {"ann": [0, 0, 10, 10]})
    return folder


def test_a_folder_becomes_raw_data_with_a_manifest(source: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    ingest(CorpusParams(source="folder", path=str(source)), IngestParams(shard_digits=1), tmp_path / "raw")
    manifest = pd.read_parquet(tmp_path / "raw" / "manifest.parquet")
    assert list(manifest["uri"]) == ["clips/1_ann_x.mp4", "clips/2_bob_x.mp4"]
    digest = sha256_of_file(source / "videos" / "1_ann_x.mp4")
    assert manifest["sha256"][0] == digest and manifest["shard"][0] == digest[0]
    tables = pd.read_csv(tmp_path / "raw" / "annotations.csv")
    assert list(tables["Table"]) == ["training", "testing"]
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_a_link_out_of_the_folder_is_not_followed(source: Path, tmp_path: Path) -> None:
    outside = write_media(tmp_path / "outside.mp4", seconds=1.0)
    (source / "videos" / "3_eve_x.mp4").symlink_to(outside)
    gather(source, tmp_path / "raw")
    assert sorted(path.name for path in (tmp_path / "raw" / "clips").iterdir()) == ["1_ann_x.mp4", "2_bob_x.mp4"]


def test_two_clips_of_one_name_are_refused(source: Path, tmp_path: Path) -> None:
    write_media(source / "1_ann_x.mp4", seconds=1.0)
    with pytest.raises(MerlbError, match="have one name"):
        gather(source, tmp_path / "raw")


@pytest.mark.parametrize(("missing", "says"), [("trainingdata.csv", "no table"), ("videos", "no clip")])
def test_what_a_folder_lacks_is_named(tmp_path: Path, missing: str, says: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    if missing == "videos":
        write_rows(folder / "trainingdata.csv", [row("1_ann_x.mp4")])
    with pytest.raises(MerlbError, match=says):
        gather(folder, tmp_path / "raw")


def test_a_failed_ingest_leaves_the_old_data(source: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "kept").write_text("x")
    with pytest.raises(MerlbError):
        ingest(CorpusParams(source="folder", path=str(tmp_path / "none")), IngestParams(), tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["kept"]


def test_a_name_that_is_no_utf8_is_one_line(source: Path, tmp_path: Path) -> None:
    (source / os.fsdecode(b"9_\xff\xfe_x.mp4")).write_bytes(b"clip")
    with pytest.raises(MerlbError, match="no UTF-8: rename it"):
        ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
