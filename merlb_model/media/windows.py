"""Cutting windows out of a recording: the same for clips and for live streams."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.media.recording import SAMPLE_RATE, STEP_SECONDS, Frame, Recording

STEPS: Final = 20
WINDOW_SECONDS: Final = STEPS * STEP_SECONDS
SLICE_SAMPLES: Final = 5512
FACE_PIXELS: Final = 64
SCREEN_PIXELS: Final = 128
_HALVED_FROM: Final = 5
"""A frame this many times the screen's size (720p is) is halved first: half the time for an error of half a level."""

Box = tuple[int, int, int, int]
"""A box in pixels of the source frame: left, top, right, bottom; right and bottom lie outside it."""


@dataclass(frozen=True)
class Steps:
    """Consecutive steps of a stream.

    Attributes:
        face: u8 (n, 64, 64, 3), RGB; zeros where there is no box or no video.
        screen: u8 (n, 128, 128, 3), RGB, the box painted black.
        audio: i16 (n, 5512).
        valid: bool (n,), the steps that have a frame of their own time.
    """

    face: NDArray[np.uint8]
    screen: NDArray[np.uint8]
    audio: NDArray[np.int16]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Window:
    """5 s of a stream as the model takes them.

    Attributes:
        face: u8 (20, 64, 64, 3), RGB.
        screen: u8 (20, 128, 128, 3), RGB, the webcam painted black.
        audio: i16 (20, 5512), 22,050 Hz mono.
        present: bool (3,): face, screen, audio.
        valid_frames: steps that have a frame of their own time; the others repeat the one before.
    """

    face: NDArray[np.uint8]
    screen: NDArray[np.uint8]
    audio: NDArray[np.int16]
    present: NDArray[np.bool_]
    valid_frames: int


def slice_start(slot: int) -> int:
    """First sample, from the stream's start, of the audio slice of grid slot ``slot``: floor(5512.5 · slot)."""
    return slot * SAMPLE_RATE // round(1 / STEP_SECONDS)


def usable_box(box: Box | None, frame: Frame) -> Box | None:
    """``box`` clipped to the frame; None where nothing of it lies inside."""
    if box is None:
        return None
    height, width = frame.shape[:2]
    left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(width, box[2]), min(height, box[3])
    return (left, top, right, bottom) if left < right and top < bottom else None


def box_in(recording: Recording, box: Box | None) -> Box | None:
    """``box`` clipped to the recording's frames; None where it lies outside them."""
    frame = next(iter(recording.frames.values()), None)
    return box if frame is None else usable_box(box, frame)


def shrink(frame: Frame, box: Box | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One frame as its face, u8 (64, 64, 3), and its screen, u8 (128, 128, 3), by area interpolation."""
    face = np.zeros((FACE_PIXELS, FACE_PIXELS, 3), np.uint8)
    place = usable_box(box, frame)
    if place is not None:
        left, top, right, bottom = place
        face[:] = cv2.resize(frame[top:bottom, left:right], (FACE_PIXELS, FACE_PIXELS), interpolation=cv2.INTER_AREA)
        frame = frame.copy()
        frame[top:bottom, left:right] = 0
    height, width = frame.shape[:2]
    if min(height, width) >= _HALVED_FROM * SCREEN_PIXELS and height % 2 == width % 2 == 0:
        frame = cv2.resize(frame, (width // 2, height // 2), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    screen = cv2.resize(frame, (SCREEN_PIXELS, SCREEN_PIXELS), interpolation=cv2.INTER_AREA)
    return face, screen.astype(np.uint8, copy=False)


def cut_steps(recording: Recording, first: int, count: int, box: Box | None) -> Steps:
    """Steps ``first`` … ``first + count - 1`` of the grid; a slot without a frame repeats the one before."""
    face = np.zeros((count, FACE_PIXELS, FACE_PIXELS, 3), np.uint8)
    screen = np.zeros((count, SCREEN_PIXELS, SCREEN_PIXELS, 3), np.uint8)
    audio = np.zeros((count, SLICE_SAMPLES), np.int16)
    valid = np.zeros(count, np.bool_)
    last: Frame | None = None
    for step in range(count):
        slot = first + step
        audio[step] = recording.samples(slice_start(slot), SLICE_SAMPLES)
        frame = recording.frames.get(slot)
        valid[step] = frame is not None and slot >= recording.first_real_slot
        if frame is not None and frame is not last:
            face[step], screen[step] = shrink(frame, box)
            last = frame
        elif step:
            face[step], screen[step] = face[step - 1], screen[step - 1]
    return Steps(face, screen, audio, valid)


def cut(recording: Recording, start_seconds: float, box: Box | None, minimum_seconds: float = 2.5) -> Window:
    """The window that starts at ``start_seconds``, which lies on the 0.25 s grid.

    A modality of less than ``minimum_seconds`` in the window is absent, and its array is zeros.
    """
    first = round(start_seconds / STEP_SECONDS)
    box = box_in(recording, box)
    steps = cut_steps(recording, first, STEPS, box)
    return as_window(steps, _samples_inside(recording, first), box is not None, minimum_seconds)


def _samples_inside(recording: Recording, first: int) -> int:
    window_samples = round(WINDOW_SECONDS * SAMPLE_RATE)
    return int(np.clip(recording.audio_samples - slice_start(first), 0, window_samples))


def as_window(steps: Steps, samples: int, has_box: bool, minimum_seconds: float = 2.5) -> Window:
    """20 steps, of which ``samples`` samples are real, as a window with its presence flags."""
    valid_frames = int(steps.valid.sum())
    video = valid_frames * STEP_SECONDS >= minimum_seconds
    sound = samples / SAMPLE_RATE >= minimum_seconds
    present = np.array([video and has_box, video, sound])
    return Window(
        face=steps.face if present[0] else np.zeros_like(steps.face),
        screen=steps.screen if present[1] else np.zeros_like(steps.screen),
        audio=steps.audio if present[2] else np.zeros_like(steps.audio),
        present=present,
        valid_frames=valid_frames,
    )
