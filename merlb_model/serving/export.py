"""One SavedModel with all four signatures, its card and its golden windows; and its promotion to be served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model import tracking
from merlb_model.dataset.loader import load_rows
from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import DTYPES, SHAPES, STEPS, ClipStore, open_store
from merlb_model.errors import MerlbError
from merlb_model.evaluation.evaluate import load_trained
from merlb_model.files import copy_file, read_json, replacing, write_json
from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import calibrated, encode, fuse, priors
from merlb_model.params import ExportParams
from merlb_model.schemas import check
from merlb_model.serving.model_card import model_card

SCHEMA_VERSION: Final = 1
SECOND_STEPS: Final = 4
_GOLDEN_WINDOWS: Final = 2

Windows = Mapping[str, NDArray[Any]]


def export(
    models: Path,
    reports: Path,
    store: Path,
    splits: Path,
    params: ExportParams,
    out: Path,
    tracking_uri: str | None = None,
) -> None:
    """The stage `export`: leave the SavedModel, ``merlb.json``, ``golden.npz`` and ``MODEL_CARD.md`` in ``out``.

    Args:
        models: folder of ``merlb.keras`` and ``run.json``.
        reports: folder of ``metrics.json`` and ``calibration.json``.
        store: folder of the clip store that was scored; the golden windows come from it.
        splits: ``splits.parquet`` of that store.
        params: the section ``export``.
        out: the folder ``models/export``, replaced as a whole.
        tracking_uri: where MLflow keeps the run and registers the version; None does neither.

    Raises:
        MerlbError: an input is missing, or they are not of one model.
    """
    run, network = load_trained(models)
    metrics = read_json(reports / "metrics.json", "merlb evaluate")
    check("metrics", metrics, where=str(reports / "metrics.json"), made_by="merlb evaluate")
    temperature = read_json(reports / "calibration.json", "merlb evaluate")["temperature"]
    if metrics["weights_hash"] != run["weights_hash"]:
        raise MerlbError(f"{reports / 'metrics.json'}: scores of another model than {models}: run `merlb evaluate`")
    clips = open_store(store)
    info = model_info(network, run, temperature)
    with replacing(out) as fresh:
        save_signatures(network, temperature, fresh)
        write_golden(fresh, golden_windows(clips, read_splits(splits, clips)))
        write_json(fresh / "merlb.json", info)
        card = model_card(info, metrics, run, _corpus(clips, metrics), network.count_params())
        (fresh / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    with tracking.resume(tracking_uri, run) as log:
        log_export(out, params, log)


def log_export(exported: Path, params: ExportParams, log: tracking.RunLog) -> None:
    """Register what `export` left in ``exported`` as a version, and log its card."""
    info = read_json(exported / "merlb.json", "merlb export")
    version = log.register(exported, params.registered_model, tensor_specs(info["tasks"]))
    log.file(exported / "MODEL_CARD.md")
    if version:
        log.tags({"registered_version": version})


def model_info(network: keras.Model, run: Mapping[str, Any], temperature: Mapping[str, float]) -> dict[str, Any]:
    """The content of ``merlb.json``."""
    prior = priors(network)
    return {
        "schema_version": SCHEMA_VERSION,
        "store_hash": run["store_hash"],
        "weights_hash": run["weights_hash"],
        "git": run["git"],
        "created_from": run["run_id"],
        "modalities": run["params"]["model"]["modalities"],
        "tasks": {task: list(TASKS[task]) for task in prior},
        "prior": prior,
        "temperature": dict(temperature),
        "signatures": ["serving_default", "masked", "encode", "fuse"],
    }


def tensor_specs(tasks: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Inputs and outputs of ``serving_default``: {tensor: (dtype, shape)}, -1 for the batch."""
    return {
        "inputs": {name: (DTYPES[name].name, (-1, *SHAPES[name])) for name in MODALITIES},
        "outputs": {task: ("float32", (-1, len(classes))) for task, classes in tasks.items()},
    }


