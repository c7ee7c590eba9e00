from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.media.decode import read_clip
from merlb_model.media.windows import Window, cut
from merlb_model.nn import keras, tf
from merlb_model.nn.model import encode, fuse, weights_hash
from merlb_model.nn.tensor_train import fusion_of
from merlb_model.params import ExtractParams
from merlb_model.serving.explain import explain, explain_window
from tests.unit.nn.conftest import build, random_windows, shake
from tests.unit.serving.scenes import write_scene

BOX = (10, 10, 60, 60)
PARAMS = ExtractParams(workers=1)
NO_TEMPERATURE = dict.fromkeys(TASKS, 1.0)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A network whose fused vector is of its norm's size, as after training, so that its terms move the answer."""
    network = shake(build())
    norm = network.get_layer("fuse").get_layer("fusion_norm")
    norm.moving_mean.assign(1e-3 * norm.moving_mean)
    norm.moving_variance.assign(1e-6 * norm.moving_variance)
    return network


@pytest.fixture(scope="module")
def window() -> Window:
    arrays: dict[str, Any] = {name: random_windows(1, seed=3)[name][0] for name in MODALITIES}
    return Window(**arrays, present=np.ones(3, bool), valid_frames=20)


@pytest.fixture(scope="module")
def models(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    network.save(folder / "merlb.keras")
    write_json(folder / "run.json", {"weights_hash": weights_hash(network)})
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("clips") / "1_ann_x.mp4", 5, 5)


def _answer(network: keras.Model, window: Window) -> dict[str, Any]:
    inputs = {name: getattr(window, name)[None] for name in MODALITIES}
    inputs["present"] = window.present[None].astype(np.float32)
    return {task: np.asarray(logits)[0] for task, logits in network(inputs, training=False).items()}


def test_the_prediction_is_the_networks_own_at_the_given_temperature(network: keras.Model, window: Window) -> None:
    found = explain_window(network, window, dict.fromkeys(TASKS, 2.0))
    for task, logits in _answer(network, window).items():
        share = np.exp(logits / 2) / np.exp(logits / 2).sum()
        assert found.predicted[task] == (TASKS[task][share.argmax()], pytest.approx(share.max(), rel=1e-4))


def test_shares_of_energy_are_of_the_seven_terms_and_add_up_to_one(network: keras.Model, window: Window) -> None:
    energy = explain_window(network, window, NO_TEMPERATURE).energy
    assert len(energy) == 7 and () not in energy
    assert sum(energy.values()) == pytest.approx(1) and min(energy.values()) > 0


def test_terms_of_an_absent_modality_have_no_part(network: keras.Model, window: Window) -> None:
    found = explain_window(network, replace(window, present=np.array([False, True, True])), NO_TEMPERATURE)
    for values in (found.energy, *found.contribution.values()):
        assert {term for term, value in values.items() if value} == {term for term in values if "face" not in term}


def test_a_contribution_is_the_logits_slope_along_the_term(network: keras.Model, window: Window) -> None:
    """Against differences: the fusion's batch norm takes y − mean, so a mean less by h·y_S is a y more by it.

    A slope has two sides, which differ where a unit of the head is about to wake: either will do.
    """
    found = explain_window(network, window, NO_TEMPERATURE)
    norm = network.get_layer("fuse").get_layer("fusion_norm")
    features = encode(network, {name: tf.constant(getattr(window, name)[None]) for name in MODALITIES})
    place = {task: TASKS[task].index(label) for task, (label, _) in found.predicted.items()}
    mean, step = norm.moving_mean.numpy(), 1e-3

    def logits(pushed: Any) -> dict[str, float]:
        norm.moving_mean.assign(mean - pushed)
        answer = fuse(network, features, np.ones((1, 3), np.float32))
        norm.moving_mean.assign(mean)
        return {task: float(answer[task][0, index]) for task, index in place.items()}

    here = logits(0)
    for names, term in _terms(network, features).items():
        more, less = logits(step * term), logits(-step * term)
        for task, values in found.contribution.items():
            slopes = ((more[task] - here[task]) / step, (here[task] - less[task]) / step)
            tolerance = 0.01 * max(abs(value) for value in values.values())
            assert min(abs(values[names] - slope) for slope in slopes) < tolerance


