import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.real_faces import Overlay, write_composite
from merlb_model.corpus import webcams as module
from merlb_model.corpus.annotations import write_rows
from merlb_model.corpus.ingest import ingest
from merlb_model.corpus.webcams import Clip, find_webcams, in_workers
from merlb_model.errors import MerlbError
from merlb_model.files import read_json, write_json
from merlb_model.media import sightings
from merlb_model.media.encode import write_clip
from merlb_model.media.webcam_boxes import Webcam, given, read_webcams
from merlb_model.media.windows import Box
from merlb_model.params import CorpusParams, IngestParams
from tests.unit.corpus.test_annotations import row

PARAMS = IngestParams(workers=1)
LEFT, RIGHT = Overlay(100, (16, 392), shape=1.3), Overlay(100, (850, 8), shape=1.3)
LEFT_HALF, RIGHT_HALF = (8, 196, 216, 356), (425, 4, 633, 164)
"""Their boxes in the clips, which are of half the size."""


@pytest.fixture(scope="module", autouse=True)
def _each_clip_is_looked_at_once() -> Iterator[None]:
    """The same clip is part of many tests; what it shows is the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("merlb_model.corpus.ingest.in_workers", lambda workers: nullcontext(map))
        for name in ("look", "shows_face"):
            patch.setattr(module, name, cache(getattr(module, name)))
        yield


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short clips of each kind: the webcam left, right, none, and none but a face that flies through the game."""
    folder = tmp_path_factory.mktemp("media")
    for number in range(2):
        write_composite(folder / f"left{number}.mp4", LEFT, number, 2.0, 5, halved=True)
        write_composite(folder / f"right{number}.mp4", RIGHT, 10 + number, 2.0, 5, halved=True)
        write_composite(folder / f"none{number}.mp4", None, 20 + number, 2.0, 5, halved=True)
        write_composite(folder / f"flying{number}.mp4", None, 30 + number, 2.0, 5, halved=True, in_game=True)
    return folder


def clips_of(media: Path, *kinds: str) -> list[Clip]:
    """Clips 1_ann_x.mp4, 2_ann_x.mp4 … of these kinds; each has a hash of its own."""
    return [Clip(f"{n}_ann_x.mp4", f"sha{n}-{kind}", media / f"{kind}.mp4") for n, kind in enumerate(kinds, start=1)]


def found_in(clips: list[Clip], params: IngestParams = PARAMS, memory: Path | None = None) -> Webcam:
    return find_webcams({"ann": clips}, {}, params, memory)["ann"]


def assert_near(box: Box, truth: Box, pixels: int = 5) -> None:
    assert np.abs(np.array(box) - truth).max() <= pixels, (box, truth)


def test_the_webcam_is_found_once_for_all_clips_of_a_streamer(media: Path) -> None:
    webcam = found_in(clips_of(media, "left0", "left1", "none0"))
    (place,) = webcam.places
    assert webcam.origin == "found" and place.since == "" and place.confidence > 0.6
    assert_near(place.box, LEFT_HALF)


def test_no_face_is_absent_and_not_guessed(media: Path) -> None:
    assert found_in(clips_of(media, "none0", "none1")) == Webcam("absent", ())


def test_a_face_that_flies_through_the_game_is_not_the_webcam(media: Path) -> None:
    assert found_in(clips_of(media, "flying0", "flying1")) == Webcam("absent", ())


def test_a_given_box_is_kept_and_no_clip_is_opened(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "look", lambda *_: pytest.fail("opened"))
    box = given((1, 2, 30, 40))
    assert find_webcams({"ann": clips_of(media, "left0")}, {"ann": box}, PARAMS, None) == {"ann": box}


def test_a_moved_webcam_has_a_new_box_from_that_clip_on(media: Path) -> None:
    webcam = found_in(clips_of(media, "left0", "left1", "none0", "right0", "right1"), IngestParams(workers=1))
    assert [place.since for place in webcam.places] == ["", "4_ann_x.mp4"]
    assert_near(webcam.places[0].box, LEFT_HALF)
    assert_near(webcam.places[1].box, RIGHT_HALF)
    assert webcam.box_in("3_ann_x.mp4") == webcam.places[0].box
    assert webcam.box_in("10_ann_x.mp4") == webcam.places[1].box


def test_a_webcam_that_moves_long_after_it_was_found_is_followed(media: Path) -> None:
    kinds = ["left0", "left1"] * 3 + ["right0", "right1"] * 2 + ["left1"]
    webcam = found_in(clips_of(media, *kinds), IngestParams(workers=1, webcam_clips=2))
    assert [place.since for place in webcam.places] == ["", "7_ann_x.mp4", "11_ann_x.mp4"]
    assert webcam.places[2].box == webcam.places[0].box


def test_every_third_clip_is_enough_to_tell_from_which_clip_on(media: Path) -> None:
    kinds = ["left0", "left1"] * 4 + ["right0", "right1"] * 3
    thrifty = found_in(clips_of(media, *kinds), IngestParams(workers=1, webcam_clips=2, check_every=3))
    assert [place.since for place in thrifty.places] == ["", "9_ann_x.mp4"]
    blind = found_in(clips_of(media, *kinds), IngestParams(workers=1, webcam_clips=2, check_every=0))
    assert [place.since for place in blind.places] == [""]


@pytest.mark.parametrize("where", [0, 1, 3])
def test_a_new_clip_moves_no_box_by_a_pixel(media: Path, tmp_path: Path, where: int) -> None:
    clips = [Clip(f"{n}0_ann_x.mp4", f"sha{n}", media / f"left{n % 2}.mp4") for n in range(1, 4)]
    before = found_in(clips, memory=tmp_path)
    new = Clip(f"{where}5_ann_x.mp4", "new", media / "left1.mp4")
    assert found_in([*clips, new], memory=tmp_path) == before


