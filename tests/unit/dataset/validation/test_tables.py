from pathlib import Path

import pandas as pd
import pytest

from merlb_model.dataset.split import split
from merlb_model.dataset.store import open_store
from merlb_model.dataset.validation.tables import clips_schema, label_sum_rules, schema_rule, splits_schema
from merlb_model.labels import TASKS
from merlb_model.params import SplitParams
from tests.unit.dataset.synthetic_store import write_store


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A store's table and its splits, read back from Parquet."""
    folder: Path = tmp_path_factory.mktemp("tables")
    store = open_store(write_store(folder / "store", 4, 2))
    split(folder / "store", SplitParams(), folder / "splits.parquet")
    return store.clips, pd.read_parquet(folder / "splits.parquet")


def complaint(schema, table: pd.DataFrame) -> str:
    rule = schema_rule("schema", schema, table)
    assert rule.kind == "hard" and rule.passed == (rule.found == f"{len(table)} rows")
    return "" if rule.passed else rule.found


def test_what_the_stages_write_keeps_the_schemas(tables) -> None:
    clips, splits = tables
    assert complaint(clips_schema(), clips) == ""
    assert complaint(clips_schema(), clips.assign(more=1)) == ""
    assert complaint(splits_schema(clips), splits) == ""


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("file", ["a"] * 8, "file: 'a' breaks field_uniqueness (8 rows)"),
        ("file", [f"{9 - row}.mp4" for row in range(8)], "not so: rows ordered by file"),
        ("streamer", ["", *"abcdefg"], "streamer: '' breaks not empty"),
        ("streamer", [None, *"abcdefg"], "streamer: 'None' breaks not_nullable"),
        ("table", ["holdout"] * 8, "table: 'holdout' breaks isin(['training', 'testing', '']) (8 rows)"),
        ("valid_frames", [21] + [20] * 7, "valid_frames: '21' breaks in_range(0, 20)"),
        ("valid_frames", [float("nan")] + [20] * 7, "valid_frames: "),
        ("present_face", [1] * 8, "present_face: 'int64' breaks dtype('bool')"),
        ("event", [3] * 8, "event: "),
    ],
)
def test_a_broken_clip_table_is_named_by_column_and_value(tables, column: str, values: list, expected: str) -> None:
    assert expected in complaint(clips_schema(), tables[0].assign(**{column: values}))


def test_a_missing_column_is_named(tables) -> None:
    assert "'game' breaks column_in_dataframe" in complaint(clips_schema(), tables[0].drop(columns="game"))


def test_a_clip_of_which_nothing_is_present_is_named(tables) -> None:
    nothing = tables[0].assign(present_face=False, present_screen=False, present_audio=False)
    assert "not so: some modality of each clip is present" in complaint(clips_schema(), nothing)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table.assign(split="holdout"), "split: 'holdout' breaks isin"),
        (lambda table: table.assign(row=table["row"][::-1].to_numpy()), "row: '7' breaks 0, 1, 2, …"),
        (lambda table: table.assign(streamer="another"), "streamer: 'another' breaks the store's streamer (8 rows)"),
        (lambda table: table.assign(file=table["file"][::-1].to_numpy()), "breaks the store's file (8 rows)"),
        (lambda table: table.iloc[:-1], "not so: 8 rows, one a clip"),
        (lambda table: pd.concat([table, table.iloc[-1:].assign(row=8)]), "not so: 8 rows, one a clip"),
    ],
)
def test_splits_that_do_not_fit_the_store_are_named(tables, change, expected: str) -> None:
    clips, splits = tables
    assert expected in complaint(splits_schema(clips), change(splits))


def test_labels_add_up_to_one_unless_a_word_is_no_class(tables) -> None:
    clips = tables[0]
    assert all(rule.passed for rule in label_sum_rules(clips))
    strange = clips.assign(event=["sleeping", *clips["event"][1:]])
    broken = [rule for rule in label_sum_rules(strange) if not rule.passed]
    assert [rule.rule for rule in broken] == ["event labels add up to one"]
    assert broken[0].found == "0000_s00_x.mp4 (sleeping)" and len(list(label_sum_rules(clips))) == len(TASKS)
