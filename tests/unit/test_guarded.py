"""The workers' functions here are doubles of a decoder: real crashes and hangs, made to order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from merlb_model.errors import MerlbError
from merlb_model.guarded import Limits, Lost, guarded_map, guarded_pool

ROOT = Path(__file__).parents[2]
ROOMY = Limits(seconds=60, memory_bytes=1_000_000_000)


def act(job: str) -> str:
    """Do as ``job`` says; ``once:`` does it only the first time, by a file that marks it."""
    if job.startswith("once:"):
        _, mark, job = job.split(":")
        if Path(mark).exists():
            return f"second time {job}"
        Path(mark).touch()
    if job.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[job])
    if job == "hang":
        time.sleep(600)
    if job == "swell":
        return str(np.ones(200_000_000).sum())
    if job == "exit":
        os._exit(3)
    if job == "refuse":
        raise MerlbError("the disk is full")
    if job == "fault":
        raise ZeroDivisionError("a fault in the function")
    return f"did {job}"


def results(jobs: list[str], workers: int = 2, limits: Limits = ROOMY) -> dict[str, str | Lost]:
    return dict(guarded_map(act, jobs, workers, limits))


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def wait_until_gone(pids: set[int]) -> None:
    deadline = time.monotonic() + 60
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


def test_a_crash_by_signal_costs_that_job_alone() -> None:
    found = results(["a", "SIGSEGV", "b", "SIGKILL", "c", "exit", "d"])
    assert found == {
        **{job: f"did {job}" for job in "abcd"},
        "SIGSEGV": Lost("crash", "ended by SIGSEGV"),
        "SIGKILL": Lost("crash", "ended by SIGKILL"),
        "exit": Lost("crash", "ended with exit code 3"),
    }


def test_a_hang_costs_that_job_alone() -> None:
    found = results(["a", "hang", "b", "c"], limits=Limits(seconds=2, memory_bytes=ROOMY.memory_bytes))
    assert found == {"a": "did a", "b": "did b", "c": "did c", "hang": Lost("timeout", "took longer than 2 s")}


def test_a_job_that_swells_costs_that_job_alone() -> None:
    found = results(["a", "swell", "b"], workers=1)
    assert found == {"a": "did a", "b": "did b", "swell": Lost("out_of_memory", "needed more than 1000 MB")}


def test_a_crash_that_does_not_come_again_costs_nothing(tmp_path: Path) -> None:
    assert list(results([f"once:{tmp_path / 'mark'}:SIGKILL", "a"]).values()).count("second time SIGKILL") == 1


def test_a_pool_answers_in_order_call_after_call_and_has_nothing_for_a_lost_job() -> None:
    with guarded_pool(2, ROOMY) as mapped:
        assert mapped(act, ["a", "SIGSEGV", "b"]) == ["did a", None, "did b"]
        assert mapped(max, [1, 2, 3], [3, 2, 1]) == [3, 2, 3]
        assert mapped(act, []) == []


def test_what_the_function_raises_is_raised_here_with_its_trace() -> None:
    with pytest.raises(MerlbError, match="the disk is full"):
        results(["refuse"])
    with pytest.raises(ZeroDivisionError, match="a fault in the function") as raised:
        results(["fault"])
    assert "in act" in "".join(raised.value.__notes__)


def test_jobs_are_taken_as_workers_become_free() -> None:
    taken = []

    def jobs() -> Iterator[str]:
        for index in range(100):
            taken.append(index)
            yield str(index)

    running = guarded_map(act, jobs(), 2, ROOMY)
    next(running)
    assert len(taken) <= 5
    running.close()


def test_no_job_is_no_result() -> None:
    assert results([]) == {}


def test_a_worker_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("merlb_model.guarded._BOOT", "raise SystemExit(4)")
    with pytest.raises(MerlbError, match=r"does not start \(ended with exit code 4\)"):
        results(["a"])


PARENT = """
import sys
from merlb_model.guarded import guarded_map
from tests.unit.test_guarded import ROOMY, act
running = guarded_map(act, ["a", "hang", "hang"], 2, ROOMY)
next(running)
print("one done", flush=True)
next(running)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_die_with_their_parent_however_it_ends(how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": f"/tmp/{'a-long-path/' * 20}"}
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None and parent.stdout.readline() == "one done\n"
    workers = {child.pid for child in psutil.Process(parent.pid).children(recursive=True)}
    assert len(workers) == 2
    parent.send_signal(how)
    parent.wait(timeout=60)
    parent.stdout.close()
    wait_until_gone(workers)
