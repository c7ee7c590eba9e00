"""What is missing on this machine, and how to mend it."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

_PYTHONS: Final = ((3, 11), (3, 12))
_DISK_GB: Final = 6
_MEMORY_GB: Final = 4
_PACKAGES: Final = {
    "tensorflow": "training and serving",
    "keras": "training",
    "av": "reading and writing clips",
    "cv2": "frames and faces",
    "librosa": "spectrograms",
    "mlflow": "tracking",
    "dvc": "`make run`",
    "kfp": "the Kubeflow pipeline",
    "fastapi": "`merlb serve`",
}
_COMMANDS: Final = {"git": "`make run` (DVC works in a git checkout)", "make": "the README's commands"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    good: bool
    blocks: bool
    text: str

    @property
    def line(self) -> str:
        """The finding as a line for people."""
        mark = "ok     " if self.good else ("MISSING" if self.blocks else "note   ")
        return f"{mark}  {self.text}"


def examine(root: Path) -> list[Finding]:
    """Look at Python, packages, commands, disk, memory, cores and GPUs."""
    return [*_python(), *_packages(), *_commands(), *_room(root), *_accelerators()]


def _finding(good: bool, text: str, mend: str = "", blocks: bool = True) -> Finding:
    return Finding(good, blocks and not good, text if good else f"{text}: {mend}")


def _python() -> Iterator[Finding]:
    version = sys.version_info[:2]
    yield _finding(version in _PYTHONS, f"Python {version[0]}.{version[1]}", "install Python 3.11 or 3.12 with venv")


def _packages() -> Iterator[Finding]:
    for module, purpose in _PACKAGES.items():
        found = importlib.util.find_spec(module) is not None
        version = _version(module) if found else ""
        yield _finding(
            found,
            f"{module} {version}".strip(),
            f"needed for {purpose}: run `make run` once, or pip install merlb[core,tensorflow]",
        )


def _version(module: str) -> str:
    for distribution in metadata.packages_distributions().get(module, []):
        return metadata.version(distribution)
    return ""


def _commands() -> Iterator[Finding]:
    for command, purpose in _COMMANDS.items():
        found = shutil.which(command) is not None
        yield _finding(found, command, f"needed for {purpose}: apt-get install {command}")
    found = shutil.which("docker") is not None
    yield _finding(found, "docker", "only needed to build the images", blocks=False)


def _room(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free / 1e9
    yield _finding(free >= _DISK_GB, f"{free:.0f} GB of disk free", f"a run on the sample corpus takes {_DISK_GB} GB")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield _finding(memory >= _MEMORY_GB, f"{memory:.0f} GB of memory", f"training takes {_MEMORY_GB} GB", blocks=False)
    yield _finding(True, f"{os.cpu_count()} cores")


def _accelerators() -> Iterator[Finding]:
    found = any(Path("/dev").glob("nvidia[0-9]*"))
    yield _finding(found, "GPU", "none found; training runs on the CPU", blocks=False)
