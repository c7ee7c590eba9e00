"""What is measured of each clip's pictures and sound, in one pass over the store."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from merlb_model.dataset.store import BLOCK_ROWS, STEPS, ClipStore, release_pages
from merlb_model.params import ValidateParams
from merlb_model.progress import track

QUIETEST_DB: Final = -100.0
"""What digital silence is called, dB of full scale."""
HASH_PIXELS: Final = 32
HALF_STEPS: Final = 2 * STEPS - 1
"""Hashed are the frames, each 0.25 s, and the mean of each two that follow each other: another cut of the same stream
has its frames at other times."""
_FULL_SCALE = 32_768
_LOW = 16
HASH_WORDS: Final = _LOW * _LOW // 32
_DEALT: Final = np.random.default_rng(0).permutation(_LOW * _LOW)
"""Which bit of the hash stands where: each word has some of all frequencies."""
_FACE_PIXELS = 16
_FLATTEST: Final = 2.0
"""Standard deviation, in grey levels, below which a picture says nothing that could be recognised."""


@dataclass(frozen=True)
class Signals:
    """Measures of N clips. NaN: the modality is absent, or the step repeats the one before for want of a frame.

    Attributes:
        loudness: f32 (N,), root mean square of the sound, dB of full scale.
        brightness: {face, screen: f32 (N, 20)}, mean grey level of each frame, 0 to 255.
        change: {face, screen: f32 (N, 20)}, largest change of a cell's grey level since the step before; the first
            is NaN. Cells are 4×4 pixels, so that the noise of codecs is evened out.
        motion: {face, screen: f32 (N,)}, mean change of a cell's grey level from step to step.
        hashes: u32 (N, 39, 8), perceptual hash of each half step of the screen.
        hashed: bool (N, 39), whether the half step has frames of its own, which show something.
        filled: bool (N, 3), whether face, screen and audio hold anything but zeros.
    """

    loudness: NDArray[np.float32]
    brightness: dict[str, NDArray[np.float32]]
    change: dict[str, NDArray[np.float32]]
    motion: dict[str, NDArray[np.float32]]
    hashes: NDArray[np.uint32]
    hashed: NDArray[np.bool_]
    filled: NDArray[np.bool_]

    @classmethod
    def of_nothing(cls, clips: int) -> "Signals":
        """Signals of ``clips`` clips to be filled in."""

        def blank(*shape: int) -> NDArray[np.float32]:
            return np.full(shape, np.nan, np.float32)

        pictures = ("face", "screen")
        return cls(
            loudness=blank(clips),
            brightness={name: blank(clips, STEPS) for name in pictures},
            change={name: blank(clips, STEPS) for name in pictures},
            motion={name: blank(clips) for name in pictures},
            hashes=np.zeros((clips, HALF_STEPS, HASH_WORDS), np.uint32),
            hashed=np.zeros((clips, HALF_STEPS), np.bool_),
            filled=np.zeros((clips, 3), np.bool_),
        )


def measure(store: ClipStore) -> Signals:
    """Measure each clip. A block of rows is in memory at a time."""
    signals = Signals.of_nothing(len(store))
    present = store.present.astype(np.bool_)
    valid = store.clips["valid_frames"].to_numpy(dtype=np.int64)
    for row in track(range(len(store)), "measure"):
        arrays = (store.face[row], store.screen[row], store.audio[row])
        signals.filled[row] = [bool(array.any()) for array in arrays]
        if present[row, 0]:
            _see(signals, "face", row, cells(store.face[row], _FACE_PIXELS), int(valid[row]))
        if present[row, 1]:
            pictures = cells(store.screen[row], HASH_PIXELS)
            _see(signals, "screen", row, pictures, int(valid[row]))
            signals.hashes[row] = perceptual_hashes(between(pictures))
            shows = (np.arange(STEPS) < valid[row]) & (pictures.std(axis=(1, 2)) >= _FLATTEST)
            signals.hashed[row] = between(shows) == 1
        if present[row, 2]:
            signals.loudness[row] = loudness(store.audio[row])
        if row % BLOCK_ROWS == BLOCK_ROWS - 1:
            release_pages(store.arrays.values())
    return signals


def _see(signals: Signals, name: str, row: int, pictures: NDArray[np.uint8], valid: int) -> None:
    own = pictures[:valid].astype(np.int16)
    signals.brightness[name][row, :valid] = own.mean(axis=(1, 2))
    if valid > 1:
        change = np.abs(np.diff(own, axis=0))
        signals.change[name][row, 1:valid] = change.max(axis=(1, 2))
        signals.motion[name][row] = change.mean()


def cells(frames: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Grey pictures u8 (n, size, size) of ``frames`` u8 (n, p, p, 3), p a multiple of ``size``, by area."""
    count, pixels = frames.shape[:2]
    # All frames on top of each other are one tall picture; no cell crosses from one frame into the next.
    grey = cv2.cvtColor(np.ascontiguousarray(frames).reshape(count * pixels, pixels, 3), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (size, count * size), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False).reshape(count, size, size)


