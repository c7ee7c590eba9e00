import math

import imagehash
import numpy as np
import pytest
import skimage.data
import skimage.transform
from PIL import Image

from merlb_model.dataset.store import open_store
from merlb_model.dataset.validation import signals
from merlb_model.params import ValidateParams
from tests.unit.dataset.small_stores import write_noisy_store

PARAMS = ValidateParams()


def test_hashes_are_those_of_imagehash_but_for_the_bits_order() -> None:
    photographs = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.cat(), skimage.data.rocket()]
    grey = [skimage.transform.resize(image.mean(axis=2), (32, 32), anti_aliasing=True) for image in photographs]
    pictures = np.stack(grey).round().astype(np.uint8)
    hashes = signals.perceptual_hashes(pictures.astype(np.float64))
    oracle = [imagehash.phash(Image.fromarray(picture), hash_size=16, highfreq_factor=2) for picture in pictures]
    assert hashes.shape == (4, 8) and hashes.dtype == np.uint32
    for first in range(4):
        assert np.bitwise_count(hashes[first]).sum() == oracle[first].hash.sum()
        for second in range(4):
            differ = int(np.bitwise_count(hashes[first] ^ hashes[second]).sum())
            assert differ == oracle[first] - oracle[second]


def test_between_two_steps_stands_their_mean() -> None:
    assert signals.between(np.array([0, 2, 10])).tolist() == [0, 1, 2, 6, 10]
    frames = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert signals.between(frames).shape == (5, 2, 2) and (signals.between(frames)[1] == frames[0] + 2).all()


def test_cells_are_means_that_cross_no_frame() -> None:
    frames = np.zeros((3, 128, 128, 3), np.uint8)
    frames[1] = 200
    frames[2, :4, 4:8] = 160
    cells = signals.cells(frames, 32)
    assert cells.shape == (3, 32, 32)
    assert (cells[0] == 0).all() and (cells[1] == 200).all()
    assert cells[2, 0, 1] == 160 and cells[2].sum() == 160


def test_loudness_is_the_root_mean_square_in_decibels() -> None:
    times = np.arange(110_240) / 22_050
    sine = (16_384 * np.sin(2 * np.pi * 441 * times)).astype(np.int16)  # half of full scale: -6.02 - 3.01 dB
    assert signals.loudness(sine) == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)
    assert signals.loudness(np.full((20, 5512), -32_768, np.int16)) == pytest.approx(0)
    assert signals.loudness(np.zeros((20, 5512), np.int16)) == signals.QUIETEST_DB


@pytest.fixture
def store(tmp_path):
    folder = write_noisy_store(tmp_path / "store", 1, 4)
    return open_store(folder), {
        name: np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("face", "screen", "audio")
    }


def test_a_clip_with_one_lit_frame_is_black_and_with_five_is_not(store) -> None:
    opened, arrays = store
    arrays["screen"][0, 1:] = 0
    arrays["screen"][1, 5:] = 0
    measured = signals.measure(opened)
    assert signals.black(measured, "screen", PARAMS).tolist() == [True, False, False, False]
    assert not signals.black(measured, "face", PARAMS).any()


def test_a_clip_that_stands_still_is_frozen_though_its_codec_flickers(store) -> None:
    opened, arrays = store
    flicker = np.random.default_rng(0).integers(-2, 3, (20, 64, 64, 3))
    arrays["face"][0] = (100 + flicker).astype(np.uint8)
    arrays["face"][1] = 100
    arrays["face"][1, ::2, 8:12, 8:12] = 120  # one blinking spot is life
    frozen = signals.frozen(signals.measure(opened), "face", PARAMS)
    assert frozen.tolist() == [True, False, False, False]


def test_black_is_not_called_frozen_too(store) -> None:
    opened, arrays = store
    arrays["screen"][2] = 0
    found = {name: np.flatnonzero(rows).tolist() for name, rows in signals.defects(signals.measure(opened), PARAMS)}
    assert found["black screen"] == [2] and found["frozen screen"] == []


def test_the_repeated_frames_of_a_short_clip_are_not_called_frozen(store) -> None:
    opened, arrays = store
    arrays["screen"][0, 12:] = arrays["screen"][0, 11]
    opened.clips.loc[0, "valid_frames"] = 12
    measured = signals.measure(opened)
    assert not signals.frozen(measured, "screen", ValidateParams(defect_steps=0.3))[0]
    assert (
        np.isnan(measured.change["screen"][0, 12:]).all() and measured.hashed[0].tolist() == [True] * 23 + [False] * 16
    )


def test_what_is_absent_is_neither_silent_nor_black_nor_frozen(store) -> None:
    opened, arrays = store
    for name, array in arrays.items():
        array[3] = 0
        opened.clips.loc[3, f"present_{name}"] = False
    measured = signals.measure(opened)
    assert not any(rows[3] for _, rows in signals.defects(measured, PARAMS))
    assert not measured.hashed[3].any() and not measured.filled[3].any() and np.isnan(measured.loudness[3])


def test_a_blank_frame_has_no_hash_to_be_recognised_by(store) -> None:
    opened, arrays = store
    arrays["screen"][0, :10] = 77
    assert signals.measure(opened).hashed[0].tolist() == [False] * 20 + [True] * 19
