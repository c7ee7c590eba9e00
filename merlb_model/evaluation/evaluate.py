"""Scoring a trained model on the rows it has not seen, and leaving what people and machines read of it."""

from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from merlb_model import tracking
from merlb_model.dataset.split import SPLITS, read_splits
from merlb_model.dataset.store import ClipStore, open_store, write_table
from merlb_model.errors import MerlbError
from merlb_model.evaluation import baselines, bootstrap, report
from merlb_model.evaluation.calibration import calibration_scores
from merlb_model.evaluation.scored import SCHEMA_VERSION, Scored, score_rows, warn
from merlb_model.evaluation.scores import score_with_interval
from merlb_model.evaluation.slices import slices_table
from merlb_model.evaluation.subsets import subset_scores
from merlb_model.files import read_json, replacing, write_json
from merlb_model.labels import TASKS
from merlb_model.nn.model import load_model, priors, weights_hash
from merlb_model.params import EvaluateParams
from merlb_model.schemas import check

LEFT: Final = (
    "metrics.json", "calibration.json", "predictions.parquet", "slices.csv", "confusion", "figures"
)  # fmt: skip
"""What `evaluate` leaves in its folder."""
_MADE_BY = "merlb evaluate"


def evaluate(
    models: Path, store: Path, splits: Path, params: EvaluateParams, out: Path, tracking_uri: str | None = None
) -> None:
    """The stage `evaluate`: leave ``LEFT`` in ``out``.

    A store without test rows is scored clip by clip, with empty scores; without validation rows the temperature is 1.

    Args:
        models: folder of ``merlb.keras``, ``history.csv`` and ``run.json``.
        store: folder of the clip store, the one trained on or another.
        splits: ``splits.parquet`` of that store.
        params: the section ``evaluate``.
        out: the folder ``reports``; other files in it stay.
        tracking_uri: where MLflow keeps the run; None logs nowhere.

    Raises:
        MerlbError: an input is missing, or they do not belong together.
    """
    run, network = load_trained(models)
    clips = open_store(store)
    split = read_splits(splits, clips)
    scored = score_rows(network, clips, split, params.batch_size)
    metrics = {
        "schema_version": SCHEMA_VERSION,
        "store_hash": clips.store_hash,
        "weights_hash": run["weights_hash"],
        "git": tracking.git_revision(),
        "source": clips.meta.get("source", "unknown"),
        "split": {name: sorted(set(clips.clips.loc[split == name, "streamer"])) for name in SPLITS},
        **test_scores(clips, split, scored),
        "subsets": subset_scores(
            scored.by_subset, {task: each[split == "test"] for task, each in scored.actual.items()}
        ),
        "baselines": baseline_scores(clips, split, scored, priors(network)),
    }
    check("metrics", metrics, where=str(out / "metrics.json"), made_by=_MADE_BY)
    write_table(out / "predictions.parquet", predictions_table(clips, split, scored))
    write_json(out / "calibration.json", scored.calibration)
    write_slices(out / "slices.csv", clips, split, scored)
    write_pictures(out, models / "history.csv", split, scored)
    write_json(out / "metrics.json", metrics)
    with tracking.resume(tracking_uri, run) as log:
        log_reports(out, log)


def log_reports(reports: Path, log: tracking.RunLog) -> None:
    """Log what `evaluate` left in ``reports``: scores, hashes, tables and figures."""
    metrics = read_json(reports / "metrics.json", _MADE_BY)
    log.metrics(flat_scores(metrics))
    log.tags({name: str(metrics[name]) for name in ("store_hash", "weights_hash", "git")})
    for name in LEFT:
        log.file(reports / name, name if (reports / name).is_dir() else "")


def load_trained(models: Path) -> tuple[dict[str, Any], keras.Model]:
    """The content of ``run.json`` and the network of ``merlb.keras``.

    Raises:
        MerlbError: one is missing or unreadable, or they are not of one training.
    """
    run: dict[str, Any] = read_json(models / "run.json", "merlb train")
    network = load_model(models / "merlb.keras")
    found = weights_hash(network)
    if found != run.get("weights_hash"):
        raise MerlbError(
            f"{models}: merlb.keras has the weights {found[:12]}…, run.json names {str(run.get('weights_hash'))[:12]}…"
            ": training was cut short between the two, run `merlb train` again"
        )
    return run, network


