"""The ``validate`` stage: is the store fit to train on? Hard rules stop the run, soft ones warn."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model.dataset.split import SPLIT_COLUMNS, SPLITS
from merlb_model.dataset.store import ClipStore, compute_store_hash, open_store, read_table
from merlb_model.dataset.validation.drift import Drift, find_drift
from merlb_model.dataset.validation.near_duplicates import NearDuplicate, find_near_duplicates
from merlb_model.dataset.validation.page import write_page
from merlb_model.dataset.validation.rules import Kind, Rule, named, share_rule
from merlb_model.dataset.validation.signals import Signals, defects, measure
from merlb_model.dataset.validation.tables import clips_schema, label_sum_rules, schema_rule, splits_schema
from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.params import ValidateParams, ValidateRule

SCHEMA_VERSION: Final = 2
_MOST_LISTED: Final = 1_000
"""Names of clips, or pairs, that the report lists of a kind."""


@dataclass
class Findings:
    """What was found; empty where a broken rule left nothing to look at."""

    rules: list[Rule]
    store: ClipStore | None = None
    splits: list[str] = field(default_factory=list)
    signals: Signals | None = None
    defects: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    near_duplicates: list[NearDuplicate] = field(default_factory=list)
    drift: list[Drift] = field(default_factory=list)

    @property
    def broken(self) -> list[Rule]:
        """The hard rules that are broken."""
        return [rule for rule in self.rules if rule.kind == "hard" and not rule.passed]


def validate(store: Path, splits: Path, params: ValidateParams, out: Path, page: Path) -> list[Rule]:
    """Check the store and the splits, and return the soft rules that are broken.

    Args:
        store: the clip store.
        splits: which row is in which split.
        params: the thresholds.
        out: the report of every rule (JSON, schema ``validation``).
        page: the same for people, with pictures: one HTML file that needs nothing beside it.

    Raises:
        MerlbError: a hard rule is broken (report and page are written all the same), or a stage has not run yet.
    """
    found = _look(store, splits, params)
    report = _report(found, params)
    write_json(out, report)
    write_page(page, report, found.store, found.near_duplicates, found.defects, found.signals)
    if found.broken:
        first = found.broken[0]
        raise MerlbError(
            f"{first.rule}: found {first.found}, expected {first.expected}; "
            f"{len(found.broken)} hard rule(s) broken, see {page}"
        )
    return [rule for rule in found.rules if not rule.passed]


def _look(store: Path, splits: Path, params: ValidateParams) -> Findings:
    try:
        clips = open_store(store)
        table = read_table(splits, "merlb split", SPLIT_COLUMNS)
    except MerlbError as error:
        if not (store / "meta.json").exists() or not splits.exists():
            raise
        expected = "what `merlb convert` and `merlb split` write"
        return Findings([Rule("store and splits can be read", "hard", False, str(error), expected)])
    rules = list(_structure_rules(clips, table, params))
    if not all(rule.passed for rule in rules):
        return Findings(rules)
    found = Findings(rules, clips, table["split"].tolist(), measure(clips))
    rules.append(_absent_are_zero(clips, _signals_of(found)))
    _look_at_clips(found, params)
    rules += [*_label_rules(clips, params), *_split_rules(found, params), *_signal_rules(found, params)]
    rules += _duplicate_rules(found, params)
    rules += _drift_rules(found, params)
    return found


def _look_at_clips(found: Findings, params: ValidateParams) -> None:
    store, signals = _store_of(found), _signals_of(found)
    found.defects = {name: np.flatnonzero(rows) for name, rows in defects(signals, params)}
    found.near_duplicates = find_near_duplicates(store, signals, params)
    found.drift = find_drift(store, found.splits, signals)


def _store_of(found: Findings) -> ClipStore:
    assert found.store is not None
    return found.store


def _signals_of(found: Findings) -> Signals:
    assert found.signals is not None
    return found.signals


def _kind(rule: ValidateRule, params: ValidateParams) -> Kind:
    return "hard" if rule in params.hard else "soft"


# --- Rules that the others rest on ------------------------------------------------------------------------------------


def _structure_rules(store: ClipStore, splits: pd.DataFrame, params: ValidateParams) -> Iterator[Rule]:
    clips = store.clips
    yield Rule("enough clips", "hard", len(clips) >= params.minimum_clips, str(len(clips)), f"≥ {params.minimum_clips}")
    schema = schema_rule("the clip table keeps its schema", clips_schema(), clips)
    yield schema
    if not schema.passed:
        return
    same = len(splits) == len(clips) and list(splits["file"]) == list(clips["file"])
    yield Rule("every clip has one split", "hard", same, f"{len(splits)} rows", f"the store's {len(clips)} files")
    yield schema_rule("the split table keeps its schema", splits_schema(clips), splits)
    yield from label_sum_rules(clips)
    found = compute_store_hash(store.arrays, clips)
    yield Rule("the store is what convert wrote", "hard", found == store.store_hash, found[:12], store.store_hash[:12])


def _absent_are_zero(store: ClipStore, signals: Signals) -> Rule:
    odd = signals.filled & ~store.present.astype(np.bool_)
    files = [f"{store.clips['file'].iloc[row]} ({MODALITIES[column]})" for row, column in np.argwhere(odd)]
    return Rule("absent modalities hold zeros", "hard", not files, named(files), "zeros where a modality is absent")


# --- Rules with a threshold -------------------------------------------------------------------------------------------


def _label_rules(store: ClipStore, params: ValidateParams) -> Iterator[Rule]:
    quarantined, annotated = store.meta["quarantined"], max(1, store.meta["annotated"])
    share = sum(quarantined.values()) / annotated
    expected = f"≤ {params.maximum_quarantined:.0%}"
    kind = _kind("quarantined", params)
    yield Rule("few clips are quarantined", kind, share <= params.maximum_quarantined, f"{share:.1%}", expected)
    invalid = quarantined.get("invalid_label", 0)
    yield Rule(
        "annotated labels add up to one",
        _kind("invalid_labels", params),
        invalid / annotated <= params.maximum_invalid_labels,
        f"{invalid} of {annotated} rows do not ({invalid / annotated:.1%})",
        f"≤ {params.maximum_invalid_labels:.1%}",
    )


def _split_rules(found: Findings, params: ValidateParams) -> Iterator[Rule]:
    store = _store_of(found)
    split = pd.Series(found.splits)
    counts = split.groupby(store.clips["streamer"].to_numpy()).nunique()
    shared = sorted(counts[counts > 1].index)
    tested = (split == "test").to_numpy()
    published = not tested.all() and ((store.clips["table"] == "testing").to_numpy() == tested).all()
    yield Rule(
        "no streamer is in two splits",
        "soft" if published else _kind("streamers", params),  # the published split shares streamers; that is known
        not shared,
        named(shared),
        "none",
    )
    for name in SPLITS:
        rare = [
            f"{task} {label} {by_split[name][label]}"
            for task, by_split in _class_counts(store, found.splits).items()
            for label in by_split[name]
            if by_split[name][label] < params.minimum_class_clips
        ]
        enough = not rare or name not in found.splits
        expected = f"≥ {params.minimum_class_clips} of each"
        shown = named(rare) if not enough else "enough of each"
        yield Rule(f"clips a class in {name}", _kind("classes", params), enough, shown, expected)


def _signal_rules(found: Findings, params: ValidateParams) -> Iterator[Rule]:
    store = _store_of(found)
    limits: dict[str, tuple[ValidateRule, float]] = {
        "silent": ("silent", params.maximum_silent),
        "black": ("black", params.maximum_black),
        "frozen": ("frozen", params.maximum_frozen),
    }
    for name, rows in found.defects.items():
        defect, modality = name.split()
        rule, maximum = limits[defect]
        present = int(store.clips[f"present_{modality}"].sum())
        yield share_rule(f"few clips with {name}", _kind(rule, params), _files(store, rows), present, maximum)


def _duplicate_rules(found: Findings, params: ValidateParams) -> Iterator[Rule]:
    store, split = _store_of(found), found.splits
    files = store.clips["file"].tolist()
    across = [
        f"{files[pair.first]} ({split[pair.first]}) = {files[pair.second]} ({split[pair.second]})"
        for pair in found.near_duplicates
        if split[pair.first] != split[pair.second]
    ]
    yield Rule(
        "no clip has a near-duplicate in another split",
        _kind("near_duplicates", params),
        not across,
        f"{len(across)} pair(s): {named(across)}" if across else "none",
        "none: take one of each pair out, or give both the same Streamer",
    )
    within = [pair for pair in found.near_duplicates if split[pair.first] == split[pair.second]]
    doubled = sorted({row for pair in within for row in (pair.first, pair.second)})
    names = [files[row] for row in doubled]
    rule = "few clips have a near-duplicate in their own split"
    yield share_rule(rule, _kind("doubled", params), names, len(store), params.maximum_doubled)


def _drift_rules(found: Findings, params: ValidateParams) -> Iterator[Rule]:
    for drift in found.drift:
        shown = f"index {drift.psi:.2f}; as large in {drift.chance:.1%} of random splits of the streamers"
        expected = f"≤ {params.maximum_psi:g}, or larger by chance in > {params.drift_chance:.0%}"
        rule = f"{drift.feature}: test is like training"
        yield Rule(rule, _kind("drift", params), not drift.broken(params), shown, expected)


# --- The report -------------------------------------------------------------------------------------------------------


def _report(found: Findings, params: ValidateParams) -> dict[str, Any]:
    report: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "passed": not found.broken,
        "rules": [asdict(rule) for rule in found.rules],
    }
    store = found.store
    if store is None:
        return report
    return {
        **report,
        "store_hash": store.store_hash,
        "source": store.meta["source"],
        "annotated": store.meta["annotated"],
        "quarantined": store.meta["quarantined"],
        "clips": {name: found.splits.count(name) for name in SPLITS},
        "classes": _class_counts(store, found.splits),
        "absent": {name: int((~store.clips[f"present_{name}"].astype(bool)).sum()) for name in store.arrays},
        "defects": {
            name: {"n": len(rows), "files": _files(store, rows[:_MOST_LISTED])} for name, rows in found.defects.items()
        },
        "near_duplicates": {
            "n": len(found.near_duplicates),
            "pairs": [_pair(pair, store, found.splits) for pair in found.near_duplicates[:_MOST_LISTED]],
        },
        "drift": [{**asdict(drift), "drifts": drift.broken(params)} for drift in found.drift],
    }


def _pair(pair: NearDuplicate, store: ClipStore, splits: list[str]) -> dict[str, Any]:
    rows = (pair.first, pair.second)
    return {
        "files": _files(store, np.array(rows)),
        "streamers": [str(store.clips["streamer"].iloc[row]) for row in rows],
        "splits": [splits[row] for row in rows],
        "offset_seconds": pair.offset_seconds,
        "bits": round(pair.bits, 2),
        "sound": None if pair.sound is None else round(pair.sound, 3),
    }


def _files(store: ClipStore, rows: NDArray[np.int64]) -> list[str]:
    return [str(file) for file in store.clips["file"].iloc[rows]]


def _class_counts(store: ClipStore, splits: list[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Clips by task, split and class."""
    split = np.array(splits)
    return {
        task: {
            name: {label: int(((split == name) & (store.clips[task] == label).to_numpy()).sum()) for label in classes}
            for name in SPLITS
        }
        for task, classes in TASKS.items()
    }
