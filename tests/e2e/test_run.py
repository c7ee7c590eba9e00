"""`merlb run` in a checkout of its own: undisturbed, killed and run again, and with nothing to do."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from merlb_model import schemas
from merlb_model.files import read_json
from merlb_model.params import load_params
from tests.checkouts import environment, git, make_checkout, run
from tests.direct_store import make_direct_store

TINY = {"streamers": 6, "clips_per_streamer": 2, "width": 320, "height": 180, "fps": 10}
COMMAND = [sys.executable, "-m", "merlb_model.cli", "run"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the working tree, with a corpus of 12 small clips and one epoch."""
    return make_checkout(tmp_path_factory.mktemp("checkout"), {"corpus": TINY, "train": {"epochs": 1}})


def _kill_when(seen: Callable[[], bool], checkout: Path) -> None:
    """Start a run and kill it, with all that it started, once ``seen`` says so."""
    process = subprocess.Popen(
        COMMAND, cwd=checkout, env=environment(), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not seen() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    ended_by_itself = process.poll() is not None
    if not ended_by_itself:
        os.killpg(process.pid, signal.SIGKILL)
    said, _ = process.communicate()
    assert not ended_by_itself, f"the run ended before it could be killed:\n{said[-3000:]}"


def _runs(checkout: Path) -> list[str]:
    with sqlite3.connect(checkout / ".merlb/mlflow/mlflow.db") as connection:
        return sorted(status for (status,) in connection.execute("select status from runs"))


def _has_running_run(checkout: Path) -> bool:
    try:
        return _runs(checkout) == ["RUNNING"]
    except sqlite3.OperationalError:  # no database yet, or no table in it
        return False


def test_a_run_killed_in_convert_and_in_train_comes_to_what_an_undisturbed_one_does(
    checkout: Path, tmp_path: Path
) -> None:
    _kill_when(lambda: any((checkout / "data").glob(".store.*.partial")), checkout)
    assert not (checkout / "data/store").exists()
    _kill_when(lambda: _has_running_run(checkout), checkout)
    assert not (checkout / "models/run.json").exists()

    said = run(checkout, *COMMAND)

    assert "macro-F1" in said and "synthetic" in said and "What next" in said
    metrics = read_json(checkout / "reports/metrics.json", "test")
    schemas.check("metrics", metrics, where="metrics.json", made_by="test")
    undisturbed = make_direct_store(load_params(checkout / "params.yaml"), tmp_path)
    assert metrics["store_hash"] == read_json(undisturbed / "meta.json", "test")["store_hash"]
    assert _runs(checkout) == ["FINISHED", "KILLED"]
    left = [path for folder in ("data", "models", "reports") for path in (checkout / folder).glob(".*.partial")]
    assert left == []


def test_run_again_nothing_changes_and_git_sees_the_lock_alone(checkout: Path) -> None:
    run(checkout, *COMMAND)
    before = read_json(checkout / "models/run.json", "test"), _runs(checkout)
    assert "Nothing changed" in run(checkout, *COMMAND)
    assert (read_json(checkout / "models/run.json", "test"), _runs(checkout)) == before
    assert git(checkout, "status", "--porcelain").split() == ["??", "dvc.lock"]


def test_from_dvcs_cache_the_run_is_made_once_more_and_once_only(checkout: Path) -> None:
    run(checkout, *COMMAND)
    for folder in ("data/raw", "data/store", "models", "reports", ".merlb"):
        shutil.rmtree(checkout / folder)
    run(checkout, *COMMAND)
    run(checkout, *COMMAND)
    assert _runs(checkout) == ["FINISHED"]
