"""The whole network: presets, building, loading, its hash, and its probabilities."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from merlb_model.dataset.store import DTYPES, SHAPES, SLICE_SAMPLES, STEPS
from merlb_model.errors import MerlbError
from merlb_model.labels import MODALITIES, TASK_SETS, TASKS
from merlb_model.nn.audio import AudioSizes, EachSegment, segment_encoder, segment_slices, set_constants
from merlb_model.nn.fusion import FusionSizes, fuser
from merlb_model.nn.inception_dense import EachStep, FrameSizes, frame_encoder
from merlb_model.nn.presence import NothingThere
from merlb_model.params import ModelParams


@dataclass(frozen=True)
class Preset:
    """Sizes of the three encoders, and of what fuses them: as many parameters in each of the five fusions."""

    face: FrameSizes
    screen: FrameSizes
    audio: AudioSizes
    fusions: Mapping[str, FusionSizes]


PRESETS: Final[dict[str, Preset]] = {
    "small": Preset(
        # Channels in sixteens, for which oneDNN has its fast kernels.
        face=FrameSizes((16, 3, 2), True, 8, 16, (2,), 16, 16, 96),
        screen=FrameSizes((16, 5, 4), True, 8, 16, (3,), 16, 16, 128),
        audio=AudioSizes(64, (16, 16, 32), 16, 64),
        fusions={
            "early": FusionSizes(77, 320),
            "late": FusionSizes(64, 128),
            "joint": FusionSizes(64, 128),
            "deep": FusionSizes(48, 128, mixed=64, stack=(96, 384)),
            "merlb": FusionSizes(64, 128),
        },
    ),
    "paper": Preset(
        face=FrameSizes((32, 5, 2), True, 32, 48, (4, 8), 32, 192, 384),
        screen=FrameSizes((32, 5, 2), True, 16, 48, (2, 4, 8), 32, 192, 384),
        audio=AudioSizes(80, (32, 64, 128, 128), 64, 384),
        fusions={
            "early": FusionSizes(67, 370),
            "late": FusionSizes(64, 128),
            "joint": FusionSizes(64, 128),
            "deep": FusionSizes(48, 128, mixed=100, stack=(96, 384)),
            "merlb": FusionSizes(64, 128),
        },
    ),
}


def build_model(
    params: ModelParams, audio_level: Mapping[str, Sequence[float]], prior: Mapping[str, Sequence[float]], seed: int
) -> keras.Model:
    """Build the network that ``params`` name, with fresh weights.

    Args:
        params: the section ``model``.
        audio_level: ``mean`` and ``deviation`` of each mel band over the training rows (``nn.audio.audio_level``).
        prior: class shares of the training rows, by task.
        seed: sets Keras's, NumPy's and Python's generators, so that the weights are the same for the same seed.

    Returns:
        A model of the inputs ``face`` u8 [B,20,64,64,3], ``screen`` u8 [B,20,128,128,3], ``audio`` i16 [B,20,5512] and
        ``present`` f32 [B,3], with the outputs {task: f32 logits [B, classes]}.
    """
    keras.utils.set_random_seed(seed)
    preset = PRESETS[params.preset]
    inputs = {name: keras.Input(SHAPES[name], dtype=DTYPES[name].name, name=name) for name in MODALITIES}
    present = keras.Input((len(MODALITIES),), name="present")
    encoders = _encoders(preset, params)
    fuse = build_fuse(params, prior, seed)
    features = {name: encoders[name](inputs[name]) for name in MODALITIES}
    model = keras.Model({**inputs, "present": present}, fuse({**features, "present": present}), name="merlb")
    if "audio" in params.modalities:
        set_constants(encoders["audio"].log_mel, audio_level)
    return model


def build_fuse(params: ModelParams, prior: Mapping[str, Sequence[float]], seed: int) -> keras.Model:
    """The part of the network behind the encoders, with fresh weights: ``nn.fusion.fuser`` in the preset's sizes."""
    preset = PRESETS[params.preset]
    return fuser(
        steps={"face": STEPS, "screen": STEPS, "audio": STEPS + 1 - segment_slices(params.audio.frontend)},
        widths={name: getattr(preset, name).features for name in MODALITIES},
        params=params,
        sizes=preset.fusions[params.fusion],
        tasks=TASK_SETS[params.tasks],
        prior=prior,
        seed=seed,
    )


