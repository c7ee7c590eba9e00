import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.corpus.annotations import write_rows
from merlb_model.dataset.convert import convert
from merlb_model.dataset.store import CLIP_COLUMNS, compute_store_hash, create_arrays, open_store
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, write_json
from merlb_model.labels import MODALITIES
from merlb_model.params import ConvertParams
from tests.unit.corpus.test_annotations import GOOD, row

SHARDS = {"0": ["3_bob_x.mp4", "1_ann_x.mp4"], "a": ["2_ann_x.mp4"]}
OTHER = {"Valence_Positive": "1", "Arousal_Low": "1", "Defeated": "1"}


def number_of(file: str) -> int:
    """What fills the arrays of a clip: the number in its name."""
    return int(file.split("_")[0])


def write_extracted(
    folder: Path, shards: Mapping[str, Sequence[str]], cache: Path, rejected: Sequence[Mapping[str, str]] = ()
) -> Path:
    """What `extract` leaves of ``shards``, the arrays full of each clip's number; clip 2 has no audio."""
    for shard, files in shards.items():
        place = cache / f"{shard}-key"
        place.mkdir(parents=True)
        arrays = create_arrays(place, len(files))
        for index, file in enumerate(files):
            for name in MODALITIES:
                arrays[name][index] = number_of(file)
        rows = pd.DataFrame({"file": files, **{f"present_{name}": True for name in MODALITIES}, "valid_frames": 20})
        rows["present_audio"] = rows["file"] != "2_ann_x.mp4"
        rows["valid_frames"] = [10 + number_of(file) for file in files]
        rows.to_parquet(place / "rows.parquet", index=False)
        write_json(place / "rejected.json", list(rejected))
    write_json(folder / "shards.json", dict.fromkeys(shards, "key"))
    return folder


