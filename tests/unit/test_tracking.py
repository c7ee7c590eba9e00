import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from merlb_model import tracking
from merlb_model.errors import MerlbError

RUN = {"run_id": "0" * 32, "store_hash": "s", "weights_hash": "w", "git": "g", "params": {"train": {"epochs": 3}}}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def runs(uri: str) -> list:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(tracking.EXPERIMENT)
    return client.search_runs([experiment.experiment_id])


def test_later_stages_resume_the_run_that_train_opened(uri: str, tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("x")
    with tracking.start(uri, "merlb", {"kind": "first"}) as log:
        log.params({"train": {"epochs": 3}})
        log.metrics({"loss": 0.5}, step=1)
        log.metrics({"loss": 0.25}, step=2)
    before = len(runs(uri))
    with tracking.resume(uri, {**RUN, "run_id": log.run_id}) as again:
        again.metrics({"test_event_macro_f1": 0.9})
        again.file(tmp_path / "card.md", "cards")
    client = mlflow.MlflowClient(uri)
    run = client.get_run(log.run_id)
    assert len(runs(uri)) == before and run.info.status == "FINISHED"
    assert run.data.params == {"train.epochs": "3"} and run.data.metrics["test_event_macro_f1"] == 0.9
    assert [metric.value for metric in client.get_metric_history(log.run_id, "loss")] == [0.5, 0.25]
    assert [item.path for item in client.list_artifacts(log.run_id, "cards")] == ["cards/card.md"]


def test_a_run_unknown_here_is_recreated_once_and_tagged(uri: str) -> None:
    before = len(runs(uri))
    assert not tracking.is_known(uri, RUN)
    with tracking.resume(uri, RUN) as first:
        pass
    with tracking.resume(uri, RUN) as second:
        pass
    assert first.run_id == second.run_id and len(runs(uri)) == before + 1
    data = mlflow.MlflowClient(uri).get_run(first.run_id).data
    assert data.tags["recreated"] == "true" and data.tags["store_hash"] == "s"
    assert data.params == {"train.epochs": "3"} and tracking.is_known(uri, RUN)


def test_a_failing_stage_marks_its_run_failed(uri: str) -> None:
    with pytest.raises(RuntimeError), tracking.start(uri, "merlb", {}) as log:
        raise RuntimeError
    assert mlflow.MlflowClient(uri).get_run(log.run_id).info.status == "FAILED"


def test_a_run_whose_process_was_killed_is_marked_so_by_the_next_and_one_under_way_is_not(uri: str) -> None:
    opens_and_dies = f"""
import os
from merlb_model import tracking
with tracking.start({uri!r}, "merlb", {{}}) as log:
    print(log.run_id, flush=True)
    os.kill(os.getpid(), 9)
"""
    killed = subprocess.run([sys.executable, "-c", opens_and_dies], capture_output=True, text=True)
    client = mlflow.MlflowClient(uri)
    left = killed.stdout.split()[-1]
    assert killed.returncode == -9 and client.get_run(left).info.status == "RUNNING"
    with tracking.start(uri, "merlb", {}) as one, tracking.start(uri, "merlb", {}):
        assert client.get_run(left).info.status == "KILLED"
        assert client.get_run(one.run_id).info.status == "RUNNING"


def test_a_model_is_registered_with_its_signature_and_without_a_word(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"x")
    signature = {"inputs": {"face": ("uint8", (-1, 2))}, "outputs": {"event": ("float32", (-1, 8))}}
    with tracking.start(uri, "merlb", {}) as log:
        assert log.register(tmp_path / "model", "merlb", signature) == "1"
        capsys.readouterr()  # a new database tells of its tables
        assert log.register(tmp_path / "model", "merlb", signature) == "2"
    assert capsys.readouterr() == ("", "")
    version = mlflow.MlflowClient(uri).get_model_version("merlb", "2")
    assert version.run_id == log.run_id
    info = mlflow.models.get_model_info(version.source)
    assert info.signature.inputs.input_names() == ["face"] and info.signature.outputs.input_names() == ["event"]


def test_without_a_uri_nothing_is_logged(tmp_path: Path) -> None:
    with tracking.start(None, "merlb", {}) as log:
        log.params({"a": 1})
    with tracking.resume(None, RUN) as again:
        assert (log.run_id, again.register(tmp_path, "merlb", {})) == ("", "")


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "mlruns"])
def test_a_server_that_is_not_there_is_one_line(uri: str) -> None:
    with pytest.raises(MerlbError, match="MLFLOW_TRACKING_URI") as caught, tracking.start(uri, "merlb", {}):
        pass
    assert "\n" not in str(caught.value)


def test_the_revision_is_the_commit_and_says_when_files_differ(tmp_path: Path) -> None:
    assert tracking.git_revision(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a").write_text("1")
    for words in (["init", "-q"], ["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run([*git, *words], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert tracking.git_revision(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert tracking.git_revision(tmp_path) == f"{commit}-dirty"
