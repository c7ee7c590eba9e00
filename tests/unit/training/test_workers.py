"""Two processes that share a training's batches have the losses of one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.dataset.small_stores import write_noisy_store

ROOT = Path(__file__).parents[3]
CODE = """
import sys
from pathlib import Path
from merlb_model.params import ModelParams, TrainParams
from merlb_model.training.train import train
here, out = Path(sys.argv[1]), Path(sys.argv[2])
model = ModelParams(modalities=("face", "audio"), dropout=0.0)
params = TrainParams(epochs=3, batch_size=4, learning_rate=1e-4, augment=False, modality_dropout=0.0)
train(here / "store", here / "splits.parquet", here / "train_rows.parquet", model, params, out)
"""


def start(here: Path, out: Path, tf_config: str | None) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment |= {"TF_CONFIG": tf_config} if tf_config else {}
    command = [sys.executable, "-c", CODE, str(here), str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers_have_the_losses_of_one_and_the_chief_alone_writes(tmp_path: Path) -> None:
    """Seven training rows in batches of four: the last one is smaller, and odd."""
    clips = write_noisy_store(tmp_path / "store", 5, 2)
    files = pd.read_parquet(clips / "clips.parquet")["file"]
    splits = ["train"] * 7 + ["validation"] * 3
    pd.DataFrame({"row": range(10), "file": files, "split": splits}).to_parquet(
        tmp_path / "splits.parquet", index=False
    )
    pd.DataFrame({"row": range(7), "repeats": 1}).to_parquet(tmp_path / "train_rows.parquet", index=False)
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    configs = [
        json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}) for index in range(2)
    ]
    both = [start(tmp_path, tmp_path / f"worker{index}", config) for index, config in enumerate(configs)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    alone = start(tmp_path, tmp_path / "alone", None)
    assert alone.communicate(timeout=300) and alone.returncode == 0
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("alone", "worker0"))
    assert len(one) == 3
    for column in ("loss", "validation_loss"):
        np.testing.assert_allclose(two[column], one[column], rtol=1e-5)
    assert not (tmp_path / "worker1").exists()
