"""The whole pipeline on this machine: `dvc repro`, and what a person does next."""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from merlb_model import tracking
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, remove_partials
from merlb_model.params import ExportParams
from merlb_model.processes import is_running

NEXT_STEPS: Final = """
What next
  make mlflow                        the run's curves, figures and model, in the browser
  merlb promote && make serve        serve this model on port 8080
  merlb live data/raw/clips/<clip>   score a recording or a stream, a line a second
  params.yaml                        change a value, then `make run` again: only what depends on it runs
"""


def reproduce(root: Path) -> bool:
    """Run `dvc repro` in ``root`` with its output shown; return whether anything differs from the last run.

    Raises:
        MerlbError: ``root`` is no checkout of the project, or a stage failed.
        KeyboardInterrupt: Ctrl-C; the stage under way has ended by then.
    """
    if not (root / "dvc.yaml").is_file():
        raise MerlbError(f"{root.resolve()}: no dvc.yaml here; run this in the project's folder")
    _forget_dead_holders(root / ".dvc/tmp/rwlock")
    before, started = _lock(root), time.time()
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=root)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached the whole group; dvc ends its stage first
        raise
    if code:
        raise MerlbError("the pipeline stopped at the stage named above; mend what it says, then run again")
    for folder in ("data", "models", "reports"):  # DVC's lock kept everyone else out
        remove_partials(root / folder, started)
    return _lock(root) != before


def _forget_dead_holders(rwlock: Path) -> None:
    """Remove DVC's list of who uses what where all whom it names are dead.

    DVC passes over processes that are gone, but not over those that were killed and that nobody has waited for: their
    ids exist for as long. It asks people to remove the file then.
    """
    try:
        holders = {int(process) for process in re.findall(r'"pid": *(\d+)', rwlock.read_text(encoding="utf-8"))}
    except FileNotFoundError:
        return
    if not any(map(is_running, holders)):
        rwlock.unlink(missing_ok=True)


def recreate_if_unknown(uri: str, models: Path, reports: Path, exported: Path, params: ExportParams) -> None:
    """Give MLflow the run of ``run.json`` where it has none: outputs that came from a cache were never logged here.

    Raises:
        MerlbError: MLflow does not answer, or an output is missing.
    """
    run = read_json(models / "run.json", "make run")
    if tracking.is_known(uri, run):
        return
    from merlb_model.evaluation.evaluate import log_reports
    from merlb_model.serving.export import log_export
    from merlb_model.training.train import log_history

    with tracking.resume(uri, run) as log:
        log_history(models / "history.csv", log)
        log_reports(reports, log)
        log_export(exported, params, log)


def _lock(root: Path) -> bytes:
    path = root / "dvc.lock"
    return path.read_bytes() if path.exists() else b""
