from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.nn import keras, tf
from merlb_model.nn.audio import HOP_SAMPLES, MASKS, EachSegment, frames_of
from merlb_model.nn.spec_augment import SpecAugment
from merlb_model.training.augment import set_spec_augment
from tests.unit.nn.conftest import build, random_windows, shake

Levels = NDArray[np.float32]
Windows = dict[str, NDArray[Any]]
SLICE_SAMPLES = 5512


def masks(time_masks: int, time_width: int, mel_masks: int, mel_width: int, seed: int = 0) -> SpecAugment:
    """An active one."""
    layer = SpecAugment(time_masks, time_width, mel_masks, mel_width, seed)
    layer.active = True
    return layer


def random_levels(clips: int, frames: int, mels: int) -> Levels:
    """Normalised levels, none of them 0."""
    size = np.random.default_rng(0).uniform(0.1, 3, (clips, frames, mels))
    return (size * np.random.default_rng(1).choice([-1, 1], size.shape)).astype(np.float32)


def masked(layer: SpecAugment, levels: Levels) -> Levels:
    return np.asarray(layer(levels, training=True))


def lines(after: Levels) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which frames [clips, frames] and which mel bands [clips, mels] are 0 throughout."""
    return (after == 0).all(axis=2), (after == 0).all(axis=1)


@pytest.mark.parametrize(("active", "training"), [(False, True), (True, False), (True, None), (False, False)])
def test_levels_stay_unless_it_is_active_and_training(active: bool, training: bool | None) -> None:
    layer, levels = masks(2, 10, 2, 8), random_levels(4, 30, 20)
    layer.active = active
    np.testing.assert_array_equal(layer(levels, training=training), levels)


def test_a_fresh_one_is_not_active() -> None:
    assert SpecAugment(*MASKS).active is False


def test_whole_frames_and_whole_bands_are_put_to_0_and_nothing_else_is_touched() -> None:
    levels = random_levels(300, 60, 30)
    after = masked(masks(2, 9, 3, 5), levels)
    frames, mels = lines(after)
    under = frames[:, :, None] | mels[:, None, :]
    np.testing.assert_array_equal(after, np.where(under, 0, levels))
    assert 2 * 9 >= frames.sum(axis=1).max() > 9 and 3 * 5 >= mels.sum(axis=1).max() > 2 * 5
    assert len(np.unique(under, axis=0)) > 250  # each clip has draws of its own


def test_a_mask_is_one_stretch_whose_width_and_then_place_are_drawn_evenly() -> None:
    frames, mels = lines(masked(masks(1, 3, 1, 2), random_levels(20_000, 6, 5)))
    for places, widest in ((frames, 3), (mels, 2)):
        size, widths = places.shape[1], places.sum(axis=1)
        for width in range(widest + 1):
            share = 1 / (widest + 1)
            assert np.mean(widths == width) == pytest.approx(share, abs=0.02)  # over five standard deviations
            if not width:
                continue
            starts = size - width + 1
            for start in range(starts):
                here = places[:, start : start + width].all(axis=1) & (widths == width)
                assert np.mean(here) == pytest.approx(share / starts, abs=0.02), (width, start)
    pairs = product(range(4), range(3))
    for over_frames, over_mels in pairs:
        both = (frames.sum(axis=1) == over_frames) & (mels.sum(axis=1) == over_mels)
        assert np.mean(both) == pytest.approx(1 / 12, abs=0.02)  # each on its own


def test_several_masks_have_draws_of_their_own() -> None:
    """Two stretches of one frame at most: both, one or none, and where they lie is independent."""
    count = lines(masked(masks(2, 1, 0, 0), random_levels(20_000, 5, 2)))[0].sum(axis=1)
    # Each is empty half the time; where neither is, they share their frame in a fifth.
    for frames, share in ((0, 0.25), (1, 0.5 + 0.25 / 5), (2, 0.25 * 4 / 5)):
        assert np.mean(count == frames) == pytest.approx(share, abs=0.02)


def test_a_width_beyond_the_spectrogram_covers_it_at_most() -> None:
    frames, _ = lines(masked(masks(1, 99, 0, 0), random_levels(5_000, 4, 2)))
    shares = np.bincount(frames.sum(axis=1), minlength=5) / 5_000
    np.testing.assert_allclose(shares, 1 / 5, atol=0.04)


def test_without_masks_nothing_is_masked() -> None:
    levels = random_levels(50, 6, 5)
    np.testing.assert_array_equal(masked(masks(0, 3, 0, 2), levels), levels)
    np.testing.assert_array_equal(masked(masks(2, 0, 2, 0), levels), levels)


def test_the_seed_decides_the_draws_and_each_call_draws_anew() -> None:
    levels = random_levels(20, 40, 20)
    one, same, other = (masks(2, 9, 2, 5, seed=seed) for seed in (3, 3, 4))
    first, second = masked(one, levels), masked(one, levels)
    np.testing.assert_array_equal(masked(same, levels), first)
    np.testing.assert_array_equal(masked(same, levels), second)
    assert not np.array_equal(masked(other, levels), first)
    assert not np.array_equal(first, second)


def test_a_traced_step_draws_anew_each_time_for_batches_of_any_size() -> None:
    layer = masks(2, 9, 2, 5)
    step = tf.function(
        lambda levels: layer(levels, training=True), input_signature=[tf.TensorSpec((None, 40, 20), tf.float32)]
    )
    levels = random_levels(20, 40, 20)
    first, second = np.asarray(step(levels)), np.asarray(step(levels))
    assert not np.array_equal(first, second)
    assert step(levels[:3]).shape == (3, 40, 20)


def test_levels_of_16_bits_are_masked_where_those_of_32_are() -> None:
    levels = random_levels(50, 516, 4)
    of_16_bits = SpecAugment(2, 400, 1, 2, dtype="mixed_float16")
    of_16_bits.active = True
    after = masked(of_16_bits, levels)
    assert after.dtype == np.float16
    np.testing.assert_array_equal(after == 0, masked(masks(2, 400, 1, 2), levels) == 0)


def test_a_saved_one_has_the_same_masks_and_waits_to_be_made_active(tmp_path: Path) -> None:
    layer = masks(1, 7, 3, 4, seed=9)
    keras.Sequential([keras.Input((40, 20)), layer]).save(tmp_path / "masks.keras")
    loaded = keras.saving.load_model(tmp_path / "masks.keras").layers[0]
    assert (loaded.time_masks, loaded.time_width, loaded.mel_masks, loaded.mel_width, loaded.seed) == (1, 7, 3, 4, 9)
    assert loaded.active is False
    levels = random_levels(20, 40, 20)
    again = SpecAugment.from_config(layer.get_config())
    again.active = True
    np.testing.assert_array_equal(masked(again, levels), masked(masks(1, 7, 3, 4, seed=9), levels))


def test_what_is_masked_of_a_window_is_masked_in_every_segment_that_holds_it() -> None:
    mels, step, frames = 16, SLICE_SAMPLES // HOP_SAMPLES, frames_of(2, SLICE_SAMPLES)
    spectrogram = keras.Input((frames, mels))
    layer = EachSegment(keras.Model(spectrogram, keras.layers.Flatten()(spectrogram)), mels)
    sound = random_windows(12, steps=6)["audio"]
    layer(sound)
    layer.log_mel.set_weights([np.eye(513, mels), np.full(mels, -40.0), np.ones(mels)])  # no level near 0

    def segments() -> Levels:
        return np.asarray(layer(sound, training=True)).reshape(12, 5, frames, mels)

    before = segments()
    layer.masks.active = True
    after = segments()
    np.testing.assert_array_equal(after, np.where(after == 0, 0, before))
    np.testing.assert_array_equal(after[:, :-1, step:], after[:, 1:, : frames - step])
    over_frames, over_mels = (after == 0).all(axis=3), (after == 0).all(axis=2)
    np.testing.assert_array_equal(after == 0, over_frames[..., None] | over_mels[:, :, None, :])
    assert (over_mels == over_mels[:, :1]).all() and over_mels.any()
    assert (over_frames != over_frames[:, :1]).any()


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return shake(build(dropout=0.0))


def sound_features(model: keras.Model, windows: Windows, training: bool) -> Levels:
    return np.asarray(model.get_layer("audio_encoder")(windows["audio"], training=training))


def test_the_masks_change_what_a_network_hears_in_training_and_no_answer(model: keras.Model, windows: Windows) -> None:
    """Validation and test rows are answered without; what training does to the norms is taken back."""
    weights = model.get_weights()

    def features(active: bool) -> Levels:
        set_spec_augment(model, active)
        found = sound_features(model, windows, training=True)
        model.set_weights(weights)
        return found

    def answers() -> list[Levels]:
        logits = model(windows, training=False)
        return [sound_features(model, windows, training=False), *(np.asarray(each) for each in logits.values())]

    set_spec_augment(model, False)
    plain, unmasked = answers(), features(False)
    np.testing.assert_array_equal(features(False), unmasked)
    assert not np.allclose(features(True), unmasked, atol=1e-2)
    set_spec_augment(model, True)
    for one, other in zip(answers(), plain, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(features(False), unmasked)  # turned off again


def test_a_network_that_is_loaded_does_not_mask_until_told_to(
    model: keras.Model, windows: Windows, tmp_path: Path
) -> None:
    set_spec_augment(model, True)
    model.save(tmp_path / "merlb.keras")
    loaded = keras.saving.load_model(tmp_path / "merlb.keras", compile=False)
    unmasked, same = (sound_features(loaded, windows, training=True) for _ in range(2))
    np.testing.assert_array_equal(same, unmasked)
    set_spec_augment(loaded, True)
    assert not np.allclose(sound_features(loaded, windows, training=True), unmasked, atol=1e-2)