def write_raw(raw: Path, rows: Sequence[dict[str, str]]) -> Path:
    raw.mkdir()
    write_rows(raw / "annotations.csv", rows)
    return raw


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Labels of the clips 1, 2 and 3, in another order, and of a clip that was not decoded."""
    return write_raw(
        tmp_path / "raw",
        [
            {**row("2_ann_x.mp4"), "Table": "testing"},
            row("9_cat_x.mp4"),
            {**row("3_bob_x.mp4", **OTHER), "Game": "go"},
            row("1_ann_x.mp4"),
        ],
    )


def test_labels_presence_and_arrays_are_joined_by_file_name_and_ordered_by_it(raw: Path, tmp_path: Path) -> None:
    extracted = write_extracted(tmp_path / "extract", SHARDS, tmp_path / "cache")
    convert(raw, [extracted], ConvertParams(), tmp_path / "store", tmp_path / "cache")
    store = open_store(tmp_path / "store")
    assert tuple(store.clips.columns) == CLIP_COLUMNS
    assert store.clips.to_numpy().tolist() == [
        ["1_ann_x.mp4", "ann", "", "", "negative", "high", "fighting", True, True, True, 11],
        ["2_ann_x.mp4", "ann", "", "testing", "negative", "high", "fighting", True, True, False, 12],
        ["3_bob_x.mp4", "bob", "go", "", "positive", "low", "defeated", True, True, True, 13],
    ]
    for array in store.arrays.values():
        assert [np.unique(values).tolist() for values in array] == [[1], [2], [3]]


def test_a_decoded_clip_without_a_label_is_left_out(raw: Path, tmp_path: Path) -> None:
    shards = {**SHARDS, "f": ["7_dan_x.mp4"]}
    extracted = write_extracted(tmp_path / "extract", shards, tmp_path / "cache")
    convert(raw, [extracted], ConvertParams(), tmp_path / "store", tmp_path / "cache")
    assert [number_of(file) for file in open_store(tmp_path / "store").clips["file"]] == [1, 2, 3]


def test_the_store_has_the_same_bytes_whatever_the_order_and_number_of_shards(raw: Path, tmp_path: Path) -> None:
    together = write_extracted(tmp_path / "extract", SHARDS, tmp_path / "cache")
    parts = [write_extracted(tmp_path / shard, {shard: files}, tmp_path / shard) for shard, files in SHARDS.items()]
    swapped = {"0": ["1_ann_x.mp4", "2_ann_x.mp4"], "a": ["3_bob_x.mp4"]}
    other = write_extracted(tmp_path / "other", swapped, tmp_path / "other_cache")
    convert(raw, [together], ConvertParams(), tmp_path / "one", tmp_path / "cache")
    convert(raw, parts, ConvertParams(), tmp_path / "two", None)
    convert(raw, parts[::-1], ConvertParams(), tmp_path / "three", None)
    convert(raw, [other], ConvertParams(), tmp_path / "four", tmp_path / "other_cache")
    for folder in ("two", "three", "four"):
        for name in ("face.npy", "screen.npy", "audio.npy", "meta.json"):
            assert (tmp_path / folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
        assert open_store(tmp_path / folder).clips.equals(open_store(tmp_path / "one").clips)


def test_meta_holds_the_hash_of_what_was_written_and_accounts_for_every_row(raw: Path, tmp_path: Path) -> None:
    wrong, unlabelled = row("2_ann_x.mp4", **{**GOOD, "Routing": "1"}), {"File": "6_ann_x.mp4"}
    write_rows(raw / "annotations.csv", [row("1_ann_x.mp4"), wrong, unlabelled])
    broken = {"file": "4_ann_x.mp4", "stage": "extract", "reason": "undecodable", "detail": "no film"}
    extracted = write_extracted(tmp_path / "extract", {"0": ["1_ann_x.mp4"]}, tmp_path / "cache", [broken])
    convert(raw, [extracted], ConvertParams(), tmp_path / "store", tmp_path / "cache")
    store = open_store(tmp_path / "store")
    assert store.store_hash == compute_store_hash(store.arrays, store.clips)
    assert store.meta["clips"] == 1 and store.meta["source"] == "folder"
    assert store.meta["quarantined"] == {"invalid_label": 1, "undecodable": 1}
    assert store.meta["annotated"] == 3  # not the one that is not labelled yet


def test_the_hash_changes_with_a_label_and_with_a_sample(raw: Path, tmp_path: Path) -> None:
    extracted = write_extracted(tmp_path / "extract", SHARDS, tmp_path / "cache")
    hashes = []
    for change in ("nothing", "label", "sample"):
        if change == "label":
            write_rows(raw / "annotations.csv", [row(f"{file}_x.mp4") for file in ("1_ann", "2_ann", "3_bob")])
        if change == "sample":
            audio = np.load(tmp_path / "cache" / "a-key" / "audio.npy", mmap_mode="r+")
            audio[0, 19, -1] += 1
            audio.flush()
        convert(raw, [extracted], ConvertParams(), tmp_path / "store", tmp_path / "cache")
        hashes.append(open_store(tmp_path / "store").store_hash)
    assert len(set(hashes)) == 3


@pytest.mark.parametrize("cached", [True, False])
def test_a_shard_that_is_gone_is_named_with_what_to_run_and_the_old_store_stays(
    raw: Path, tmp_path: Path, cached: bool
) -> None:
    cache = tmp_path / "cache" if cached else None
    extracted = write_extracted(tmp_path / "extract", SHARDS, cache or tmp_path / "extract")
    convert(raw, [extracted], ConvertParams(), tmp_path / "store", cache)
    before = read_json(tmp_path / "store" / "meta.json", "")
    shutil.rmtree((cache or extracted) / "a-key")
    with pytest.raises(MerlbError, match="a-key: the decoded shard is gone: run `merlb extract` again"):
        convert(raw, [extracted], ConvertParams(), tmp_path / "store", cache)
    assert read_json(tmp_path / "store" / "meta.json", "") == before
    with pytest.raises(MerlbError, match=r"shards\.json is missing: run `merlb extract` first"):
        convert(raw, [tmp_path / "none"], ConvertParams(), tmp_path / "store", cache)


def test_no_clip_both_decoded_and_labelled_is_an_error_that_leaves_no_store(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", [row("8_ann_x.mp4"), row("9_ann_x.mp4")])
    extracted = write_extracted(tmp_path / "extract", SHARDS, tmp_path / "cache")
    with pytest.raises(MerlbError, match="none of 3 decoded clips has a label row among 2; see quarantine"):
        convert(raw, [extracted], ConvertParams(), tmp_path / "store", tmp_path / "cache")
    assert not (tmp_path / "store").exists()


def write_blank_shards(folder: Path, shards: int, clips_each: int) -> tuple[Path, Path, Path]:
    """Raw, extract and cache of blank clips: holes in files, which cost no disk."""
    files = [f"{number}_ann_x.mp4" for number in range(shards * clips_each)]
    for shard in range(shards):
        place = folder / "cache" / f"{shard}-key"
        place.mkdir(parents=True)
        mine = files[shard::shards]
        create_arrays(place, len(mine))
        rows = pd.DataFrame({"file": mine, **{f"present_{name}": True for name in MODALITIES}, "valid_frames": 20})
        rows.to_parquet(place / "rows.parquet", index=False)
        write_json(place / "rejected.json", [])
    write_json(folder / "extract" / "shards.json", {str(shard): "key" for shard in range(shards)})
    return write_raw(folder / "raw", [row(file) for file in files]), folder / "extract", folder / "cache"


PEAK = """
import sys
from pathlib import Path
from merlb_model.dataset.convert import convert
from merlb_model.dataset.store import compute_store_hash, open_store
from merlb_model.params import ConvertParams
raw, extracted, cache, out = map(Path, sys.argv[1:])
convert(raw, [extracted], ConvertParams(), out, cache)
store = open_store(out)
assert compute_store_hash(store.arrays, store.clips) == store.store_hash
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


def test_convert_and_the_hash_hold_a_block_of_the_corpus_not_the_corpus(tmp_path: Path) -> None:
    raw, extracted, cache = write_blank_shards(tmp_path, shards=4, clips_each=60)
    command = [sys.executable, "-c", PEAK, raw, extracted, cache, tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    megabytes = int(done.stdout) / 1024
    assert megabytes < 500, "the 240 clips alone are 350 MB, once as shards and once as a store"


def test_convert_keeps_no_more_files_open_than_a_block_has_shards(tmp_path: Path) -> None:
    raw, extracted, cache = write_blank_shards(tmp_path, shards=100, clips_each=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 3 * 80, hard))
    try:
        convert(raw, [extracted], ConvertParams(), tmp_path / "store", cache)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(open_store(tmp_path / "store")) == 100
