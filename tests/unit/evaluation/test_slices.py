import numpy as np
import pandas as pd
import pytest

from merlb_model.evaluation.slices import COLUMNS, slices_table

CLIPS = pd.DataFrame({"streamer": ["b", "a", "b", "a"], "game": ["x", "x", "x", ""]}, index=[4, 7, 8, 9])
ACTUAL = {"valence": np.array([0, 1, 0, 1]), "arousal": np.array([2, 2, 2, 2])}
PREDICTED = {"valence": np.array([0, 1, 1, 1]), "arousal": np.array([2, 2, 2, 0])}


def test_each_streamer_and_game_is_scored_on_its_own_clips() -> None:
    table = slices_table(CLIPS, ACTUAL, PREDICTED)
    assert table[["by", "name", "task", "n"]].to_numpy().tolist() == [
        ["streamer", "a", "valence", 2],
        ["streamer", "a", "arousal", 2],
        ["streamer", "b", "valence", 2],
        ["streamer", "b", "arousal", 2],
        ["game", "", "valence", 1],
        ["game", "", "arousal", 1],
        ["game", "x", "valence", 3],
        ["game", "x", "arousal", 3],
    ]
    assert table["accuracy"].tolist() == pytest.approx([1, 0.5, 0.5, 1, 1, 0, 2 / 3, 1])
    # of one class: F1 2·1/(2+1); game x: class 0 2·1/(2+1), class 1 2·1/(1+2)
    assert table["macro_f1"].tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1, 1, 0, 2 / 3, 1])


def test_without_rows_there_are_columns_alone() -> None:
    nothing = {"valence": np.zeros(0, np.int64)}
    table = slices_table(CLIPS[:0], nothing, nothing)
    assert table.empty and tuple(table.columns) == COLUMNS