def _encoders(preset: Preset, params: ModelParams) -> dict[str, keras.layers.Layer]:
    """The encoder of each modality; nothing at all for one that the model does not use."""
    widths = {"face": preset.face, "screen": preset.screen}
    encoders: dict[str, keras.layers.Layer] = {
        name: EachStep(frame_encoder(SHAPES[name][1:], sizes, f"{name}_frame"), name=f"{name}_encoder")
        for name, sizes in widths.items()
    }
    length = segment_slices(params.audio.frontend)
    segment = segment_encoder(preset.audio, SLICE_SAMPLES, "audio_segment", length)
    encoders["audio"] = EachSegment(segment, preset.audio.mels, length, name="audio_encoder")
    for name in set(MODALITIES) - set(params.modalities):
        skipped = length - 1 if name == "audio" else 0
        encoders[name] = NothingThere(getattr(preset, name).features, skipped, name=f"{name}_encoder")
    return encoders


def encode(model: keras.Model, windows: Mapping[str, Any]) -> dict[str, Any]:
    """Features of steps in a row, whatever window they are in.

    Args:
        model: what ``build_model`` made.
        windows: ``face`` u8 [B,T,64,64,3], ``screen`` u8 [B,T,128,128,3], ``audio`` i16 [B,T+1,5512]; T known.

    Returns:
        f32 [B, T, features] by modality; audio's step k is the segment of the slices k and k+1, or, with the front end
        ``slices``, step k of T+1 is the slice k.
    """
    return {name: model.get_layer(f"{name}_encoder")(windows[name], training=False) for name in MODALITIES}


def fuse(model: keras.Model, features: Mapping[str, Any], present: Any) -> dict[str, Any]:
    """Logits {task: f32 [B, classes]} from a window's features: 20 steps of face and screen, 19 or 20 of audio."""
    inputs = {name: ops.convert_to_tensor(values) for name, values in {**features, "present": present}.items()}
    return dict(model.get_layer("fuse")(inputs, training=False))


def calibrated(
    model: keras.Model, logits: Mapping[str, Any], present: Any, temperature: Mapping[str, float]
) -> dict[str, Any]:
    """Probabilities {task: f32 [B, classes]}: softmax of logits over the task's temperature.

    Where nothing is present the logits are the training prior's, which no temperature may bend.
    """
    something = answerable(model, present)[:, None]
    return {
        task: ops.softmax(ops.where(something, values / temperature[task], values), axis=-1)
        for task, values in logits.items()
    }


def answerable(model: keras.Model, present: Any) -> Any:
    """Whether a window holds any modality that the model uses, bool [B], from ``present`` f32 [B, 3]."""
    return ops.any(model.get_layer("fuse").get_layer("usable")(present) > 0, axis=-1)


def priors(model: keras.Model) -> dict[str, list[float]]:
    """Class shares of the rows that the model was trained on, by task."""
    fuse_model = model.get_layer("fuse")
    return {task: list(fuse_model.get_layer(task).prior) for task in TASKS if task in fuse_model.output}


def weights_hash(model: keras.Model) -> str:
    """SHA-256 over the variables in path order: path, dtype, shape and bytes of each, as 64 hexadecimal digits.

    A variable's path is its place in the network, not Keras's ``path``, which changes when a model is loaded.
    """
    digest = hashlib.sha256()
    for path, variable in sorted(_variables(model).items()):
        values = np.ascontiguousarray(variable.numpy())
        digest.update(f"{path}:{values.dtype.str}:{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _variables(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """Variables by place: names of the models and the layer, then the number within the layer."""
    found: dict[str, Any] = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found |= _variables(layer, f"{prefix}{layer.name}/")
        else:
            found |= {f"{prefix}{layer.name}/{index:04d}": each for index, each in enumerate(layer.weights)}
    return found


def load_model(path: Path) -> keras.Model:
    """Load what ``merlb train`` saved.

    Raises:
        MerlbError: it is missing or cannot be read.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        if not path.exists():
            raise MerlbError(f"{path} is missing: run `merlb train` first") from None
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise MerlbError(f"{path}: {first_line}: run `merlb train` again") from None