def _terms(network: keras.Model, features: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """The terms by inclusion and exclusion over what is present, which enters the fusion as [1; 0] where it is not."""
    inner = network.get_layer("fuse")
    fused = keras.Model(inner.input, fusion_of(network).output)
    subsets = [tuple(name for index, name in enumerate(MODALITIES) if number >> index & 1) for number in range(8)]
    answers = {}
    for names in subsets:
        present = tf.constant([[float(name in names) for name in MODALITIES]])
        answers[names] = np.asarray(fused({**features, "present": present}, training=False), np.float64)[0]
    return {
        names: sum((-1) ** (len(names) - len(part)) * answers[part] for part in subsets if set(part) <= set(names))
        for names in subsets
    }


def test_the_figure_has_a_bar_a_term_and_names_the_prediction(
    clip: Path, models: Path, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    found = explain(clip, models, tmp_path / "reports", BOX, PARAMS, tmp_path / "out" / "explain.png")
    expected = explain_window(network, cut(read_clip(clip), 0.0, BOX), NO_TEMPERATURE)
    assert found.predicted == expected.predicted
    assert imread(tmp_path / "out" / "explain.png").std() > 0
    axes = figures[0].axes
    assert len(axes) == 4
    assert [label.get_text() for label in axes[0].get_yticklabels()][-1] == "face × screen × audio"
    np.testing.assert_allclose([bar.get_width() for bar in axes[0].patches], list(found.energy.values()))
    valence = [found.contribution["valence"][term] for term in found.energy]
    np.testing.assert_allclose([bar.get_width() for bar in axes[1].patches], valence)
    label, share = found.predicted["event"]
    title = figures[0].get_suptitle()
    assert title.startswith("1_ann_x.mp4: valence ") and title.endswith(f"event {label} {share:.2f}")


def test_the_temperature_is_that_of_this_models_evaluation_alone(
    clip: Path, models: Path, network: keras.Model, tmp_path: Path
) -> None:
    write_json(tmp_path / "calibration.json", {"temperature": dict.fromkeys(TASKS, 50.0)})
    shares = []
    for name in ("e" * 64, weights_hash(network)):
        write_json(tmp_path / "metrics.json", {"weights_hash": name})
        found = explain(clip, models, tmp_path, BOX, PARAMS, tmp_path / "explain.png")
        shares.append(found.predicted["event"][1])
    plain = explain_window(network, cut(read_clip(clip), 0.0, BOX), NO_TEMPERATURE).predicted["event"][1]
    assert shares[0] == pytest.approx(plain) and shares[1] < shares[0]


def test_what_cannot_be_explained_is_told(network: keras.Model, models: Path, window: Window, tmp_path: Path) -> None:
    rest = (tmp_path, BOX, PARAMS, tmp_path / "explain.png")
    with pytest.raises(MerlbError, match=r"none\.mp4: no such file"):
        explain(tmp_path / "none.mp4", models, *rest)
    (tmp_path / "text.mp4").write_text("not a clip")
    with pytest.raises(MerlbError, match=r"text\.mp4: undecodable: "):
        explain(tmp_path / "text.mp4", models, *rest)
    with pytest.raises(MerlbError, match="nothing that the model uses"):
        explain_window(network, replace(window, present=np.zeros(3, bool)), NO_TEMPERATURE)
    with pytest.raises(MerlbError, match="no tensor-train fusion"):
        explain_window(build(fusion="joint"), window, NO_TEMPERATURE)
    assert not (tmp_path / "explain.png").exists()
