import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import submit


def _run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["pipelines.submit", "run", *arguments])
    with pytest.raises(SystemExit) as stopped:
        submit.main()
    return int(stopped.value.code or 0)


def test_a_task_that_fails_is_one_line_and_the_last_results_stay(
    params_file: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "kept").touch()
    nowhere = str(tmp_path / "nowhere")
    params = params_file(corpus={"source": "folder", "path": nowhere})

    code = _run(["--params", str(params), "--out", str(out)], monkeypatch)

    assert code == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert re.search(rf"task ingest failed: .*{re.escape(nowhere)}.*; the whole log is .*run\.log$", line)
    assert "Error" not in line
    assert "MerlbError" in (tmp_path / "run.log").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "run", "run.log"]
    assert [path.name for path in out.iterdir()] == ["kept"]
