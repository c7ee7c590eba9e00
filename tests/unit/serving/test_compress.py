from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.dataset.loader import load_rows
from merlb_model.dataset.store import open_store
from merlb_model.errors import MerlbError
from merlb_model.evaluation.evaluate import load_trained
from merlb_model.evaluation.predict import predict_logits
from merlb_model.evaluation.scores import macro_f1
from merlb_model.files import read_json, write_json
from merlb_model.labels import TASKS
from merlb_model.nn import keras
from merlb_model.nn.model import weights_hash
from merlb_model.nn.tensor_train import fusion_of
from merlb_model.nn.tt_decomposition import relative_error
from merlb_model.params import ModelParams
from merlb_model.serving.compress import Compression, compress, with_cores
from tests.unit.dataset.small_stores import write_noisy_store
from tests.unit.nn.conftest import build, shake

SPLIT = np.array(["train"] * 2 + ["validation"] * 3 + ["test"] * 5)
MAX_ERROR = 0.05


def write_model(folder: Path, network: keras.Model) -> Path:
    folder.mkdir(parents=True)
    network.save(folder / "merlb.keras")
    params = {"model": ModelParams().model_dump(mode="json")}
    write_json(folder / "run.json", {"run_id": "7" * 32, "weights_hash": weights_hash(network), "params": params})
    return folder


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network of which one of the ranks between screen and audio hardly counts."""
    network = shake(build())
    fusion = fusion_of(network)
    fusion.cores[2].assign(fusion.cores[2] * np.array([1, 1, 1, 0.01], np.float32))
    return network


@pytest.fixture(scope="module")
def workspace(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compress")
    store = write_noisy_store(root / "store", 5, 2)
    table = pd.DataFrame({"row": range(len(SPLIT)), "file": open_store(store).clips["file"], "split": SPLIT})
    table.to_parquet(root / "splits.parquet", index=False)
    write_model(root / "models", network)
    return root


@pytest.fixture(scope="module")
def compression(workspace: Path) -> Compression:
    out = workspace / "models" / "compressed"
    return compress(workspace / "models", workspace / "store", workspace / "splits.parquet", MAX_ERROR, 4, out)


def test_ranks_and_bytes_fall_and_the_error_keeps_its_bound(compression: Compression, network: keras.Model) -> None:
    assert (compression.before.ranks, compression.after.ranks) == ((1, 2, 4, 4, 2, 1), (1, 2, 4, 3, 2, 1))
    # A rank between the third and the fourth core: 4·129·4 weights of the one, 43·4·2 of the other.
    fewer = 4 * (4 * 129 * 4 + 43 * 4 * 2)
    assert (compression.before.fusion_bytes, compression.after.fusion_bytes) == (4 * 11_038, 4 * 11_038 - fewer)
    assert compression.after.file_bytes == (compression.folder / "merlb.keras").stat().st_size
    assert compression.after.file_bytes < compression.before.file_bytes
    assert 0 < compression.error <= MAX_ERROR < compression.next_error
    _, smaller = load_trained(compression.folder)
    cores = [fusion_of(each).get_weights() for each in (network, smaller)]
    assert compression.error == pytest.approx(relative_error(*cores), rel=1e-6)


def test_all_other_weights_stay_and_answers_hardly_move(
    compression: Compression, network: keras.Model, workspace: Path
) -> None:
    _, smaller = load_trained(compression.folder)
    fusions = {id(core) for each in (network, smaller) for core in fusion_of(each).weights}
    for old, new in zip(network.weights, smaller.weights, strict=True):
        if id(old) not in fusions:
            np.testing.assert_array_equal(old, new)
    windows = load_rows(open_store(workspace / "store"), np.arange(4))
    before, after = network(windows, training=False), smaller(windows, training=False)
    for task in TASKS:
        spread = np.abs(before[task] - np.mean(before[task], axis=0)).max()
        assert 0 < np.abs(before[task] - after[task]).max() < spread


def test_the_run_names_the_new_weights_and_where_they_come_from(compression: Compression, workspace: Path) -> None:
    before, after = (read_json(folder / "run.json", "") for folder in (workspace / "models", compression.folder))
    assert after["compressed_from"] == before["weights_hash"] != after["weights_hash"]
    assert after["params"]["model"]["tensor_train"]["ranks"] == [1, 2, 4, 3, 2, 1]
    assert after["run_id"] not in ("", before["run_id"])
    ModelParams.model_validate(after["params"]["model"])


def test_scores_are_of_the_rows_that_training_did_not_see(
    compression: Compression, network: keras.Model, workspace: Path
) -> None:
    clips = open_store(workspace / "store")
    for name, rows in (("validation", np.arange(2, 5)), ("test", np.arange(5, 10))):
        logits = predict_logits(network, clips, rows, 4)
        for task in TASKS:
            expected = macro_f1(clips.targets(task)[rows], logits[task].argmax(axis=-1))
            assert compression.scores_before[task, name] == pytest.approx(expected)
            assert (task, name) in compression.scores_after
    text = str(compression)
    assert "1,2,4,4,2,1      1,2,4,3,2,1" in text and "event macro-F1, 5 test clips" in text
    assert f"one rank less needs --max-error {compression.next_error:.3g}" in text


def test_a_copy_with_the_same_cores_is_the_same_network(network: keras.Model) -> None:
    assert weights_hash(with_cores(network, fusion_of(network).get_weights())) == weights_hash(network)


def test_another_fusion_a_wrong_error_and_the_models_own_folder_are_refused(workspace: Path, tmp_path: Path) -> None:
    late = write_model(tmp_path / "late", build(fusion="late", modalities=("audio",)))
    rest = (workspace / "store", workspace / "splits.parquet")
    with pytest.raises(MerlbError, match=r"no tensor-train fusion: expected one trained with model\.fusion: merlb"):
        compress(late, *rest, MAX_ERROR, 4, tmp_path / "out")
    for wrong in (-0.1, 1.0):
        with pytest.raises(MerlbError, match="expected a relative error of at least 0 and below 1"):
            compress(workspace / "models", *rest, wrong, 4, tmp_path / "out")
    with pytest.raises(MerlbError, match="the trained model lies there"):
        compress(workspace / "models", *rest, MAX_ERROR, 4, workspace / "models" / ".." / "models")
    assert not (tmp_path / "out").exists()
