"""From the features of each step to one decision a task, in five ways.

Each modality's steps go through a Bi-LSTM and end in a vector; the ways differ in where the modalities meet:

- early: the features of each step side by side, one Bi-LSTM over them;
- late: each modality decides alone, and the logits of those present are averaged;
- joint: the modalities' vectors side by side, then the heads;
- deep: the modalities meet at each step and again as vectors, then a dense stack;
- merlb: the outer product of the three vectors, through a tensor-train layer.

An absent modality enters merlb as [1; 0]: the terms that need it vanish, the others stay. Late leaves it out of the
mean. The others get zeros in its place, and are told of it by ``present`` beside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
from keras import layers, ops

from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn.inception_dense import BATCH_NORM_MOMENTUM
from merlb_model.nn.key_segments import SELECTIONS
from merlb_model.nn.presence import MeanOfPresent, NothingThere, OrPrior, Presence
from merlb_model.nn.tensor_train import TensorTrainFusion
from merlb_model.params import ModelParams, TensorTrainParams

_VECTOR_SCALE: Final = 0.04
"""Beside the 1 in front of each of merlb's vectors its other elements start small: what one modality tells is learnt
first, and products of two and three grow from it. At full size the products of what is not learnt yet drown it: chance
for ten epochs."""
_FIRST_LOGITS: Final = 0.01  # standard deviation of their weights: the first answers are unsure, not wrong


@dataclass(frozen=True)
class FusionSizes:
    """Widths of a fusion: chosen so that all five have as many parameters.

    Attributes:
        units: units of each Bi-LSTM, each way; a modality's vector is twice as wide.
        head: hidden units of each head.
        mixed: deep: width of what the modalities make together at each step.
        stack: deep: widths of the dense stack.
    """

    units: int
    head: int
    mixed: int = 0
    stack: tuple[int, ...] = ()


@keras.saving.register_keras_serializable(package="merlb")
class WithChange(layers.Layer):
    """Each step's features beside their change since the step before: [B, T, D] → [B, T, 2·D]; 0 for the first."""

    def call(self, steps: Any) -> Any:
        change = steps[:, 1:] - steps[:, :-1]
        return ops.concatenate([steps, ops.pad(change, ((0, 0), (1, 0), (0, 0)))], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int | None, int]:
        return (input_shape[0], input_shape[1], 2 * (input_shape[2] or 0))


