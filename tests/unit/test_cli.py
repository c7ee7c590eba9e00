import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = ["ingest", "extract", "convert", "split", "validate", "oversample", "train", "evaluate", "export"]
COMMANDS = [
    *STAGES,
    *("promote", "predict", "compress", "explain", "live", "serve", "capture", "label"),
    *("run", "results", "report", "cross-validate", "compare", "describe", "study", "prune", "doctor"),
]


def merlb(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "merlb_model.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd or ROOT, env=environment, check=False)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom merlb_model.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'av', 'cv2', 'pandas', 'kfp', 'dvc', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
    assert "..." not in done.stdout.split("Commands:")[1]  # no command's line is cut off


def test_extract_starts_without_what_other_stages_need() -> None:
    """Each decoding worker pays for what this imports."""
    code = (
        "import sys, merlb_model.dataset.extract\n"
        "others = {'tensorflow', 'librosa', 'sklearn', 'dvc', 's3fs', 'aiobotocore', 'mlflow', 'pandera', 'fastapi'}\n"
        "assert not others & set(sys.modules), others & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    from typer.testing import CliRunner

    from merlb_model.cli import app

    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0 and "Usage" in done.output


def test_an_error_is_one_line_and_exit_code_one(tmp_path: Path) -> None:
    done = merlb("-w", str(tmp_path), "extract")
    assert done.returncode == 1
    assert done.stderr.startswith("merlb: ") and done.stderr.count("\n") == 1
    assert "params.yaml is missing" in done.stderr


def test_debug_shows_the_trace(tmp_path: Path) -> None:
    assert "Traceback" in merlb("--debug", "-w", str(tmp_path), "extract").stderr


def test_a_stage_out_of_order_says_what_to_run_first(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    assert "run `merlb ingest` first" in merlb("-w", str(tmp_path), "extract").stderr
    assert "run `merlb convert` first" in merlb("-w", str(tmp_path), "split").stderr


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "9,0,3,4"])
def test_a_wrong_box_is_named(tmp_path: Path, box: str) -> None:
    done = merlb("-w", str(tmp_path), "live", "x.mp4", "--box", box)
    assert done.returncode == 1 and f"--box {box}: expected" in done.stderr


def test_the_stages_of_dvc_are_commands_in_order() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert list(stages) == STAGES
    assert all(stage["cmd"] == f"merlb {name}" for name, stage in stages.items())


def test_the_doctor_finds_a_whole_machine_whole(tmp_path: Path) -> None:
    done = merlb("doctor")
    assert done.returncode == 0, done.stdout
    assert "MISSING" not in done.stdout and "tensorflow" in done.stdout
