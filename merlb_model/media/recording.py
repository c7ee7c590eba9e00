"""What was decoded of one stream: frames on the 0.25 s grid from its start, and its samples."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

STEP_SECONDS: Final = 0.25
SAMPLE_RATE: Final = 22_050
"""Samples a second; mono."""

Frame = NDArray[np.uint8]
"""A frame: u8 (height, width, 3), RGB."""


def slot_seconds(slot: int) -> float:
    """The moment, from the stream's start, that grid slot ``slot`` stands for: its middle."""
    return (slot + 0.5) * STEP_SECONDS


class Recording:
    """Frames by grid slot and samples from the start on; old ones can be forgotten.

    Slot k holds the last frame with a timestamp at or before ``(k + ½) · 0.25`` s.
    """

    def __init__(self) -> None:
        self.frames: dict[int, Frame] = {}
        self.has_video = False
        self.has_audio = False
        self.ended = False
        self.promised_seconds = 0.0
        """Length that the file's header gives; 0 where it gives none, as a stream's does."""
        self.first_real_slot = 0  # slots before it show the stream's first frame, which came later
        self.video_slots = 0
        """Slots filled so far, from the start; slot ``video_slots`` waits for its frame."""
        self.audio_samples = 0
        """Samples so far, from the start."""
        self._audio = np.zeros(0, np.int16)
        self._audio_first = 0

    @property
    def video_seconds(self) -> float:
        """Length of the video decoded so far, to the grid step."""
        return self.video_slots * STEP_SECONDS

    @property
    def audio_seconds(self) -> float:
        """Length of the audio decoded so far."""
        return self.audio_samples / SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """Up to where every modality that the stream has is in; once ended, up to where any is."""
        lengths = [length for has, length in self._lengths() if has]
        if not lengths:
            return 0.0
        return max(lengths) if self.ended else min(lengths)

    def _lengths(self) -> list[tuple[bool, float]]:
        return [(self.has_video, self.video_seconds), (self.has_audio, self.audio_seconds)]

    def add_slot(self, frame: Frame) -> None:
        """Fill the next slot."""
        self.frames[self.video_slots] = frame
        self.video_slots += 1

    def add_samples(self, samples: NDArray[np.int16]) -> None:
        """Append i16 samples at 22,050 Hz."""
        self._audio = np.concatenate([self._audio, samples])
        self.audio_samples += len(samples)

    def samples(self, first: int, count: int) -> NDArray[np.int16]:
        """``count`` samples from sample ``first`` of the stream: i16; zeros where there are none."""
        out = np.zeros(count, np.int16)
        begin = max(first, self._audio_first)
        end = min(first + count, self._audio_first + len(self._audio))
        if begin < end:
            out[begin - first : end - first] = self._audio[begin - self._audio_first : end - self._audio_first]
        return out

    def forget_before(self, seconds: float) -> None:
        """Drop frames and samples from before ``seconds``; memory stays bounded on an endless stream."""
        keep = int(seconds / STEP_SECONDS)
        for slot in [slot for slot in self.frames if slot < keep]:
            del self.frames[slot]
        drop = min(max(0, int(seconds * SAMPLE_RATE) - self._audio_first), len(self._audio))
        self._audio = self._audio[drop:]
        self._audio_first += drop
