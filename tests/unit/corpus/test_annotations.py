import re
import sys
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
    ("file", "streamer"),
    [("7_ann_3.mp4", "ann"), ("7__3.mp4", "7__3"), ("7_a-b_c_d.mp4", "a-b"), ("talk.mp4", "talk"), ("a_b.mp4", "a_b")],
)
def test_the_streamer_stands_between_the_first_two_underscores(file: str, streamer: str) -> None:
    assert streamer_of(file) == streamer


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"Valence_Negative": "1"}, "arousal is not one-hot"),
        ({**GOOD, "Routing": "1"}, "event is not one-hot"),
        ({**GOOD, "Defeated": "x"}, "event is not 0 or 1: .*Defeated=x"),
        ({**GOOD, "Fighting": "1,0"}, "Fighting=1,0"),
        ({**GOOD, "Fighting": "0.5", "Routing": "0.5"}, "event is not 0 or 1"),
        ({**GOOD, "Fighting": "١"}, "event is not 0 or 1"),  # an Arabic one, which Python's float takes
        ({**GOOD, "Fighting": "NaN"}, "event is NaN"),
        ({**GOOD, "Arousal_High": ""}, "arousal is empty"),
    ],
)
def test_a_row_that_is_not_one_hot_is_rejected_with_what_was_found(
    tmp_path: Path, wrong: dict[str, str], says: str
) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4", **wrong), row("2_ann_x.mp4")])
    kept, (rejection,) = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["2_ann_x.mp4"]
    assert rejection.reason == "invalid_label" and re.search(says, rejection.detail)


def test_a_row_without_any_label_is_not_labelled_yet_rather_than_wrong(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{"File": "1_ann_x.mp4"}])
    assert [rejection.reason for rejection in read_annotations(tmp_path / "a.csv")[1]] == ["no_label"]


def test_numbers_as_spreadsheets_write_them_are_taken(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4", Valence_Negative=" 1.0 ", Arousal_High="+1", Fighting="1.")])
    (annotation,), _ = read_annotations(tmp_path / "a.csv")
    assert annotation.labels["event"] == "fighting"


def test_a_row_repeated_is_used_once(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4"), row("1_ann_x.mp4"), row("2_ann_x.mp4")])
    kept, rejected = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["1_ann_x.mp4", "2_ann_x.mp4"] and not rejected


def test_rows_that_differ_on_one_clip_are_rejected_once_not_guessed(tmp_path: Path) -> None:
    other = row("1_ann_x.mp4", Valence_Positive="1", Arousal_High="1", Fighting="1")
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4"), other, other, row("2_ann_x.mp4")])
    kept, (rejection,) = read_annotations(tmp_path / "a.csv")
    assert [annotation.file for annotation in kept] == ["2_ann_x.mp4"]
    assert rejection.reason == "duplicate_row" and "valence negative or positive" in rejection.detail


def test_a_clip_of_both_tables_is_for_testing_only(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [{**row("1_ann_x.mp4"), "Table": table} for table in ("testing", "training")])
    (annotation,), rejected = read_annotations(tmp_path / "a.csv")
    assert annotation.table == "testing" and not rejected


def test_the_forerunners_columns_are_taken_and_its_two_arousals_are_neutral_and_high(tmp_path: Path) -> None:
    columns = "V_Neg,V_Neut,V_Pos,A_Neut,A_Pos,Laning,Shopping,Returning,Roaming,Fighting,Pushing,Defending,Dead"
    events = ("routing", "procurement", "respawning", "exploring", "fighting", "punching", "defending", "defeated")
    lines = [
        f"{n}_ann_x.mp4,0,0,1,{n % 2},{1 - n % 2}," + ",".join("1" if column == n else "0" for column in range(8))
        for n in range(8)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["File, " + columns.replace(",", ", "), *lines]))
    kept, rejected = read_annotations(tmp_path / "a.csv")
    assert not rejected
    assert tuple(annotation.labels["event"] for annotation in kept) == events
    assert [annotation.labels["arousal"] for annotation in kept] == ["high", "neutral"] * 4
    assert {annotation.labels["valence"] for annotation in kept} == {"positive"}


@pytest.mark.parametrize(
    "name", ['a "b".mp4', "a\nb.mp4", "a\rb.mp4", "a\r\nb.mp4", " a.mp4 ", "a,b.mp4", "ä_ö_ü.mp4", "🎮.mp4"]
)
def test_a_strange_name_comes_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "a.csv", [row(name)])
    assert [annotation.file for annotation in read_annotations(tmp_path / "a.csv")[0]] == [name]


def test_a_row_too_long_is_rejected_and_shows_what_it_had_too_much(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [row("1_ann_x.mp4")])
    text = (tmp_path / "a.csv").read_text().rstrip("\n")
    (tmp_path / "a.csv").write_text(f"{text},,1\n")
    assert "Defeated=0, 1" in read_annotations(tmp_path / "a.csv")[1][0].detail
    (tmp_path / "a.csv").write_text(f"{text},,\n")
    assert not read_annotations(tmp_path / "a.csv")[1]


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    header = ",".join(("File", *LABEL_COLUMNS, " Fighting"))
    (tmp_path / "a.csv").write_text(f"{header}\n")
    with pytest.raises(MerlbError, match=r"a\.csv: column Fighting twice"):
        read_annotations(tmp_path / "a.csv")


@pytest.mark.parametrize("content", [b"\xff\xfeF\x00i\x00l\x00e\x00", b"File\n\xe9.mp4\n", b"", b"\n\n", b'"File'])
def test_what_is_no_table_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(MerlbError, match=r"a\.csv") as caught:
        read_annotations(tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


def test_twice_the_rows_take_twice_the_steps_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    # Counted, not timed: each row used to be compared with all that were rejected before it.
    def steps(rows: int) -> int:
        wrong = ({**row(f"{index // 2}_ann_x.mp4"), "Defeated": "x"} for index in range(rows))
        write_rows(tmp_path / "a.csv", wrong)
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        try:
            read_annotations(tmp_path / "a.csv")
        finally:
            sys.setprofile(None)
        return calls

    few, many = steps(200), steps(2000)
    assert many < 11 * few


@pytest.mark.parametrize("name", ["../x.mp4", "/etc/x.mp4", "a/b.mp4", "", "..", "a\\b.mp4", "a\0b.mp4"])
def test_a_name_that_leaves_the_folder_is_rejected(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "a.csv", [row(name)])
    kept, (rejection,) = read_annotations(tmp_path / "a.csv")
    assert not kept and rejection.reason == "unsafe_name"


def test_a_table_without_a_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("File,Routing\n1_ann_x.mp4,1\n")
    with pytest.raises(MerlbError, match=r"a\.csv: no column Valence_Negative"):
        read_annotations(tmp_path / "a.csv")
