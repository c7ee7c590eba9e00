from pathlib import Path

import pytest

from merlb_model.corpus.annotations import LABEL_COLUMNS, read_annotations, streamer_of, write_rows
from merlb_model.errors import MerlbError

GOOD = {"Valence_Negative": "1", "Arousal_High": "1", "Fighting": "1"}


def row(file: str, **labels: str) -> dict[str, str]:
    return {"File": file, **dict.fromkeys(LABEL_COLUMNS, "0"), **(labels or GOOD)}


def test_one_hot_columns_become_words(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4")])
    (annotation,), rejected = read_annotations(tmp_path / "a.csv")
    assert not rejected
    assert annotation.labels == {"valence": "negative", "arousal": "high", "event": "fighting"}
    assert annotation.streamer == "ann"


def test_stray_spaces_in_the_header_a_bom_and_crlf_are_taken(tmp_path: Path) -> None:
    header = ",".join(["File", *(f" {name}" for name in LABEL_COLUMNS)])
    values = ",".join("1" if name in GOOD else "0" for name in LABEL_COLUMNS)
    (tmp_path / "a.csv").write_bytes(f"\ufeff{header}\r\n1_ann_x.mp4,{values}\r\n".encode())
    kept, rejected = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["1_ann_x.mp4"] and not rejected


def test_the_streamer_column_wins_over_the_name(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{**row("1_ann_x.mp4"), "Streamer": "dr_who"}])
    assert read_annotations(tmp_path / "a.csv")[0][0].streamer == "dr_who"


@pytest.mark.parametrize(
    ("file", "streamer"), [("7_ann_3.mp4", "ann"), ("7_a-b_c_d.mp4", "a-b"), ("talk.mp4", "talk"), ("a_b.mp4", "a_b")]
)
def test_the_streamer_stands_between_the_first_two_underscores(file: str, streamer: str) -> None:
    assert streamer_of(file) == streamer


@pytest.mark.parametrize("wrong", [{"Valence_Negative": "1"}, {**GOOD, "Routing": "1"}, {**GOOD, "Defeated": "x"}])
def test_a_row_that_is_not_one_hot_is_rejected_with_what_was_found(tmp_path: Path, wrong: dict[str, str]) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4", **wrong), row("2_ann_x.mp4")])
    kept, (rejection,) = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["2_ann_x.mp4"]
    assert rejection.reason == "invalid_label" and "not one-hot" in rejection.detail


def test_a_file_named_twice_is_rejected_not_guessed(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4"), row("1_ann_x.mp4"), row("2_ann_x.mp4")])
    kept, rejected = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["2_ann_x.mp4"]
    assert {rejection.reason for rejection in rejected} == {"duplicate_row"}


@pytest.mark.parametrize("name", ["../x.mp4", "/etc/x.mp4", "a/b.mp4", "", ".."])
def test_a_name_that_leaves_the_folder_is_rejected(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "a.csv", [row(name)])
    kept, (rejection,) = read_annotations(tmp_path / "a.csv")
    assert not kept and rejection.reason == "unsafe_name"


def test_a_table_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("File,Routing\n1_ann_x.mp4,1\n")
    with pytest.raises(MerlbError, match=r"a\.csv: no column Valence_Negative"):
        read_annotations(tmp_path / "a.csv")
