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
_PAIRS_AT_ONCE: Final = 1_024
_DECIMATED_BY: Final = 4
"""Sound is compared at a quarter of its 22,050 Hz."""


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
    candidates = candidate_pairs(signals.hashes, signals.hashed)
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


def candidate_pairs(hashes: NDArray[np.uint32], hashed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pairs of clips of which two frames agree in a word of their hashes: i64 (pairs, 2), ordered, each once.

    Where each bit differs with a chance of 10%, a word of 32 agrees in 3% of frames; eight words of twenty frames leave
    a pair unseen in 0.4%, and two clips of which 20% of bits differ are looked at in vain in 12%.

    Args:
        hashes: u32 (clips, steps, words).
        hashed: bool (clips, steps), the frames to look at.
    """
    clips = len(hashes)
    owners = np.nonzero(hashed)[0]
    found = np.zeros(0, np.int64)
    waiting: list[NDArray[np.int64]] = []
    for word in hashes[hashed].T:
        for keys in _sharing(owners, word, clips):
            waiting.append(keys)
            if sum(map(len, waiting)) > _AT_ONCE:
                found, waiting = np.unique(np.concatenate([found, *waiting])), []
    found = np.unique(np.concatenate([found, *waiting]))
    return np.stack(np.divmod(found, max(1, clips)), axis=1)


def _sharing(owners: NDArray[np.int64], word: NDArray[np.uint32], clips: int) -> Iterator[NDArray[np.int64]]:
    """For clips that share a value of ``word``: number of the first · ``clips`` + number of the second."""
    keys = np.unique(word.astype(np.uint64) * np.uint64(clips) + owners.astype(np.uint64))  # equal frames count once
    values, sharers = np.divmod(keys, np.uint64(max(1, clips)))
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] + np.uint64(1)))
    sizes = np.diff(starts, append=len(values))
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        group = sharers[start : start + size].astype(np.int64)
        rows = max(1, _AT_ONCE // size)
        for first in range(0, size, rows):
            left, right = np.meshgrid(group[first : first + rows], group, indexing="ij")
            yield (left * clips + right)[left < right]


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
    return samples - samples.mean()
