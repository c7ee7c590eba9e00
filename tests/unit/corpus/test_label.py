import csv
import threading
from pathlib import Path

import pandas as pd
import pytest

from merlb_model.corpus.annotations import read_annotations, read_rows
from merlb_model.corpus.ingest import ingest
from merlb_model.corpus.label import EARLIER, LabelError, Labels, agreement, annotator_name, consensus
from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.params import CorpusParams, IngestParams

CLIPS = ["1_ann_x.mp4", "2_ann_x.mp4", '10_bob "quoted" ż.mp4']


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "clips").mkdir(parents=True)
    for name in CLIPS:
        (folder / "clips" / name).write_bytes(b"film " + name.encode())
    return folder


def put_all(labels: Labels, annotator: str, file: str, answers: tuple[str, str, str]) -> None:
    for task, label in zip(TASKS, answers, strict=True):
        labels.put(annotator, file, task, label)


def column(source: Path, name: str) -> list[str]:
    return [row[name] for row in read_rows(source / "annotations.csv")]


def test_every_stroke_is_in_both_tables_at_once(source: Path) -> None:
    labels = Labels(source)
    assert labels.put("ada", CLIPS[0], "event", "fighting") is None
    assert (source / "labels/ada.csv").read_text() == f"File,Valence,Arousal,Event\n{CLIPS[0]},,,fighting\n"
    assert column(source, "Fighting") == ["1", "", ""] and column(source, "Routing") == ["0", "", ""]
    assert labels.put("ada", CLIPS[0], "event", None) == "fighting"
    assert column(source, "Fighting") == ["", "", ""]


def test_labels_are_found_again_by_the_next_start(source: Path) -> None:
    first = Labels(source)
    put_all(first, "ada", CLIPS[2], ("positive", "low", "routing"))
    first.close()
    assert Labels(source).of("ada") == {CLIPS[2]: {"valence": "positive", "arousal": "low", "event": "routing"}}


def test_clips_come_in_the_order_they_were_captured(source: Path) -> None:
    assert Labels(source).clips == CLIPS


def test_a_clip_captured_meanwhile_comes_in(source: Path) -> None:
    labels = Labels(source)
    (source / "clips/3_ann_x.mp4").write_bytes(b"x")
    labels.refresh()
    assert labels.clips == [*CLIPS[:2], "3_ann_x.mp4", CLIPS[2]]
    assert labels.put("ada", "3_ann_x.mp4", "valence", "neutral") is None


def test_unlabelled_clips_are_left_aside_by_ingest_and_labels_survive_it(source: Path, tmp_path: Path) -> None:
    labels = Labels(source)
    put_all(labels, "ada", CLIPS[0], ("positive", "low", "routing"))
    labels.put("ada", CLIPS[1], "valence", "neutral")
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), tmp_path / "raw")
    # All clips are there, so that a label that comes later decodes nothing.
    assert list(pd.read_parquet(tmp_path / "raw/manifest.parquet")["uri"]) == sorted(f"clips/{clip}" for clip in CLIPS)
    kept, rejected = read_annotations(tmp_path / "raw/annotations.csv")
    assert [row.file for row in kept] == [CLIPS[0]]
    assert {rejection.reason for rejection in rejected} == {"no_label"}
    assert {path: path.read_bytes() for path in source.rglob("*") if path.is_file()} == before


def test_with_nothing_labelled_ingest_says_what_to_do(source: Path, tmp_path: Path) -> None:
    Labels(source).close()
    with pytest.raises(MerlbError, match="merlb label"):
        ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), tmp_path / "raw")


def test_a_clip_that_is_being_captured_is_not_ingested(source: Path, tmp_path: Path) -> None:
    put_all(Labels(source), "ada", CLIPS[0], ("positive", "low", "routing"))
    (source / "clips/.cut.abc.partial").mkdir()
    (source / "clips/.cut.abc.partial/clip.mp4").write_bytes(b"half")
    ingest(CorpusParams(source="folder", path=str(source)), IngestParams(), tmp_path / "raw")
    assert sorted(clip.name for clip in (tmp_path / "raw/clips").iterdir()) == sorted(CLIPS)


@pytest.mark.parametrize(
    ("answers", "agreed"),
    [
        ([], None),
        ([None, None], None),
        (["low"], "low"),
        (["low", "high"], None),
        (["low", "high", "high"], "high"),
        (["low", "high", None], None),
        (["low", "high", "low", "high", "neutral"], None),
    ],
)
def test_most_votes_decide_and_a_tie_stays_open(answers: list[str | None], agreed: str | None) -> None:
    assert consensus(answers) == agreed


def test_a_third_annotator_ends_a_tie(source: Path) -> None:
    labels = Labels(source)
    labels.put("ada", CLIPS[0], "arousal", "low")
    labels.put("bob", CLIPS[0], "arousal", "high")
    assert column(source, "Arousal_High")[0] == ""
    labels.put("cyd", CLIPS[0], "arousal", "high")
    assert column(source, "Arousal_High")[0] == "1" and column(source, "Arousal_Low")[0] == "0"


def as_answers(text: str) -> dict[str, str]:
    names = {"a": "low", "b": "neutral", "c": "high"}
    return {f"{clip}.mp4": names[letter] for clip, letter in enumerate(text) if letter in names}


