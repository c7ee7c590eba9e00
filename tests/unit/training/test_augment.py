from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from merlb_model.labels import MODALITIES
from merlb_model.nn import tf
from merlb_model.training import augment as module
from merlb_model.training.augment import augment, withhold
from tests.unit.nn.conftest import random_windows

Windows = dict[str, NDArray[Any]]
SEEDS = [tf.constant([7, number], tf.int64) for number in range(4)]


def changed(windows: Windows, seed: tf.Tensor) -> Windows:
    return {name: np.asarray(values) for name, values in augment(windows, seed).items()}


def replayed(waves: NDArray[np.int16], seed: tf.Tensor) -> NDArray[np.int16]:
    """Sound [B, samples] as `augment` leaves it."""
    windows = {**random_windows(len(waves), steps=20), "audio": waves.reshape(len(waves), 20, -1)}
    windows |= {name: windows[name][:, :1] for name in ("face", "screen")}
    return changed(windows, seed)["audio"].reshape(len(waves), -1)


def tones(hertz: float, count: int, level: float = 8_000.0) -> NDArray[np.int16]:
    """``count`` equal windows of sine of whole periods, so that the end goes on at the beginning."""
    samples = 20 * 5512
    periods = round(hertz * samples / 22_050)
    sine = level * np.sin(2 * np.pi * periods * np.arange(samples) / samples)
    return np.tile(np.round(sine).astype(np.int16), (count, 1))


def test_types_and_shapes_stay_and_other_entries_pass_through() -> None:
    windows = random_windows(2, steps=4)
    after = changed(windows, SEEDS[0])
    assert {name: (values.dtype, values.shape) for name, values in after.items()} == {
        name: (values.dtype, values.shape) for name, values in windows.items()
    }
    assert np.array_equal(after["present"], windows["present"])


def test_the_seed_decides_and_each_modality_is_changed() -> None:
    windows = random_windows(2, steps=4)
    one, same, other = (changed(windows, seed) for seed in (SEEDS[0], SEEDS[0], SEEDS[1]))
    for name in MODALITIES:
        assert np.array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])
        assert not np.array_equal(one[name], windows[name])


@pytest.mark.parametrize("name", ["face", "screen"])
def test_one_draw_a_clip_so_motion_stays(name: str) -> None:
    """Each frame is the one before moved by 2 down and 3 right: it stays so, or 3 left in a mirrored clip."""
    windows = random_windows(12, steps=4)
    for step in range(1, 4):
        windows[name][:, step] = np.roll(windows[name][:, 0], (2 * step, 3 * step), (1, 2))
    ways = set()
    for clip in changed(windows, SEEDS[0])[name]:
        right = [way for way in (3, -3) if np.array_equal(clip[1], np.roll(clip[0], (2, way), (0, 1)))]
        assert len(right) == 1
        for step in (2, 3):
            assert np.array_equal(clip[step], np.roll(clip[0], (2 * step, right[0] * step), (0, 1)))
        ways |= set(right)
    assert ways == {3, -3}  # some of twelve clips are mirrored, some not


@pytest.mark.parametrize("name", MODALITIES)
def test_each_clip_has_a_draw_of_its_own(name: str) -> None:
    windows = {key: np.repeat(values, 3, axis=0) for key, values in random_windows(1, steps=4).items()}
    first, second, third = changed(windows, SEEDS[0])[name]
    assert not np.array_equal(first, second) and not np.array_equal(second, third)


@pytest.mark.parametrize("seed", SEEDS)
def test_grey_stays_grey_and_brightness_keeps_its_order(seed: tf.Tensor) -> None:
    windows = random_windows(3, steps=2)
    windows["face"][:] = np.arange(64, dtype=np.uint8)[:, None, None] * 4  # darker above, lighter below
    windows["face"][:, :, :16], windows["face"][:, :, 48:] = 0, 255
    face = changed(windows, seed)["face"].astype(int)
    assert np.ptp(face, axis=-1).max() <= 1  # of 255: rounding
    middle = face[:, :, 30:34].mean(axis=(1, 2, 3, 4))
    assert (face.min(axis=(1, 2, 3, 4)) < middle).all() and (middle < face.max(axis=(1, 2, 3, 4))).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_silence_stays_silence(seed: tf.Tensor) -> None:
    assert not replayed(np.zeros((2, 20 * 5512), np.int16), seed).any()


