import csv
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from merlb_model.corpus.annotations import read_annotations, write_rows
from merlb_model.corpus.ingest import ingest
from merlb_model.corpus.problems import MEANINGS, Kind
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, sha256_of_file, write_json
from merlb_model.params import CorpusParams, IngestParams
from tests.unit.corpus.test_annotations import GOOD, row


def write_corpus(folder: Path, training: Iterable[str], testing: Iterable[str] = ()) -> Path:
    """A corpus in the published layout whose clips are a few bytes each."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, names in (("trainingdata.csv", list(training)), ("testingdata.csv", list(testing))):
        write_rows(folder / table, map(row, names))
        for name in names:
            (folder / name).write_text(f"film of {name}")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "source", ["1_ann_x.mp4", "2_ann_x.mp4"], ["3_bob_x.mp4"])


def bring(source: Path, raw: Path, layout: str = "published", **params: float) -> Path:
    ingest(CorpusParams.model_validate({"source": layout, "path": str(source)}), IngestParams(**params), raw)
    return raw


def problems(raw: Path) -> list[tuple[str, str]]:
    """(problem, file) of each line of ``problems.csv``, sorted."""
    with (raw / "problems.csv").open(encoding="utf-8", newline="") as file:
        return sorted((line["problem"], line["file"]) for line in csv.DictReader(file))


def clips(raw: Path) -> list[str]:
    return sorted(path.name for path in (raw / "clips").iterdir())


def append(table: Path, *rows: dict[str, str]) -> None:
    with table.open(encoding="utf-8", newline="") as file:
        before = list(csv.DictReader(file))
    write_rows(table, [*before, *rows])


def test_every_problem_has_its_meaning() -> None:
    assert tuple(MEANINGS) == get_args(Kind)


def test_a_published_folder_becomes_raw_data_and_stays_as_it_was(source: Path, tmp_path: Path) -> None:
    write_json(source / "webcam_boxes.json", {"ann": [0, 0, 10, 10], "bob": [5, 5, 9, 9]})
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    raw = bring(source, tmp_path / "raw")
    manifest = pd.read_parquet(raw / "manifest.parquet")
    assert list(manifest["uri"]) == ["clips/1_ann_x.mp4", "clips/2_ann_x.mp4", "clips/3_bob_x.mp4"]
    digest = sha256_of_file(source / "1_ann_x.mp4")
    assert manifest["sha256"][0] == digest and manifest["shard"][0] == digest[0]
    kept, rejected = read_annotations(raw / "annotations.csv")
    assert [(clip.streamer, clip.table) for clip in kept] == [("ann", "training")] * 2 + [("bob", "testing")]
    assert read_json(raw / "webcam_boxes.json", "")["bob"] == [5, 5, 9, 9]
    assert problems(raw) == [] and rejected == []
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_a_folder_with_one_table_is_taken_and_what_label_keeps_below_it_is_not_read(tmp_path: Path) -> None:
    mine = write_corpus(tmp_path / "mine", ["1_ann_x.mp4", "2_ann_x.mp4"])
    (mine / "testingdata.csv").unlink()
    (mine / "trainingdata.csv").rename(mine / "annotations.csv")
    (mine / "labels").mkdir()
    write_rows(mine / "labels" / "annotations.csv", [row("1_ann_x.mp4", Routing="1")])
    raw = bring(mine, tmp_path / "raw", "folder")
    assert [clip.table for clip in read_annotations(raw / "annotations.csv")[0]] == ["", ""]
    assert problems(raw) == []


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        (row("9_ann_x.mp4"), ("no_clip", "9_ann_x.mp4")),
        ({"File": "2_ann_x.mp4"}, ("contradictory_rows", "2_ann_x.mp4")),
        (row("2_ann_x.mp4"), ("doubled_row", "2_ann_x.mp4")),
        (row("2_ann_x.mp4", Routing="1"), ("contradictory_rows", "2_ann_x.mp4")),
        (row("3_bob_x.mp4"), ("in_both_tables", "3_bob_x.mp4")),
        (row("../4_ann_x.mp4"), ("unsafe_name", "../4_ann_x.mp4")),
        (row(""), ("unsafe_name", "")),
        ({"File": "4_ann_x.mp4"}, ("no_label", "4_ann_x.mp4")),
        (row("4_ann_x.mp4", **{**GOOD, "Routing": "1"}), ("not_one_hot", "4_ann_x.mp4")),
        (row("4_ann_x.mp4", **{**GOOD, "Routing": "nan"}), ("nan_label", "4_ann_x.mp4")),
        (row("4_ann_x.mp4", **{**GOOD, "Routing": ""}), ("empty_label", "4_ann_x.mp4")),
        (row("4_ann_x.mp4", **{**GOOD, "Routing": "yes"}), ("not_a_number", "4_ann_x.mp4")),
    ],
)
def test_a_row_with_a_problem_is_listed_by_name_and_its_line(
    source: Path, tmp_path: Path, added: dict[str, str], expected: tuple[str, str]
) -> None:
    (source / "4_ann_x.mp4").write_text("film")
    table = source / "trainingdata.csv"
    append(table, added)
    raw = bring(source, tmp_path / "raw")
    found = problems(raw)
    if expected[1] != "4_ann_x.mp4":
        found.remove(("no_row", "4_ann_x.mp4"))
    assert [problem for problem in found if problem[0] != "streamer_in_both_tables"] == [expected]
    if expected[0] != "no_clip":
        assert "trainingdata.csv line 4" in (raw / "problems.csv").read_text() or expected[0] == "in_both_tables"


def test_a_streamer_in_both_tables_is_said(source: Path, tmp_path: Path) -> None:
    (source / "4_ann_x.mp4").write_text("film")
    append(source / "testingdata.csv", row("4_ann_x.mp4"))
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [("streamer_in_both_tables", "")]
    assert "ann: 2 training and 1 testing clips" in (raw / "problems.csv").read_text()


def test_a_clip_without_a_row_an_empty_one_and_one_without_a_streamer_are_named(source: Path, tmp_path: Path) -> None:
    (source / "4_eve_x.mp4").touch()
    (source / "talk.mp4").write_text("film")
    append(source / "trainingdata.csv", row("talk.mp4"))
    raw = bring(source, tmp_path / "raw")
    expected = [("empty_clip", "4_eve_x.mp4"), ("no_row", "4_eve_x.mp4"), ("no_streamer_in_name", "talk.mp4")]
    assert problems(raw) == expected
    assert clips(raw) == ["1_ann_x.mp4", "2_ann_x.mp4", "3_bob_x.mp4", "4_eve_x.mp4", "talk.mp4"]


@pytest.mark.parametrize("spelt", [" 4_añn_x.mp4", "4_añn_x", unicodedata.normalize("NFD", "4_añn_x.mp4")])
def test_a_name_that_a_spreadsheet_or_macos_changed_still_finds_its_clip(
    source: Path, tmp_path: Path, spelt: str
) -> None:
    (source / "4_añn_x.mp4").write_text("film")
    append(source / "trainingdata.csv", row(spelt))
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [("other_spelling", "4_añn_x.mp4")]
    assert "4_añn_x.mp4" in {clip.file for clip in read_annotations(raw / "annotations.csv")[0]}


def test_names_with_spaces_quotes_newlines_and_unicode_arrive_whole(tmp_path: Path) -> None:
    names = ["1_ann_a b.mp4", "2_ann_'\".mp4", "3_ann_\n.mp4", "4_ann_\r.mp4", " 5_ann_,;.mp4", "6_ann_🎮.mp4"]
    raw = bring(write_corpus(tmp_path / "source", names), tmp_path / "raw")
    assert clips(raw) == sorted(names)
    assert [clip.file for clip in read_annotations(raw / "annotations.csv")[0]] == sorted(names)
    assert problems(raw) == []


# --- Files ------------------------------------------------------------------------------------------------------------


def test_links_out_of_the_folder_are_named_and_not_followed(source: Path, tmp_path: Path) -> None:
    outside = write_corpus(tmp_path / "outside", ["9_eve_x.mp4"])
    (source / "4_eve_x.mp4").symlink_to(outside / "9_eve_x.mp4")
    (source / "more").symlink_to(outside)
    (source / "5_eve_x.mp4").symlink_to("nowhere.mp4")
    os.mkfifo(source / "6_eve_x.mp4")
    raw = bring(source, tmp_path / "raw")
    assert clips(raw) == ["1_ann_x.mp4", "2_ann_x.mp4", "3_bob_x.mp4"]
    assert problems(raw) == [
        ("link", "4_eve_x.mp4"),
        ("link", "more"),
        ("no_regular_file", "5_eve_x.mp4"),
        ("no_regular_file", "6_eve_x.mp4"),
    ]


def test_a_link_within_the_folder_is_followed(source: Path, tmp_path: Path) -> None:
    (source / "4_ann_x.mp4").symlink_to("1_ann_x.mp4")
    append(source / "trainingdata.csv", row("4_ann_x.mp4"))
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [] and not (raw / "clips" / "4_ann_x.mp4").is_symlink()


def test_a_table_that_is_a_link_out_of_the_folder_is_not_read(source: Path, tmp_path: Path) -> None:
    (source / "testingdata.csv").rename(tmp_path / "secret.csv")
    (source / "testingdata.csv").symlink_to(tmp_path / "secret.csv")
    raw = bring(source, tmp_path / "raw")
    expected = [("link", "testingdata.csv"), ("no_row", "3_bob_x.mp4"), ("no_table", "testingdata.csv")]
    assert problems(raw) == expected


def test_a_name_that_is_no_utf8_is_named_and_left(source: Path, tmp_path: Path) -> None:
    (source / os.fsdecode(b"4_\xff_x.mp4")).write_text("film")
    (source / "5_a\\b_x.mp4").write_text("film")
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [("unsafe_name", "4_\\xff_x.mp4"), ("unsafe_name", "5_a\\b_x.mp4")]
    assert len(clips(raw)) == 3


def test_clips_of_one_name_are_used_once_if_they_are_the_same_and_not_at_all_if_they_differ(
    source: Path, tmp_path: Path
) -> None:
    for folder in ("b", "c"):
        (source / folder).mkdir()
        (source / folder / "1_ann_x.mp4").write_bytes((source / "1_ann_x.mp4").read_bytes())
        (source / folder / "2_ann_x.mp4").write_text("another film")
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [
        ("contradictory_clips", "2_ann_x.mp4"),
        ("contradictory_clips", "2_ann_x.mp4"),
        ("doubled_clip", "1_ann_x.mp4"),
        ("doubled_clip", "1_ann_x.mp4"),
        ("no_clip", "2_ann_x.mp4"),
    ]
    assert clips(raw) == ["1_ann_x.mp4", "3_bob_x.mp4"]


def test_boxes_of_unknown_streamers_and_streamers_without_a_box_are_named(source: Path, tmp_path: Path) -> None:
    write_json(source / "webcam_boxes.json", {"ann": [0, 0, 10, 10], "eve": [0, 0, 10, 10]})
    raw = bring(source, tmp_path / "raw")
    names = {"unknown_streamers_box": "eve", "no_box": "bob"}
    assert {kind for kind, _ in problems(raw)} == set(names)
    assert all(f'"{kind}","{name}"' in (raw / "problems.csv").read_text() for kind, name in names.items())


def test_boxes_that_contradict_each_other_are_not_used(source: Path, tmp_path: Path) -> None:
    (source / "more").mkdir()
    write_json(source / "webcam_boxes.json", {"ann": [0, 0, 10, 10], "bob": [1, 1, 8, 8]})
    write_json(source / "more" / "webcam_boxes.json", {"ann": [0, 0, 10, 12], "bob": [1, 1, 8, 8]})
    raw = bring(source, tmp_path / "raw")
    assert [kind for kind, _ in problems(raw)] == ["contradictory_boxes"]
    boxes = read_json(raw / "webcam_boxes.json", "")
    assert boxes == {"bob": [1, 1, 8, 8], "ann": {"origin": "absent", "places": []}}  # looked for, and no clip decodes


def test_hidden_files_are_passed_over(source: Path, tmp_path: Path) -> None:
    (source / "._1_ann_x.mp4").write_text("what macOS adds")
    (source / ".cache").mkdir()
    (source / ".cache" / "9_ann_x.mp4").write_text("film")
    raw = bring(source, tmp_path / "raw")
    assert problems(raw) == [] and len(clips(raw)) == 3


@pytest.mark.parametrize(("missing", "says"), [("tables", "no table"), ("clips", "no clip"), ("all", "no such folder")])
def test_what_a_corpus_lacks_is_named(source: Path, tmp_path: Path, missing: str, says: str) -> None:
    for path in list(source.iterdir()):
        if missing == "all" or path.suffix == (".csv" if missing == "tables" else ".mp4"):
            path.unlink()
    if missing == "all":
        source.rmdir()
    with pytest.raises(MerlbError, match=says):
        bring(source, tmp_path / "raw")


def test_a_missing_testing_table_is_said(source: Path, tmp_path: Path) -> None:
    (source / "testingdata.csv").unlink()
    assert ("no_table", "testingdata.csv") in problems(bring(source, tmp_path / "raw"))


def test_a_failed_ingest_leaves_the_old_data(source: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "kept").write_text("x")
    (source / "trainingdata.csv").write_text("File\n")
    with pytest.raises(MerlbError):
        bring(source, tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["kept"]


# --- Archives ---------------------------------------------------------------------------------------------------------


def pack(folder: Path, archive: Path) -> Path:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, f"LoLs/{path.relative_to(folder)}")
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix in {".tgz", ".gz"} else "w") as tar:
            tar.add(folder, "LoLs")
    return archive


@pytest.mark.parametrize("name", ["lols.zip", "lols.tar", "lols.tgz", "lols.tar.gz"])
def test_an_archive_gives_what_the_folder_gives(source: Path, tmp_path: Path, name: str) -> None:
    from_folder = bring(source, tmp_path / "folder")
    from_archive = bring(pack(source, tmp_path / name), tmp_path / "archive")
    files = sorted(str(path.relative_to(from_folder)) for path in from_folder.rglob("*"))
    assert sorted(str(path.relative_to(from_archive)) for path in from_archive.rglob("*")) == files
    for file in filter(lambda name: (from_folder / name).is_file(), files):
        assert (from_archive / file).read_bytes() == (from_folder / file).read_bytes(), file


def test_a_folder_of_archives_and_tables_is_one_corpus(source: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for name in ("3_bob_x.mp4", "testingdata.csv"):
        (source / name).rename(more / name)
    pack(more, source / "testing.zip")
    raw = bring(source, tmp_path / "raw")
    assert clips(raw) == ["1_ann_x.mp4", "2_ann_x.mp4", "3_bob_x.mp4"] and problems(raw) == []
