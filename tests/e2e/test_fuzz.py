"""Hundreds of damaged clips among good ones, through `merlb ingest`, `extract` and `convert`.

No traceback, no hang, no good clip lost; every mutant is in the store or named in ``quarantine.csv`` with a reason.
"""

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import yaml

from merlb_model.corpus.annotations import Reason, write_rows
from merlb_model.dataset.store import open_store
from merlb_model.files import write_json
from tests.media_clips import write_media
from tests.unit.corpus.test_annotations import row

ROOT = Path(__file__).parents[2]
MUTANTS_EACH = 16
NAMES = (
    "a name with spaces_ann_x.mp4", "quote\"s and 'those_ann_x.mp4", "new\nline_ann_x.mp4", "dots..and.._ann_x.mp4",
    "-rf_ann_x.mp4", "sémantique_日本_x.mp4", "semi;colon,comma_ann_x.mp4", "$(reboot)_ann_x.mp4",
    "per%20cent_ann_x.mp4", "concat:a|b_ann_x.mp4", "pattern%03d*?[a]_ann_x.mp4", "#hash::chain_ann_x.mp4",
)  # fmt: skip
"""Names of good clips that a shell, a URL or libav might take for something else."""

Mutate = Callable[[bytes, bytes, random.Random], bytes]


def flip_bits(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(clip)
    for _ in range(chance.choice([1, 10, 300])):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def truncate(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    return clip[: chance.randrange(len(clip))]


def cut_the_start(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    return clip[chance.randrange(len(clip)) :]


def splice_the_header(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(8, 2000)
    return other[:at] + clip[at:]


def zero_a_block(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    first, count = chance.randrange(len(clip)), chance.randrange(1, 4000)
    return clip[:first] + bytes(min(count, len(clip) - first)) + clip[first + count :]


def repeat_a_block(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    first, count = chance.randrange(len(clip)), chance.randrange(1, 4000)
    return clip[: first + count] * chance.randrange(1, 4) + clip[first:]


def swap_atoms(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    atoms = list(top_atoms(clip))
    chance.shuffle(atoms)
    return b"".join(atoms)


def top_atoms(clip: bytes) -> Iterator[bytes]:
    """The boxes of an mp4; what is none, as in other containers, is cut in pieces."""
    at = 0
    while at < len(clip):
        size = struct.unpack(">I", clip[at : at + 4].rjust(4, b"\0"))[0]
        size = size if 8 <= size <= len(clip) - at else 4096
        yield clip[at : at + size]
        at += size


def lie_in_a_field(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    """Greatest, least or random numbers where the index of an mp4 keeps sizes, counts, times, widths and heights."""
    names = [b"tkhd", b"mvhd", b"mdhd", b"stsz", b"stts", b"ctts", b"stco", b"stsc", b"avc1", b"avcC", b"mp4a", b"elst"]
    damaged = bytearray(clip)
    for name in chance.sample(names, 3):
        at = clip.find(name)
        if at >= 0:
            field = at + chance.randrange(4, 60, 4)
            value = chance.choice([0xFFFFFFFF, 0x7FFFFFFF, 0, 0x7FFF7FFF, chance.randrange(1 << 32)])
            damaged[field : field + 4] = struct.pack(">I", value)
    return bytes(damaged)


def huge_dimensions(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(clip)
    at = clip.find(b"avc1", clip.find(b"stsd"))
    if at >= 0:
        damaged[at + 28 : at + 32] = struct.pack(
            ">HH", chance.choice([65535, 32768, 20000]), chance.randrange(1, 65536)
        )
    return bytes(damaged)


def random_bytes(clip: bytes, other: bytes, chance: random.Random) -> bytes:
    start = clip[: chance.choice([0, 0, 16, 64])]
    return start + chance.randbytes(chance.randrange(20_000))


MUTATIONS: tuple[Mutate, ...] = (
    flip_bits, truncate, cut_the_start, splice_the_header, zero_a_block, repeat_a_block, swap_atoms, lie_in_a_field,
    huge_dimensions, random_bytes,
)  # fmt: skip


def write_seeds(folder: Path) -> list[Path]:
    """Real clips in several containers, with the index first and last, with sound and without."""
    folder.mkdir()
    small = {"fps": 10, "size": (96, 64)}
    return [
        write_media(folder / "last.mp4", **small),  # type: ignore[arg-type]
        write_media(folder / "first.mp4", index_first=True, **small),  # type: ignore[arg-type]
        write_media(folder / "stream.ts", **small),  # type: ignore[arg-type]
        write_media(folder / "matroska.mkv", audio=False, **small),  # type: ignore[arg-type]
    ]


def write_corpus(folder: Path, mutants: bool) -> tuple[set[str], set[str]]:
    """Good clips, and mutants if wanted; returns the names of each."""
    chance = random.Random(4)
    seeds = [path.read_bytes() for path in write_seeds(folder.parent / f"{folder.name}-seeds")]
    folder.mkdir()
    good = set(NAMES)
    for name in NAMES:
        (folder / name).write_bytes(seeds[0])
    bad = set()
    for kind, clip in enumerate(seeds if mutants else []):
        for mutate in MUTATIONS:
            for number in range(MUTANTS_EACH):
                name = f"{kind}-{mutate.__name__.replace('_', '-')}-{number}_bob_x.mp4"
                (folder / name).write_bytes(mutate(clip, seeds[(kind + 1) % len(seeds)], chance))
                bad.add(name)
    write_rows(folder / "annotations.csv", [row(name) for name in sorted(good | bad)])
    write_json(folder / "webcam_boxes.json", {"ann": [0, 0, 48, 32], "bob": [0, 0, 48, 32]})
    return good, bad


def run_stages(project: Path, source: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["corpus"] |= {"source": "folder", "path": str(source)}
    params["extract"] |= {"workers": 2, "timeout_seconds": 60}
    project.mkdir()
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for stage in ("ingest", "extract", "convert"):
        done = subprocess.run(
            [sys.executable, "-m", "merlb_model.cli", stage],
            cwd=project, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=550,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "Traceback" not in done.stderr, done.stderr[-3000:]


@pytest.mark.slow
def test_no_mutant_ends_a_run_hangs_or_costs_a_good_clip_and_each_is_accounted_for(tmp_path: Path) -> None:
    good, bad = write_corpus(tmp_path / "source", mutants=True)
    assert len(bad) >= 500
    run_stages(tmp_path / "project", tmp_path / "source")

    store = open_store(tmp_path / "project" / "data" / "store")
    used = set(store.clips["file"])
    quarantine = pd.read_csv(tmp_path / "project" / "data" / "extract" / "quarantine.csv", keep_default_na=False)
    named = set(quarantine["file"])
    assert len(named) == len(quarantine)
    assert used | named == good | bad and not used & named
    assert good <= used
    assert set(quarantine["reason"]) <= set(get_args(Reason))
    assert (quarantine["detail"] != "").all()
    print(f"{len(bad)} mutants: {len(used & bad)} used, quarantined {quarantine['reason'].value_counts().to_dict()}")

    write_corpus(tmp_path / "clean", mutants=False)
    run_stages(tmp_path / "clean-project", tmp_path / "clean")
    clean = open_store(tmp_path / "clean-project" / "data" / "store")
    rows = [list(store.clips["file"]).index(file) for file in clean.clips["file"]]
    for name, array in clean.arrays.items():
        assert np.array_equal(array, store.arrays[name][rows])
    assert not list((tmp_path / "project").rglob("*.partial"))
