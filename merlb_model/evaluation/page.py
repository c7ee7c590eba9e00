"""The report: what `evaluate` left, as one HTML page that needs nothing beside it."""

from base64 import b64encode
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd

from merlb_model.errors import MerlbError
from merlb_model.evaluation.slices import COLUMNS, SLICED_BY
from merlb_model.files import read_json, replacing
from merlb_model.labels import SUBSETS, TASKS
from merlb_model.schemas import check

_MADE_BY: Final = "merlb evaluate"


def report(reports: Path, history: Path, out: Path) -> None:
    """Write the page.

    Args:
        reports: the folder that `evaluate` filled.
        history: ``history.csv`` of the training.
        out: the HTML file. Names of streamers and games come from outside: they are escaped.

    Raises:
        MerlbError: something is missing, or is of an earlier `evaluate`.
    """
    metrics = _metrics(reports / "metrics.json")
    tasks = [task for task in TASKS if task in metrics["tasks"]]
    text = _template().render(
        metrics=metrics,
        tasks=tasks,
        classes=TASKS,
        temperature=read_json(reports / "calibration.json", _MADE_BY)["temperature"],
        subsets=list(SUBSETS),
        slices={by: _slices(reports / "slices.csv", by) for by in SLICED_BY},
        training=_training(history),
        figures=_figures(reports / "figures", tasks, tested=any(metrics["tasks"][task]["n"] for task in tasks)),
    )
    with replacing(out) as fresh:
        fresh.write_text(text, encoding="utf-8")


def _template() -> jinja2.Template:
    language = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    language.filters["number"] = _number
    return language.from_string(resources.files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def _metrics(path: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = read_json(path, _MADE_BY)
    check("metrics", metrics, where=str(path), made_by=_MADE_BY)
    missing = [name for name in ("source", "subsets", "baselines") if name not in metrics]
    if missing:
        raise MerlbError(f"{path}: no {', '.join(missing)}, an earlier merlb wrote it: run `{_MADE_BY}` again")
    return metrics


def _table(path: Path, made_by: str, columns: tuple[str, ...], **options: Any) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, **options)
    except FileNotFoundError:
        raise MerlbError(f"{path} is missing: run `{made_by}` first") from None
    except ValueError as error:
        raise MerlbError(f"{path}: {error}: run `{made_by}` again") from None
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise MerlbError(f"{path}: no column {', '.join(missing)}: run `{made_by}` again")
    return table


def _slices(path: Path, by: str) -> list[dict[str, Any]]:
    """A row a streamer or game: ``name``, ``n`` and {task: scores} in ``tasks``."""
    # A streamer may be called 007 or NA.
    table = _table(path, _MADE_BY, COLUMNS, dtype={"name": str}, keep_default_na=False)
    return [
        {"name": name, "n": rows["n"].iloc[0], "tasks": rows.set_index("task").to_dict("index")}
        for name, rows in table[table["by"] == by].groupby("name")
    ]


def _training(path: Path) -> dict[str, Any]:
    """How long it was trained, and the best epoch by validation macro-F1, None where there was no validation."""
    history = _table(path, "merlb train", ("epoch", "loss"))
    scores = history.get("validation_macro_f1", pd.Series(dtype=float)).dropna()
    best = None if scores.empty else history.loc[scores.idxmax()]
    return {
        "epochs": len(history),
        "best": None if best is None else {"epoch": int(best["epoch"]), "macro_f1": float(best["validation_macro_f1"])},
    }


def _figures(folder: Path, tasks: list[str], tested: bool) -> Mapping[str, str]:
    """The PNGs as data URIs, by name; without test rows there is no reliability to show."""
    names = ["training", *(f"confusion_{task}" for task in tasks), *(["reliability"] if tested else [])]
    figures = {}
    for name in names:
        try:
            content = (folder / f"{name}.png").read_bytes()
        except FileNotFoundError:
            raise MerlbError(f"{folder / name}.png is missing: run `{_MADE_BY}` first") from None
        figures[name] = f"data:image/png;base64,{b64encode(content).decode()}"
    return figures


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
