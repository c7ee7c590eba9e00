"""A fresh small network, built once."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.dataset.store import SHAPES
from merlb_model.labels import TASKS
from merlb_model.nn import keras
from merlb_model.nn.model import PRESETS, build_model
from merlb_model.params import ModelParams

PRIOR = {"valence": [0.5, 0.3, 0.2], "arousal": [0.2, 0.2, 0.6], "event": [0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]}


def level(mels: int) -> dict[str, list[float]]:
    return {"mean": [-4.0] * mels, "deviation": [3.0] * mels}


def build(seed: int = 1, **changed: Any) -> keras.Model:
    params = ModelParams(**changed)
    return build_model(params, level(PRESETS[params.preset].audio.mels), PRIOR, seed)


def random_windows(count: int, steps: int = 20, seed: int = 0) -> dict[str, NDArray[Any]]:
    generator = np.random.default_rng(seed)
    return {
        "face": generator.integers(0, 256, (count, steps, *SHAPES["face"][1:]), dtype=np.uint8),
        "screen": generator.integers(0, 256, (count, steps, *SHAPES["screen"][1:]), dtype=np.uint8),
        "audio": generator.integers(-9_000, 9_000, (count, steps, *SHAPES["audio"][1:]), dtype=np.int16),
        "present": np.ones((count, 3), dtype=np.float32),
    }


def shake(model: keras.Model, seed: int = 5) -> keras.Model:
    """Give batch norms statistics and every bias a value, and the heads an opinion, as training does.

    Zeros and answers that are all alike would hide mistakes.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(generator.normal(0, 0.2, variable.shape))
        elif variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    return decide(model)


def decide(model: keras.Model) -> keras.Model:
    """Give a fresh network's heads, which are unsure of everything, an opinion."""
    for variable in model.weights:
        if variable.path.endswith("logits/kernel"):
            variable.assign(100 * variable)
    return model


@pytest.fixture(scope="session")
def network() -> keras.Model:
    return shake(build())


@pytest.fixture(scope="session")
def windows() -> dict[str, NDArray[Any]]:
    return random_windows(3)


assert set(PRIOR) == set(TASKS)
