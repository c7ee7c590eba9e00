"""A corpus of 2,000 clips through ``ingest`` to ``validate``: memory, throughput, kills, and small changes to it.

``make test-hours`` prints the figures. On 60 clips first, since what is broken shows there in minutes.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from merlb_model.corpus.annotations import read_rows, write_rows
from merlb_model.files import copy_file, read_json, replacing, write_json
from merlb_model.labels import TASKS, annotation_columns
from merlb_model.media.encode import write_clip
from merlb_model.processes import worker_pool
from tests.checkouts import environment, make_checkout, run

pytestmark = pytest.mark.timeout(6 * 3600)
MINE = Path("data/sources/mine")
REPRODUCE = ("dvc", "repro", "validate")
STREAMERS = 40
SIZE, FPS, RATE = (320, 180), 10, 44_100
MOST_BYTES = 1.5e9


def render_clip(path: str, number: int) -> None:
    """A clip unlike any other: coarse coloured squares that wander, and three tones in noise. 5 s, H.264 and AAC."""
    rng = np.random.default_rng([7, number])
    squares = (
        rng.integers(0, 256, (9, 16, 3), dtype=np.uint8).repeat(SIZE[1] // 9, axis=0).repeat(SIZE[0] // 16, axis=1)
    )
    frames = (np.roll(squares, (index * 2, index * 5), axis=(0, 1)) for index in range(5 * FPS))
    times = np.arange(5 * RATE) / RATE
    sound = 2000 * np.sin(2 * np.pi * rng.uniform(100, 4000, 3)[:, None] * times).sum(axis=0)
    write_clip(Path(path), frames, FPS, (sound + rng.normal(0, 500, len(times))).astype(np.int16), RATE)


def label_row(name: str, number: int) -> dict[str, str]:
    rng = np.random.default_rng([8, number])
    chosen = {
        column: "1" if label == rng_label else "0"
        for task, labels in TASKS.items()
        for rng_label in [labels[rng.integers(len(labels))]]
        for column, label in annotation_columns(task).items()
    }
    return {"File": name, **chosen}


def name_of(number: int) -> str:
    return f"{number:05}_s{number % STREAMERS:02}_x.mp4"


@dataclass
class Watched:
    """A command that ran: what it said and when, and the most memory that any of its processes held."""

    seconds: float = 0.0
    code: int = 0
    lines: list[tuple[float, str]] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)
    """Highest resident bytes (the kernel's own mark) by the process's command."""

    @property
    def said(self) -> str:
        return "".join(line for _, line in self.lines)

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    @property
    def decoded(self) -> int:
        """How many shards were decoded; 0 too where the stage did not run."""
        counts = re.search(r"(\d+) shard\(s\) decoded", self.said)
        return int(counts[1]) if counts else 0

    @property
    def stages(self) -> dict[str, float]:
        """Seconds from the start of each stage to the start of the next."""
        starts = [(at, found[1]) for at, line in self.lines if (found := re.match(r"Running stage '(\w+)'", line))]
        ends = [*(at for at, _ in starts[1:]), self.seconds]
        return {stage: end - at for (at, stage), end in zip(starts, ends, strict=True)}


def _mark_peaks(process: psutil.Process, peaks: dict[str, int]) -> None:
    for one in [process, *process.children(recursive=True)]:
        try:
            words = [word for word in one.cmdline() if not word.startswith("-")]
            name = " ".join(Path(word).name for word in words[:3])[:60]
            status = Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8")
        except (psutil.Error, OSError):
            continue
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            peaks[name] = max(peaks.get(name, 0), int(found[1]) * 1024)


def watch(checkout: Path, *command: str, kill_after: float | None = None) -> Watched:
    """Run a command and watch its processes' memory; ``kill_after`` that many seconds, kill all of them with -9."""
    seen = Watched()
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=checkout, env=environment(), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout
    reader = threading.Thread(
        target=lambda: seen.lines.extend((time.monotonic() - started, line) for line in output), daemon=True
    )
    reader.start()
    while process.poll() is None:
        _mark_peaks(psutil.Process(process.pid), seen.peaks)
        if kill_after is not None and time.monotonic() - started >= kill_after:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        time.sleep(0.05)
    seen.seconds, seen.code = time.monotonic() - started, process.returncode
    reader.join(60)
    output.close()
    return seen


@dataclass(frozen=True)
class Scale:
    """How much: clips in all, a tenth of them to compare with, kills; and where the rendered clips lie."""

    clips: int
    kills: int
    rendered: Path

    def checkout(self, folder: Path, clips: int) -> Path:
        """A checkout that has the first ``clips`` clips in ``data/sources/mine``."""
        corpus = {"source": "folder", "path": str(MINE)}
        checkout = make_checkout(folder, {"corpus": corpus, "split": {"validation": 0.2, "test": 0.2}})
        source = checkout / MINE
        for number in range(clips):
            copy_file(self.rendered / name_of(number), source / name_of(number))
        write_rows(source / "annotations.csv", [label_row(name_of(number), number) for number in range(clips)])
        write_json(source / "webcam_boxes.json", {f"s{n:02}": [0, 0, 80, 60] for n in range(STREAMERS)})
        run(checkout, "dvc", "add", "--quiet", str(MINE))
        return checkout


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((60, 2), marks=pytest.mark.hours, id="60"),
        pytest.param((2000, 10), marks=pytest.mark.hours, id="2000"),
    ],
)
def scale(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scale]:
    clips, kills = request.param
    folder = tmp_path_factory.mktemp("rendered")
    numbers = range(clips + 1)  # one more, to be added
    with worker_pool(os.cpu_count() or 1) as pool:
        list(pool.map(render_clip, [str(folder / name_of(number)) for number in numbers], numbers))
    yield Scale(clips, kills, folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def undisturbed(scale: Scale, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Watched, str]]:
    """A checkout with all clips gone through to ``validate``, how that went, and the store's hash."""
    checkout = scale.checkout(tmp_path_factory.mktemp("undisturbed") / "checkout", scale.clips)
    seen = watch(checkout, *REPRODUCE)
    assert seen.code == 0, seen.said[-3000:]
    yield checkout, seen, store_hash(checkout)
    shutil.rmtree(checkout)


