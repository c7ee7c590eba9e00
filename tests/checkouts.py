"""Checkouts of the project for tests that run it as a person does: git, dvc and merlb as commands."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[1]


def git(checkout: Path, *words: str) -> str:
    name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(
        ["git", "-C", str(checkout), *name, *words], capture_output=True, text=True, check=True
    ).stdout


def make_checkout(folder: Path, sections: Mapping[str, Mapping[str, Any]]) -> Path:
    """A repository in ``folder`` with the working tree's files, ``sections`` put into its ``params.yaml``."""
    for file in git(ROOT, "ls-files", "-z").split("\0"):
        if file and (ROOT / file).is_file() and file != "dvc.lock":
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / file)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, values in sections.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "start")
    return folder


def environment() -> dict[str, str]:
    """What the commands run in: this Python's programs first, no MLflow server of someone else's."""
    kept = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def run(checkout: Path, *command: str) -> str:
    """Run a command in ``checkout`` and return what it said on both streams; it must end well."""
    done = subprocess.run(
        command, cwd=checkout, env=environment(), text=True, timeout=500,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}"
    return done.stdout
