"""The part of the library that the TFX edition needs passes its tests under that edition's TensorFlow too."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-tfx" / "bin" / "python"
SHARE = [
    "tests/unit/nn",
    "tests/unit/training",
    "tests/unit/evaluation",
    "tests/unit/dataset",
    "tests/unit/test_params.py",
    "tests/unit/test_files.py",
]
EXCLUDED = {
    "tests/unit/dataset/test_convert.py": "clips are decoded elsewhere: that environment has neither PyAV nor OpenCV",
    "tests/unit/dataset/test_extract.py": "the same",
    "tests/unit/dataset/test_validate.py": "clips are checked elsewhere too: it has neither pandera nor OpenCV",
    "tests/unit/dataset/validation": "the same",
}
# The folders' own conftest.py would take corpus and media with it; that of the networks is named alone.
OPTIONS = ["--noconftest", "-p", "tests.unit.nn.conftest", "-p", "no:cacheprovider", "-q"]
VERSIONS = "import tensorflow, numpy, pandas; print(tensorflow.__version__, numpy.__version__, pandas.__version__)"


def in_that_environment(*words: str) -> subprocess.CompletedProcess[str]:
    assert PYTHON.exists(), "run `make test-all`, which makes .venv-tfx"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(PYTHON), *words], capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.slow
def test_it_is_the_tensorflow_that_tfx_needs() -> None:
    assert re.match(r"2\.16\.\d+ 1\.26\.\d+ 1\.5\.\d+\s", in_that_environment("-c", VERSIONS).stdout)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_the_shared_part_passes_its_tests_under_tensorflow_2_16() -> None:
    ignored = [f"--ignore={path}" for path in EXCLUDED]
    done = in_that_environment("-m", "pytest", *OPTIONS, *ignored, *SHARE)
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
