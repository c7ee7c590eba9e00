from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import calibrated, encode, fuse, load_model, priors, weights_hash
from tests.unit.nn.conftest import PRIOR, build, random_windows, shake

Windows = dict[str, NDArray[Any]]
ONE = dict.fromkeys(TASKS, 1.0)


def probabilities(model: keras.Model, windows: Windows, present: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    logits = model({**windows, "present": present}, training=False)
    return {task: np.asarray(values) for task, values in calibrated(model, logits, present, ONE).items()}


def test_answers_a_logit_for_each_class_of_each_task(network: keras.Model, windows: Windows) -> None:
    answer = network(windows, training=False)
    assert {task: tuple(values.shape) for task, values in answer.items()} == {
        task: (3, len(classes)) for task, classes in TASKS.items()
    }
    assert all(values.dtype == "float32" and np.isfinite(values).all() for values in answer.values())


@pytest.mark.parametrize(("tasks", "heads"), [("emo", {"valence", "arousal"}), ("game", {"event"})])
def test_the_task_set_decides_the_heads(tasks: str, heads: set[str]) -> None:
    assert set(build(tasks=tasks, modalities=("audio",)).output) == heads


def test_sizes_of_the_presets() -> None:
    assert 300_000 <= build().count_params() <= 900_000
    assert 5_000_000 <= build(preset="paper").count_params() <= 8_000_000


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_the_five_fusions_are_of_one_size(preset: str) -> None:
    sizes = {
        fusion: build(preset=preset, fusion=fusion).count_params()
        for fusion in ("early", "late", "joint", "deep", "merlb")
    }
    for fusion, size in sizes.items():
        assert size == pytest.approx(sizes["merlb"], rel=0.05), fusion


def test_the_front_ends_hear_different_things(windows: Windows) -> None:
    """Of one network: all but the slices have the same weights."""
    answers = {}
    for frontend in ("key_segments", "all_segments", "random_segments"):
        model = shake(build(audio={"frontend": frontend, "segments": 4}))
        answers[frontend] = np.asarray(model(windows, training=False)["event"])
    assert len(np.unique(np.round(list(answers.values()), 6), axis=0)) == 3


def test_features_of_a_second_do_not_depend_on_the_window(network: keras.Model, windows: Windows) -> None:
    whole = encode(network, windows)
    for first in range(4, 20, 4):
        second = {
            "face": windows["face"][:, first : first + 4],
            "screen": windows["screen"][:, first : first + 4],
            "audio": windows["audio"][:, first - 1 : first + 4],  # a slice of context
        }
        alone = encode(network, second)
        for name, steps in (("face", first), ("screen", first), ("audio", first - 1)):
            np.testing.assert_allclose(alone[name], whole[name][:, steps : steps + 4], rtol=1e-4, atol=1e-5)


def test_fuse_on_encoded_steps_equals_the_whole_network(network: keras.Model, windows: Windows) -> None:
    whole = network(windows, training=False)
    parts = fuse(network, encode(network, windows), windows["present"])
    for task in TASKS:
        np.testing.assert_allclose(parts[task], whole[task], rtol=1e-5, atol=1e-5)


def test_without_any_modality_the_answer_is_the_training_prior(network: keras.Model, windows: Windows) -> None:
    present = np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0]], dtype=np.float32)
    logits = network({**windows, "present": present}, training=False)
    answer = calibrated(network, logits, present, dict.fromkeys(TASKS, 3.0))
    for task in TASKS:
        np.testing.assert_allclose(answer[task][0], PRIOR[task], atol=1e-6)
        np.testing.assert_allclose(answer[task][2], PRIOR[task], atol=1e-6)
        assert not np.allclose(answer[task][1], PRIOR[task], atol=1e-3)


