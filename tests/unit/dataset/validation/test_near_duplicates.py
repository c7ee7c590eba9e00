from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import skimage.data
from numpy.typing import NDArray

from merlb_model.dataset.extract import ClipJob, decode
from merlb_model.dataset.store import ClipStore, create_arrays, open_store, seal_store
from merlb_model.dataset.validation.near_duplicates import (
    NearDuplicate,
    align,
    candidate_shifts,
    correlate,
    find_near_duplicates,
)
from merlb_model.dataset.validation.signals import measure
from merlb_model.media.encode import write_clip
from merlb_model.media.windows import Window
from merlb_model.params import ExtractParams, ValidateParams

RATE, FPS = 22_050, 30
PARAMS = ValidateParams()


# --- By hashes that are made up ---------------------------------------------------------------------------------------


def random_hashes(clips: int, steps: int = 20, seed: int = 0) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 1 << 32, (clips, steps, 8), dtype=np.uint32)


def flip(hashes: NDArray[np.uint32], bits: int, seed: int = 0) -> NDArray[np.uint32]:
    """``hashes`` with ``bits`` of 256 turned in each frame."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((*hashes.shape[:-1], 256), np.uint8)
    for index in np.ndindex(hashes.shape[:-1]):
        mask[index][rng.permutation(256)[:bits]] = 1
    return hashes ^ np.packbits(mask, axis=-1).view(np.uint32)


def test_distance_and_shift_are_as_worked_out_by_hand() -> None:
    hashes = np.zeros((2, 3, 8), np.uint32)
    hashes[0, :, 0] = [0b0000, 0b1111, 0xFF00]
    hashes[1, :, 0] = [0b1110, 0xFF01, 0b0011]
    hashed = np.ones((2, 3), np.bool_)
    candidates = np.array([[0, 1, shift] for shift in (-1, 0, 1, 2)])
    # The second one step later: 1111 and 1110 differ in one bit, FF00 and FF01 in one; a mean of 1.
    pairs, bits = align(hashes, hashed, candidates, 2, 256)
    assert pairs.tolist() == [[0, 1, 1]] and bits.tolist() == [1]
    # All three steps at once: 0000/1110, 3 bits; 1111/FF01, 4 - 1 + 8 = 11; FF00/0011, 8 + 2.
    pairs, bits = align(hashes, hashed, candidates, 3, 256)
    assert pairs.tolist() == [[0, 1, 0]] and bits.tolist() == [8]
    assert len(align(hashes, hashed, candidates, 3, 7.9)[0]) == 0


@pytest.mark.parametrize("clip", [0, 1])
def test_frames_that_are_not_to_be_looked_at_count_for_nothing(clip: int) -> None:
    hashes = random_hashes(2)
    hashes[1] = hashes[0]
    hashed = np.ones((2, 20), np.bool_)
    hashed[clip, 9:] = False  # nine frames are left, ten are asked for
    candidates = candidate_shifts(hashes, hashed, 0)
    assert candidates.tolist() == [[0, 1, 0]]
    assert len(align(hashes, hashed, candidates, 10, 0)[0]) == 0
    assert len(align(hashes, hashed, candidates, 9, 0)[0]) == 1
    assert len(candidate_shifts(hashes, np.zeros((2, 20), np.bool_), 256)) == 0


def test_still_pictures_are_laid_over_each_other_whole() -> None:
    still = np.repeat(random_hashes(1, 1), 20, axis=1).repeat(2, axis=0)
    hashed = np.ones((2, 20), np.bool_)
    assert candidate_shifts(still, hashed, 0).tolist() == [[0, 1, 0]]
    shifts = np.array([[0, 1, shift] for shift in range(-10, 11)])
    assert align(still, hashed, shifts, 10, 0)[0].tolist() == [[0, 1, 0]]


def test_of_many_clips_those_alike_are_found_and_no_others() -> None:
    hashes, hashed = random_hashes(600), np.ones((600, 20), np.bool_)
    alike = [(index, 599 - index) for index in range(20)]
    for first, second in alike:  # ten steps shared, one bit in ten turned
        hashes[second, :10] = flip(hashes[first, 10:], 25, seed=first)
    candidates = candidate_shifts(hashes, hashed, 45)
    assert candidates.tolist() == [[first, second, 10] for first, second in alike]
    pairs, bits = align(hashes, hashed, candidates, 10, 30)
    assert pairs.tolist() == candidates.tolist() and (bits == 25).all()
    assert len(candidate_shifts(hashes, hashed, 24)) == 0


def test_a_waiting_screen_in_every_clip_makes_candidates_and_no_pairs() -> None:
    hashes, hashed = random_hashes(50), np.ones((50, 20), np.bool_)
    hashes[:, 7] = hashes[0, 7]
    candidates = candidate_shifts(hashes, hashed, 0)
    assert len(candidates) == 50 * 49 // 2 and (candidates[:, 2] == 0).all()
    assert len(align(hashes, hashed, candidates, 10, 40)[0]) == 0


# --- By sound ---------------------------------------------------------------------------------------------------------


def speech(seconds: int, seed: int) -> NDArray[np.int16]:
    """Noise in the band of voices that comes and goes."""
    rng = np.random.default_rng(seed)
    band = scipy.signal.butter(2, (200, 2_500), "bandpass", fs=RATE, output="sos")
    voice = scipy.signal.sosfilt(band, rng.normal(size=round(seconds * RATE)))
    syllables = np.interp(
        np.arange(len(voice)) * 5 / RATE, np.arange(seconds * 5 + 1), rng.random(int(seconds * 5 + 1))
    )
    return (voice * syllables * 12_000).clip(-32_768, 32_767).astype(np.int16)


def slices(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    starts = [5512 * step + step // 2 for step in range(20)]
    return np.stack([samples[start : start + 5512] for start in starts])


def test_the_same_sound_later_correlates_at_its_offset_and_other_sound_does_not() -> None:
    stream = speech(8, seed=1)
    later = stream[round(1.37 * RATE) :]
    noise = np.random.default_rng(5).normal(0, 60, len(later))
    sound, offset = correlate(slices(stream), slices((0.5 * later + noise).astype(np.int16)), 2.5)
    assert sound > 0.9 and offset == pytest.approx(1.37, abs=0.002)
    sound, offset = correlate(slices(later), slices(stream), 2.5)
    assert sound > 0.9 and offset == pytest.approx(-1.37, abs=0.002)
    assert correlate(slices(stream), slices(speech(8, seed=2)), 2.5)[0] < 0.3


def test_the_correlation_is_that_of_numpy() -> None:
    first, second = speech(6, seed=3), (speech(6, seed=4) // 2 + speech(6, seed=3) // 2).astype(np.int16)
    a, b = (np.convolve(slices(x).reshape(-1, 2).mean(axis=1), [0.25] * 4, "same") for x in (first, second))
    sound, offset = correlate(slices(first), slices(second), 4.99)
    assert offset == 0 and sound == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-6)


def test_digital_silence_correlates_with_nothing() -> None:
    assert correlate(np.zeros((20, 5512), np.int16), slices(speech(6, seed=1)), 2.5) == (0.0, 0.0)


# --- By real clips ----------------------------------------------------------------------------------------------------


def scene(seconds: float, seed: int) -> Iterator[NDArray[np.uint8]]:
    """A view that wanders over a photograph, with a status bar below it that is always the same; 320×180."""
    photograph = skimage.data.astronaut() if seed % 2 else np.ascontiguousarray(skimage.data.coffee()[:, :512])
    rng = np.random.default_rng(seed)
    speed, start = rng.uniform(0.15, 0.4, 2), rng.uniform(0, 6, 2)
    for index in range(round(seconds * FPS)):
        top, left = (0.5 + 0.5 * np.sin(start + speed * index / FPS * 2)) * (
            np.array(photograph.shape[:2]) - (180, 320)
        )
        frame = photograph[int(top) : int(top) + 180, int(left) : int(left) + 320].copy()
        frame[160:] = 40
        frame[165:175, 20:300:20] = 220
        yield frame


def clip(path: Path, frames: list[NDArray[np.uint8]], sound: NDArray[np.int16]) -> Window:
    write_clip(path, frames, FPS, sound, RATE)
    window = decode(path, ClipJob(path.name, "", (240, 0, 320, 60)), ExtractParams())
    assert isinstance(window, Window)
    return window


def store_of(folder: Path, windows: list[Window]) -> ClipStore:
    folder.mkdir()
    arrays = create_arrays(folder, len(windows))
    for index, window in enumerate(windows):
        for name, array in arrays.items():
            array[index] = getattr(window, name)
    count = len(windows)
    clips = pd.DataFrame(
        {
            "file": [f"{index}.mp4" for index in range(count)], "streamer": "s", "game": "", "table": "",
            "valence": "neutral", "arousal": "low", "event": "routing",
            **{f"present_{name}": [bool(window.present[at]) for window in windows] for at, name in enumerate(arrays)},
            "valid_frames": [window.valid_frames for window in windows],
        }
    )  # fmt: skip
    seal_store(folder, arrays, clips, {"annotated": count, "quarantined": {}, "source": "folder"})
    return open_store(folder)


def near_duplicates(folder: Path, *windows: Window) -> list[NearDuplicate]:
    store = store_of(folder, list(windows))
    return find_near_duplicates(store, measure(store), PARAMS)


def other_clips(folder: Path) -> list[Window]:
    """Four clips of the same two photographs, other ways over them, other words."""
    return [clip(folder / f"other{seed}.mp4", list(scene(5, seed)), speech(5, seed)) for seed in range(11, 15)]


@pytest.mark.parametrize("later_seconds", [0.0, 1.3, 1.375])  # the last lies as far from the frames' times as can be
def test_a_cut_of_the_same_stream_is_found_with_its_offset(tmp_path: Path, later_seconds: float) -> None:
    frames, sound = list(scene(7, seed=2)), speech(7, seed=2)
    first = clip(tmp_path / "first.mp4", frames[: 5 * FPS], sound[: 5 * RATE])
    at_frame, at_sample = round(later_seconds * FPS), round(later_seconds * RATE)
    # Encoded anew at another size and brightness, its sound at half the level.
    recut = [(frame[::2, ::2] * 0.85 + 12).astype(np.uint8) for frame in frames[at_frame : at_frame + 5 * FPS]]
    write_clip(tmp_path / "recut.mp4", recut, FPS, sound[at_sample : at_sample + 5 * RATE] // 2, RATE)
    second = decode(tmp_path / "recut.mp4", ClipJob("recut.mp4", "", (120, 0, 160, 30)), ExtractParams())
    assert isinstance(second, Window)
    (found,) = near_duplicates(tmp_path / "store", first, *other_clips(tmp_path), second)
    assert (found.first, found.second) == (0, 5)
    assert found.offset_seconds == pytest.approx(later_seconds, abs=0.03)
    assert found.sound is not None and found.sound > 0.9 and found.bits <= PARAMS.duplicate_bits


def test_the_same_waiting_screen_on_two_evenings_is_no_duplicate(tmp_path: Path) -> None:
    still = [next(scene(1, seed=1))] * (5 * FPS)
    evenings = [clip(tmp_path / f"{seed}.mp4", still, speech(5, seed)) for seed in (1, 2)]
    assert near_duplicates(tmp_path / "store", *evenings) == []


def test_a_muted_copy_is_found_by_its_pictures_alone(tmp_path: Path) -> None:
    frames = list(scene(5, seed=1))
    heard = clip(tmp_path / "heard.mp4", frames, speech(5, seed=1))
    muted = clip(tmp_path / "muted.mp4", frames, np.zeros(5 * RATE, np.int16))
    (found,) = near_duplicates(tmp_path / "store", heard, *other_clips(tmp_path), muted)
    assert (found.first, found.second, found.sound) == (0, 5, None) and found.offset_seconds == 0


def test_black_clips_are_not_copies_of_each_other(tmp_path: Path) -> None:
    black = [np.zeros((180, 320, 3), np.uint8)] * (5 * FPS)
    silence = np.zeros(5 * RATE, np.int16)
    assert near_duplicates(tmp_path / "store", *[clip(tmp_path / f"{n}.mp4", black, silence) for n in range(2)]) == []
