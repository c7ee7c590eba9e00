"""The real network, small and untrained, from Keras to the served and the live score: the same numbers everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from merlb_model.files import write_json
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.media.decode import read, read_clip
from merlb_model.media.webcam_boxes import given
from merlb_model.media.windows import Window, cut
from merlb_model.nn import tf
from merlb_model.nn.model import build_model, calibrated
from merlb_model.params import ExtractParams, ModelParams
from merlb_model.serving.export import save_signatures
from merlb_model.serving.live import score_stream
from merlb_model.serving.predict import predict
from merlb_model.serving.scorer import Scorer
from merlb_model.serving.server import create_app
from merlb_model.serving.tensors import encode, pack
from tests.unit.nn.conftest import decide
from tests.unit.serving.running import running, wait_ready
from tests.unit.serving.scenes import write_scene
from tests.unit.serving.tiny_model import INFO

BOX = (200, 10, 300, 110)
TEMPERATURE = dict.fromkeys(TASKS, 0.003)
"""So low that an untrained network's answers differ from window to window."""
MELS = 64


@pytest.fixture(scope="module")
def network() -> Any:
    params = ModelParams(preset="small", fusion="merlb", tasks="both", dropout=0.2)
    level = {"mean": [-6.0] * MELS, "deviation": [3.0] * MELS}
    prior = {task: [1 / len(classes)] * len(classes) for task, classes in TASKS.items()}
    return decide(build_model(params, level, prior, seed=3))


@pytest.fixture(scope="module")
def scorer(network, tmp_path_factory) -> Scorer:
    folder = tmp_path_factory.mktemp("serving") / "1"
    folder.mkdir()
    save_signatures(network, TEMPERATURE, folder)
    write_json(folder / "merlb.json", INFO)
    return Scorer.load(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_scene(folder / "1_ann_x.mp4", 5, 5)
    write_scene(folder / "2_ann_x.mp4", 3.4, 5)
    write_scene(folder / "3_ann_x.mp4", 5, 1.5)
    write_scene(folder / "4_bob_x.mp4", 5, 4)
    return folder


def arrays_of(windows: list[Window]) -> dict[str, NDArray[Any]]:
    arrays = {name: np.stack([getattr(window, name) for window in windows]) for name in MODALITIES}
    return arrays | {"present": np.stack([window.present for window in windows]).astype(np.float32)}


def assert_same(found, expected) -> None:
    for task in TASKS:
        np.testing.assert_allclose(found[task], expected[task], atol=1e-4)


def test_keras_the_savedmodel_and_the_server_agree(network, scorer, clips):
    arrays = arrays_of([cut(read_clip(clip), 0.0, BOX) for clip in sorted(clips.iterdir())])
    logits = network({name: tf.constant(array) for name, array in arrays.items()}, training=False)
    keras_scores = calibrated(network, logits, tf.constant(arrays["present"]), TEMPERATURE)
    assert np.ptp(keras_scores["event"], axis=0).max() > 0.01
    assert_same(scorer.score(**arrays), keras_scores)
    tensors, parts = encode(arrays, arrays)
    body, headers = pack({"inputs": tensors}, parts)
    with running(create_app(scorer.folder)) as client:
        wait_ready(client)
        outputs = client.post("/v2/models/merlb/infer", content=body, headers=headers).json()["outputs"]
    assert_same({item["name"]: np.reshape(item["data"], item["shape"]) for item in outputs}, keras_scores)


def test_live_hops_equal_the_whole_windows(scorer, tmp_path):
    clip = write_scene(tmp_path / "stream.mp4", 15, 15)
    *_, recording = read(str(clip))
    scores = list(score_stream(str(clip), scorer, BOX))
    assert len(scores) == 11
    whole = scorer.score(**arrays_of([cut(recording, score.start_seconds, BOX) for score in scores]))
    assert_same({task: [list(score.probabilities[task].values()) for score in scores] for task in TASKS}, whole)
    assert np.ptp(whole["event"], axis=0).max() > 0.01


def test_live_equals_the_table_of_predict_for_each_clip(scorer, clips, tmp_path):
    params = ExtractParams(workers=1, minimum_seconds=2.5)
    predict([clips], scorer, {"ann": given(BOX)}, tmp_path / "scores.parquet", params)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    assert len(table) == 4
    for row in table.to_dict(orient="records"):
        box = BOX if row["streamer"] == "ann" else None
        (score,) = score_stream(str(clips / row["file"]), scorer, box, look_for_webcam=False)
        assert [row[f"present_{name}"] for name in MODALITIES] == list(score.present.values())
        for task, of_class in score.probabilities.items():
            assert row[f"{task}_predicted"] == score.labels[task]
            np.testing.assert_allclose(
                [row[f"{task}_{label}"] for label in of_class], list(of_class.values()), atol=1e-4
            )
