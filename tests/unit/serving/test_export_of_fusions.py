"""Each fusion with each task set, from its first step of training to the SavedModel's answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.labels import TASK_SETS, TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import calibrated, load_model, weights_hash
from merlb_model.serving.export import save_signatures
from tests.unit.nn.conftest import PRIOR, build, random_windows
from tests.unit.nn.quickened import quicken

Windows = dict[str, NDArray[Any]]

pytestmark = pytest.mark.slow
COMBINATIONS = [
    *(("merlb", "both", frontend) for frontend in ("all_segments", "key_segments")),
    ("merlb", "emo", "random_segments"),
    ("merlb", "game", "slices"),
    ("early", "both", "key_segments"),
    ("deep", "both", "key_segments"),
    *((fusion, "both", "all_segments") for fusion in ("late", "joint")),
    *((fusion, tasks, "all_segments") for fusion in ("early", "late", "joint", "deep") for tasks in ("emo", "game")),
]
"""Of fusion, task set and audio front end: all fifteen of the first two, all four of the last."""
SUBSETS = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)
ONE_AND_A_HALF = dict.fromkeys(TASKS, 1.5)


@dataclass(frozen=True)
class Trained:
    """A network after a step of training, the step's loss, and what was exported of it."""

    tasks: tuple[str, ...]
    network: keras.Model
    loss: float
    exported: Any

    def scores(self, windows: Windows) -> dict[str, NDArray[np.float32]]:
        """Of the network itself."""
        logits = self.network(windows, training=False)
        answer = calibrated(self.network, logits, windows["present"], ONE_AND_A_HALF)
        return {task: np.asarray(values) for task, values in answer.items()}

    def exported_scores(self, signature: str, windows: Windows) -> dict[str, NDArray[np.float32]]:
        answer = self.exported.signatures[signature](**{name: tf.constant(each) for name, each in windows.items()})
        return {task: values.numpy() for task, values in answer.items()}


def step_of_training(network: keras.Model, windows: Windows) -> float:
    """One step on windows of all classes; every trainable variable must have its part in it."""
    count = len(windows["present"])
    with tf.GradientTape() as tape:
        logits = network(windows, training=True)
        losses = [
            keras.losses.sparse_categorical_crossentropy(np.arange(count) % len(TASKS[task]), values, from_logits=True)
            for task, values in logits.items()
        ]
        loss = tf.reduce_mean(tf.add_n(losses))
    gradients = tape.gradient(loss, network.trainable_variables)
    assert all(gradient is not None and np.isfinite(gradient).all() for gradient in gradients)
    assert all(np.any(gradient) for gradient in gradients)
    keras.optimizers.Adam(1e-3).apply_gradients(zip(gradients, network.trainable_variables, strict=True))
    return float(loss)


@pytest.fixture(scope="module")
def windows() -> Windows:
    return {**random_windows(4, seed=2), "present": SUBSETS}


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    fusion, tasks, frontend = request.param
    network = build(fusion=fusion, tasks=tasks, audio={"frontend": frontend})
    quicken(network.get_layer("fuse"))
    fresh = weights_hash(network)
    loss = step_of_training(network, {**random_windows(3, seed=1), "present": SUBSETS[:3]})
    assert weights_hash(network) != fresh
    folder = tmp_path_factory.mktemp("export")
    save_signatures(network, ONE_AND_A_HALF, folder)
    return Trained(TASK_SETS[tasks], network, loss, tf.saved_model.load(str(folder)))


def test_a_step_of_training_has_a_loss_near_chances(trained: Trained) -> None:
    assert trained.loss == pytest.approx(sum(np.log(len(TASKS[task])) for task in trained.tasks), rel=0.1)


def test_the_saved_model_scores_as_the_network_does(trained: Trained, windows: Windows) -> None:
    masked, expected = trained.exported_scores("masked", windows), trained.scores(windows)
    assert {task: values.shape for task, values in masked.items()} == {
        task: (4, len(TASKS[task])) for task in trained.tasks
    }
    for task, values in masked.items():
        np.testing.assert_allclose(values, expected[task], atol=1e-5)
        np.testing.assert_allclose(values[3], PRIOR[task], atol=1e-6)
        assert np.abs(values[0] - values[1:]).max(axis=1).min() > 1e-3
    whole = {name: values for name, values in windows.items() if name != "present"}
    for task, values in trained.exported_scores("serving_default", whole).items():
        np.testing.assert_allclose(values[0], masked[task][0], atol=1e-6)


def test_the_saved_networks_answers_and_hash_are_those_of_the_network(
    trained: Trained, windows: Windows, tmp_path: Path
) -> None:
    trained.network.save(tmp_path / "merlb.keras")
    loaded = load_model(tmp_path / "merlb.keras")
    assert weights_hash(loaded) == weights_hash(trained.network)
    answer = loaded(windows, training=False)
    for task, values in trained.network(windows, training=False).items():
        np.testing.assert_allclose(answer[task], values, rtol=1e-5, atol=1e-5)


def test_five_encoded_seconds_fuse_to_the_whole_windows_scores(trained: Trained, windows: Windows) -> None:
    before = np.random.default_rng(3).integers(-9_000, 9_000, (4, 1, 5512), np.int16)  # sound before the window
    slices = np.concatenate([before, windows["audio"]], axis=1)
    seconds = [
        trained.exported_scores(
            "encode",
            {
                "face": windows["face"][:, first : first + 4],
                "screen": windows["screen"][:, first : first + 4],
                "audio": slices[:, first : first + 5],
            },
        )
        for first in range(0, 20, 4)
    ]
    features = {name: np.concatenate([second[name] for second in seconds], axis=1) for name in seconds[0]}
    fused = trained.exported_scores("fuse", {**features, "present": SUBSETS})
    for task, values in trained.exported_scores("masked", windows).items():
        np.testing.assert_allclose(fused[task], values, atol=1e-4)
