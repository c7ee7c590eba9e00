"""A training that is killed goes on where it was, to the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from merlb_model.files import read_json
from tests.unit.dataset.small_stores import write_noisy_store

ROOT = Path(__file__).parents[3]
CODE = """
import sys
from pathlib import Path
from merlb_model.nn import tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from merlb_model.params import ModelParams, TrainParams
from merlb_model.training.train import train
here, out = Path(sys.argv[1]), Path(sys.argv[2])
model = ModelParams(modalities=("face", "audio"))
params = TrainParams(epochs=6, batch_size=2, patience=6)
tables = here / "splits.parquet", here / "train_rows.parquet"
train(here / "store", *tables, model, params, out, checkpoints=out / "kept")
"""


def start(here: Path, out: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(here), str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    write_noisy_store(folder / "store", 4, 2)
    files = pd.read_parquet(folder / "store" / "clips.parquet")["file"]
    splits = ["train"] * 6 + ["validation"] * 2
    pd.DataFrame({"row": range(8), "file": files, "split": splits}).to_parquet(folder / "splits.parquet", index=False)
    pd.DataFrame({"row": range(6), "repeats": 1}).to_parquet(folder / "train_rows.parquet", index=False)
    return folder


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_weights_and_history_of_one_that_was_not(here: Path) -> None:
    """With dropout, augmentation and modality dropout on; SIGKILL between two epochs."""
    whole = start(here, here / "whole")
    assert whole.wait(timeout=300) == 0
    cut = start(here, here / "cut")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and cut.poll() is None:
        line = cut.stderr.readline() if cut.stderr else ""
        if "epoch 3/6" in line:
            cut.send_signal(signal.SIGKILL)
            break
    assert cut.wait(timeout=60) == -signal.SIGKILL
    assert not (here / "cut" / "run.json").exists()
    again = start(here, here / "cut")
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "continues at epoch 4 of 6" in said or "continues at epoch 5 of 6" in said
    one, two = (read_json(here / name / "run.json", "merlb train") for name in ("whole", "cut"))
    assert one["weights_hash"] == two["weights_hash"]
    assert (here / "whole" / "history.csv").read_text() == (here / "cut" / "history.csv").read_text()
    assert not list((here / "cut" / "kept").iterdir())
