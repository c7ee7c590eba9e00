"""What a prediction of the tensor-train fusion rests on: one modality, two together, or all three."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from merlb_model.corpus.annotations import Rejection
from merlb_model.dataset.decode_clip import ClipJob
from merlb_model.dataset.extract import decode
from merlb_model.errors import MerlbError
from merlb_model.evaluation.evaluate import load_trained
from merlb_model.files import read_json, replacing
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.media.windows import Box, Window
from merlb_model.nn import keras, tf
from merlb_model.nn.model import answerable, calibrated, encode
from merlb_model.nn.tensor_train import fusion_of, terms
from merlb_model.params import ExtractParams

_DOTS_PER_INCH: Final = 120
_COLOURS: Final = {1: "tab:blue", 2: "tab:orange", 3: "tab:red"}  # by the number of modalities of a term

Term = tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What a window's answer rests on, by term (``nn.tensor_train.terms``).

    With the fused vector ``y = Σ_S y_S`` over the sets ``S`` of modalities:

    Attributes:
        predicted: each task's class of the highest probability, and that probability.
        energy: share of ``‖y_S‖²`` in the sum of it over the seven terms with a modality; () is left out.
        contribution: ``∂z/∂y · y_S`` for each task, all eight terms: z is the logit of the predicted class, its slope
            taken at ``y`` through all that follows the fusion (batch norm and head, as at inference). To first order it
            is what z loses if the term goes; the eight add up to ``∂z/∂y · y``.
    """

    predicted: dict[str, tuple[str, float]]
    energy: dict[Term, float]
    contribution: dict[str, dict[Term, float]]


def explain(
    clip: Path,
    models: Path,
    reports: Path,
    box: Box | None,
    params: ExtractParams,
    out: Path,
    look_for_webcam: bool = False,
) -> Explanation:
    """Score a clip and draw what its answer rests on.

    Args:
        clip: the clip's file, cut into a window as ``merlb predict`` does.
        models: folder of ``merlb.keras`` and ``run.json``.
        reports: folder of ``calibration.json``; where it is not of this model, probabilities are not calibrated.
        box: the webcam's box.
        params: how clips are decoded.
        out: the PNG to write.
        look_for_webcam: without a box, look for it; else the face is absent.

    Raises:
        MerlbError: the model is missing or fuses in another way, or the clip cannot be used.
    """
    run, network = load_trained(models)
    fusion_of(network)
    window = _window(clip, box, params, look_for_webcam)
    found = explain_window(network, window, _temperature(network, reports, str(run["weights_hash"])))
    draw(out, clip.name, found)
    return found


def explain_window(network: keras.Model, window: Window, temperature: Mapping[str, float]) -> Explanation:
    """What the network's answer to one window rests on.

    Raises:
        MerlbError: nothing is present that the model uses.
    """
    present = window.present[None].astype(np.float32)
    if not bool(np.all(answerable(network, present))):
        raise MerlbError(
            "the clip holds nothing that the model uses: the answer is the training rows' class shares, there is "
            "nothing to explain"
        )
    fuse, fusion = network.get_layer("fuse"), fusion_of(network)
    inside = keras.Model(fuse.input, {"vectors": fusion.input, "fused": fusion.output, "logits": fuse.output})
    features = encode(network, {name: tf.constant(getattr(window, name)[None]) for name in MODALITIES})
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        states = inside({**features, "present": tf.constant(present)}, training=False)
        chosen = {task: logits[0, int(np.argmax(logits))] for task, logits in states["logits"].items()}
    parts = {names: np.asarray(term[0], np.float64) for names, term in terms(fusion, states["vectors"]).items()}
    slopes = {task: np.asarray(tape.gradient(logit, states["fused"])[0], np.float64) for task, logit in chosen.items()}
    probabilities = calibrated(network, states["logits"], present, temperature)
    energies = {names: float(np.sum(term**2)) for names, term in parts.items() if names}
    return Explanation(
        predicted={
            task: (TASKS[task][int(np.argmax(values))], float(np.max(values))) for task, values in probabilities.items()
        },
        energy={names: energy / sum(energies.values()) for names, energy in energies.items()},
        contribution={
            task: {names: float(slope @ term) for names, term in parts.items()} for task, slope in slopes.items()
        },
    )


def draw(path: Path, name: str, found: Explanation) -> None:
    """The explanation as PNG: a row a term; shares of energy, then contributions to each task's predicted class."""
    names = list(found.energy)
    labels = [" × ".join(term) for term in names]
    colours = [_COLOURS[len(term)] for term in names]
    panels: list[tuple[str, list[float]]] = [("share of energy", [found.energy[term] for term in names])]
    for task, parts in found.contribution.items():
        panels.append((f"to the logit of\n{task}: {found.predicted[task][0]}", [parts[term] for term in names]))
    figure = Figure(figsize=(2.2 + 2.6 * len(panels), 4), layout="constrained")
    for axes, (title, values) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True
    ):
        axes.barh(labels, values, color=colours)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(title, fontsize="medium")
    figure.axes[0].invert_yaxis()  # shared: the first term is on top of each
    figure.suptitle(f"{name}: {said(found)}")
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png", dpi=_DOTS_PER_INCH)


def said(found: Explanation) -> str:
    """The predicted classes with their probabilities, on one line."""
    return ", ".join(f"{task} {label} {share:.2f}" for task, (label, share) in found.predicted.items())


def _window(clip: Path, box: Box | None, params: ExtractParams, look_for_webcam: bool) -> Window:
    if not clip.is_file():
        raise MerlbError(f"{clip}: no such file; expected a clip")
    window = decode(clip, ClipJob(clip.name, "", box), params, look_for_webcam)
    if isinstance(window, Rejection):
        raise MerlbError(f"{clip}: {window.reason}: {window.detail}")
    return window


def _temperature(network: keras.Model, reports: Path, weights_hash: str) -> dict[str, Any]:
    """The temperatures that `evaluate` fitted for this model; 1 where it has not scored it."""
    metrics, calibration = reports / "metrics.json", reports / "calibration.json"
    scored = read_json(metrics, "merlb evaluate")["weights_hash"] if metrics.is_file() else None
    if scored != weights_hash:
        return dict.fromkeys(network.output, 1.0)
    return dict(read_json(calibration, "merlb evaluate")["temperature"])