def between(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Steps (n, …) with the mean of each two that follow each other put between them: f64 (2n - 1, …)."""
    halves = np.repeat(steps.astype(np.float64), 2, axis=0)
    return (halves[:-1] + halves[1:])[: 2 * len(steps) - 1] / 2


def perceptual_hashes(pictures: NDArray[np.float64]) -> NDArray[np.uint32]:
    """The perceptual hash of each picture: 256 bits, u32 (n, 8).

    The 16×16 lowest frequencies of the cosine transform, each above the median of them or not: what
    ``imagehash.phash(…, hash_size=16, highfreq_factor=2)`` computes (hackerfactor.com, "Looks Like It", 2011), with the
    bits in another order, for many pictures at once and 100 times as fast. Of the usual 64 bits too many are the
    layout of the game.

    Args:
        pictures: f64 (n, 32, 32), grey.
    """
    low = scipy.fft.dctn(pictures, axes=(1, 2))[:, :_LOW, :_LOW].reshape(len(pictures), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return np.ascontiguousarray(np.packbits(bits[:, _DEALT], axis=1)).view(np.uint32)


def loudness(samples: NDArray[np.int16]) -> float:
    """Root mean square of ``samples`` in dB of full scale, at least ``QUIETEST_DB``."""
    mean_square = float(np.mean(np.square(samples, dtype=np.float32), dtype=np.float64)) / _FULL_SCALE**2
    return max(QUIETEST_DB, 10 * math.log10(mean_square)) if mean_square else QUIETEST_DB


def silent(signals: Signals, params: ValidateParams) -> NDArray[np.bool_]:
    """Clips whose sound is there and cannot be heard: bool (N,)."""
    return signals.loudness < params.silent_db


def black(signals: Signals, name: str, params: ValidateParams) -> NDArray[np.bool_]:
    """Clips of which ``name`` (face or screen) is there and black in nearly every frame: bool (N,)."""
    return _nearly_all(signals.brightness[name], signals.brightness[name] < params.black_level, params)


def frozen(signals: Signals, name: str, params: ValidateParams) -> NDArray[np.bool_]:
    """Clips of which ``name`` (face or screen) is there and stands still in nearly every step: bool (N,)."""
    return _nearly_all(signals.change[name], signals.change[name] <= params.frozen_change, params)


def _nearly_all(measured: NDArray[np.float32], so: NDArray[np.bool_], params: ValidateParams) -> NDArray[np.bool_]:
    steps = np.isfinite(measured).sum(axis=1)
    return (steps > 0) & (so.sum(axis=1) >= params.defect_steps * steps)


def defects(signals: Signals, params: ValidateParams) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each kind of defective clip by its name; what is black is not called frozen too."""
    yield "silent audio", silent(signals, params)
    for name in ("screen", "face"):
        dark = black(signals, name, params)
        yield f"black {name}", dark
        yield f"frozen {name}", frozen(signals, name, params) & ~dark
