"""The part of the library that the TFX edition needs works under its TensorFlow too."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-tfx" / "bin" / "python"
CODE = """
import merlb_model.labels, merlb_model.params, merlb_model.dataset.store, merlb_model.evaluation.evaluate
import merlb_model.training.train
import numpy as np
import tensorflow as tf
from merlb_model.labels import TASK_SETS, TASKS
from merlb_model.nn.tensor_train import TensorTrainFusion
assert tf.__version__.startswith("2.16."), tf.__version__
vectors = [np.random.default_rng(seed).normal(size=(2, 128)).astype("float32") for seed in range(3)]
assert TensorTrainFusion()(vectors).shape == (2, 384)
"""


@pytest.mark.slow
def test_the_shared_part_works_under_tensorflow_2_16() -> None:
    assert PYTHON.exists(), "run `make test-all`, which makes .venv-tfx"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(PYTHON), "-c", CODE], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