def test_kappa_and_alpha_of_two_annotators_as_worked_out_by_hand() -> None:
    """Ten clips, eight alike; the first gave a, b, c 5, 3, 2 times, the second 4, 3, 3 times.

    kappa: observed 8/10; by chance (5·4 + 3·3 + 2·3)/100 = 0.35; (0.8 - 0.35)/(1 - 0.35) = 0.692308.
    alpha: of 20 answers a, b, c were given 9, 6, 5 times; observed disagreement 2/10; expected
    (20² - 9² - 6² - 5²)/(20·19) = 258/380; 1 - 0.2·380/258 = 0.705426.
    """
    found = agreement(TASKS["arousal"], [as_answers("aaaaabbbcc"), as_answers("aaaabcbbcc")])
    assert found.clips == 10
    assert found.kappa == pytest.approx(0.692308, abs=1e-6)
    assert found.alpha == pytest.approx(0.705426, abs=1e-6)


def test_alpha_of_three_annotators_with_gaps_as_worked_out_by_hand() -> None:
    """Clips: aab, bb-, -cc, a-- (answered once: out).

    Coincidences: aab gives a-a 1, a-b 1, b-a 1; bb gives b-b 2; cc gives c-c 2: seven answers, a 2, b 3, c 2.
    Observed disagreement 2/7; expected (49 - 4 - 9 - 4)/(7·6) = 32/42; alpha 1 - (2/7)/(32/42) = 0.625.
    """
    found = agreement(TASKS["arousal"], [as_answers("ab-a"), as_answers("abc-"), as_answers("b-c-")])
    assert found.clips == 3 and found.kappa is None
    assert found.alpha == pytest.approx(0.625)


def test_agreement_is_not_defined_where_chance_agrees_always() -> None:
    for answers in ([], [as_answers("ab")], [as_answers("aa"), as_answers("aa")], [as_answers("a-"), as_answers("-b")]):
        found = agreement(TASKS["arousal"], answers)
        assert (found.kappa, found.alpha) == (None, None)


def test_a_table_that_was_there_before_is_kept_as_an_annotator(source: Path) -> None:
    first = Labels(source)
    put_all(first, "ada", CLIPS[1], ("negative", "high", "defeated"))
    first.close()
    (source / "labels/ada.csv").unlink()
    (source / "labels/.lock").unlink()
    (source / "labels").rmdir()
    again = Labels(source)
    assert again.of(EARLIER) == {CLIPS[1]: {"valence": "negative", "arousal": "high", "event": "defeated"}}
    assert column(source, "Defeated") == ["", "1", ""]


def test_columns_that_people_filled_stay(source: Path) -> None:
    labels = Labels(source)
    labels.close()
    table = (source / "annotations.csv").read_text().replace(f'"{CLIPS[0]}","ann",""', f'"{CLIPS[0]}","ann_true","LoL"')
    (source / "annotations.csv").write_text(table)
    again = Labels(source)
    again.put("ada", CLIPS[0], "valence", "neutral")
    assert column(source, "Streamer")[0] == "ann_true" and column(source, "Game")[0] == "LoL"


def test_a_published_table_is_not_written_over(source: Path) -> None:
    (source / "trainingdata.csv").write_text("File\n")
    with pytest.raises(MerlbError, match="published table"):
        Labels(source)


def test_two_at_once_are_refused(source: Path) -> None:
    labels = Labels(source)
    with pytest.raises(MerlbError, match="another `merlb label` is at work"):
        Labels(source)
    labels.close()
    Labels(source).close()


def test_a_table_with_a_wrong_word_is_named_with_its_line(source: Path) -> None:
    Labels(source).close()
    (source / "labels/ada.csv").write_text(f"File,Valence,Arousal,Event\n{CLIPS[0]},happy,,\n")
    with pytest.raises(MerlbError, match=r"ada\.csv, line 2: valence happy"):
        Labels(source)


@pytest.mark.parametrize(
    ("annotator", "file", "task", "label"),
    [
        ("ada", "none.mp4", "valence", "neutral"),
        ("ada", "../mine/clips/1_ann_x.mp4", "valence", "neutral"),
        ("ada", CLIPS[0], "mood", "neutral"),
        ("ada", CLIPS[0], "valence", "happy"),
        ("../ada", CLIPS[0], "valence", "neutral"),
        ("", CLIPS[0], "valence", "neutral"),
        (".lock", CLIPS[0], "valence", "neutral"),
        ("a\nb", CLIPS[0], "valence", "neutral"),
        ("x" * 81, CLIPS[0], "valence", "neutral"),
    ],
)
def test_a_wrong_stroke_is_refused_and_writes_nothing(
    source: Path, annotator: str, file: str, task: str, label: str
) -> None:
    labels = Labels(source)
    with pytest.raises(LabelError):
        labels.put(annotator, file, task, label)
    assert list((source / "labels").glob("*.csv")) == []


def test_one_name_in_two_unicode_forms_is_one_annotator() -> None:
    assert annotator_name(" Zoe\u0308 ") == annotator_name("Zo\u00eb")


def test_a_disk_that_is_full_leaves_the_old_answer(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Labels(source)
    labels.put("ada", CLIPS[0], "valence", "neutral")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("merlb_model.corpus.label.write_rows", full)
    with pytest.raises(OSError):
        labels.put("ada", CLIPS[0], "valence", "positive")
    assert labels.of("ada") == {CLIPS[0]: {"valence": "neutral"}}


def test_strokes_at_the_same_time_are_all_kept(source: Path) -> None:
    labels = Labels(source)
    threads = [
        threading.Thread(target=put_all, args=(labels, name, file, ("positive", "low", "routing")))
        for name in ("ada", "bob", "cyd")
        for file in CLIPS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("ada", "bob", "cyd"):
        with (source / f"labels/{name}.csv").open(newline="") as file:
            assert [list(row.values())[1:] for row in csv.DictReader(file)] == [["positive", "low", "routing"]] * 3
