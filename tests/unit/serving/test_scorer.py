import json
import shutil

import numpy as np
import pytest

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.serving.scorer import Scorer, find_model, newest_version


def test_the_newest_version_is_the_highest_number_not_the_last_name(tmp_path):
    for name in ("2", "10", "9", "11.partial", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    assert newest_version(tmp_path) == tmp_path / "10"


@pytest.mark.parametrize("made", [False, True])
def test_without_a_version_it_says_what_to_run(tmp_path, made):
    root = tmp_path / "serving"
    if made:
        root.mkdir()
    with pytest.raises(MerlbError, match="run `merlb promote`"):
        newest_version(root)


def test_a_model_is_found_by_its_own_folder_or_by_its_root(serving_root):
    assert find_model(serving_root) == find_model(serving_root / "3") == serving_root / "3"


def test_scores_are_probabilities_of_each_task(scorer, windows):
    scores = scorer.score(**windows)
    assert {task: value.shape for task, value in scores.items()} == {task: (3, len(TASKS[task])) for task in TASKS}
    for value in scores.values():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value.sum(axis=1), 1, atol=1e-6)


def test_an_absent_modality_no_longer_moves_the_score(scorer, windows):
    present = np.array([[1, 1, 0]] * 3, np.float32)
    silent = windows | {"audio": np.zeros_like(windows["audio"])}
    heard, unheard = scorer.score(**windows, present=present), scorer.score(**silent, present=present)
    np.testing.assert_array_equal(heard["valence"], unheard["valence"])
    assert not np.allclose(heard["valence"], scorer.score(**windows)["valence"])


def test_all_present_is_the_same_as_not_said(scorer, windows):
    told, untold = scorer.score(**windows, present=np.ones((3, 3), np.float32)), scorer.score(**windows)
    for task in TASKS:
        np.testing.assert_array_equal(told[task], untold[task])


def test_five_encoded_seconds_fuse_to_the_whole_windows_score(scorer, windows):
    before = np.random.default_rng(1).integers(-9000, 9000, (3, 1, 5512), np.int16)
    slices = np.concatenate([before, windows["audio"]], axis=1)
    seconds = [
        scorer.encode(
            windows["face"][:, 4 * k : 4 * k + 4], windows["screen"][:, 4 * k : 4 * k + 4], slices[:, 4 * k : 4 * k + 5]
        )
        for k in range(5)
    ]
    features = {name: np.concatenate([second[name] for second in seconds], axis=1) for name in seconds[0]}
    fused, whole = scorer.fuse(features, np.ones((3, 3), np.float32)), scorer.score(**windows)
    for task in TASKS:
        np.testing.assert_allclose(fused[task], whole[task], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema_version": 2}, "schema version 2, this merlb reads 1"),
        ({"tasks": {"valence": ["positive", "neutral", "negative"]}}, "the classes of valence are positive"),
        ({"tasks": {"mood": ["good"]}}, "no such task"),
        ({"tasks": {}}, "no task in it"),
    ],
)
def test_a_model_that_this_merlb_does_not_know_is_refused(serving_root, tmp_path, change, complaint):
    info = json.loads((serving_root / "3" / "merlb.json").read_text()) | change
    (tmp_path / "merlb.json").write_text(json.dumps(info))
    with pytest.raises(MerlbError, match=complaint):
        Scorer.load(tmp_path)


def test_a_folder_without_a_model_is_refused(serving_root, tmp_path):
    with pytest.raises(MerlbError, match=r"merlb\.json is missing: run `merlb export`"):
        Scorer.load(tmp_path)
    shutil.copy(serving_root / "3" / "merlb.json", tmp_path)
    with pytest.raises(MerlbError, match="no SavedModel can be read"):
        Scorer.load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"torn")
    with pytest.raises(MerlbError, match="no SavedModel can be read"):
        Scorer.load(tmp_path)


def test_a_model_of_one_task_scores_that_task(serving_root, tmp_path, windows):
    model = shutil.copytree(serving_root / "3", tmp_path / "1")
    info = json.loads((model / "merlb.json").read_text())
    (model / "merlb.json").write_text(json.dumps(info | {"tasks": {"event": info["tasks"]["event"]}}))
    assert list(Scorer.load(model).score(**windows)) == ["event"]


def test_warming_checks_the_golden_windows(serving_root, tmp_path, scorer, windows):
    present = np.array([[1, 1, 1], [0, 1, 1], [1, 1, 0]], np.float32)
    model = shutil.copytree(serving_root / "3", tmp_path / "1")
    answers = {f"answer_{task}": value for task, value in scorer.score(**windows, present=present).items()}
    np.savez_compressed(model / "golden.npz", **windows, present=present, **answers)
    Scorer.load(model).warm()
    np.savez_compressed(model / "golden.npz", **windows, present=present[::-1], **answers)
    with pytest.raises(MerlbError, match="golden windows are off by"):
        Scorer.load(model).warm()
