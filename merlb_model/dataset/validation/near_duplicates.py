"""Clips that show the same seconds: copies, re-encoded ones, and cuts of one stream that overlap.

Found by picture, without comparing all with all: clips of which two frames' perceptual hashes agree in one of eight
words are compared bit by bit, step by step, at every shift. Then heard: where both clips have sound, it must agree too,
so that the same waiting screen on two evenings is no duplicate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from merlb_model.dataset.store import STEPS, ClipStore
from merlb_model.dataset.validation.signals import Signals
from merlb_model.params import ValidateParams
from merlb_model.progress import track

STEP_SECONDS: Final = 0.25
_AT_ONCE: Final = 1 << 22
_COMPARED: Final = np.uint32(0xFFFFFF)
_FRAME_SLACK: Final = 1.25
"""How much worse than the mean of a clip the frames may be that it is found by."""
_PAIRS_AT_ONCE: Final = 1_024
_DECIMATED_BY: Final = 2
_SMOOTHED_OVER: Final = 4
"""Sound is compared at half of its 22,050 Hz, and what is above 2.7 kHz is taken out: a shift between two samples turns
it round."""


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips that show the same.

    Attributes:
        first: row in the store.
        second: row in the store, above ``first``.
        offset_seconds: how much later than the first the second begins; may be negative.
        bits: mean number of bits, of 256, in which the hashes of frames of the same time differ.
        sound: correlation of the sound, -1 to 1; None where one of them has none.
    """

    first: int
    second: int
    offset_seconds: float
    bits: float
    sound: float | None


def find_near_duplicates(store: ClipStore, signals: Signals, params: ValidateParams) -> list[NearDuplicate]:
    """All pairs, ordered by row."""
    candidates = candidate_pairs(signals.hashes, signals.hashed, _FRAME_SLACK * params.duplicate_bits)
    overlap = max(1, round(params.duplicate_seconds / STEP_SECONDS))
    shift, bits = align(signals.hashes, signals.hashed, candidates, overlap)
    alike = np.flatnonzero(bits <= params.duplicate_bits)
    audible = signals.loudness >= params.silent_db
    pairs = []
    for index in track(alike, "compare", unit="pair"):
        first, second = (int(row) for row in candidates[index])
        offset, sound = float(shift[index]) * STEP_SECONDS, None
        if audible[first] and audible[second]:
            sound, offset = correlate(store.audio[first], store.audio[second], params.duplicate_seconds)
            if sound < params.duplicate_sound:
                continue
        pairs.append(NearDuplicate(first, second, offset, float(bits[index]), sound))
    return pairs


def candidate_pairs(hashes: NDArray[np.uint32], hashed: NDArray[np.bool_], most_bits: float) -> NDArray[np.int64]:
    """Pairs of clips of which two frames are alike: i64 (pairs, 2), ordered, each once.

    Alike are hashes that agree in 24 bits of one of their words and differ in ``most_bits`` at most. Where each bit
    differs with a chance of 10%, that is so of 8% of words; of ten frames of eight words one is seen in 99.8%.

    Args:
        hashes: u32 (clips, steps, words).
        hashed: bool (clips, steps), the frames to look at.
        most_bits: of 256.
    """
    owners = np.nonzero(hashed)[0].astype(np.uint32)
    frames = np.unique(np.column_stack([owners, hashes[hashed]]), axis=0)  # a clip's equal frames count once
    found = np.zeros(0, np.int64)
    waiting: list[NDArray[np.int64]] = []
    for word in range(1, frames.shape[1]):
        for left, right in _sharing(frames[:, word] & _COMPARED):
            bits = np.bitwise_count(frames[left, 1:] ^ frames[right, 1:]).sum(axis=1, dtype=np.int64)
            pairs = np.sort(frames[:, 0][np.column_stack([left, right])[bits <= most_bits]].astype(np.int64), axis=1)
            waiting.append(pairs[:, 0] * len(hashes) + pairs[:, 1])
            if sum(map(len, waiting)) > _AT_ONCE:
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
    found = np.unique(np.concatenate([found, *waiting]))
    first, second = np.divmod(found, max(1, len(hashes)))
    return np.column_stack([first, second])[first < second]