def store_hash(checkout: Path) -> str:
    meta = read_json(checkout / "data/store/meta.json", "test")
    return f"{meta['clips']} {meta['store_hash']}"


def show(label: str, seen: Watched) -> None:
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in seen.stages.items())
    print(f"\n{label}: {seen.seconds:.1f} s ({stages}); {seen.decoded} shard(s) decoded")
    for name, peak in sorted(seen.peaks.items(), key=lambda item: -item[1])[:4]:
        print(f"  {peak / 1e6:6.0f} MB  {name}")


def test_memory_is_bounded_and_ten_times_the_clips_take_ten_times_as_long(
    scale: Scale, undisturbed: tuple[Path, Watched, str], tmp_path: Path
) -> None:
    few = scale.checkout(tmp_path / "few", scale.clips // 10)
    small, large = watch(few, *REPRODUCE), undisturbed[1]
    shutil.rmtree(few)
    assert small.code == 0, small.said[-3000:]
    show(f"{scale.clips // 10} clips", small)
    show(f"{scale.clips} clips", large)
    throughput = [scale.clips // 10 / small.seconds, scale.clips / large.seconds]
    print(f"  {throughput[0]:.2f} and {throughput[1]:.2f} clips/s: ratio {throughput[1] / throughput[0]:.2f}")
    assert large.peak <= MOST_BYTES
    assert throughput[1] >= 0.9 * throughput[0]


def test_killed_at_random_moments_and_going_on_the_store_is_the_undisturbed_runs(
    scale: Scale, undisturbed: tuple[Path, Watched, str], tmp_path: Path
) -> None:
    _, whole, wanted = undisturbed
    checkout = scale.checkout(tmp_path / "killed", scale.clips)
    moments = random.Random(7)
    killed_in: list[str] = []
    finished = 0
    while len(killed_in) < scale.kills or not finished:
        more = len(killed_in) < scale.kills
        seen = watch(checkout, *REPRODUCE, kill_after=moments.uniform(0, whole.seconds) if more else None)
        if seen.code == -signal.SIGKILL:
            killed_in.append(next(reversed(seen.stages), "dvc"))
            continue
        assert seen.code == 0, seen.said[-3000:]
        assert store_hash(checkout) == wanted
        finished += 1
        if len(killed_in) < scale.kills:
            forget(checkout)
    print(f"\nkilled in {', '.join(killed_in)}; gone on {finished} time(s) to {wanted}")
    assert left_by_killed_runs(checkout) == []
    shutil.rmtree(checkout)


def forget(checkout: Path) -> None:
    """All that stages made is gone: the next run starts from the clips."""
    for folder in (".merlb", "reports", "data/raw", "data/extract", "data/store"):
        shutil.rmtree(checkout / folder, ignore_errors=True)
    (checkout / "data/splits.parquet").unlink(missing_ok=True)
    (checkout / "dvc.lock").unlink(missing_ok=True)
    for run_cache in (checkout / ".dvc/cache/runs").glob("*"):
        shutil.rmtree(run_cache)


def left_by_killed_runs(checkout: Path) -> list[Path]:
    places = ("data", "reports", ".merlb", ".merlb/shards")
    return [partial for place in places for partial in (checkout / place).glob(".*.partial")]


def test_one_more_clip_decodes_one_shard_and_a_changed_label_none(
    scale: Scale, undisturbed: tuple[Path, Watched, str]
) -> None:
    checkout = undisturbed[0]
    table = checkout / MINE / "annotations.csv"
    rows = read_rows(table)
    added = name_of(scale.clips)
    copy_file(scale.rendered / added, checkout / MINE / added)
    with replacing(table) as fresh:
        write_rows(fresh, [*rows, label_row(added, scale.clips)])
    one_more = watch(checkout, *REPRODUCE)
    assert one_more.code == 0, one_more.said[-3000:]
    show(f"one clip added to {scale.clips}", one_more)

    rows = read_rows(table)
    events = list(annotation_columns("event"))
    other = next(column for column in events if rows[0][column] == "0")
    rows[0] |= {column: "1" if column == other else "0" for column in events}
    with replacing(table) as fresh:
        write_rows(fresh, rows)
    relabelled = watch(checkout, *REPRODUCE)
    assert relabelled.code == 0, relabelled.said[-3000:]
    show(f"one label of {scale.clips + 1} changed", relabelled)

    assert (one_more.decoded, relabelled.decoded) == (1, 0)
    assert read_rows(table) == rows
