"""The sample corpus as it is rendered by default: real files, faces that detectors find, and no task for a toy."""

import csv
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from merlb_model.corpus import sample, sample_rules
from merlb_model.dataset.split import split
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.files import read_json
from merlb_model.media.webcam import find_faces
from merlb_model.params import CorpusParams, Params, load_params
from tests.direct_store import make_direct_store

ROOT = Path(__file__).parents[3]
TINY = CorpusParams(streamers=3, clips_per_streamer=2, width=320, height=180, fps=10)
Truth = list[dict[str, str]]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def corpus(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of ``params.yaml``, through the stages up to the split."""
    folder = tmp_path_factory.mktemp("sample")
    split(make_direct_store(params, folder), params.split, folder / "splits.parquet")
    return folder


@pytest.fixture(scope="module")
def store(corpus: Path) -> ClipStore:
    return open_store(corpus / "store")


@pytest.fixture(scope="module")
def truth(corpus: Path) -> Truth:
    with (corpus / "raw/truth.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _tiny(folder: Path, seed: int = 7, workers: int = 1) -> dict[str, bytes]:
    sample.render(folder, TINY.model_copy(update={"seed": seed}), workers)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- Files ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path) -> None:
    assert _tiny(tmp_path / "one") == _tiny(tmp_path / "two", workers=2)


def test_another_seed_gives_other_clips_and_labels(tmp_path: Path) -> None:
    one, other = _tiny(tmp_path / "one"), _tiny(tmp_path / "other", seed=8)
    assert all(one[name] != other[name] for name in one if name != "truth.json")


def test_clips_are_five_seconds_of_h264_and_aac_of_the_size_asked_for(corpus: Path, params: Params) -> None:
    clips = sorted((corpus / "raw/clips").glob("*.mp4"))
    assert len(clips) == params.corpus.streamers * params.corpus.clips_per_streamer >= 400
    for clip in clips[::40]:
        with av.open(str(clip)) as media:
            video, audio = media.streams.video[0], media.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.width, video.height, video.average_rate) == (640, 360, 20)
            assert video.frames == 100
            assert float(media.duration) / av.time_base == pytest.approx(5.0, abs=0.1)


def test_every_clip_is_used_with_all_its_modalities(store: ClipStore, corpus: Path) -> None:
    assert len(store) == 400
    assert store.present.all()
    assert pd.read_csv(corpus / "extract/quarantine.csv").empty


def test_webcams_stand_in_all_corners_and_differ_in_size(corpus: Path) -> None:
    boxes = np.array(list(read_json(corpus / "raw/webcam_boxes.json", "test").values()))
    corners = {(bool(x1 < 320), bool(y1 < 180)) for x1, y1, _, _ in boxes}
    assert len(corners) == 4
    assert len({(x2 - x1, y2 - y1) for x1, y1, x2, y2 in boxes}) > 20


# --- Truth ------------------------------------------------------------------------------------------------------------


def test_annotations_carry_the_labels_of_the_truth(truth: Truth, store: ClipStore) -> None:
    clips = store.clips.set_index("file")
    for row in truth:
        assert [clips.loc[row["file"], task] for task in ("valence", "arousal", "event")] == [
            row["valence"], row["arousal"], row["event"],
        ]  # fmt: skip


def test_truth_says_what_each_view_can_reach(corpus: Path, params: Params) -> None:
    written: dict[str, Any] = json.loads((corpus / "raw/truth.json").read_text(encoding="utf-8"))
    assert written == sample_rules.ceilings(params.corpus.label_noise)
    valence = {view: score["macro_f1"] for view, score in written["ceilings"]["valence"].items()}
    assert max(valence["face"], valence["audio"]) < valence["additive"] < valence["whole"]


def test_sarcastic_clips_have_the_share_that_the_truth_names(truth: Truth, corpus: Path) -> None:
    written = json.loads((corpus / "raw/truth.json").read_text(encoding="utf-8"))
    assert sum(int(row["sarcasm"]) for row in truth) == round(400 * written["sarcasm"]["share"])


# --- No toy -----------------------------------------------------------------------------------------------------------


def test_a_face_detector_finds_the_webcams_faces(corpus: Path) -> None:
    boxes = read_json(corpus / "raw/webcam_boxes.json", "test")
    clips = sorted((corpus / "raw/clips").iterdir())[::5]
    found = sum(_finds_face(clip, boxes[clip.name.split("_")[1]]) for clip in clips)
    assert found / len(clips) >= 0.95


def _finds_face(clip: Path, webcam: list[int]) -> bool:
    """Whether OpenCV's cascade sees a face in the webcam's box of the clip's 50th frame, given the whole frame."""
    with av.open(str(clip)) as media:
        frame = next(frame for number, frame in enumerate(media.decode(video=0)) if number == 50)
    x1, y1, x2, y2 = webcam
    return any(
        x1 <= (left + right) / 2 <= x2 and y1 <= (top + bottom) / 2 <= y2 and right - left >= 0.3 * (y2 - y1)
        for left, top, right, bottom in find_faces(frame.to_ndarray(format="rgb24"))
    )


@pytest.fixture(scope="module")
def pooled(store: ClipStore) -> dict[str, NDArray[np.float32]]:
    """What a toy sees: 8 x 8 means of each of 20 faces and screens, and 20 RMS values; f32 (N, features)."""
    count = len(store)
    faces = np.asarray(store.arrays["face"], np.float32).reshape(count, 20, 8, 8, 8, 8, 3).mean((3, 5))
    screens = np.concatenate(
        [
            np.asarray(store.arrays["screen"][row], np.float32).reshape(1, 20, 8, 16, 8, 16, 3).mean((3, 5))
            for row in range(count)
        ]
    )
    loudness = np.sqrt(np.square(store.arrays["audio"][:].astype(np.float32)).mean(-1))
    return {"face": faces.reshape(count, -1), "screen": screens.reshape(count, -1), "audio": loudness}


@pytest.mark.parametrize(
    ("task", "views", "bound"),
    [
        ("event", ("face", "screen", "audio"), 0.55),
        ("event", ("screen", "audio"), 0.55),
        ("valence", ("face", "screen", "audio"), 0.50),
        ("valence", ("face", "audio"), 0.50),
    ],
)
def test_logistic_regression_on_pooled_frames_and_loudness_does_not_solve_it(
    pooled: dict[str, NDArray[np.float32]],
    store: ClipStore,
    corpus: Path,
    task: str,
    views: tuple[str, ...],
    bound: float,
) -> None:
    split_of = pd.read_parquet(corpus / "splits.parquet").sort_values("row")["split"].to_numpy()
    seen, unseen = split_of != "test", split_of == "test"
    toy_view = np.concatenate([pooled[view] for view in views], axis=1)
    labels = store.targets(task)
    toy = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    predicted = toy.fit(toy_view[seen], labels[seen]).predict(toy_view[unseen])
    assert f1_score(labels[unseen], predicted, average="macro") <= bound


def test_loudness_alone_tells_arousal_so_the_bounds_are_no_accident(
    pooled: dict[str, NDArray[np.float32]], store: ClipStore, corpus: Path
) -> None:
    """The same toy on the same rows does learn what it can see: it is weak on event and valence, not broken."""
    split_of = pd.read_parquet(corpus / "splits.parquet").sort_values("row")["split"].to_numpy()
    seen, unseen = split_of != "test", split_of == "test"
    labels = store.targets("arousal")
    toy = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    predicted = toy.fit(np.log1p(pooled["audio"][seen]), labels[seen]).predict(np.log1p(pooled["audio"][unseen]))
    assert f1_score(labels[unseen], predicted, average="macro") >= 0.6
