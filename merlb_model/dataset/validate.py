"""The ``validate`` stage: is the store fit to train on? Hard rules stop the run, soft ones warn."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from merlb_model.dataset.split import SPLIT_COLUMNS, SPLITS
from merlb_model.dataset.store import ClipStore, compute_store_hash, open_store, read_table
from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.labels import TASKS
from merlb_model.params import ValidateParams


@dataclass(frozen=True)
class Rule:
    """A rule and what was found."""

    rule: str
    kind: Literal["hard", "soft"]
    passed: bool
    found: str
    expected: str


def validate(store: Path, splits: Path, params: ValidateParams, out: Path) -> list[Rule]:
    """Check the store and the splits; write the report to ``out`` and return the soft rules that are broken.

    Raises:
        MerlbError: a hard rule is broken; the report is written all the same.
    """
    clips = open_store(store)
    table = read_table(splits, "merlb split", SPLIT_COLUMNS)
    rules = list(_rules(clips, table, params))
    broken = [rule for rule in rules if rule.kind == "hard" and not rule.passed]
    report: dict[str, Any] = {
        "schema_version": 1,
        "store_hash": clips.store_hash,
        "passed": not broken,
        "rules": [asdict(rule) for rule in rules],
        "clips": {name: int((table["split"] == name).sum()) for name in SPLITS},
        "classes": _class_counts(clips, table) if len(table) == len(clips) else {},
        "absent": {name: int((~clips.clips[f"present_{name}"].astype(bool)).sum()) for name in clips.arrays},
    }
    write_json(out, report)
    if broken:
        first = broken[0]
        raise MerlbError(
            f"{first.rule}: found {first.found}, expected {first.expected}; "
            f"{len(broken)} hard rule(s) broken, see {out}"
        )
    return [rule for rule in rules if not rule.passed]


def _rules(store: ClipStore, splits: pd.DataFrame, params: ValidateParams) -> Iterator[Rule]:
    clips = store.clips
    yield Rule("enough clips", "hard", len(clips) >= params.minimum_clips, str(len(clips)), f"≥ {params.minimum_clips}")
    found = compute_store_hash(store.arrays, clips)
    yield Rule("the store is what convert wrote", "hard", found == store.store_hash, found[:12], store.store_hash[:12])
    same = len(splits) == len(clips) and list(splits["file"]) == list(clips["file"])
    yield Rule("every clip has one split", "hard", same, f"{len(splits)} rows", f"the store's {len(clips)} files")
    if not same:
        return
    yield from _label_rules(clips)
    yield _quarantined(store, params)
    yield from _split_rules(store, splits, params)


def _label_rules(clips: pd.DataFrame) -> Iterator[Rule]:
    for task, classes in TASKS.items():
        strange = sorted(set(clips[task]) - set(classes))
        yield Rule(
            f"{task} labels are known", "hard", not strange, ", ".join(strange) or "none strange", "none strange"
        )
    empty = int((clips["streamer"] == "").sum())
    yield Rule("every clip has a streamer", "hard", empty == 0, f"{empty} without", "none")


def _quarantined(store: ClipStore, params: ValidateParams) -> Rule:
    share = sum(store.meta["quarantined"].values()) / max(1, store.meta["annotated"])
    expected = f"≤ {params.maximum_quarantined:.0%}"
    return Rule("few clips are quarantined", "hard", share <= params.maximum_quarantined, f"{share:.1%}", expected)


def _split_rules(store: ClipStore, splits: pd.DataFrame, params: ValidateParams) -> Iterator[Rule]:
    counts = splits.groupby("streamer")["split"].nunique()
    shared = sorted(counts[counts > 1].index)
    tested = (splits["split"] == "test").to_numpy()
    published = not tested.all() and ((store.clips["table"] == "testing").to_numpy() == tested).all()
    yield Rule(
        "no streamer is in two splits",
        "soft" if published else "hard",  # the published split shares streamers; that is known, and said
        not shared,
        ", ".join(shared[:5]) or "none",
        "none",
    )
    for task, by_split in _class_counts(store, splits).items():
        for label, count in by_split["train"].items():
            enough = count >= params.minimum_class_clips or not (splits["split"] == "train").any()
            yield Rule(f"{task} {label}: training clips", "soft", enough, str(count), f"≥ {params.minimum_class_clips}")


def _class_counts(store: ClipStore, splits: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    """Clips by task, split and class."""
    return {
        task: {
            name: {
                label: int(((splits["split"] == name).to_numpy() & (store.clips[task] == label).to_numpy()).sum())
                for label in classes
            }
            for name in SPLITS
        }
        for task, classes in TASKS.items()
    }
