"""Who may import whom; what may stand in the repository."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = [
    {"cli", "components", "pipelines", "workflow", "doctor", "results", "study"},
    {"training", "serving"},
    {"evaluation"},
    {"nn", "dataset"},
    {"corpus"},
    {"media"},
    {"tracking", "labels", "params", "errors", "files", "guarded", "processes", "progress", "schemas"},
]
TENSORFLOW_PLACES = ("nn/", "training/", "dataset/loader.py", "evaluation/", "serving/")
TENSORFLOW = {"tensorflow", "keras"}


def sources() -> list[Path]:
    folders = ("merlb_model", "components", "pipelines")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere in it, by full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    name = parts[1] if parts[0] == "merlb_model" and len(parts) > 1 else parts[0]
    return next((index for index, names in enumerate(LAYERS) if name in names), None)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    own = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        assert path == ROOT / "merlb_model" / "__init__.py", f"{path}: no layer in LAYERS; give it one"
        return
    for module in imports(path):
        reached = layer_of(module) if module.startswith(("merlb_model.", "components", "pipelines")) else None
        assert reached is None or reached >= own, f"{path} imports {module}, which lies above it"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_libraries_stay_in_their_places(path: Path) -> None:
    place = str(path.relative_to(ROOT)).removeprefix("merlb_model/")
    roots = {module.split(".")[0] for module in imports(path)}
    if not place.startswith(TENSORFLOW_PLACES) or place == "serving/client.py":
        assert not roots & TENSORFLOW
    assert "mlflow" not in roots or place == "tracking.py"
    assert not roots & {"av"} or place.startswith("media/")
    if place.split("/")[0] in {"media", "corpus", "dataset", "nn", "training", "evaluation", "serving"}:
        assert not roots & {"dvc", "kfp", "tfx"}


def tracked_text() -> list[tuple[str, str]]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = []
    for name in filter(None, names.split("\0")):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 1_000_000:
            try:
                texts.append((name, path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
    return texts


def test_no_registry_host_stands_in_a_file() -> None:
    hosts = re.compile(r"py[p]i\.org|pythonhoste[d]|npmj[s]\.|deb\.debia[n]|registry\.npm", re.IGNORECASE)
    assert [name for name, text in tracked_text() if hosts.search(text)] == []


def test_every_lock_is_hashed() -> None:
    for name in ("core", "cpu", "gpu", "serving", "dev", "tfx", "uv"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        pinned = re.findall(r"^[A-Za-z0-9][^\s=]*==", text, re.MULTILINE)
        assert pinned and len(pinned) <= text.count("--hash=sha256:")