def test_a_tone_keeps_its_level_within_the_gain_and_its_pitch_within_the_speed() -> None:
    before = tones(200.0, 12)
    level, pitch = before.astype(float).std(axis=1), np.abs(np.fft.rfft(before)).argmax(axis=1)
    seen = []
    for seed in SEEDS[:2]:
        after = replayed(before, seed)
        decibels = 20 * np.log10(after.astype(float).std(axis=1) / level)
        faster = np.abs(np.fft.rfft(after)).argmax(axis=1) / pitch - 1
        assert np.abs(decibels).max() <= module._GAIN_DB + 0.1 and np.ptp(decibels) > module._GAIN_DB / 4
        assert np.abs(faster).max() <= module._SPEED + 0.002 and np.ptp(faster) > module._SPEED / 4
        assert len(np.unique(after[:, 0])) > 6  # begun elsewhere
        seen.append((decibels, faster))
    for one, other in zip(*seen, strict=True):
        assert np.abs(one - other).max() > np.ptp(one) / 4  # each is drawn anew with another seed


def test_a_replayed_tone_is_a_pure_tone_without_steps() -> None:
    """Samples between two are interpolated: nothing jumps further than the tone's steepest slope allows."""
    after = replayed(tones(200.0, 6), SEEDS[1]).astype(float)
    steepest = 2 * np.pi * 200.0 / 22_050 * (1 + module._SPEED) * 8_000 * 10 ** (module._GAIN_DB / 20)
    assert np.abs(np.diff(after, axis=1)).max() <= 1.02 * steepest + 2


def test_the_loudest_sound_is_clipped_not_wrapped() -> None:
    highest, lowest = (np.full((12, 20 * 5512), value, np.int16) for value in (32_767, -32_768))
    quietest = 32_767 * 10 ** (-module._GAIN_DB / 20) - 1
    after = replayed(highest, SEEDS[0])
    assert after.min() >= quietest and after.max() == 32_767  # some of twelve are made louder
    assert replayed(lowest, SEEDS[0]).max() <= -quietest


def kept(present: list[list[int]], share: float, modalities: tuple[str, ...], seed: int = 1) -> NDArray[np.float32]:
    windows = {"face": np.ones((1, 2)), "present": np.array(present, np.float32)}
    after = withhold(windows, share, modalities, tf.constant([seed, 2], tf.int64))
    assert after["face"] is windows["face"]
    return np.asarray(after["present"])


def test_withholding_takes_its_share_of_each_modality_on_its_own() -> None:
    rows = kept([[1, 1, 1]] * 20_000, 0.25, MODALITIES)
    absent = 1 - rows.mean(axis=0)
    np.testing.assert_allclose(absent, 0.25 - 0.25**3, atol=0.015)  # where all three would go, all three stay
    assert np.mean((rows[:, 0] == 0) & (rows[:, 1] == 0)) == pytest.approx(0.25**2 * 0.75, abs=0.01)


@pytest.mark.parametrize("modalities", [MODALITIES, ("face", "audio"), ("screen", "audio")])
def test_the_last_present_modality_that_the_model_uses_is_never_withheld(modalities: tuple[str, ...]) -> None:
    masks = [[face, screen, audio] for face in (0, 1) for screen in (0, 1) for audio in (0, 1)]
    before = np.array(masks * 200, np.float32)
    after = kept(masks * 200, 0.8, modalities)
    used = [MODALITIES.index(name) for name in modalities]
    assert (after <= before).all()  # nothing absent is called present
    assert (after[:, used].any(axis=1) == before[:, used].any(axis=1)).all()
    assert (after.sum(axis=1) < before.sum(axis=1)).any()


def test_nothing_is_withheld_without_a_share_or_from_a_model_of_one_modality() -> None:
    present = [[1, 1, 1], [0, 1, 1]] * 20
    assert kept(present, 0.0, MODALITIES).tolist() == present
    assert kept(present, 0.9, ("audio",)).tolist() == present


def test_the_seed_decides_what_is_withheld() -> None:
    present = [[1, 1, 1]] * 50
    one, same, other = (kept(present, 0.5, MODALITIES, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)
