import numpy as np
import pytest

from merlb_model.media.overlay import find_border, mean_edges, still_edges
from merlb_model.media.recording import Frame
from merlb_model.media.windows import Box

FACE = (90, 70, 130, 110)


def scene(box: Box | None, seed: int, frames: int = 10) -> list[Frame]:
    """A game of random tiles that jump about; over it, at ``box``, a room whose shelf and door stay."""
    rng = np.random.default_rng(seed)
    pictures = []
    for _ in range(frames):
        tiles = rng.integers(0, 256, (16, 21, 3), dtype=np.uint8)
        shift = rng.uniform(0, 16, 2).astype(int)
        picture = np.kron(tiles, np.ones((16, 16, 1), np.uint8))[shift[0] : shift[0] + 180, shift[1] : shift[1] + 320]
        picture = picture.copy()
        if box is not None:
            left, top, right, bottom = box
            picture[top:bottom, left:right] = (120, 100, 80)
            picture[top : top + 20, left:right] = (170, 170, 160)  # a shelf from side to side
            picture[top:bottom, left + 12 : left + 15] = (60, 50, 40)  # a door's post from top to bottom
        pictures.append(picture)
    return pictures


@pytest.mark.parametrize("box", [(60, 40, 180, 130), (70, 45, 160, 125), (55, 20, 235, 140)])
def test_the_border_is_found_and_not_the_room_inside_it(box: Box) -> None:
    border = find_border(mean_edges([still_edges(scene(box, seed)) for seed in range(2)]), FACE)
    assert border is not None and border.strength > 0.6
    assert np.abs(np.array(border.box) - box).max() <= 1, border.box


def test_a_webcam_in_the_corner_ends_with_the_frame() -> None:
    border = find_border(mean_edges([still_edges(scene((0, 0, 180, 130), 3))]), FACE)
    assert border is not None
    assert border.box == (0, 0, 180, 130)


def test_a_game_that_moves_has_no_border() -> None:
    border = find_border(mean_edges([still_edges(scene(None, seed)) for seed in range(3)]), FACE)
    assert border is None or border.strength < 0.15


def test_an_edge_that_stays_counts_and_one_that_goes_does_not() -> None:
    frames = [np.zeros((40, 60, 3), np.uint8) for _ in range(4)]
    for index, frame in enumerate(frames):
        frame[:, 20:] = 200
        frame[5 + 6 * index :, :10] = 90
    edges = still_edges(frames)
    assert edges.shape == (2, 40, 60) and edges.dtype == np.uint8
    assert (edges[0, 30:, 20] == 255).all() and (edges[0, :, 21:] == 0).all()
    assert edges[1, 5, 3] == 64  # one frame of four


def test_a_slight_step_is_noise() -> None:
    frame = np.full((40, 60, 3), 100, np.uint8)
    frame[:, 30:] = 104
    assert (still_edges([frame]) == 0).all()
