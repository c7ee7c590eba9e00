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
_HALF_STEP_SECONDS: Final = STEP_SECONDS / 2
_AT_ONCE: Final = 1 << 22
_COMPARED: Final = np.uint32(0xFFFFFF)
_PAIRS_AT_ONCE: Final = 4_096
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
    overlap = max(1, round(params.duplicate_seconds / _HALF_STEP_SECONDS))
    candidates = candidate_shifts(signals.hashes, signals.hashed, params.duplicate_bits)
    pairs, bits = align(signals.hashes, signals.hashed, candidates, overlap, params.duplicate_bits)
    audible = signals.loudness >= params.silent_db
    found = []
    for index in track(range(len(pairs)), "compare", unit="pair"):
        first, second, shift = (int(number) for number in pairs[index])
        offset, sound = shift * _HALF_STEP_SECONDS, None
        if audible[first] and audible[second]:
            sound, offset = correlate(store.audio[first], store.audio[second], params.duplicate_seconds)
            if sound < params.duplicate_sound:
                continue
        found.append(NearDuplicate(first, second, offset, float(bits[index]), sound))
    return found


def candidate_shifts(hashes: NDArray[np.uint32], hashed: NDArray[np.bool_], most_bits: float) -> NDArray[np.int64]:
    """Clips of which two frames are alike, and how far apart: i64 (candidates, 3), ordered, each once.

    Alike are hashes that agree in 24 bits of one of their words and differ in ``most_bits`` at most. Where each bit
    differs with a chance of 10%, that is so of 8% of words; of ten frames of eight words one is seen in 99.8%.

    Args:
        hashes: u32 (clips, steps, words).
        hashed: bool (clips, steps), the frames to look at.
        most_bits: of 256.

    Returns:
        First clip, second clip, and the steps by which the second begins later.
    """
    clips, steps = hashed.shape
    owners, step = np.nonzero(hashed)
    # A clip's equal frames count once, as the first of them.
    frames, places = np.unique(np.column_stack([owners.astype(np.uint32), hashes[hashed]]), axis=0, return_index=True)
    owners, step = owners[places], step[places]
    found = np.zeros(0, np.int64)
    waiting: list[NDArray[np.int64]] = []
    for word in range(1, frames.shape[1]):
        for one, other in _sharing(frames[:, word] & _COMPARED):
            bits = np.bitwise_count(frames[one, 1:] ^ frames[other, 1:]).sum(axis=1, dtype=np.int64)
            near = (bits <= most_bits) & (owners[one] != owners[other])
            first, second = np.minimum(one[near], other[near]), np.maximum(one[near], other[near])  # frames are ordered
            shift = step[first] - step[second] + steps
            waiting.append((owners[first] * clips + owners[second]) * (2 * steps) + shift)
            if sum(map(len, waiting)) > _AT_ONCE:
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
    pair, shift = np.divmod(np.unique(np.concatenate([found, *waiting])), 2 * steps)
    return np.column_stack([*np.divmod(pair, max(1, clips)), shift - steps])


def _sharing(word: NDArray[np.uint32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of places with the same ``word``, those next to each other in its order first, then next but one, …"""
    order = np.argsort(word, kind="stable")
    end = np.searchsorted(word[order], word[order], side="right")
    place, apart = np.arange(len(word)), 1
    while len(place := place[place + apart < end[place]]):
        yield order[place], order[place + apart]
        apart += 1


def align(
    hashes: NDArray[np.uint32],
    hashed: NDArray[np.bool_],
    candidates: NDArray[np.int64],
    least_overlap: int,
    most_bits: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs of clips that agree all through what they share, each at the shift where it agrees best.

    Args:
        hashes: u32 (clips, steps, words).
        hashed: bool (clips, steps), the frames to look at.
        candidates: i64 (candidates, 3): first, second, steps by which the second begins later.
        least_overlap: frames that both clips must have at the shift.
        most_bits: of 256, in which the frames may differ on average.

    Returns:
        Rows of ``candidates``, ordered, a pair once; and the mean number of bits that differ, f64 (pairs,).
    """
    steps = hashes.shape[1]
    counts, means = np.zeros(len(candidates)), np.full(len(candidates), np.inf)
    for start in range(0, len(candidates), _PAIRS_AT_ONCE):
        first, second, shift = candidates[start : start + _PAIRS_AT_ONCE].T
        same_time = np.arange(steps) + shift[:, None]  # the first's step at each of the second's
        inside = (same_time >= 0) & (same_time < steps)
        same_time = same_time.clip(0, steps - 1)
        both = inside & hashed[second] & hashed[first[:, None], same_time]
        bits = np.bitwise_count(hashes[second] ^ hashes[first[:, None], same_time]).sum(axis=2, dtype=np.int64)
        count = both.sum(axis=1)
        counts[start : start + len(count)] = count
        mean = np.where(count >= least_overlap, (bits * both).sum(axis=1) / np.maximum(count, 1), np.inf)
        means[start : start + len(count)] = mean
    alike = np.flatnonzero(means <= most_bits)
    # Of shifts that agree alike, as in a still picture, the one with the most frames.
    order = alike[np.lexsort((-counts[alike], means[alike], candidates[alike, 1], candidates[alike, 0]))]
    _, best = np.unique(candidates[order, :2], axis=0, return_index=True)
    return candidates[order[best]], means[order[best]]


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
