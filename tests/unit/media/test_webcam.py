from pathlib import Path

import numpy as np
import pytest

from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.media.webcam import find_webcam, read_boxes


def test_no_face_is_no_webcam() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    assert find_webcam([noise] * 5) is None
    assert find_webcam([]) is None


def test_boxes_are_read_by_streamer(tmp_path: Path) -> None:
    write_json(tmp_path / "boxes.json", {"ann": [1, 2, 30, 40]})
    assert read_boxes(tmp_path / "boxes.json") == {"ann": (1, 2, 30, 40)}
    assert read_boxes(tmp_path / "none.json") == {}


@pytest.mark.parametrize("box", [[1, 2, 3], [9, 0, 3, 4], ["a", 0, 3, 4], 7])
def test_a_box_that_is_none_names_the_streamer(tmp_path: Path, box: object) -> None:
    write_json(tmp_path / "boxes.json", {"bob": box})
    with pytest.raises(MerlbError, match="bob: expected"):
        read_boxes(tmp_path / "boxes.json")
