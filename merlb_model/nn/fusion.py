"""From the features of each step to one decision a task: a vector a modality, their fusion, a head a task."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn.inception_dense import BATCH_NORM_MOMENTUM
from merlb_model.nn.tensor_train import TensorTrainFusion

VECTOR_WIDTH = 128
_HEAD_WIDTH = 128
_VECTOR_SCALE = 0.04
"""Beside the 1 in front of each vector its other elements start small: what one modality tells is learnt first, and
products of two and three grow from it. At full size the products of what is not learnt yet drown it: chance for ten
epochs."""
_FIRST_LOGITS = 0.01  # standard deviation of their weights: the first answers are unsure, not wrong
_SMALLEST_SHARE = 1e-6  # a class that training has not seen still has a finite logarithm


@keras.saving.register_keras_serializable(package="merlb")
class Presence(layers.Layer):
    """What of a window is there and may be used: f32 [B, 3] of 1 and 0 → the same, 0 where withheld from this model."""

    def __init__(self, modalities: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.modalities = tuple(modalities)

    def call(self, present: Any) -> Any:
        allowed = [float(modality in self.modalities) for modality in MODALITIES]
        return present * ops.convert_to_tensor([allowed], dtype=present.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "modalities": self.modalities}


@keras.saving.register_keras_serializable(package="merlb")
class NothingThere(layers.Layer):
    """What stands for the encoder of a modality that a model does not use: [B, T, ...] → zeros [B, T - skipped, width].

    Args:
        width: width of the features.
        skipped: leading steps without features of their own, as the first slice of audio is.
    """

    def __init__(self, width: int, skipped: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.skipped = skipped

    def call(self, steps: Any) -> Any:
        return ops.zeros((ops.shape(steps)[0], steps.shape[1] - self.skipped, self.width), dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int, int]:
        return (input_shape[0], (input_shape[1] or 0) - self.skipped, self.width)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width, "skipped": self.skipped}


@keras.saving.register_keras_serializable(package="merlb")
class OrPrior(layers.Layer):
    """Logits where any modality is present, else the logarithm of the training rows' class shares.

    Call: logits [B, C] and present [B, 3] → logits [B, C].
    """

    def __init__(self, prior: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prior = tuple(float(share) for share in prior)

    def call(self, logits: Any, present: Any) -> Any:
        shares = np.maximum(np.asarray(self.prior, dtype=np.float64), _SMALLEST_SHARE)
        answer = ops.convert_to_tensor(np.log(shares / shares.sum())[None], dtype=logits.dtype)
        return ops.where(ops.any(present > 0, axis=-1, keepdims=True), logits, answer)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prior": self.prior}


@keras.saving.register_keras_serializable(package="merlb")
class WithChange(layers.Layer):
    """Each step's features beside their change since the step before: [B, T, D] → [B, T, 2·D]; 0 for the first."""

    def call(self, steps: Any) -> Any:
        change = steps[:, 1:] - steps[:, :-1]
        return ops.concatenate([steps, ops.pad(change, ((0, 0), (1, 0), (0, 0)))], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, int | None, int]:
        return (input_shape[0], input_shape[1], 2 * (input_shape[2] or 0))


def _vector(features: Any, present: Any, index: int) -> Any:
    """A modality's steps as one vector [B, 128], zero where the modality is absent."""
    modality = MODALITIES[index]
    recurrent = layers.LSTM(VECTOR_WIDTH // 2, return_sequences=True, name=f"{modality}_lstm")
    steps = WithChange(name=f"{modality}_with_change")(features)
    # Changes are much smaller than what changes: the norm brings both to one scale.
    steps = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{modality}_norm")(steps)
    states = layers.Bidirectional(recurrent, name=f"{modality}_both_ways")(steps)
    # The mean of the states, not the last ones: each step is as near to the answer as any other.
    vector = layers.GlobalAveragePooling1D(name=f"{modality}_mean")(states)
    vector = layers.Rescaling(_VECTOR_SCALE, name=f"{modality}_vector")(vector)
    return layers.Multiply(name=f"{modality}_if_present")([vector, present[:, index : index + 1]])


def fuser(
    steps: Mapping[str, int],
    widths: Mapping[str, int],
    modalities: Sequence[str],
    tasks: Sequence[str],
    prior: Mapping[str, Sequence[float]],
    dropout: float,
) -> keras.Model:
    """Network from features to logits: what `fuse` exports.

    An absent modality enters the tensor-train fusion as [1; 0]: the terms that need it vanish, the others stay.

    Args:
        steps: time steps of each modality.
        widths: width of a step's features of each modality.
        modalities: those that the model uses; the others count as absent.
        tasks: the heads.
        prior: class shares of the training rows, the answer where nothing is present.
        dropout: share of the fused units dropped in training.

    Returns:
        A model of the inputs ``face, screen, audio`` (f32 [B, steps, width]) and ``present`` (f32 [B, 3]) with the
        outputs {task: f32 logits [B, classes]}.
    """
    inputs = {name: keras.Input((steps[name], widths[name]), name=name) for name in MODALITIES}
    present = keras.Input((len(MODALITIES),), name="present")
    usable = Presence(modalities, name="usable")(present)
    vectors = [
        _vector(inputs[name], usable, index)
        if name in modalities
        else layers.Flatten(name=f"{name}_flat")(
            NothingThere(VECTOR_WIDTH, name=f"{name}_withheld")(inputs[name][:, :1])
        )
        for index, name in enumerate(MODALITIES)
    ]
    fused = TensorTrainFusion(name="fusion")(vectors)
    # Products of three vectors start small; an epsilon of their size would hold the norm back.
    fused = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=1e-6, name="fusion_norm")(fused)
    fused = layers.Dropout(dropout, name="fusion_dropout")(fused)
    outputs = {}
    for task in tasks:
        hidden = layers.Dense(_HEAD_WIDTH, activation="relu", name=f"{task}_hidden")(fused)
        start = keras.initializers.RandomNormal(stddev=_FIRST_LOGITS)
        logits = layers.Dense(len(TASKS[task]), kernel_initializer=start, name=f"{task}_logits")(hidden)
        outputs[task] = OrPrior(prior[task], name=task)(logits, usable)
    return keras.Model({**inputs, "present": present}, outputs, name="fuse")