def test_a_second_look_opens_no_clip_and_a_new_clip_itself_alone(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = clips_of(media, "left0", "left1", "none0", "none1", "right0", "right1")
    before = found_in(clips, memory=tmp_path)
    opened: list[str] = []
    shows_face = module.shows_face
    monkeypatch.setattr(module, "look", lambda *_: pytest.fail("looked again"))
    monkeypatch.setattr(module, "shows_face", lambda path, face: opened.append(path) or shows_face(path, face))
    assert found_in(clips, memory=tmp_path) == before and opened == []
    more = [*clips, Clip("7_ann_x.mp4", "sha7", media / "right0.mp4")]
    assert found_in(more, memory=tmp_path) == before
    assert set(opened) == {str(media / "right0.mp4")}


def test_clips_that_cannot_be_decoded_tell_nothing_and_stop_nothing(media: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    clips = clips_of(media, "left0", "left1")
    broken = [Clip(f"{n}_ann_x.mp4", f"broken{n}", tmp_path / "broken.mp4") for n in (0, 3)]
    assert_near(found_in([broken[0], *clips, broken[1]]).places[0].box, LEFT_HALF)
    assert found_in(broken).origin == "absent"


def test_the_number_of_workers_changes_no_box(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(media, *["left0", "left1", "right0", "right1"] * 4)
    one = found_in(clips)
    for name in ("look", "shows_face"):
        monkeypatch.setattr(module, name, getattr(sightings, name))
    with in_workers(2) as mapped:
        assert find_webcams({"ann": clips}, {}, PARAMS, None, mapped)["ann"] == one


@pytest.fixture
def source(media: Path, tmp_path: Path) -> Path:
    """A folder of three streamers: ann has a webcam, bob none, eve a box that is given."""
    folder = tmp_path / "mine"
    folder.mkdir()
    kinds = {"1_ann_x": "left0", "2_ann_x": "left1", "3_bob_x": "none0", "4_bob_x": "none1", "5_eve_x": "right0"}
    for name, kind in kinds.items():
        shutil.copy(media / f"{kind}.mp4", folder / f"{name}.mp4")
    write_rows(folder / "annotations.csv", [row(f"{name}.mp4") for name in kinds])
    write_json(folder / "webcam_boxes.json", {"eve": list(RIGHT_HALF)})
    return folder


def ingested(source: Path, raw: Path) -> Path:
    ingest(CorpusParams(source="folder", path=str(source)), PARAMS, raw, raw.parent / "memory")
    return raw


def test_ingest_writes_boxes_with_confidence_and_the_contact_sheet(source: Path, tmp_path: Path) -> None:
    raw = ingested(source, tmp_path / "raw")
    entries = read_json(raw / "webcam_boxes.json", "test")
    assert entries["eve"] == list(RIGHT_HALF)
    assert entries["bob"] == {"origin": "absent", "places": []}
    assert 0 < entries["ann"]["places"][0]["confidence"] <= 1
    assert_near(read_webcams(raw / "webcam_boxes.json")["ann"].places[0].box, LEFT_HALF)
    assert (raw / "webcams.png").stat().st_size > 1000
    again = (raw / "webcams.png").read_bytes(), (raw / "webcam_boxes.json").read_bytes()
    ingested(source, raw)
    assert ((raw / "webcams.png").read_bytes(), (raw / "webcam_boxes.json").read_bytes()) == again


def test_what_ingest_wrote_can_be_given_again(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ingested(source, tmp_path / "raw")
    shutil.copy(raw / "webcam_boxes.json", source / "webcam_boxes.json")
    monkeypatch.setattr(module, "look", lambda *_: pytest.fail("looked again"))
    other = ingested(source, tmp_path / "other")
    assert (other / "webcam_boxes.json").read_bytes() == (raw / "webcam_boxes.json").read_bytes()


def test_a_given_box_outside_the_frame_is_refused_by_name(source: Path, tmp_path: Path) -> None:
    write_json(source / "webcam_boxes.json", {"eve": [640, 0, 700, 90], "ann": [600, 300, 650, 400]})
    with pytest.raises(MerlbError, match=r"1 box\(es\) lie outside the frame: eve: \[640, 0, 700, 90\] in 640 x 360"):
        ingested(source, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_extract_takes_each_clips_own_box(source: Path, tmp_path: Path) -> None:
    from merlb_model.dataset.extract import extract
    from merlb_model.params import ExtractParams

    raw = ingested(source, tmp_path / "raw")
    extract(raw, ExtractParams(workers=1, minimum_seconds=1), tmp_path / "out", None)
    rows = pd.concat(pd.read_parquet(path) for path in (tmp_path / "out").glob("*/rows.parquet")).set_index("file")
    assert rows["present_face"].to_dict() == {
        "1_ann_x.mp4": True,
        "2_ann_x.mp4": True,
        "3_bob_x.mp4": False,
        "4_bob_x.mp4": False,
        "5_eve_x.mp4": True,
    }


def test_a_portrait_that_never_moves_is_not_the_streamer(media: Path, tmp_path: Path) -> None:
    import av

    with av.open(str(media / "left0.mp4")) as container:
        still = next(container.decode(video=0)).to_ndarray(format="rgb24")
    write_clip(tmp_path / "still.mp4", [still] * 10, 5, np.zeros(44_100, np.int16), 22_050)
    assert found_in([Clip("1_ann_x.mp4", "sha", tmp_path / "still.mp4")]).origin == "absent"
