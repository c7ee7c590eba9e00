import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from merlb_model.errors import MerlbError
from merlb_model.workflow import _forget_dead_holders, reproduce


def _rwlock(folder: Path, *processes: int) -> Path:
    """What DVC writes of who uses what."""
    path = folder / "rwlock"
    read = [{"pid": process, "cmd": "dvc repro"} for process in processes]
    path.write_text(json.dumps({"/somewhere/data/raw": {"write": read[0], "read": read[1:]}}, indent=2))
    return path


def test_a_killed_process_that_nobody_waited_for_holds_no_lock(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # it has ended, its id is still there
    lock = _rwlock(tmp_path, dead.pid)
    _forget_dead_holders(lock)
    assert not lock.exists()
    dead.wait()


def test_the_lock_of_a_running_process_stays(tmp_path: Path) -> None:
    lock = _rwlock(tmp_path, 2**22 + 1, os.getpid())  # the first id is beyond what Linux gives out
    _forget_dead_holders(lock)
    assert lock.exists()


def test_without_a_lock_there_is_nothing_to_forget(tmp_path: Path) -> None:
    _forget_dead_holders(tmp_path / "rwlock")


def test_outside_the_project_one_line_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match=r"no dvc\.yaml here; run this in the project's folder"):
        reproduce(tmp_path)
