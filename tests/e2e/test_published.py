"""A published corpus with something wrong in every place, through the real command, and split both ways."""

import csv
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import yaml

from merlb_model.cli import main
from merlb_model.corpus.annotations import LABEL_COLUMNS
from merlb_model.dataset.store import open_store
from merlb_model.files import write_json
from merlb_model.labels import FORERUNNER_COLUMNS
from tests.media_clips import write_media

PARAMS = Path(__file__).parents[2] / "params.yaml"
TODAYS = {new: old for old, new in FORERUNNER_COLUMNS.items()}
HIGH = {"Valence_Negative": "1", "Arousal_High": "1", "Fighting": "1"}
NEUTRAL = {"Valence_Positive": "1", "Arousal_Neutral": "1", "Defeated": "1"}

Line = tuple[str, dict[str, str]]


def write_table(path: Path, lines: list[Line], forerunner: bool) -> None:
    """A table as the web has them: a BOM, CRLF, and spaces in the header; the forerunner's names if asked for."""
    columns = [name for name in LABEL_COLUMNS if not (forerunner and name == "Arousal_Low")]
    names = [TODAYS.get(name, name) if forerunner else name for name in columns]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["File", *(f" {name}" for name in names)])
        writer.writerows([clip, *(labels.get(name, "0") for name in columns)] for clip, labels in lines)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Eight good clips of six streamers, the testing ones in a zip, and a defect of each kind beside them."""
    source = tmp_path / "data" / "sources" / "lols"
    source.mkdir(parents=True)
    names = [f"{index}_{name}_x.mp4" for index, name in enumerate(["ann", "ann", "bob", "cat", "dan", "eve", "fay"])]
    for index, name in enumerate([*names, "7_a b_'ü\n.mp4"]):
        write_media(source / name, seconds=3.0, fps=10, size=(96, 64), tone_hz=200.0 + 50 * index)
    training: list[Line] = [(name, HIGH) for name in names[:5]] + [("7_a b_'ü\n.mp4", NEUTRAL)]
    training += [(names[0], HIGH), (names[5], NEUTRAL), ("50_ann_x.mp4", HIGH), ("../51_ann_x.mp4", HIGH)]
    for number, wrong in enumerate([{"Routing": "1"}, {"Routing": "NaN"}, {"Routing": ""}, {"Routing": "yes"}]):
        training.append((f"{60 + number}_ann_x.mp4", {**HIGH, **wrong}))
    training += [("64_ann_x.mp4", HIGH), ("64_ann_x.mp4", NEUTRAL), ("65_ann_x.mp4", HIGH), ("66_ann_x.mp4", HIGH)]
    for number in (60, 61, 62, 63, 64, 67):
        (source / f"{number}_ann_x.mp4").write_bytes((source / names[0]).read_bytes())
    (source / "65_ann_x.mp4").touch()
    (tmp_path / "secret.mp4").write_text("not ours")
    (source / "66_ann_x.mp4").symlink_to(tmp_path / "secret.mp4")
    (source / os.fsdecode(b"68_\xff_x.mp4")).write_text("film")
    write_table(source / "trainingdata.csv", training, forerunner=True)
    write_table(source / "testingdata.csv", [(name, NEUTRAL) for name in names[5:]], forerunner=False)
    write_json(source / "webcam_boxes.json", {name: [0, 0, 48, 32] for name in ("ann", "bob", "nobody")})
    with zipfile.ZipFile(source / "testing.zip", "w") as archive:
        for name in [*names[5:], "testingdata.csv"]:
            archive.write(source / name, f"LoLs/testing/{name}")
            (source / name).unlink()
    return source


def run(workspace: Path, mode: str, *stages: str) -> None:
    params = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    params["corpus"] |= {"source": "published", "path": str(workspace / "data/sources/lols")}
    params["split"] |= {"mode": mode, "stratify": True}
    params["extract"]["workers"] = 1
    (workspace / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for stage in stages:
        main(["-w", str(workspace), stage])


def test_every_defect_is_named_good_clips_stay_and_both_splits_are_made(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.exit", lambda code=0: pytest.fail(f"exit {code}") if code else None)
    before = {path: path.lstat().st_mtime_ns for path in source.rglob("*")}
    run(tmp_path, "streamer", "ingest", "extract", "convert", "split")

    said = capsys.readouterr().out
    problems = pd.read_csv(tmp_path / "data/raw/problems.csv", keep_default_na=False)
    kinds = problems.groupby("problem")["file"].apply(sorted).to_dict()
    assert kinds.pop("no_box") == ["webcam_boxes.json"] * 5  # a b, cat, dan, eve, fay
    assert kinds == {
        "contradictory_rows": ["64_ann_x.mp4"],
        "doubled_row": ["0_ann_x.mp4"],
        "empty_clip": ["65_ann_x.mp4"],
        "empty_label": ["62_ann_x.mp4"],
        "in_both_tables": ["5_eve_x.mp4"],
        "link": ["66_ann_x.mp4"],
        "nan_label": ["61_ann_x.mp4"],
        "no_clip": ["50_ann_x.mp4", "66_ann_x.mp4"],
        "no_row": ["67_ann_x.mp4"],
        "not_a_number": ["63_ann_x.mp4"],
        "not_one_hot": ["60_ann_x.mp4"],
        "unknown_streamers_box": ["webcam_boxes.json"],
        "unsafe_name": ["../51_ann_x.mp4", "68_\\xff_x.mp4"],
    }
    assert "2 × no_clip: row names no clip: quarantined" in said

    quarantined = pd.read_csv(tmp_path / "data/extract/quarantine.csv", keep_default_na=False)
    assert quarantined.groupby("reason")["file"].apply(sorted).to_dict() == {
        "duplicate_row": ["64_ann_x.mp4"],
        "invalid_label": [f"{number}_ann_x.mp4" for number in (60, 61, 62, 63)],
        "missing_file": ["50_ann_x.mp4", "66_ann_x.mp4"],
        "no_label": ["67_ann_x.mp4"],
        "undecodable": ["65_ann_x.mp4"],
        "unsafe_name": ["../51_ann_x.mp4"],
    }

    clips = open_store(tmp_path / "data/store").clips.set_index("file")
    assert len(clips) == 8 and set(clips["streamer"]) == {"ann", "bob", "cat", "dan", "eve", "fay", "a b"}
    assert clips.loc["0_ann_x.mp4", ["valence", "arousal", "event"]].tolist() == ["negative", "high", "fighting"]
    assert clips.loc["7_a b_'ü\n.mp4", ["valence", "arousal", "event"]].tolist() == ["positive", "neutral", "defeated"]
    assert clips["present_face"].astype(bool).loc[["0_ann_x.mp4", "2_bob_x.mp4"]].all()

    apart = pd.read_parquet(tmp_path / "data/splits.parquet")
    assert apart.groupby("streamer")["split"].nunique().max() == 1
    assert set(apart["split"]) == {"train", "validation", "test"}
    run(tmp_path, "published", "split")
    published = pd.read_parquet(tmp_path / "data/splits.parquet").set_index("file")["split"]
    assert sorted(published.index[published == "test"]) == ["5_eve_x.mp4", "6_fay_x.mp4"]
    assert {path: path.lstat().st_mtime_ns for path in source.rglob("*")} == before