def save_signatures(network: keras.Model, temperature: Mapping[str, float], folder: Path) -> None:
    """Write the SavedModel of ``network`` with its four signatures, calibrated by ``temperature``, to ``folder``.

    `serving_default`: face u8 [B,20,64,64,3], screen u8 [B,20,128,128,3], audio i16 [B,20,5512] → {task: f32
    [B, classes]}. `masked`: the same and present f32 [B,3]. `encode`: 4 steps, with a slice of audio before them → f32
    [B,4,D] a modality. `fuse`: 20 steps of those and present → {task: f32 [B, classes]}.
    """
    module = tf.Module()
    module.weights = [variable.value for variable in network.weights]

    def window(steps: int, context: int = 0) -> dict[str, tf.TensorSpec]:
        sizes = {"face": steps, "screen": steps, "audio": steps + context}
        return {
            name: tf.TensorSpec((None, sizes[name], *SHAPES[name][1:]), DTYPES[name].name, name) for name in MODALITIES
        }

    def masked(face: tf.Tensor, screen: tf.Tensor, audio: tf.Tensor, present: tf.Tensor) -> dict[str, tf.Tensor]:
        features = encode(network, {"face": face, "screen": screen, "audio": audio})
        return calibrated(network, fuse(network, features, present), present, temperature)

    def serving_default(face: tf.Tensor, screen: tf.Tensor, audio: tf.Tensor) -> dict[str, tf.Tensor]:
        return masked(face, screen, audio, tf.ones((tf.shape(face)[0], len(MODALITIES))))

    def encode_second(face: tf.Tensor, screen: tf.Tensor, audio: tf.Tensor) -> dict[str, tf.Tensor]:
        features = encode(network, {"face": face, "screen": screen, "audio": audio})
        return {name: each[:, -SECOND_STEPS:] for name, each in features.items()}

    def fuse_steps(face: tf.Tensor, screen: tf.Tensor, audio: tf.Tensor, present: tf.Tensor) -> dict[str, tf.Tensor]:
        # A segment of two slices at the first step reaches before the window.
        features = {"face": face, "screen": screen, "audio": audio[:, STEPS - own_segments :]}
        return calibrated(network, fuse(network, features, present), present, temperature)

    present = {"present": tf.TensorSpec((None, len(MODALITIES)), tf.float32, "present")}
    widths = {name: network.get_layer(f"{name}_encoder").output.shape[-1] for name in MODALITIES}
    own_segments = network.get_layer("audio_encoder").output.shape[1]
    steps = {name: tf.TensorSpec((None, STEPS, widths[name]), tf.float32, name) for name in MODALITIES}
    functions = {
        "serving_default": (serving_default, window(STEPS)),
        "masked": (masked, {**window(STEPS), **present}),
        "encode": (encode_second, window(SECOND_STEPS, context=1)),
        "fuse": (fuse_steps, {**steps, **present}),
    }
    # Not compiled by XLA: slower on a CPU, and TensorFlow Serving need not have it.
    signatures = {
        name: tf.function(function, jit_compile=False).get_concrete_function(**specs)
        for name, (function, specs) in functions.items()
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def golden_windows(store: ClipStore, split: NDArray[np.str_]) -> dict[str, NDArray[Any]]:
    """The first test windows of the store, or its first windows where it has no test rows."""
    test = np.flatnonzero(split == "test")
    rows = (test if len(test) else np.arange(len(store)))[:_GOLDEN_WINDOWS]
    return load_rows(store, rows)


def write_golden(folder: Path, windows: Windows) -> None:
    """Write ``golden.npz``: the windows, ``present``, and what the SavedModel in ``folder`` answers: ``answer_<task>``.

    Who serves the model checks with it that the numbers are still the same. No pickle in it.
    """
    model = tf.saved_model.load(str(folder))
    answers = model.signatures["masked"](**{name: tf.constant(array) for name, array in windows.items()})
    arrays = {**windows, **{f"answer_{task}": answer.numpy() for task, answer in answers.items()}}
    np.savez_compressed(folder / "golden.npz", allow_pickle=False, **arrays)


def promote(exported: Path, serving_root: Path) -> Path:
    """Copy an export to ``serving_root/<n>``, n one more than the last, and return that folder. Nothing is overwritten.

    Raises:
        MerlbError: ``exported`` is no export.
    """
    info = read_json(exported / "merlb.json", "merlb export")
    if not (exported / "saved_model.pb").is_file() or info.get("schema_version") != SCHEMA_VERSION:
        raise MerlbError(f"{exported}: no export of this merlb: run `merlb export` again")
    versions = [int(folder.name) for folder in serving_root.glob("[0-9]*") if folder.name.isdecimal()]
    target = serving_root / str(max(versions, default=0) + 1)
    with replacing(target) as fresh:
        for source in sorted(path for path in exported.rglob("*") if path.is_file()):
            copy_file(source, fresh / source.relative_to(exported))
    return target


def _corpus(store: ClipStore, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the training clips."""
    streamers = metrics["split"]["train"]
    return {
        "source": store.meta.get("source"),
        "clips": int(store.clips["streamer"].isin(streamers).sum()),
        "streamers": len(streamers),
    }
