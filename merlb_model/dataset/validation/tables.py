"""Schemas of the tables: the clips of the store, and the splits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa

from merlb_model.dataset.split import SPLITS
from merlb_model.dataset.store import PRESENT_COLUMNS, STEPS
from merlb_model.dataset.validation.rules import Rule, named
from merlb_model.labels import TASKS

_NOT_EMPTY = pa.Check.str_length(min_value=1, error="not empty")


def clips_schema() -> pa.DataFrameSchema:
    """What ``clips.parquet`` holds; columns beyond these are let be."""
    return pa.DataFrameSchema(
        {
            "file": pa.Column(str, _NOT_EMPTY, unique=True),
            "streamer": pa.Column(str, _NOT_EMPTY),
            "game": pa.Column(str),
            "table": pa.Column(str, pa.Check.isin(["training", "testing", ""])),
            **{task: pa.Column(str) for task in TASKS},  # which words: `label_sum_rules`
            **{name: pa.Column(bool) for name in PRESENT_COLUMNS},
            "valid_frames": pa.Column(int, pa.Check.in_range(0, STEPS)),
        },
        checks=[
            pa.Check(lambda table: _in_order(table["file"]), error="rows ordered by file"),
            pa.Check(
                lambda table: bool(table[list(PRESENT_COLUMNS)].any(axis=1).all()),
                error="some modality of each clip is present",
            ),
        ],
    )


def splits_schema(clips: pd.DataFrame) -> pa.DataFrameSchema:
    """What ``splits.parquet`` holds: the rows of ``clips``, each with one split."""
    same = len(clips)
    return pa.DataFrameSchema(
        {
            "row": pa.Column(int, pa.Check(lambda rows: rows == np.arange(len(rows)), error="0, 1, 2, …"), unique=True),
            "file": pa.Column(str, pa.Check(lambda files: _equal(files, clips["file"]), error="the store's file")),
            "streamer": pa.Column(
                str, pa.Check(lambda names: _equal(names, clips["streamer"]), error="the store's streamer")
            ),
            "split": pa.Column(str, pa.Check.isin(list(SPLITS))),
        },
        checks=pa.Check(lambda table: len(table) == same, error=f"{same} rows, one a clip"),
    )


def _in_order(files: "pd.Series[str]") -> bool:
    return bool(files.is_monotonic_increasing)


def _equal(found: "pd.Series[Any]", wanted: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether each row of ``found`` is that of ``wanted``; rows that ``wanted`` lacks are not."""
    return found.reset_index(drop=True) == wanted.reset_index(drop=True).reindex(range(len(found)))


def schema_rule(rule: str, schema: pa.DataFrameSchema, table: pd.DataFrame) -> Rule:
    """Check ``table``; a hard rule that names what is wrong by column, check and value."""
    expected = f"columns {', '.join(schema.columns)} as documented"
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        return Rule(rule, "hard", False, named(_complaints(error.failure_cases)), expected)
    except TypeError as error:  # a check that cannot even be made, on a column of another type
        return Rule(rule, "hard", False, " ".join(str(error).split())[:200], expected)
    return Rule(rule, "hard", True, f"{len(table)} rows", expected)


def _complaints(cases: pd.DataFrame) -> list[str]:
    """A line a column and check: how many rows, and the first value."""
    lines = []
    for (column, check), group in cases.astype({"column": str}).groupby(["column", "check"], sort=False):
        value, times = str(group["failure_case"].iloc[0])[:60], f" ({len(group)} rows)" if len(group) > 1 else ""
        # A check of whole rows has no value to show, but where it is a column that is missing.
        lines.append(
            f"not so: {check}" if value == "False" else f"{_place(str(column))}{value!r} breaks {check}{times}"
        )
    return lines


def _place(column: str) -> str:
    return "" if column in {"None", "nan", "<NA>"} else f"{column}: "


def label_sum_rules(clips: pd.DataFrame) -> Iterator[Rule]:
    """Of each task, a clip's one-hot labels add up to one."""
    for task, classes in TASKS.items():
        one_hot = np.stack([(clips[task] == label).to_numpy() for label in classes], axis=1)
        wrong = np.flatnonzero(one_hot.sum(axis=1) != 1)
        files = [f"{clips['file'].iloc[row]} ({clips[task].iloc[row]})" for row in wrong]
        yield Rule(f"{task} labels add up to one", "hard", not files, named(files), "one class a clip")
