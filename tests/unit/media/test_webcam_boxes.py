from pathlib import Path

import pytest

from merlb_model.errors import MerlbError
from merlb_model.files import write_json
from merlb_model.media.webcam_boxes import Place, Webcam, as_entries, clip_order, given, read_webcams
from merlb_model.media.windows import Box


def newest_boxes(path: Path) -> dict[str, Box]:
    return {streamer: webcam.places[-1].box for streamer, webcam in read_webcams(path).items() if webcam.places}


def test_published_boxes_are_read_by_streamer(tmp_path: Path) -> None:
    write_json(tmp_path / "boxes.json", {"ann": [1, 2, 30, 40], "bob": [1.0, 2.4, 30, 40]})
    assert newest_boxes(tmp_path / "boxes.json") == {"ann": (1, 2, 30, 40), "bob": (1, 2, 30, 40)}
    assert read_webcams(tmp_path / "boxes.json")["ann"] == given((1, 2, 30, 40))
    assert newest_boxes(tmp_path / "none.json") == {}


def test_what_was_found_is_read_as_it_was_written(tmp_path: Path) -> None:
    moved = Webcam("found", (Place("", (1, 2, 30, 40), 0.9), Place("9_cat_x.mp4", (5, 6, 70, 80), 0.5)))
    webcams = {"ann": given((1, 2, 30, 40)), "bob": Webcam("absent", ()), "cat": moved}
    write_json(tmp_path / "boxes.json", as_entries(webcams))
    assert read_webcams(tmp_path / "boxes.json") == webcams
    assert newest_boxes(tmp_path / "boxes.json") == {"ann": (1, 2, 30, 40), "cat": (5, 6, 70, 80)}


def test_a_place_holds_from_its_clip_on_by_number() -> None:
    moved = Webcam("found", (Place("", (1, 2, 30, 40), 0.9), Place("9_cat_x.mp4", (5, 6, 70, 80), 0.5)))
    assert [moved.box_in(f"{n}_cat_x.mp4") for n in (1, 8)] == [(1, 2, 30, 40)] * 2
    assert [moved.box_in(f"{n}_cat_x.mp4") for n in (9, 10, 100)] == [(5, 6, 70, 80)] * 3
    assert Webcam("absent", ()).box_in("1_cat_x.mp4") is None


def test_clips_are_in_the_order_of_their_numbers() -> None:
    files = ["a_2.mp4", "10_ann.mp4", "9_ann.mp4", "009_bob.mp4", "x.mp4", "9" * 5000]
    ordered = ["9_ann.mp4", "009_bob.mp4", "10_ann.mp4", "9" * 5000, "a_2.mp4", "x.mp4"]
    assert sorted(files, key=clip_order) == ordered


@pytest.mark.parametrize(
    "box",
    [
        "[1, 2, 3]",
        "[9, 0, 3, 4]",
        '["a", 0, 3, 4]',
        "7",
        "null",
        "[0, 0, Infinity, 4]",
        "[0, 0, 1e400, 4]",
        "[NaN, 0, 3, 4]",
        "[false, false, true, true]",
        "[0, 0, " + "9" * 400 + ", 4]",
        '{"origin": "found", "places": []}',
        '{"origin": "absent", "places": [{"from": "", "box": [0, 0, 1, 1], "confidence": 1}]}',
        '{"origin": "found", "places": [{"from": "", "box": [0, 0, 1, 1], "confidence": NaN}]}',
        '{"origin": "found", "places": [{"box": [0, 0, 1, 1], "confidence": 1}]}',
        '{"origin": ["found"], "places": [7]}',
    ],
)
def test_a_box_that_is_none_names_the_streamer(tmp_path: Path, box: str) -> None:
    (tmp_path / "boxes.json").write_text(f'{{"bob": {box}}}')
    with pytest.raises(MerlbError, match="bob: expected"):
        read_webcams(tmp_path / "boxes.json")


def test_infinity_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"bob": [0, 0, -Infinity, Infinity]}')
    with pytest.raises(MerlbError, match="whole pixels"):
        newest_boxes(tmp_path / "boxes.json")