@keras.saving.register_keras_serializable(package="merlb")
class OnSteps(layers.Layer):
    """Features on ``steps`` steps, the first one held where they begin later: [B, T, D] → [B, steps, D]."""

    def __init__(self, steps: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = steps

    def call(self, features: Any) -> Any:
        missing = self.steps - features.shape[1]
        return ops.concatenate([ops.repeat(features[:, :1], missing, axis=1), features], axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (input_shape[0], self.steps, *input_shape[2:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps}


@dataclass(frozen=True)
class _Window:
    """What the fusions fuse.

    Attributes:
        steps: {modality: [B, T, features]}, T its own; the modalities that the model uses, in their order.
        aligned: the same on one grid, [B, 20, features].
        present: f32 [B, 3], 0 where absent or withheld.
        inputs: {modality: [B, T, features]} of all three, for a modality that is withheld.
    """

    steps: dict[str, Any]
    aligned: dict[str, Any]
    present: Any
    inputs: dict[str, Any]

    def is_there(self, modality: str) -> Any:
        """f32 [B, 1]."""
        index = MODALITIES.index(modality)
        return self.present[:, index : index + 1]


def fuser(
    steps: Mapping[str, int],
    widths: Mapping[str, int],
    params: ModelParams,
    sizes: FusionSizes,
    tasks: Sequence[str],
    prior: Mapping[str, Sequence[float]],
    seed: int,
) -> keras.Model:
    """Network from features to logits: what `fuse` exports.

    Args:
        steps: time steps of each modality.
        widths: width of a step's features of each modality.
        params: the section ``model``: fusion, modalities (the others count as absent), audio front end, dropout.
        sizes: of that fusion.
        tasks: the heads.
        prior: class shares of the training rows, the answer where nothing is present.
        seed: of the random segments, where the front end takes such.

    Returns:
        A model of the inputs ``face, screen, audio`` (f32 [B, steps, width]) and ``present`` (f32 [B, 3]) with the
        outputs {task: f32 logits [B, classes]}.
    """
    inputs = {name: keras.Input((steps[name], widths[name]), name=name) for name in MODALITIES}
    present = keras.Input((len(MODALITIES),), name="present")
    usable = Presence(params.modalities, name="usable")(present)
    window = _window(inputs, usable, params, seed)
    heads = _late(window, sizes, tasks, params.dropout) if params.fusion == "late" else None
    if heads is None:
        fused = layers.Dropout(params.dropout, name="fusion_dropout")(_fused(window, sizes, params))
        heads = {task: _head(fused, sizes.head, task, task) for task in tasks}
    outputs = {task: OrPrior(prior[task], name=task)(heads[task], usable) for task in tasks}
    return keras.Model({**inputs, "present": present}, outputs, name="fuse")


def _window(inputs: dict[str, Any], present: Any, params: ModelParams, seed: int) -> _Window:
    """Choose the audio's segments, and put all modalities on one grid for the fusions that mix steps."""
    steps: dict[str, Any] = {name: inputs[name] for name in MODALITIES if name in params.modalities}
    aligned = dict(steps)
    selection = SELECTIONS.get(params.audio.frontend)
    if "audio" in steps and selection is not None:
        own = {"seed": seed} if params.audio.frontend == "random_segments" else {}
        chosen = selection(params.audio.segments, name="audio_segments", **own)
        steps["audio"], aligned["audio"] = chosen(inputs["audio"])
    if params.fusion in ("early", "deep"):
        longest = max(int(each.shape[1]) for each in inputs.values())
        aligned = {name: OnSteps(longest, name=f"{name}_on_steps")(each) for name, each in aligned.items()}
    return _Window(steps, aligned, present, inputs)


def _fused(window: _Window, sizes: FusionSizes, params: ModelParams) -> Any:
    if params.fusion == "merlb":
        return _merlb(window, sizes, params.tensor_train)
    return {"early": _early, "joint": _joint, "deep": _deep}[params.fusion](window, sizes)


def _normed(steps: Any, name: str) -> Any:
    """Steps with their changes, which are much smaller than what changes: the norm brings both to one scale."""
    steps = WithChange(name=f"{name}_with_change")(steps)
    return layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(steps)


def _mean_state(steps: Any, units: int, name: str) -> Any:
    """A Bi-LSTM's mean state: [B, T, D] → [B, 2·units]. Not the last states: each step is as near to the answer.

    Unrolled, its few steps take two thirds of the loop's time.
    """
    recurrent = layers.LSTM(units, return_sequences=True, unroll=True, name=f"{name}_lstm")
    states = layers.Bidirectional(recurrent, name=f"{name}_both_ways")(steps)
    return layers.GlobalAveragePooling1D(name=f"{name}_mean")(states)


def _head(vector: Any, width: int, task: str, name: str) -> Any:
    """Logits of a task from a vector."""
    hidden = layers.Dense(width, activation="relu", name=f"{name}_hidden")(vector)
    start = keras.initializers.RandomNormal(stddev=_FIRST_LOGITS)
    return layers.Dense(len(TASKS[task]), kernel_initializer=start, name=f"{name}_logits")(hidden)


def _vectors(window: _Window, sizes: FusionSizes) -> dict[str, Any]:
    """Each modality's vector, normed: {modality: [B, 2·units]}."""
    return {
        name: layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_vector")(
            _mean_state(_normed(steps, name), sizes.units, name)
        )
        for name, steps in window.steps.items()
    }


def _side_by_side(window: _Window, vectors: Mapping[str, Any]) -> list[Any]:
    """Vectors, zero where absent, and what is present."""
    there = [
        layers.Multiply(name=f"{name}_if_present")([vector, window.is_there(name)]) for name, vector in vectors.items()
    ]
    return [*there, window.present]


def _steps_side_by_side(window: _Window, prefix: str = "") -> Any:
    """The features of each step, zero where absent, and what is present: [B, T, all features + 3]."""
    steps = int(next(iter(window.aligned.values())).shape[1])
    there = [
        layers.Multiply(name=f"{prefix}{name}_steps_if_present")(
            [_normed(each, f"{prefix}{name}"), window.is_there(name)[:, None]]
        )
        for name, each in window.aligned.items()
    ]
    present = layers.RepeatVector(steps, name="present_each_step")(window.present)
    return layers.Concatenate(name="steps")([*there, present])


def _early(window: _Window, sizes: FusionSizes) -> Any:
    fused = _mean_state(_steps_side_by_side(window), sizes.units, "steps")
    return layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="fusion_norm")(fused)


def _joint(window: _Window, sizes: FusionSizes) -> Any:
    return layers.Concatenate(name="fusion")(_side_by_side(window, _vectors(window, sizes)))


def _deep(window: _Window, sizes: FusionSizes) -> Any:
    mixed = layers.Dense(sizes.mixed, activation="relu", name="mixed_steps")(_steps_side_by_side(window, "mixed_"))
    mixed = _mean_state(mixed, sizes.mixed // 2, "mixed")
    mixed = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="mixed_vector")(mixed)
    fused = layers.Concatenate(name="fusion")([*_side_by_side(window, _vectors(window, sizes)), mixed])
    for index, width in enumerate(sizes.stack):
        fused = layers.Dense(width, activation="relu", name=f"stack_{index}")(fused)
    return fused


def _late(window: _Window, sizes: FusionSizes, tasks: Sequence[str], dropout: float) -> dict[str, Any]:
    vectors = {
        name: layers.Dropout(dropout, name=f"{name}_dropout")(vector)
        for name, vector in _vectors(window, sizes).items()
    }
    present = layers.Concatenate(name="used_present")([window.is_there(name) for name in vectors])
    means = {}
    for task in tasks:
        each = [_head(vector, sizes.head, task, f"{name}_{task}")[:, None] for name, vector in vectors.items()]
        logits = layers.Concatenate(axis=1, name=f"{task}_each")(each)
        means[task] = MeanOfPresent(name=f"{task}_mean")(logits, present)
    return means


def _merlb(window: _Window, sizes: FusionSizes, shape: TensorTrainParams) -> Any:
    vectors = []
    for name in MODALITIES:
        if name in window.steps:
            vector = _mean_state(_normed(window.steps[name], name), sizes.units, name)
            vector = layers.Rescaling(_VECTOR_SCALE, name=f"{name}_vector")(vector)
            vectors.append(layers.Multiply(name=f"{name}_if_present")([vector, window.is_there(name)]))
        else:
            nothing = NothingThere(2 * sizes.units, name=f"{name}_withheld")(window.inputs[name][:, :1])
            vectors.append(layers.Flatten(name=f"{name}_flat")(nothing))
    fused = TensorTrainFusion(shape.input_modes, shape.output_modes, shape.ranks, shape.l2, name="fusion")(vectors)
    # Products of three vectors start small; an epsilon of their size would hold the norm back.
    return layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=1e-6, name="fusion_norm")(fused)
