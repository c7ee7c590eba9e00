from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from merlb_model.media.decode import read_clip
from merlb_model.media.recording import Recording
from merlb_model.media.windows import cut, cut_steps, shrink, slice_start, usable_box
from tests.media_clips import write_media


def _recording(seconds: float, video: bool = True) -> Recording:
    recording = Recording()
    recording.has_video, recording.has_audio, recording.ended = video, True, True
    rng = np.random.default_rng(0)
    if video:
        for _ in range(int(seconds * 4)):
            recording.add_slot(rng.integers(0, 256, (90, 160, 3), dtype=np.uint8))
    recording.add_samples(np.arange(int(seconds * 22_050)).astype(np.int16))
    return recording


def test_slices_start_at_floor_of_5512_and_a_half_times_k() -> None:
    assert [slice_start(k) for k in range(5)] == [0, 5512, 11025, 16537, 22050]


def test_slice_k_holds_the_samples_from_its_start() -> None:
    window = cut(_recording(5.0), 0.0, None)
    assert window.audio.shape == (20, 5512)
    assert window.audio[3, 0] == 16537
    assert window.audio[1, -1] == 5512 + 5511


def test_the_screen_is_the_area_mean_with_the_webcam_black() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    box = (256, 0, 512, 128)
    face, screen = shrink(frame, box)
    assert not screen[:64, 64:].any()
    left = frame[:, :256].reshape(128, 2, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(screen[:, :64].astype(float) - left).max() <= 1
    by_hand = frame[:128, 256:].reshape(64, 2, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(face.astype(float) - by_hand).max() <= 1


def area_weights(source: int, target: int) -> NDArray[np.float64]:
    """Row k: how much of each source pixel lies in target pixel k, (target, source)."""
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.clip(overlap, 0, None) * target / source


def test_a_screen_of_720p_is_the_area_mean_too_though_it_is_halved_on_the_way() -> None:
    coarse = np.random.default_rng(2).integers(0, 256, (60, 107, 3), dtype=np.uint8)
    frame = cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    _, screen = shrink(frame, None)
    expected = np.einsum("ry,yxc,sx->rsc", area_weights(720, 128), frame, area_weights(1280, 128), optimize=True)
    assert np.abs(screen - expected).max() <= 4  # the sharpest of edges
    assert np.abs(screen - expected).mean() <= 0.5


def test_a_box_is_clipped_to_the_frame_and_one_outside_is_none() -> None:
    frame = np.zeros((90, 160, 3), np.uint8)
    assert usable_box((-10, 80, 30, 200), frame) == (0, 80, 30, 90)
    assert usable_box((200, 0, 260, 40), frame) is None
    face, _ = shrink(cv2.add(frame, 9), (200, 0, 260, 40))
    assert not face.any()


def test_a_short_clip_is_padded_with_its_last_frame_and_silence() -> None:
    recording = _recording(3.0)
    window = cut(recording, 0.0, (0, 0, 80, 80))
    assert window.valid_frames == 12
    assert window.present.tolist() == [True, True, True]
    assert all(np.array_equal(window.screen[step], window.screen[11]) for step in range(12, 20))
    assert not window.audio[13:].any()


def test_what_is_shorter_than_half_a_window_is_absent_and_zero() -> None:
    recording = _recording(2.25)
    window = cut(recording, 0.0, (0, 0, 80, 80))
    assert window.present.tolist() == [False, False, False]
    assert not window.face.any() and not window.screen.any() and not window.audio.any()


def test_no_box_is_no_face_and_no_video_is_no_screen() -> None:
    assert cut(_recording(5.0), 0.0, None).present.tolist() == [False, True, True]
    assert cut(_recording(5.0, video=False), 0.0, (0, 0, 9, 9)).present.tolist() == [False, False, True]


def test_a_box_outside_the_frame_is_no_face() -> None:
    assert cut(_recording(5.0), 0.0, (500, 0, 600, 90)).present.tolist() == [False, True, True]


def test_steps_cut_second_by_second_are_those_of_the_window(tmp_path: Path) -> None:
    recording = read_clip(write_media(tmp_path / "clip.mp4", seconds=7.0, fps=10), seconds=7.0)
    window = cut(recording, 1.0, (0, 0, 40, 40))
    by_second = [cut_steps(recording, 4 + 4 * second, 4, (0, 0, 40, 40)) for second in range(5)]
    assert np.array_equal(window.face, np.concatenate([steps.face for steps in by_second]))
    assert np.array_equal(window.screen, np.concatenate([steps.screen for steps in by_second]))
    assert np.array_equal(window.audio, np.concatenate([steps.audio for steps in by_second]))
