"""`merlb study --smoke`: stopped, gone on with, and with nothing left to do."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from merlb_model.study.protocol import SMOKE, configurations, encoder_jobs, fusion_jobs

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "merlb_model.cli", "study", "--smoke", "--workers", "2"]


def start(here: Path) -> "subprocess.Popen[str]":
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.Popen(
        COMMAND, cwd=here, env={**kept, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> str:
    said, complained = process.communicate(timeout=1800)
    assert process.returncode == 0, complained[-3000:]
    return said


def trained(here: Path) -> dict[str, int]:
    """When each training that is kept was written."""
    study = here / ".merlb/study" / f"{SMOKE.name}-{SMOKE.key}"
    kept = [*study.glob("features/true-*"), *study.glob("features/permuted-*"), *study.glob("runs/*.npz")]
    return {path.name: path.stat().st_mtime_ns for path in kept}


@pytest.mark.slow
@pytest.mark.timeout(2400)  # it trains each fusion twice over, on machines that may be slow
def test_a_study_that_was_stopped_goes_on_to_its_page_and_its_runs(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copyfile(ROOT / "docs/paper_f1.csv", tmp_path / "docs/paper_f1.csv")
    stopped = start(tmp_path)
    deadline = time.monotonic() + 600
    while not trained(tmp_path) and stopped.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    children = psutil.Process(stopped.pid).children(recursive=True)
    stopped.send_signal(signal.SIGINT)
    _, complained = stopped.communicate(timeout=120)
    assert stopped.returncode != 0 and "Traceback" not in complained
    assert children and not psutil.wait_procs(children, timeout=30)[1]
    before = trained(tmp_path)
    assert before

    said = finish(start(tmp_path))

    done = trained(tmp_path)
    assert before.items() <= done.items()
    assert len(done) == len(encoder_jobs(SMOKE)) + len(list(fusion_jobs(SMOKE)))
    page = (tmp_path / "build/study-smoke/results.md").read_text(encoding="utf-8")
    for claim in ("H1", "H2", "H3", "H4", "H5", "H6"):
        assert f"**{claim}**" in page and f"\n{claim} " in f"\n{said}"
    assert "corpus is synthetic" in page and "Not comparable" in page
    assert sorted(path.suffix for path in (tmp_path / "build/study-smoke/figures").iterdir()) == [".png", ".png"]
    tag = f"{SMOKE.name}-{SMOKE.key}"
    with sqlite3.connect(tmp_path / ".merlb/mlflow/mlflow.db") as connection:
        tagged = connection.execute("select count(*) from tags where key = 'study' and value = ?", (tag,)).fetchone()
        registered = connection.execute("select count(*) from model_versions").fetchone()
    assert tagged == (len(configurations(SMOKE)) + 1,) and registered == (0,)

    assert finish(start(tmp_path)) == said
    assert trained(tmp_path) == done
    assert (tmp_path / "build/study-smoke/results.md").read_text(encoding="utf-8") == page
