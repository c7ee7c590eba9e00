"""Which segments of a window's sound are used: the nearest to the centres of K-means, or a random choice.

After Mustaqeem, Sajjad, Kwon 2020: cluster overlapping segments by a radial-basis similarity and take, in time order,
the segment nearest each cluster's centre. Both layers work on the features of segments, so that a stream encodes each
segment once, and in plain TensorFlow ops over the batch, so that they stand inside the SavedModel.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

_ROUNDS: Final = 10
"""Of K-means. 19 segments in 8 clusters settle within 4 in nearly every window."""
_SAME_DISTANCE: Final = 1e-5
"""Both members of a cluster of two are as near to its centre: rounding, which is not the same everywhere, must not
choose between them."""


def similarity(features: Any) -> Any:
    """Radial-basis similarity of each pair of segments: f32 [B, n, D] → f32 [B, n, n], 1 on the diagonal.

    ``exp(-|a - b|² / s)`` with s the mean squared distance over the window's pairs, so that it suits any scale; 1
    everywhere where all segments are the same.
    """
    count = features.shape[1]
    squares = tf.reduce_sum(tf.math.squared_difference(features[:, :, None], features[:, None]), axis=-1)
    scale = tf.reduce_sum(squares, axis=(1, 2), keepdims=True) / max(count * (count - 1), 1)
    return tf.exp(-tf.math.divide_no_nan(squares, scale))


def starts(similar: Any, clusters: int) -> Any:
    """First members of the clusters: f32 [B, n, n] → i32 [B, clusters], all different.

    The segment most similar to all others, then, one after the other, the one least similar to those chosen. The
    earlier of equals.
    """
    count = similar.shape[1]
    chosen = [tf.argmax(tf.reduce_sum(similar, axis=-1), axis=-1, output_type=tf.int32)]
    nearest = tf.gather(similar, chosen[0], axis=1, batch_dims=1)
    taken = tf.one_hot(chosen[0], count)
    for _ in range(clusters - 1):
        chosen.append(tf.argmin(nearest + 2.0 * taken, axis=-1, output_type=tf.int32))
        nearest = tf.maximum(nearest, tf.gather(similar, chosen[-1], axis=1, batch_dims=1))
        taken += tf.one_hot(chosen[-1], count)
    return tf.stack(chosen, axis=-1)


def distances(similar: Any, members: Any) -> Any:
    """Squared distance of each segment to each centre, in the space where ``similar`` is the inner product.

    ``1 - 2·mean_j k(i, j) + mean_jl k(j, l)`` over the members of the cluster (kernel K-means, Dhillon et al. 2004);
    infinite for a cluster without members.

    Args:
        similar: f32 [B, n, n].
        members: f32 [B, n, clusters] of 1 and 0.

    Returns:
        f32 [B, n, clusters].
    """
    size = tf.reduce_sum(members, axis=1, keepdims=True)
    weights = tf.math.divide_no_nan(members, size)
    to_centre = tf.matmul(similar, weights)
    of_centre = tf.reduce_sum(weights * to_centre, axis=1, keepdims=True)
    return tf.where(size > 0, 1.0 - 2.0 * to_centre + of_centre, np.inf)


def key_segments(features: Any, clusters: int) -> Any:
    """The segments nearest the centres of K-means: float [B, n, D] → i32 [B, clusters], in time order.

    Clustered in f32, as 16 bits would make equals of what differs. The earlier of equals. A cluster that loses its
    members is stood for by its first one, so that silence and constant sound have an answer.
    """
    similar = similarity(tf.cast(features, tf.float32))
    first = starts(similar, clusters)
    to_first = tf.gather(similar, first, axis=2, batch_dims=1)
    members = tf.one_hot(tf.argmax(to_first, axis=-1), clusters)
    for _ in range(_ROUNDS):
        members = tf.one_hot(tf.argmin(distances(similar, members), axis=-1), clusters)
    among_members = tf.where(members > 0, distances(similar, members), np.inf)
    near = among_members <= tf.reduce_min(among_members, axis=1, keepdims=True) + _SAME_DISTANCE
    nearest = tf.argmax(tf.cast(near, tf.int32), axis=1, output_type=tf.int32)
    return tf.sort(tf.where(tf.reduce_sum(members, axis=1) > 0, nearest, first), axis=-1)


class _Selection(keras.layers.Layer):
    """Some of a window's segments.

    Call: f32 [B, n, D] → (the chosen, f32 [B, segments, D] in time order; each segment's nearest chosen one in time,
    f32 [B, n, D], for what needs one a step).
    """

    def __init__(self, segments: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.segments = segments

    def choose(self, features: Any, training: bool) -> Any:
        """Indices i32 [B, segments], in time order."""
        raise NotImplementedError

    def call(self, features: Any, training: bool | None = None) -> tuple[Any, Any]:
        chosen = tf.stop_gradient(self.choose(features, bool(training)))
        places = tf.range(features.shape[1])[None, :, None]
        nearest = tf.argmin(tf.abs(places - chosen[:, None]), axis=-1)
        each_step = tf.gather(chosen, nearest, batch_dims=1)
        return tf.gather(features, chosen, batch_dims=1), tf.gather(features, each_step, batch_dims=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[tuple[int | None, ...], ...]:
        return (input_shape[0], self.segments, *input_shape[2:]), tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "segments": self.segments}


@keras.saving.register_keras_serializable(package="merlb")
class KeySegments(_Selection):
    """The segments nearest the centres of K-means."""

    def choose(self, features: Any, training: bool) -> Any:
        return key_segments(features, self.segments)


@keras.saving.register_keras_serializable(package="merlb")
class RandomSegments(_Selection):
    """As many segments without a reason: others for each window in training, afterwards the same of every window."""

    def __init__(self, segments: int, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(segments, **kwargs)
        self.seed = seed
        self.draws = keras.random.SeedGenerator(seed)

    def choose(self, features: Any, training: bool) -> Any:
        batch, count = tf.shape(features)[0], features.shape[1]
        if training:
            order = tf.argsort(keras.random.uniform((batch, count), seed=self.draws), axis=-1)
            return tf.sort(order[:, : self.segments], axis=-1)
        fixed = np.sort(np.random.default_rng(self.seed).permutation(count)[: self.segments])
        return tf.tile(tf.constant(fixed[None], tf.int32), (batch, 1))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


SELECTIONS: Final = {"key_segments": KeySegments, "random_segments": RandomSegments}
"""Of the front ends, those that use some segments only."""
