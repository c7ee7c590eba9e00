"""Kernel K-means against scikit-learn's on points whose inner products are the similarities."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import rbf_kernel

from merlb_model.nn import keras, tf
from merlb_model.nn.key_segments import (
    SELECTIONS,
    KeySegments,
    RandomSegments,
    distances,
    key_segments,
    similarity,
    starts,
)

ROUNDING = 1e-5  # what is no further from a centre than this is as near


def features(windows: int, segments: int = 19, width: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """Random ones; where there are many, none below zero, as an encoder's are."""
    values = np.random.default_rng(seed).normal(size=(windows, segments, width))
    return (np.maximum(values, 0) if width > 5 else values).astype(np.float32)


def kernel(window: NDArray[np.float32]) -> NDArray[np.float64]:
    """Similarities of a window by scikit-learn: the scale is the mean squared distance of different segments."""
    points = window.astype(np.float64)
    pairs = [(one - other) @ (one - other) for i, one in enumerate(points) for other in points[:i]]
    return np.asarray(rbf_kernel(points, gamma=1 / np.mean(pairs)))


def points_of(similar: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points Φ with ΦΦᵀ the similarities."""
    values, vectors = np.linalg.eigh(similar)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))


def squared_distances(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(((points[:, None] - others[None]) ** 2).sum(axis=-1))


def first_members(points: NDArray[np.float64], clusters: int) -> list[int]:
    """The point in the middle, then the furthest from those chosen, one after the other."""
    apart = squared_distances(points, points)
    chosen = [int(apart.sum(axis=1).argmin())]
    while len(chosen) < clusters:
        chosen.append(int(apart[:, chosen].min(axis=1).argmax()))
    return chosen


def oracle(window: NDArray[np.float32], clusters: int) -> list[int]:
    """The key segments of one window, by scikit-learn."""
    points = points_of(kernel(window))
    start = points[first_members(points, clusters)]
    fitted = KMeans(clusters, init=start, n_init=1, algorithm="lloyd", tol=0).fit(points)
    chosen = []
    for cluster, centre in enumerate(fitted.cluster_centers_):
        members = np.flatnonzero(fitted.labels_ == cluster)
        assert len(members)
        apart = squared_distances(points[members], centre[None])[:, 0]
        chosen.append(int(members[apart <= apart.min() + ROUNDING][0]))
    return sorted(chosen)


def chosen_of(values: NDArray[np.float32], clusters: int) -> NDArray[np.int32]:
    return np.asarray(key_segments(tf.constant(values), clusters))


def assert_valid(chosen: NDArray[np.int32], segments: int) -> None:
    """In time order, all different, in range."""
    assert chosen.dtype == np.int32
    assert (np.diff(chosen, axis=1) > 0).all()
    assert chosen.min() >= 0
    assert chosen.max() < segments


def test_similarity_equals_scikit_learns_at_the_windows_own_scale() -> None:
    values = features(5)
    expected = np.stack([kernel(window) for window in values])
    np.testing.assert_allclose(similarity(tf.constant(values)), expected, rtol=1e-5, atol=1e-6)


def test_clusters_start_in_the_middle_and_then_as_far_apart_as_can_be() -> None:
    values = features(50, seed=1)
    expected = [first_members(points_of(kernel(window)), 8) for window in values]
    np.testing.assert_array_equal(starts(similarity(tf.constant(values)), 8), expected)


def test_distances_are_those_to_the_mean_of_a_clusters_points() -> None:
    values = features(4, segments=12)
    cluster = np.random.default_rng(2).permutation(np.arange(48) % 3).reshape(4, 12)  # of four: the last is empty
    ours = np.asarray(distances(similarity(tf.constant(values)), tf.one_hot(cluster, 4)))
    for window, of_window, answer in zip(values, cluster, ours, strict=True):
        points = points_of(kernel(window))
        centres = np.stack([points[of_window == each].mean(axis=0) for each in range(3)])
        np.testing.assert_allclose(answer[:, :3], squared_distances(points, centres), atol=1e-5)
    assert np.isposinf(ours[:, :, 3]).all()


@pytest.mark.parametrize(
    ("segments", "width", "clusters"), [(19, 64, 8), (19, 5, 3), (20, 64, 8), (12, 2, 4), (7, 3, 7), (19, 64, 1)]
)
def test_key_segments_equal_those_of_scikit_learns_k_means(segments: int, width: int, clusters: int) -> None:
    values = features(100, segments, width, seed=segments + clusters)
    chosen = chosen_of(values, clusters)
    np.testing.assert_array_equal(chosen, [oracle(window, clusters) for window in values])
    assert_valid(chosen, segments)


def test_clear_clusters_are_stood_for_once_each_by_the_segment_in_their_middle() -> None:
    """Three sounds that come again; of each one segment is exact, and the others lie around it in pairs."""
    sound = np.array([0, 0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 2, 1])
    middle = (9, 4, 12)
    values = np.eye(3, 8)[sound] * 10
    for cluster, exact in enumerate(middle):
        around = np.flatnonzero((sound == cluster) & (np.arange(15) != exact))
        for index, each in enumerate(around):
            values[each, 3 + index // 2] += 0.5 - index % 2
    chosen = chosen_of(values[None].astype(np.float32), 3)
    np.testing.assert_array_equal(chosen, [sorted(middle)])


def test_of_two_as_near_to_their_centre_the_earlier_is_taken() -> None:
    """Whatever rounding says: a pair's centre lies half-way."""
    for seed in range(20):
        pairs = np.repeat(100.0 * np.eye(3, 4), 2, axis=0)
        pairs += np.random.default_rng(seed).normal(size=(6, 4))
        np.testing.assert_array_equal(chosen_of(pairs[None].astype(np.float32), 3), [[0, 2, 4]])


def test_windows_together_have_the_answers_they_have_alone() -> None:
    values = features(40, seed=3)
    together = chosen_of(values, 8)
    np.testing.assert_array_equal(together, np.concatenate([chosen_of(window[None], 8) for window in values]))
    np.testing.assert_array_equal(together, chosen_of(values, 8))
    assert len(np.unique(together, axis=0)) > 30


def test_the_scale_of_the_features_does_not_matter() -> None:
    values = features(20, seed=4)
    np.testing.assert_array_equal(chosen_of(values * 4096, 8), chosen_of(values, 8))
    np.testing.assert_array_equal(chosen_of(values / 4096, 8), chosen_of(values, 8))


@pytest.mark.parametrize("level", [0.0, 3.7, -1e4])
@pytest.mark.parametrize("clusters", [1, 8, 19])
def test_silence_and_constant_sound_have_a_valid_answer(level: float, clusters: int) -> None:
    constant = tf.fill((2, 19, 64), tf.constant(level, tf.float32))
    assert_valid(np.asarray(key_segments(constant, clusters)), 19)
    for selection in SELECTIONS.values():
        for answer in selection(clusters)(constant):
            np.testing.assert_array_equal(answer, np.full(answer.shape, level, np.float32))


def test_a_sound_within_silence_is_among_the_key_segments() -> None:
    values = np.zeros((2, 19, 64), np.float32)
    values[0, 7] = values[1, 18] = 1
    chosen = chosen_of(values, 8)
    assert_valid(chosen, 19)
    assert 7 in chosen[0]
    assert 18 in chosen[1]


def test_as_many_clusters_as_segments_take_them_all() -> None:
    np.testing.assert_array_equal(chosen_of(features(5), 19), np.tile(np.arange(19), (5, 1)))


def test_a_layer_gives_the_chosen_in_time_order_and_to_each_step_the_nearest() -> None:
    values = features(6, seed=5)
    steps, each_step = (np.asarray(each) for each in KeySegments(4)(values))
    assert steps.shape == (6, 4, 64)
    assert each_step.shape == (6, 19, 64)
    for window, chosen in enumerate(chosen_of(values, 4)):
        np.testing.assert_array_equal(steps[window], values[window][chosen])
        nearest = [min(chosen, key=lambda place, step=step: (abs(int(place) - step), place)) for step in range(19)]
        np.testing.assert_array_equal(each_step[window], values[window][nearest])


@pytest.mark.parametrize("kind", sorted(SELECTIONS))
def test_gradients_reach_the_chosen_segments_alone(kind: str) -> None:
    values = tf.constant(features(3, seed=6))
    layer = SELECTIONS[kind](5)
    with tf.GradientTape() as tape:
        tape.watch(values)
        chosen, _ = layer(values, training=False)
        total = tf.reduce_sum(chosen)
    gradient = np.asarray(tape.gradient(total, values))
    assert (np.isin(gradient, (0, 1))).all()
    for window in range(3):
        kept = gradient[window].all(axis=-1)
        assert kept.sum() == 5
        np.testing.assert_array_equal(np.asarray(chosen)[window], np.asarray(values)[window][kept])
        assert not gradient[window][~kept].any()


@pytest.mark.parametrize("kind", sorted(SELECTIONS))
def test_a_layer_gives_the_same_within_a_saved_model(kind: str, tmp_path: Path) -> None:
    module = tf.Module()
    module.layer = SELECTIONS[kind](8)
    specification = tf.TensorSpec((None, 19, 64), tf.float32)
    module.select = tf.function(lambda steps: module.layer(steps, training=False), input_signature=[specification])
    tf.saved_model.save(module, str(tmp_path))
    loaded, values = tf.saved_model.load(str(tmp_path)), tf.constant(features(10, seed=7))
    for inside, outside in zip(loaded.select(values), module.layer(values), strict=True):
        np.testing.assert_array_equal(inside, outside)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_features_of_16_bits_are_clustered_in_32(policy: str) -> None:
    values = tf.cast(features(20, seed=8), keras.DTypePolicy(policy).compute_dtype)
    chosen, _ = KeySegments(8, dtype=policy)(values)
    assert chosen.dtype == values.dtype
    expected = chosen_of(np.asarray(tf.cast(values, tf.float32)), 8)
    np.testing.assert_array_equal(chosen, tf.gather(values, expected, batch_dims=1))


def random_places(layer: RandomSegments, windows: int, training: bool) -> NDArray[np.int64]:
    """Which segments are chosen, read from features that are the segments' numbers."""
    numbers = np.tile(np.arange(19, dtype=np.float32)[None, :, None], (windows, 1, 1))
    return np.asarray(layer(numbers, training=training)[0])[:, :, 0].astype(int)


def test_random_segments_are_others_for_each_window_and_step_of_training() -> None:
    layer = RandomSegments(8, seed=1)
    one, two = random_places(layer, 2_000, training=True), random_places(layer, 2_000, training=True)
    assert (np.diff(one, axis=1) > 0).all()
    assert len(np.unique(one, axis=0)) > 1_000
    assert (one != two).any(axis=1).mean() > 0.99
    # 2,000 draws of 8 in 19: each segment in 842 of them, give or take 22.
    np.testing.assert_allclose(np.bincount(one.ravel(), minlength=19), 2_000 * 8 / 19, atol=100)


def test_random_segments_are_others_for_each_step_within_a_graph() -> None:
    layer = RandomSegments(8)
    step = tf.function(lambda values: layer(values, training=True)[0])
    values = tf.constant(features(20))
    assert not np.array_equal(step(values), step(values))


def test_random_segments_are_the_same_for_all_windows_after_training() -> None:
    layer = RandomSegments(8, seed=1)
    before = random_places(layer, 3, training=False)
    assert len(np.unique(before, axis=0)) == 1
    assert (np.diff(before, axis=1) > 0).all()
    random_places(layer, 3, training=True)
    np.testing.assert_array_equal(random_places(layer, 3, training=False), before)
    assert len({tuple(random_places(RandomSegments(8, seed), 1, training=False)[0]) for seed in range(10)}) > 5


def test_random_segments_of_one_seed_are_the_same_in_training() -> None:
    one, same, other = (random_places(RandomSegments(8, seed), 50, training=True) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("layer", [KeySegments(6), RandomSegments(6, seed=9)], ids=["key", "random"])
def test_a_model_with_selected_segments_is_saved_and_loaded(layer: keras.layers.Layer, tmp_path: Path) -> None:
    inputs = keras.Input((19, 64))
    model = keras.Model(inputs, layer(inputs))
    assert [output.shape for output in model.outputs] == [(None, 6, 64), (None, 19, 64)]
    model.save(tmp_path / "model.keras")
    loaded, values = keras.saving.load_model(tmp_path / "model.keras"), features(3)
    for one, other in zip(model(values, training=False), loaded(values, training=False), strict=True):
        np.testing.assert_array_equal(one, other)
