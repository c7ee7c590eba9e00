from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from merlb_model.evaluation import report

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "loss": [2.0, 1.0],
        "validation_loss": [3.0, 2.5],
        "validation_macro_f1": [0.2, 0.4],
        "validation_event_macro_f1": [0.1, 0.3],
    }
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_the_confusion_table_has_a_row_a_clip_whatever_the_indices_of_its_columns(tmp_path: Path) -> None:
    actual, predicted = pd.Series(["low", "high"], index=[7, 9]), pd.Series(["low", "neutral"])
    report.write_confusion_table(tmp_path / "confusion" / "arousal.csv", actual, predicted)
    assert (tmp_path / "confusion" / "arousal.csv").read_text() == "actual,predicted\nlow,low\nhigh,neutral\n"


def test_the_confusion_figure_counts_actual_down_and_predicted_across(tmp_path: Path, drawn: list[Figure]) -> None:
    report.draw_confusion(tmp_path / "a.png", np.array([0, 0, 0, 2]), np.array([0, 1, 1, 2]), "valence")
    axes = drawn[0].axes[0]
    cells = np.full((3, 3), "", dtype=object)
    for text in axes.texts:
        column, row = text.get_position()
        cells[int(row), int(column)] = text.get_text()
    assert cells.tolist() == [["1", "2", "0"], ["0", "0", "0"], ["0", "0", "1"]]
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), [[1 / 3, 2 / 3, 0], [0, 0, 0], [0, 0, 1]])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["negative", "neutral", "positive"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "actual", "valence: 4 test clips")


def test_the_reliability_figure_shows_the_share_right_by_confidence(tmp_path: Path, drawn: list[Figure]) -> None:
    sure = np.array([0.62, 0.68, 0.9, 0.94, 0.98, 1.0])
    probabilities = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    actual = np.array([0, 1, 0, 0, 1, 0])  # of the bin 0.6–0.7 one of two is right, of 0.9–1 three of four
    report.draw_reliability(tmp_path / "a.png", {"one": (probabilities, actual), "two": (probabilities, 0 * actual)})
    first, second = drawn[0].axes
    np.testing.assert_allclose(np.asarray(first.lines[1].get_xydata()), [[0.65, 0.5], [0.955, 0.75]], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(second.lines[1].get_ydata()), [1.0, 1.0])
    # one: (|1 - 1.30| + |3 - 3.82|) / 6; two: every answer right, so 1 - mean confidence
    assert (first.get_title(), second.get_title()) == ("one: ECE 0.187", "two: ECE 0.147")


@pytest.mark.parametrize(
    ("columns", "losses", "scores"),
    [
        (list(HISTORY), ["loss", "validation loss"], ["validation macro f1", "validation event macro f1"]),
        (["epoch", "loss"], ["loss"], []),
    ],
)
def test_the_training_figure_has_losses_left_and_scores_right(
    tmp_path: Path, drawn: list[Figure], columns: list[str], losses: list[str], scores: list[str]
) -> None:
    report.draw_history(tmp_path / "a.png", HISTORY[columns])
    left, right = drawn[0].axes
    assert [line.get_label() for line in left.lines] == losses
    assert [line.get_label() for line in right.lines] == scores
    assert np.asarray(left.lines[0].get_xydata()).tolist() == [[1, 2.0], [2, 1.0]]


def test_every_figure_is_a_png_that_can_be_looked_at(tmp_path: Path) -> None:
    report.draw_confusion(tmp_path / "new" / "confusion.png", np.array([0, 7]), np.array([1, 7]), "event")
    report.draw_history(tmp_path / "new" / "history.png", HISTORY)
    report.draw_reliability(tmp_path / "new" / "reliability.png", {"one": (np.eye(2, dtype=np.float32), np.arange(2))})
    for path in (tmp_path / "new").iterdir():
        height, width, channels = imread(path, format="png").shape
        assert min(height, width) >= 300 and channels == 4
    assert len(list((tmp_path / "new").iterdir())) == 3
