"""The whole pipeline on this machine: `dvc repro`, and what a person does next."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from merlb_model import tracking
from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.params import ExportParams

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
    before = _lock(root)
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro"], cwd=root)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached the whole group; dvc ends its stage first
        raise
    if code:
        raise MerlbError("the pipeline stopped at the stage named above; mend what it says, then run again")
    return _lock(root) != before


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
