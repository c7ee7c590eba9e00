import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import numpy as np
import pandas as pd
import psutil
import pytest

from merlb_model.corpus.annotations import read_rows, write_rows
from merlb_model.dataset.convert import convert
from merlb_model.dataset.decode_clip import Decoded, Refused, RowJob, decode_into_row
from merlb_model.dataset.extract import extract
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.guarded import Lost, guarded_map
from merlb_model.params import ConvertParams, ExtractParams
from tests.media_clips import write_media
from tests.s3 import bucket, s3_server  # noqa: F401  fixtures
from tests.unit.corpus.test_annotations import GOOD, row
from tests.unit.dataset.conftest import raw_from, write_good_clips

PARAMS = ExtractParams(workers=1)
PYTHONPATH = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def make_store(raw: Path, work: Path, params: ExtractParams = PARAMS) -> ClipStore:
    extract(raw, params, work / "extract", work / "shards")
    convert(raw, [work / "extract"], ConvertParams(), work / "store", work / "shards")
    return open_store(work / "store")


def refuse_jobs(function: object, jobs: Iterator[object], *limits: object) -> Iterator[tuple[object, Lost]]:
    for job in jobs:
        pytest.fail(f"decoded again: {job}")
    yield from ()


@pytest.fixture
def with_defects(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    rows = write_good_clips(source)
    whole = write_media(source / "10_cat_x.mp4")
    (source / "11_cat_x.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (source / "12_cat_x.mp4").write_text("not a film")
    write_media(source / "13_cat_x.mp4", seconds=1.0)
    write_media(source / "14_cat_x.mp4")
    write_media(source / "15_cat_x.mp4")
    readable = write_media(source / "16_cat_x.mp4", index_first=True)
    readable.write_bytes(readable.read_bytes()[: readable.stat().st_size * 7 // 10])
    write_media(source / "20_cat_x.mp4", audio=False)
    write_media(source / "21_cat_x.mp4", video=False)
    rows += [row(f"{n}_cat_x.mp4") for n in (10, 11, 12, 13, 16, 20, 21, 99)]
    rows.append(row("14_cat_x.mp4", **{**GOOD, "Routing": "1"}))
    write_rows(source / "annotations.csv", rows)
    return raw_from(source, tmp_path / "raw")


def test_each_defect_is_quarantined_with_its_reason(with_defects: Path, tmp_path: Path) -> None:
    extract(with_defects, PARAMS, tmp_path / "extract", tmp_path / "shards")
    found = pd.read_csv(tmp_path / "extract" / "quarantine.csv")
    assert list(found.columns) == ["file", "stage", "reason", "detail"]
    assert dict(zip(found["file"], found["reason"], strict=True)) == {
        "11_cat_x.mp4": "undecodable",
        "12_cat_x.mp4": "undecodable",
        "13_cat_x.mp4": "too_short",
        "14_cat_x.mp4": "invalid_label",
        "15_cat_x.mp4": "no_label",
        "16_cat_x.mp4": "truncated",
        "99_cat_x.mp4": "missing_file",
    }


def test_clips_without_audio_or_video_are_used_and_flagged(with_defects: Path, tmp_path: Path) -> None:
    clips = make_store(with_defects, tmp_path).clips.set_index("file")
    flags = clips[["present_face", "present_screen", "present_audio"]]
    assert flags.loc["20_cat_x.mp4"].tolist() == [False, True, False]
    assert flags.loc["21_cat_x.mp4"].tolist() == [False, False, True]
    assert flags.loc["1_ann_x.mp4"].tolist() == [True, True, True]


def test_defects_leave_the_other_clips_bytes_alone(with_defects: Path, raw: Path, tmp_path: Path) -> None:
    clean = make_store(raw, tmp_path / "clean")
    mixed = make_store(with_defects, tmp_path / "mixed")
    rows = [list(mixed.clips["file"]).index(file) for file in clean.clips["file"]]
    for name, array in clean.arrays.items():
        assert np.array_equal(array, mixed.arrays[name][rows])


def test_worker_count_and_shard_by_shard_give_the_same_store(raw: Path, tmp_path: Path) -> None:
    one = make_store(raw, tmp_path / "one")
    two = make_store(raw, tmp_path / "two", ExtractParams(workers=2))
    shards = sorted(read_json(tmp_path / "one" / "extract" / "shards.json", ""))
    parts = []
    for shard in shards:
        bare = tmp_path / f"index-{shard}"
        shutil.copytree(raw, bare, ignore=shutil.ignore_patterns("clips"))
        parts.append(tmp_path / f"part-{shard}")
        extract(bare, PARAMS, parts[-1], None, [shard], clips=str(raw / "clips"))
    convert(raw, parts, ConvertParams(), tmp_path / "store", None)
    assert one.store_hash == two.store_hash == open_store(tmp_path / "store").store_hash


def test_a_shard_alone_accounts_for_its_own_clips(with_defects: Path, tmp_path: Path) -> None:
    extract(with_defects, PARAMS, tmp_path / "all", tmp_path / "shards")
    whole = pd.read_csv(tmp_path / "all" / "quarantine.csv")
    parts = []
    for shard in read_json(tmp_path / "all" / "shards.json", ""):
        extract(with_defects, PARAMS, tmp_path / shard, tmp_path / "shards", [shard])
        parts.append(pd.read_csv(tmp_path / shard / "quarantine.csv"))
    together = pd.concat(parts).sort_values("file", ignore_index=True)
    assert together.equals(whole)


def test_a_second_extraction_decodes_nothing_and_a_changed_label_neither(
    good_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    shutil.copytree(good_source, source)
    raw = raw_from(source, tmp_path / "raw")
    before = make_store(raw, tmp_path).store_hash
    monkeypatch.setattr("merlb_model.dataset.extract.guarded_map", refuse_jobs)
    assert make_store(raw, tmp_path).store_hash == before
    rows = read_rows(source / "annotations.csv")
    rows[0] |= {"Fighting": "0", "Defeated": "1"}
    write_rows(source / "annotations.csv", rows)
    assert make_store(raw_from(source, tmp_path / "raw"), tmp_path).store_hash != before


def test_a_new_clip_decodes_its_shard_alone(good_source: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(good_source, source)
    make_store(raw_from(source, tmp_path / "raw"), tmp_path)
    before = {path.name for path in (tmp_path / "shards").iterdir()}
    write_media(source / "9_ann_x.mp4", tone_hz=900.0)
    make_store(raw_from(source, tmp_path / "raw"), tmp_path)
    assert len({path.name for path in (tmp_path / "shards").iterdir()} - before) == 1


def test_clips_on_s3_give_the_store_that_a_folder_gives(raw: Path, bucket: str, tmp_path: Path) -> None:  # noqa: F811
    client = boto3.client("s3")
    for clip in (raw / "clips").iterdir():
        client.upload_file(str(clip), bucket, f"some/clips/{clip.name}")
    client.delete_object(Bucket=bucket, Key="some/clips/0_bob_x.mp4")
    client.put_object(Bucket=bucket, Key="some/clips/1_ann_x.mp4", Body=b"other bytes")
    bare = tmp_path / "index"
    shutil.copytree(raw, bare, ignore=shutil.ignore_patterns("clips"))
    extract(
        bare, ExtractParams(workers=2), tmp_path / "extract", tmp_path / "shards", clips=f"s3://{bucket}/some/clips"
    )
    quarantine = pd.read_csv(tmp_path / "extract" / "quarantine.csv")
    assert dict(zip(quarantine["file"], quarantine["reason"], strict=True)) == {
        "0_bob_x.mp4": "missing_file",
        "1_ann_x.mp4": "changed",
    }
    convert(raw, [tmp_path / "extract"], ConvertParams(), tmp_path / "store", tmp_path / "shards")
    fetched, local = open_store(tmp_path / "store"), make_store(raw, tmp_path / "local")
    assert list(fetched.clips["file"]) == list(local.clips["file"][2:])
    for name, array in local.arrays.items():
        assert np.array_equal(array[2:], fetched.arrays[name])
    assert not list((tmp_path / "shards").rglob("fetched.*"))


def test_each_limit_has_its_reason(raw: Path, tmp_path: Path) -> None:
    limits = {"maximum_pixels": 4096, "maximum_seconds": 5.0, "timeout_seconds": 0.01}
    for name, reason in (("maximum_pixels", "too_large"), ("timeout_seconds", "timeout")):
        extract(raw, ExtractParams(workers=2, **{name: limits[name]}), tmp_path / name, tmp_path / "shards")
        assert set(pd.read_csv(tmp_path / name / "quarantine.csv")["reason"]) == {reason}


def crash_on_some(job: RowJob) -> Decoded | Refused:
    """A decoder's double: one clip makes it die, one hangs it, one swells it."""
    if job.clip.file == "0_bob_x.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job.clip.file == "1_ann_x.mp4":
        time.sleep(600)
    if job.clip.file == "2_bob_x.mp4":
        raise MemoryError
    return decode_into_row(job)


@pytest.mark.slow  # a hang is waited for twice
def test_a_decoder_that_crashes_hangs_or_swells_costs_that_clip_alone(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merlb_model.dataset.extract.decode_into_row", crash_on_some)
    store = make_store(raw, tmp_path, ExtractParams(workers=2, timeout_seconds=10))
    assert list(store.clips["file"]) == ["3_ann_x.mp4", "4_bob_x.mp4"]
    quarantine = pd.read_csv(tmp_path / "extract" / "quarantine.csv").set_index("file")
    assert quarantine["reason"].to_dict() == {
        "0_bob_x.mp4": "decoder_crash",
        "1_ann_x.mp4": "timeout",
        "2_bob_x.mp4": "out_of_memory",
    }
    assert quarantine["detail"]["0_bob_x.mp4"] == "ended by SIGSEGV"


def test_a_shards_rows_are_ordered_by_file_and_hold_the_usable_clips_alone(with_defects: Path, tmp_path: Path) -> None:
    extract(with_defects, ExtractParams(workers=2), tmp_path / "extract", tmp_path / "shards")
    for folder in (tmp_path / "shards").iterdir():
        rows = pd.read_parquet(folder / "rows.parquet")
        assert list(rows["file"]) == sorted(rows["file"])
        assert {len(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("face", "screen", "audio")} == {
            len(rows)
        }
        assert {path.name for path in folder.iterdir()} == {
            "face.npy", "screen.npy", "audio.npy", "rows.parquet", "rejected.json"
        }  # fmt: skip


KILLED = """
import sys
from pathlib import Path
from merlb_model.dataset.decode_clip import Decoded, Refused, RowJob, decode_into_row
from merlb_model.dataset.extract import extract
from merlb_model.params import ExtractParams
raw, work = Path(sys.argv[1]), Path(sys.argv[2])
extract(raw, ExtractParams(workers=2), work / "extract", work / "shards")
"""


def test_a_killed_extraction_keeps_the_shards_that_were_done_and_leaves_nothing_else(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the first shard is there; the next run decodes the others alone, to the same store."""
    shards = tmp_path / "shards"
    killed = subprocess.Popen([sys.executable, "-c", KILLED, str(raw), str(tmp_path)], env=PYTHONPATH)
    deadline = time.monotonic() + 120
    while not [path for path in shards.glob("*") if not path.name.startswith(".")]:
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.002)
    workers = psutil.Process(killed.pid).children(recursive=True)
    killed.kill()
    killed.wait()
    psutil.wait_procs(workers, timeout=60)
    done = {path.name for path in shards.iterdir() if not path.name.startswith(".")}
    asked: list[str] = []

    def watched(function: object, jobs: Iterator[RowJob], *limits: object) -> Iterator[object]:
        def noted() -> Iterator[RowJob]:
            for job in jobs:
                asked.append(Path(job.folder).name)
                yield job

        return guarded_map(function, noted(), *limits)  # type: ignore[arg-type]

    monkeypatch.setattr("merlb_model.dataset.extract.guarded_map", watched)
    assert make_store(raw, tmp_path).store_hash == make_store(raw, tmp_path / "undisturbed").store_hash
    again = asked[: len(asked) - len(list((raw / "clips").iterdir()))]
    assert not set(again) & done
    assert not list(tmp_path.rglob("*.partial"))


def test_an_unknown_shard_is_refused(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match="shard zz: not in"):
        extract(raw, PARAMS, tmp_path / "out", None, ["zz"])


def test_convert_without_decoded_shards_says_what_to_run(raw: Path, tmp_path: Path) -> None:
    extract(raw, PARAMS, tmp_path / "extract", tmp_path / "shards")
    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(MerlbError, match="run `merlb extract` again"):
        convert(raw, [tmp_path / "extract"], ConvertParams(), tmp_path / "store", tmp_path / "shards")
