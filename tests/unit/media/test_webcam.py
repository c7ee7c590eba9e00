from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.real_faces import Overlay, write_composite
from merlb_model.media.decode import read_clip
from merlb_model.media.recording import Frame
from merlb_model.media.webcam import at_one_place, find_faces, find_webcam, sampled, sightings, webcam_about


def frames_of(path: Path) -> list[Frame]:
    recording = read_clip(path)
    return [recording.frames[slot] for slot in sorted(recording.frames)]


def composite(path: Path, overlay: Overlay | None, seed: int = 0, **kinds: bool) -> list[Frame]:
    return frames_of(write_composite(path / "clip.mp4", overlay, seed, 2.0, 4, **kinds))


def astronaut(width: int) -> Frame:
    """Grey, with the astronaut's face of ``width`` pixels at 100, 80."""
    from skimage import data

    canvas = np.full((360, 640, 3), 90, np.uint8)
    picture = cv2.resize(data.astronaut()[40:200, 150:310], (width * 8 // 5, width * 8 // 5))
    canvas[80 : 80 + len(picture), 100 : 100 + len(picture)] = picture
    return canvas


def test_no_face_is_no_webcam() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    assert find_webcam([noise] * 5) is None
    assert find_webcam([]) is None


@pytest.mark.parametrize(("width", "corner"), [(60, (34, 200)), (90, (500, 40)), (140, (580, 0))])
def test_a_real_face_of_60_90_and_140_pixels_is_found_with_its_border(
    tmp_path: Path, width: int, corner: tuple[int, int]
) -> None:
    halved = width < 140  # the smaller ones in smaller frames: it takes a quarter of the time
    overlay = Overlay(width * 2 if halved else width, corner)
    box = find_webcam(composite(tmp_path, overlay, seed=width, halved=halved))
    assert box is not None
    assert np.abs(np.array(box) - np.array(overlay.box) / (2 if halved else 1)).max() <= 5, (box, overlay.box)


@pytest.mark.parametrize("width", [30, 45, 120])
def test_faces_are_found_from_thirty_pixels(width: int) -> None:
    (face,) = find_faces(astronaut(width))
    assert abs(face[2] - face[0] - width) < 0.3 * width
    assert 100 <= face[0] < face[2] <= 100 + 1.6 * width


def test_a_face_in_a_large_frame_is_given_in_its_own_pixels() -> None:
    small = astronaut(60)
    (face,) = find_faces(small)
    (large,) = find_faces(cv2.resize(small, None, fx=4, fy=4))
    assert np.abs(np.array(large) / 4 - face).max() < 8


def test_a_face_that_moves_about_the_game_stays_nowhere(tmp_path: Path) -> None:
    frames = composite(tmp_path, None, in_game=True, halved=True)
    assert any(find_faces(frame) for frame in frames)
    assert find_webcam(frames) is None


def test_a_portrait_that_never_changes_is_no_person() -> None:
    assert sightings([astronaut(60)] * 4) == []
    swaying = [np.roll(astronaut(60), shift, axis=1) for shift in (0, 3, 0, 4)]
    assert [one.share for one in sightings(swaying)] == [1.0]


def test_without_a_border_the_face_and_a_margin_are_the_webcam() -> None:
    found = webcam_about((100, 80, 160, 140), np.zeros((2, 360, 640), np.float32), 1.0)
    assert found.box == (76, 56, 184, 164)
    assert found.confidence == 0.4


def test_faces_are_at_one_place_by_distance_and_size() -> None:
    face = (100, 100, 160, 160)
    assert at_one_place(face, (110, 95, 175, 160))
    assert not at_one_place(face, (140, 100, 200, 160))
    assert not at_one_place(face, (70, 70, 190, 190))


def test_frames_are_sampled_evenly() -> None:
    frames = [np.full((2, 2, 3), index, np.uint8) for index in range(20)]
    assert [int(frame[0, 0, 0]) for frame in sampled(frames, 4)] == [2, 7, 12, 17]
    assert len(sampled(frames[:3], 4)) == 3
    assert sampled([], 4) == []