def test_calibration_divides_logits_by_the_temperature(network: keras.Model, windows: Windows) -> None:
    logits = network(windows, training=False)
    answer = calibrated(network, logits, windows["present"], dict.fromkeys(TASKS, 2.5))
    for task in TASKS:
        scaled = np.exp(np.asarray(logits[task], dtype=np.float64) / 2.5)
        np.testing.assert_allclose(answer[task], scaled / scaled.sum(axis=-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_content_of_an_absent_modality_does_not_matter(network: keras.Model, windows: Windows, index: int) -> None:
    present = np.ones((3, 3), dtype=np.float32)
    present[:, index] = 0
    name = ("face", "screen", "audio")[index]
    other = {**windows, name: np.zeros_like(windows[name])}
    one, two = probabilities(network, windows, present), probabilities(network, other, present)
    for task in TASKS:
        np.testing.assert_allclose(one[task], two[task], atol=1e-6)
    logits, without = network(windows, training=False), network({**windows, "present": present}, training=False)
    assert any(not np.allclose(logits[task], without[task], atol=1e-4) for task in TASKS)


def test_a_model_of_one_modality_is_the_whole_with_the_others_absent(windows: Windows) -> None:
    """Copy the audio's and the heads' weights of the whole network into the network of audio alone."""
    whole, alone = shake(build()), build(modalities=("audio",))
    alone.get_layer("audio_encoder").set_weights(whole.get_layer("audio_encoder").get_weights())
    for layer in alone.get_layer("fuse").layers:
        if layer.weights:
            layer.set_weights(whole.get_layer("fuse").get_layer(layer.name).get_weights())
    only_audio = np.tile(np.array([[0, 0, 1]], dtype=np.float32), (3, 1))
    expected = whole({**windows, "present": only_audio}, training=False)
    for task, values in alone(windows, training=False).items():
        np.testing.assert_allclose(values, expected[task], rtol=1e-4, atol=1e-5)
    assert alone.count_params() < whole.count_params() / 2


def test_a_withheld_modality_has_features_of_the_same_shape(windows: Windows) -> None:
    shapes = {name: value.shape for name, value in encode(build(), windows).items()}
    assert {name: value.shape for name, value in encode(build(modalities=("screen",)), windows).items()} == shapes


def test_the_same_seed_gives_the_same_weights() -> None:
    assert weights_hash(build(seed=4)) == weights_hash(build(seed=4)) != weights_hash(build(seed=5))


def test_weights_hash_and_answers_survive_saving(network: keras.Model, windows: Windows, tmp_path: Path) -> None:
    network.save(tmp_path / "merlb.keras")
    loaded = load_model(tmp_path / "merlb.keras")
    assert weights_hash(loaded) == weights_hash(network)
    assert priors(loaded) == PRIOR
    answer = loaded(windows, training=False)
    for task, values in network(windows, training=False).items():
        np.testing.assert_allclose(answer[task], values, rtol=1e-5, atol=1e-5)


def test_weights_hash_covers_every_variable() -> None:
    model = build(modalities=("audio",))
    seen = {weights_hash(model)}
    for variable in model.weights:
        variable.assign(variable + 1)
        seen.add(weights_hash(model))
    assert len(seen) == len(model.weights) + 1


def test_a_trained_model_loads_without_librosa(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.save(tmp_path / "merlb.keras")
    monkeypatch.setitem(__import__("sys").modules, "librosa", None)
    load_model(tmp_path / "merlb.keras")


def test_a_missing_or_broken_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match="is missing: run `merlb train` first"):
        load_model(tmp_path / "merlb.keras")
    (tmp_path / "merlb.keras").write_bytes(b"no model")
    with pytest.raises(MerlbError, match="run `merlb train` again"):
        load_model(tmp_path / "merlb.keras")


def test_every_trainable_variable_gets_a_gradient() -> None:
    model, windows = build(), random_windows(4)
    with tf.GradientTape() as tape:
        logits = model(windows, training=True)
        loss = tf.add_n([tf.reduce_sum(values**2) for values in logits.values()])
    gradients = tape.gradient(loss, model.trainable_variables)
    dead = [
        variable.path
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert dead == []
