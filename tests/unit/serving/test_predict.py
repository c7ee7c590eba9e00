from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.media.decode import read_clip
from merlb_model.media.encode import write_clip
from merlb_model.media.webcam_boxes import given
from merlb_model.media.windows import cut
from merlb_model.params import ExtractParams
from merlb_model.serving import predict as predict_module
from merlb_model.serving.predict import predict

BOX = (10, 10, 60, 60)
PARAMS = ExtractParams(workers=1, minimum_seconds=2.5)


def write(path: Path, seconds: float, seed: int) -> Path:
    random = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [np.full((90, 160, 3), random.integers(0, 256, 3), np.uint8) for _ in range(round(seconds * 5))]
    write_clip(path, frames, 5, random.integers(-9000, 9000, round(seconds * 22_050)).astype(np.int16), 22_050)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write(folder / "1_ann_x.mp4", 5, 1)
    write(folder / "sub" / "2_bob_x.mp4", 4, 2)
    write(folder / "3_ann_x.mp4", 1, 3)
    (folder / "4_ann_x.mp4").write_text("not a clip")
    (folder / "notes.txt").write_text("no clip at all")
    return folder


def test_good_clips_are_scored_and_bad_ones_listed(scorer, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_module, "_BATCH", 1)
    out = tmp_path / "scores.parquet"
    summary = predict([clips, clips / "none.mp4"], scorer, {"ann": given(BOX)}, out, PARAMS)
    assert (summary.scored, summary.quarantined) == (2, 3)
    table = pd.read_parquet(out)
    assert list(table["file"]) == ["1_ann_x.mp4", "sub/2_bob_x.mp4"]
    assert list(table["streamer"]) == ["ann", "bob"]
    assert table[["present_face", "present_screen", "present_audio"]].to_numpy().tolist() == [
        [True] * 3,
        [False, True, True],
    ]
    bad = pd.read_csv(summary.quarantine)
    assert list(bad.columns) == ["file", "stage", "reason", "detail"]
    assert bad[["file", "stage", "reason"]].to_numpy().tolist() == [
        ["3_ann_x.mp4", "predict", "too_short"],
        ["4_ann_x.mp4", "predict", "undecodable"],
        ["none.mp4", "predict", "missing_file"],
    ]


def test_the_table_holds_the_models_scores_for_the_window_that_extract_cuts(scorer, clips, tmp_path):
    predict([clips / "1_ann_x.mp4"], scorer, {"ann": given(BOX)}, tmp_path / "scores.parquet", PARAMS)
    row = pd.read_parquet(tmp_path / "scores.parquet").iloc[0]
    window = cut(read_clip(clips / "1_ann_x.mp4"), 0.0, BOX)
    expected = scorer.score(window.face[None], window.screen[None], window.audio[None])
    for task, classes in TASKS.items():
        found = [row[f"{task}_{label}"] for label in classes]
        assert all(value.dtype == np.float32 for value in found)
        np.testing.assert_allclose(found, expected[task][0], atol=1e-6)
        assert row[f"{task}_predicted"] == classes[int(np.argmax(found))]
    assert row["valid_frames"] == window.valid_frames == 20


def test_a_clip_that_breaks_the_decoder_stops_no_other(scorer, clips, tmp_path, monkeypatch):
    def breaks(*_):
        raise RuntimeError("the decoder\nfell over")

    monkeypatch.setattr(predict_module, "decode", breaks)
    summary = predict([clips / "1_ann_x.mp4"], scorer, {}, tmp_path / "scores.parquet", PARAMS)
    assert (summary.scored, summary.quarantined) == (0, 1)
    assert pd.read_csv(summary.quarantine)["detail"][0] == "RuntimeError: the decoder fell over"
    empty = pd.read_parquet(tmp_path / "scores.parquet")
    assert len(empty) == 0 and "event_fighting" in empty.columns


def test_a_folder_without_clips_is_told(scorer, tmp_path):
    with pytest.raises(MerlbError, match=r"no clip; expected files or folders of \.avi"):
        predict([tmp_path], scorer, {}, tmp_path / "scores.parquet", PARAMS)


def test_two_clips_of_one_name_are_told_apart_by_nobody(scorer, clips, tmp_path):
    twin = write(tmp_path / "1_ann_x.mp4", 3, 4)
    with pytest.raises(MerlbError, match=r"would both be '1_ann_x\.mp4'"):
        predict([clips, twin], scorer, {}, tmp_path / "scores.parquet", PARAMS)


def test_the_summary_names_the_list_of_failures_when_there_are_any(scorer, clips, tmp_path):
    good = predict([clips / "1_ann_x.mp4"], scorer, {}, tmp_path / "a.parquet", PARAMS)
    assert str(good) == f"1 clips scored: {tmp_path / 'a.parquet'}"
    bad = predict([clips / "4_ann_x.mp4"], scorer, {}, tmp_path / "b.parquet", PARAMS)
    assert "1 could not be" in str(bad) and "b.parquet.quarantine.csv" in str(bad)
