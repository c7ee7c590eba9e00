"""What a training makes small: each window's loss, the mean over the tasks; one remedy for rare classes at most."""

from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.params import TrainParams

ClassWeights = Mapping[str, Sequence[float]]
"""Weight of each class, by task."""
WindowLosses = Callable[[Mapping[str, tf.Tensor], Mapping[str, tf.Tensor]], tf.Tensor]
"""(targets {task: i64 [B]}, logits {task: [B, classes]}) → f32 [B]."""


def class_weights(targets: NDArray[np.int64], classes: int) -> list[float]:
    """Weight of each class: n / (classes that occur · rows of the class), which is 1 in the mean over the n rows.

    Args:
        targets: class indices of the training rows, i64 [n].
        classes: how many the task has; one without rows weighs 0.
    """
    counts = np.bincount(targets, minlength=classes)
    seen = np.count_nonzero(counts)
    return [len(targets) / (seen * int(count)) if count else 0.0 for count in counts]


def window_losses(params: TrainParams, weights: ClassWeights | None = None) -> WindowLosses:
    """The loss that ``params.loss`` names, over targets of which ``label_smoothing`` is spread over all classes.

    With y the smoothed target (Szegedy et al. 2016) and p the probabilities:

    - ``cross_entropy``: -Σ y·log p;
    - ``weighted_cross_entropy``: the same, times the weight of the window's class;
    - ``focal``: -Σ y·(1 - p)^γ·log p with γ ``focal_gamma`` (Lin et al. 2017).

    Args:
        params: the section ``train``.
        weights: of each task's classes; needed for ``weighted_cross_entropy``, else not used.

    Raises:
        MerlbError: the weights are missing.
    """
    weighted = params.loss == "weighted_cross_entropy"
    if weighted and weights is None:
        raise MerlbError("train.loss: weighted_cross_entropy needs the weight of each class: give class weights")
    ways = {"from_logits": True, "label_smoothing": params.label_smoothing, "reduction": None}
    if params.loss == "focal":
        loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=params.focal_gamma, **ways)
    else:
        loss = keras.losses.CategoricalCrossentropy(**ways)

    def losses(targets: Mapping[str, tf.Tensor], logits: Mapping[str, tf.Tensor]) -> tf.Tensor:
        each = []
        for task, indices in targets.items():
            values = tf.cast(logits[task], tf.float32)  # 16 bits are too few for a loss
            weight = tf.gather(tf.constant(weights[task], tf.float32), indices) if weighted and weights else None
            each.append(loss(tf.one_hot(indices, values.shape[-1]), values, weight))
        return tf.add_n(each) / len(each)

    return losses
