"""What a person looks at: figures as PNG, and the tables that `dvc plots` draws."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from merlb_model.evaluation.calibration import confidence_bin, ece
from merlb_model.evaluation.scores import confusion
from merlb_model.files import replacing
from merlb_model.labels import TASKS

_DOTS_PER_INCH = 120


def write_confusion_table(path: Path, actual: pd.Series, predicted: pd.Series) -> None:
    """One row a test clip, columns ``actual`` and ``predicted``: what `dvc plots`' confusion template counts."""
    with replacing(path) as fresh:
        pd.DataFrame({"actual": actual.to_numpy(), "predicted": predicted.to_numpy()}).to_csv(fresh, index=False)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    FigureCanvasAgg(figure)
    with replacing(path) as fresh:
        figure.savefig(fresh, format="png", dpi=_DOTS_PER_INCH)


def draw_confusion(path: Path, actual: NDArray[np.int64], predicted: NDArray[np.int64], task: str) -> None:
    """Confusion matrix of a task as PNG: actual down, predicted across, counts in the cells, shares as colour."""
    classes = TASKS[task]
    counts = confusion(actual, predicted, task)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(2.5 + 0.6 * len(classes), 2 + 0.6 * len(classes)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
    axes.set_title(f"{task}: {len(actual)} test clips")
    for row, column in np.ndindex(counts.shape):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, label="share of the actual class")
    save_figure(figure, path)


def draw_history(path: Path, history: pd.DataFrame) -> None:
    """Loss and validation scores by epoch as PNG, from the columns of ``history.csv``."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    scores = [name for name in history.columns if name.endswith("macro_f1")]
    losses = [name for name in ("loss", "validation_loss") if name in history.columns]
    for axes, names, label in ((left, losses, "cross-entropy, nats"), (right, scores, "macro-F1")):
        for name in names:
            axes.plot(history["epoch"], history[name], marker=".", label=name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if names:
            axes.legend()
    right.set_ylim(0, 1)
    save_figure(figure, path)


def draw_reliability(path: Path, tasks: Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]]) -> None:
    """How often the predicted class was right, by how sure the model was, as PNG.

    Args:
        path: the PNG.
        tasks: calibrated probabilities f32 [N, classes] and class indices i64 [N] of each task.
    """
    figure = Figure(figsize=(3.4 * len(tasks), 3.6), layout="constrained")
    for axes, (task, (probabilities, actual)) in zip(
        np.atleast_1d(figure.subplots(1, len(tasks))), tasks.items(), strict=True
    ):
        _draw_one_reliability(axes, task, probabilities, actual)
    save_figure(figure, path)


def _draw_one_reliability(axes: Axes, task: str, probabilities: NDArray[np.float32], actual: NDArray[np.int64]) -> None:
    sure, right = probabilities.max(axis=-1), probabilities.argmax(axis=-1) == actual
    bins = confidence_bin(sure)
    filled = np.unique(bins)
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="honest")
    axes.plot(
        [float(sure[bins == one].mean()) for one in filled],
        [float(right[bins == one].mean()) for one in filled],
        marker="o",
        label="model",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("mean confidence")
    axes.set_ylabel("share right")
    axes.set_title(f"{task}: ECE {ece(probabilities, actual):.3f}")
    axes.legend()
