import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from merlb_model import schemas
from merlb_model.dataset.split import split
from merlb_model.dataset.store import open_store
from merlb_model.files import read_json
from merlb_model.params import load_params
from pipelines import submit
from tests.direct_store import make_direct_store

TINY = {"streamers": 6, "clips_per_streamer": 1, "width": 320, "height": 180, "fps": 10}
ParamsFile = Callable[..., Path]


def _run(params: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["pipelines.submit", "run", "--params", str(params), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        submit.main()
    return int(stopped.value.code or 0)


def _rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(database) as connection:
        return connection.execute(query).fetchall()


def test_a_run_here_leaves_what_the_stages_leave(
    params_file: ParamsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    params = params_file(corpus=TINY, train={"epochs": 1})
    database = tmp_path / "mlflow" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    out = tmp_path / "run"

    code = _run(params, out, monkeypatch)

    said = capsys.readouterr()
    assert code == 0, said.err
    assert re.findall(r"\] (\w+)$", said.err, flags=re.MULTILINE) == [
        "ingest", "extract", "convert", "split", "validate", "oversample", "train", "evaluate", "export",
    ]  # fmt: skip
    assert f"{out}/reports/metrics.json" in said.out

    direct = make_direct_store(load_params(params), tmp_path / "direct")
    metrics = read_json(out / "reports/metrics.json", "test")
    schemas.check("metrics", metrics, where="metrics.json", made_by="test")
    assert metrics["store_hash"] == open_store(out / "data/store").meta["store_hash"]
    assert metrics["store_hash"] == open_store(direct).meta["store_hash"]
    split(direct, load_params(params).split, tmp_path / "splits.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "data/splits.parquet"), pd.read_parquet(tmp_path / "splits.parquet")
    )

    kept = ("models/merlb.keras", "models/run.json", "models/export/saved_model.pb", "reports/validation.json")
    for name in (*kept, "reports/validation.html"):
        assert (out / name).is_file(), name
    assert len(list((out / "data/raw/clips").iterdir())) == 6
    ((run_id, status),) = _rows(database, "select run_uuid, status from runs")
    assert (run_id, status) == (read_json(out / "models/run.json", "test")["run_id"], "FINISHED")
    assert _rows(database, "select name, version from model_versions") == [("merlb", 1)]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_task_that_fails_is_one_line_and_the_last_results_stay(
    params_file: ParamsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "kept").touch()
    nowhere = str(tmp_path / "nowhere")
    params = params_file(corpus={"source": "folder", "path": nowhere})
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))

    code = _run(params, out, monkeypatch)

    assert code == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert re.search(rf"task ingest failed: .*{re.escape(nowhere)}.*; the whole log is .*run\.log$", line)
    assert "Error" not in line
    assert "MerlbError" in (tmp_path / "run.log").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "run", "run.log", "tmp"]
    assert list(elsewhere.iterdir()) == []
    assert [path.name for path in out.iterdir()] == ["kept"]