def test_scores(store: ClipStore, split: NDArray[np.str_], scored: Scored) -> dict[str, Any]:
    """``tasks`` and ``intervals`` of ``metrics.json``, from the test rows alone."""
    test = split == "test"
    streamers = store.clips.loc[test, "streamer"]
    over = bootstrap.drawn_over(streamers)
    if not test.any():
        warn("no test rows: metrics.json holds no scores, predictions.parquet holds every clip")
    elif over == "clips":
        warn(f"{streamers.nunique()} test streamers, fewer than 8: intervals are drawn over clips and too narrow")
    groups = bootstrap.groups_of(streamers)
    tasks = {}
    for task, actual in scored.actual.items():
        predicted = scored.predicted(task)[test]
        tasks[task] = {
            **score_with_interval(actual[test], predicted, task, groups),
            "calibration": {
                **calibration_scores(scored.probabilities[task][test], actual[test]),
                "before": calibration_scores(scored.uncalibrated[task][test], actual[test]),
            },
        }
    return {"intervals": {"over": over, "draws": bootstrap.DRAWS}, "tasks": tasks}


def baseline_scores(
    store: ClipStore, split: NDArray[np.str_], scored: Scored, shares: dict[str, list[float]]
) -> dict[str, Any]:
    """``baselines`` of ``metrics.json``; the streamers that the probe tells apart are those of the training rows."""
    test, streamers = split == "test", store.clips["streamer"].to_numpy(dtype=np.str_)
    return {
        "majority": baselines.majority(scored.actual, test, shares),
        "streamer_majority": baselines.streamer_majority(scored.actual, streamers, test, shares),
        "streamer_probe": baselines.streamer_probe(scored.actual, scored.probabilities, streamers, split == "train"),
    }


def write_slices(path: Path, store: ClipStore, split: NDArray[np.str_], scored: Scored) -> None:
    """Leave the scores of the test rows by streamer and by game as CSV."""
    test = split == "test"
    actual = {task: each[test] for task, each in scored.actual.items()}
    predicted = {task: scored.predicted(task)[test] for task in actual}
    with replacing(path) as fresh:
        slices_table(store.clips[test], actual, predicted).to_csv(fresh, index=False)


def predictions_table(store: ClipStore, split: NDArray[np.str_], scored: Scored) -> pd.DataFrame:
    """The rows of ``predictions.parquet``, in the store's order."""
    columns: dict[str, Any] = {
        "file": store.clips["file"].to_numpy(),
        "streamer": store.clips["streamer"].to_numpy(),
        "split": split.astype(object),
    }
    for task, probabilities in scored.probabilities.items():
        classes = np.array(TASKS[task], dtype=object)
        columns[task] = classes[scored.actual[task]]
        columns[f"{task}_predicted"] = classes[scored.predicted(task)]
        columns |= {f"{task}_{label}": probabilities[:, index] for index, label in enumerate(classes)}
    return pd.DataFrame(columns)


def write_pictures(out: Path, history: Path, split: NDArray[np.str_], scored: Scored) -> None:
    """Leave ``confusion/<task>.csv`` and ``figures/*.png``, of the test rows, in ``out``: what stood there goes."""
    test = split == "test"
    with replacing(out / "confusion") as tables, replacing(out / "figures") as figures:
        for task, actual in scored.actual.items():
            classes = np.array(TASKS[task], dtype=object)
            predicted = scored.predicted(task)
            report.write_confusion_table(
                tables / f"{task}.csv", pd.Series(classes[actual[test]]), pd.Series(classes[predicted[test]])
            )
            report.draw_confusion(figures / f"confusion_{task}.png", actual[test], predicted[test], task)
        if test.any():
            pairs = {task: (values[test], scored.actual[task][test]) for task, values in scored.probabilities.items()}
            report.draw_reliability(figures / "reliability.png", pairs)
        if history.is_file():
            report.draw_history(figures / "training.png", pd.read_csv(history))


def flat_scores(metrics: dict[str, Any]) -> dict[str, float]:
    """Scores by name, as MLflow lists them: ``test_event_macro_f1``, ``test_event_f1_routing``, …"""
    flat: dict[str, float | None] = {}
    for task, scores in metrics["tasks"].items():
        flat |= {f"test_{task}_{name}": scores[name] for name in ("macro_f1", "weighted_f1", "uar")}
        flat |= {f"test_{task}_{name}": scores["calibration"][name] for name in ("ece", "nll", "brier")}
        flat |= {f"test_{task}_f1_{label}": each["f1"] for label, each in scores["per_class"].items()}
    return {name: value for name, value in flat.items() if value is not None}