def _sharing(word: NDArray[np.uint32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of places with the same ``word``, those next to each other in its order first, then next but one, …"""
    order = np.argsort(word, kind="stable")
    end = np.searchsorted(word[order], word[order], side="right")
    place, apart = np.arange(len(word)), 1
    while len(place := place[place + apart < end[place]]):
        yield order[place], order[place + apart]
        apart += 1


def align(
    hashes: NDArray[np.uint32], hashed: NDArray[np.bool_], pairs: NDArray[np.int64], least_overlap: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The shift at which the clips of each pair agree best.

    Args:
        hashes: u32 (clips, steps, words).
        hashed: bool (clips, steps), the frames to look at.
        pairs: i64 (pairs, 2).
        least_overlap: steps that both clips must have at a shift.

    Returns:
        Steps by which the second begins later, i64 (pairs,), and the mean of bits that differ there, f64 (pairs,);
        infinite where no shift has ``least_overlap`` frames.
    """
    steps = hashes.shape[1]
    shifts = np.arange(1 - steps, steps)
    later = (np.arange(steps)[:, None] - np.arange(steps)).reshape(-1)  # step of the first - step of the second
    diagonals = (later[:, None] == shifts).astype(np.float32)
    best, least = np.zeros(len(pairs), np.int64), np.full(len(pairs), np.inf)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        first, second = pairs[start : start + _PAIRS_AT_ONCE].T
        both = (hashed[first][:, :, None] & hashed[second][:, None]).reshape(len(first), -1)
        bits = np.bitwise_count(hashes[first][:, :, None] ^ hashes[second][:, None])
        differ = bits.sum(axis=-1, dtype=np.float32).reshape(len(first), -1)
        counts = both.astype(np.float32) @ diagonals
        sums = (differ * both) @ diagonals
        means = np.where(counts >= least_overlap, sums / np.maximum(counts, 1), np.inf)
        # Of shifts that agree alike, as in a still picture, the one with the most frames.
        chosen = np.lexsort((-counts, means), axis=1)[:, 0]
        best[start : start + len(first)] = shifts[chosen]
        least[start : start + len(first)] = means[np.arange(len(first)), chosen]
    return best, least


def correlate(first: NDArray[np.int16], second: NDArray[np.int16], least_seconds: float) -> tuple[float, float]:
    """The highest correlation of two clips' sound over all shifts, and that shift.

    Args:
        first: i16 (20, 5512), 22,050 Hz.
        second: the same of the other clip.
        least_seconds: that the clips share at a shift.

    Returns:
        Correlation, -1 to 1, over the part that is shared, and the seconds by which the second begins later.
    """
    a, b = _decimated(first), _decimated(second)
    products = scipy.signal.correlate(a, b, method="fft")
    lags = scipy.signal.correlation_lags(len(a), len(b))
    # Sums of squares over the shared part: a from lag on, b up to its end less lag, or the other way round.
    squares_a, squares_b = (np.concatenate([[0.0], np.cumsum(np.square(x))]) for x in (a, b))
    start, end = np.maximum(lags, 0), np.minimum(len(a), len(b) + lags)
    energy = (squares_a[end] - squares_a[start]) * (squares_b[end - lags] - squares_b[start - lags])
    rate = len(a) / (STEPS * STEP_SECONDS)
    shared = (end - start >= least_seconds * rate) & (energy > 0)
    if not shared.any():
        return 0.0, 0.0
    correlation = np.where(shared, products / np.sqrt(np.where(shared, energy, 1)), -1)
    best = int(np.argmax(correlation))
    return float(np.clip(correlation[best], -1, 1)), round(float(lags[best]) / rate, 3)


def _decimated(audio: NDArray[np.int16]) -> NDArray[np.float64]:
    samples = audio.reshape(-1, _DECIMATED_BY).mean(axis=1)
    smooth = np.convolve(samples, np.full(_SMOOTHED_OVER, 1 / _SMOOTHED_OVER), "same")
    return smooth - smooth.mean()
