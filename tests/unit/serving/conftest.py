from pathlib import Path

import pytest
from numpy.typing import NDArray

from merlb_model.serving.scorer import Scorer
from tests.unit.serving.tiny_model import make_windows, write_tiny_model


@pytest.fixture(scope="session")
def serving_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``models/serving`` whose newest version is 3."""
    root = tmp_path_factory.mktemp("models") / "serving"
    (root / "2").mkdir(parents=True)
    write_tiny_model(root / "3")
    return root


@pytest.fixture(scope="session")
def scorer(serving_root: Path) -> Scorer:
    return Scorer.load(serving_root / "3")


@pytest.fixture(scope="session")
def windows() -> dict[str, NDArray]:
    return make_windows(3)
