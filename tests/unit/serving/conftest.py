from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.dataset.store import SHAPES
from merlb_model.serving.scorer import Scorer
from tests.unit.serving.tiny_model import write_tiny_model


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


def make_windows(count: int, seed: int = 0) -> dict[str, NDArray]:
    """``count`` windows of noise whose level differs by window and step."""
    random = np.random.default_rng(seed)
    level = random.random((count, 20))
    return {
        "face": (random.random((count, *SHAPES["face"])) * level[:, :, None, None, None] * 255).astype(np.uint8),
        "screen": (random.random((count, *SHAPES["screen"])) * level[:, ::-1, None, None, None] * 255).astype(np.uint8),
        "audio": (random.uniform(-1, 1, (count, *SHAPES["audio"])) * level[:, :, None] * 32767).astype(np.int16),
    }


@pytest.fixture(scope="session")
def windows() -> dict[str, NDArray]:
    return make_windows(3)
