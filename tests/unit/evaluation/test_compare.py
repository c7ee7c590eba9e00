from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from merlb_model.errors import MerlbError
from merlb_model.evaluation.compare import compare
from merlb_model.evaluation.permutation import holm, macro_f1_permutation_test
from merlb_model.labels import TASKS

CLIPS = 120


def predictions(right: float, seed: int, streamers: int = 12, tasks: tuple[str, ...] = tuple(TASKS)) -> pd.DataFrame:
    """Answers of which a share is right and the others drawn; labels are the same for every ``seed``."""
    labels, random = np.random.default_rng(0), np.random.default_rng(seed)
    table = pd.DataFrame({"file": [f"{index:03d}.mp4" for index in range(CLIPS)]})
    table["streamer"] = [f"s{index % streamers}" for index in range(CLIPS)]
    table["split"] = ["test"] * (CLIPS - 20) + ["train"] * 20
    for task in TASKS:
        actual = labels.choice(TASKS[task], CLIPS)
        if task in tasks:
            table[task] = actual
            table[f"{task}_predicted"] = np.where(
                random.random(CLIPS) < right, actual, random.choice(TASKS[task], CLIPS)
            )
    return table


def left(folder: Path, table: pd.DataFrame) -> Path:
    folder.mkdir()
    table.to_parquet(folder / "predictions.parquet")
    return folder


def test_scores_and_p_are_of_the_test_clips_paired_by_file_whatever_their_order(tmp_path: Path) -> None:
    first, second = predictions(0.9, 1), predictions(0.5, 2)
    shuffled = second.sample(frac=1, random_state=3)
    found = compare(left(tmp_path / "a", first), left(tmp_path / "b", shuffled) / "predictions.parquet")
    assert (found.clips, found.streamers, found.exchanged) == (100, 12, "streamers")
    assert [each.task for each in found.tasks] == list(TASKS)
    test = first["split"] == "test"
    by_hand = []
    for each in found.tasks:
        order = {label: index for index, label in enumerate(TASKS[each.task])}
        actual, *answers = (
            table.loc[test, column].map(order).to_numpy()
            for table, column in (
                (first, each.task),
                (first, f"{each.task}_predicted"),
                (second, f"{each.task}_predicted"),
            )
        )
        assert each.macro_f1 == pytest.approx(tuple(f1_score(actual, answer, average="macro") for answer in answers))
        streamers = first.loc[test, "streamer"].to_numpy()
        assert each.p == macro_f1_permutation_test(actual, *answers, len(order), streamers)
        by_hand.append(each.p)
    assert [each.p_holm for each in found.tasks] == holm(by_hand)
    assert "differ" in str(found) and "may be chance" not in str(found)


def test_a_model_does_not_differ_from_itself(tmp_path: Path) -> None:
    folder = left(tmp_path / "a", predictions(0.8, 1))
    found = compare(folder, folder)
    assert all(each.p == each.p_holm == 1.0 for each in found.tasks)
    assert str(found).count("may be chance") == len(TASKS)


def test_below_eight_streamers_clips_are_exchanged_and_the_reader_is_told(tmp_path: Path) -> None:
    folder = left(tmp_path / "a", predictions(0.8, 1, streamers=3))
    assert compare(folder, folder).exchanged == "clips"
    assert "fewer than 8 streamers" in str(compare(folder, folder))


def test_models_of_other_tasks_are_compared_on_those_in_common(tmp_path: Path) -> None:
    first = left(tmp_path / "a", predictions(0.8, 1, tasks=("valence", "arousal")))
    found = compare(first, left(tmp_path / "b", predictions(0.8, 2)))
    assert [each.task for each in found.tasks] == ["valence", "arousal"]


def test_what_cannot_be_paired_is_refused(tmp_path: Path) -> None:
    first = left(tmp_path / "a", predictions(0.8, 1))
    with pytest.raises(MerlbError, match="no task in common"):
        compare(
            left(tmp_path / "game", predictions(0.8, 1, tasks=("event",))),
            left(tmp_path / "emo", predictions(0.8, 1, tasks=("valence",))),
        )
    other = predictions(0.8, 2)
    with pytest.raises(MerlbError, match="no test clip in common"):
        compare(first, left(tmp_path / "b", other.assign(split="train")))
    other.loc[7, "valence"] = "positive" if other.loc[7, "valence"] != "positive" else "negative"
    with pytest.raises(MerlbError, match=r"007\.mp4: valence is .* evaluate both on the same labels"):
        compare(first, left(tmp_path / "c", other))
    with pytest.raises(MerlbError, match="run `merlb evaluate` first"):
        compare(first, tmp_path / "nowhere.parquet")
