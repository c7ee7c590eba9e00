import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import submit
from pipelines.training import NAME
from tests.pipeline.kubeflow_double import KubeflowDouble, Trouble

Submit = Callable[..., int]


@pytest.fixture
def submit_to(tmp_path: Path, params_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Submit:
    """Submit as the command does; returns its exit code. The definition is ``tmp_path / "pipeline.yaml"``."""
    for name in ("KFP_TOKEN", "KFP_NAMESPACE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def command(host: str, *options: str) -> int:
        paths = ["--params", str(params_file()), "--out", str(tmp_path / "pipeline.yaml")]
        monkeypatch.setattr("sys.argv", ["pipelines.submit", "submit", "--host", host, *paths, *options])
        with pytest.raises(SystemExit) as stopped:
            submit.main()
        return int(stopped.value.code or 0)

    return command


def test_a_first_submission_uploads_the_definition_and_runs_that_version(
    kubeflow: KubeflowDouble, submit_to: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit_to(kubeflow.url) == 0

    (upload,) = kubeflow.uploads
    assert (upload.path, upload.name) == ("/pipelines/upload", NAME)
    assert upload.content == (tmp_path / "pipeline.yaml").read_bytes()
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["merlb"]
    (run,) = kubeflow.runs
    assert run["experiment_id"] == "experiment-1"
    assert run["pipeline_version_reference"] == {
        "pipeline_id": "pipeline-1",
        "pipeline_version_id": "pipeline_version-1",
    }
    assert run["runtime_config"]["parameters"] == {"tracking_uri": ""}
    assert capsys.readouterr().out == f"run started: {kubeflow.url}/#/runs/details/run-1\n"


def test_a_later_submission_adds_a_version_to_the_same_pipeline(kubeflow: KubeflowDouble, submit_to: Submit) -> None:
    submit_to(kubeflow.url)
    assert submit_to(kubeflow.url + "/") == 0

    assert [upload.path for upload in kubeflow.uploads] == ["/pipelines/upload", "/pipelines/upload_version"]
    assert kubeflow.uploads[1].pipeline_id == "pipeline-1"
    assert kubeflow.uploads[1].name.startswith(NAME)
    assert len(kubeflow.pipelines) == len(kubeflow.experiments) == 1
    assert kubeflow.runs[1]["pipeline_version_reference"]["pipeline_version_id"] == "pipeline_version-2"


def test_the_experiment_that_is_named_is_used(kubeflow: KubeflowDouble, submit_to: Submit) -> None:
    kubeflow.experiments += [{"experiment_id": "other", "display_name": "merlb"}]
    kubeflow.experiments += [{"experiment_id": "mine", "display_name": "studies"}]

    assert submit_to(kubeflow.url, "--experiment", "studies") == 0

    assert kubeflow.runs[0]["experiment_id"] == "mine"
    assert len(kubeflow.experiments) == 2


def test_the_token_goes_with_every_request_and_is_never_printed(
    kubeflow: KubeflowDouble,
    submit_to: Submit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KFP_TOKEN", "open-sesame")
    assert submit_to(kubeflow.url) == 0
    kubeflow.troubles["POST /runs"] = Trouble(401)
    assert submit_to(kubeflow.url) == 1

    assert set(kubeflow.tokens) == {"Bearer open-sesame"}
    assert "open-sesame" not in "".join(capsys.readouterr())


def test_without_a_token_none_is_sent(kubeflow: KubeflowDouble, submit_to: Submit) -> None:
    submit_to(kubeflow.url)

    assert set(kubeflow.tokens) == {None}


@pytest.mark.parametrize(
    ("here", "for_pods"), [("http://mlflow:5000", "http://mlflow:5000"), ("sqlite:////here.db", "")]
)
def test_only_an_mlflow_server_is_passed_to_the_pods(
    kubeflow: KubeflowDouble, submit_to: Submit, monkeypatch: pytest.MonkeyPatch, here: str, for_pods: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", here)

    submit_to(kubeflow.url)

    assert kubeflow.runs[0]["runtime_config"]["parameters"] == {"tracking_uri": for_pods}


@pytest.mark.parametrize(
    ("request_", "trouble", "said"),
    [
        (
            "GET /healthz",
            Trouble(401, '{"message": "token has expired"}'),
            "answered 401: token has expired; set KFP_TOKEN",
        ),
        ("GET /healthz", Trouble(404, "<html>nothing here</html>"), "answered 404: Not Found; HOST must be where"),
        ("GET /healthz", Trouble(200, "<html>log in</html>"), "not as Kubeflow Pipelines"),
        ("GET /experiments", Trouble(403, '{"message": "no right\\nto list"}'), "answered 403: no right to list; ask"),
        ("POST /pipelines/upload", Trouble(409, '{"message": "exists"}'), "answered 409: exists; it is there already"),
        ("POST /runs", Trouble(500, '{"error": "?"}'), "answered 500: Internal Server Error; see the log of"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    kubeflow: KubeflowDouble,
    submit_to: Submit,
    capsys: pytest.CaptureFixture[str],
    request_: str,
    trouble: Trouble,
    said: str,
) -> None:
    kubeflow.troubles[request_] = trouble

    assert submit_to(kubeflow.url) == 1

    *_, line = (captured := capsys.readouterr()).err.splitlines()
    assert said in line
    assert "Traceback" not in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("request_", ["GET /healthz", "POST /runs"])
def test_a_server_that_never_answers_is_given_up(
    kubeflow: KubeflowDouble,
    submit_to: Submit,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request_: str,
) -> None:
    monkeypatch.setattr(submit, "TIMEOUT_SECONDS", 1)
    kubeflow.troubles[request_] = Trouble(200, "{}", after_seconds=30)

    assert submit_to(kubeflow.url) == 1

    assert "did not answer within 1 s" in capsys.readouterr().err.splitlines()[-1]


def test_a_port_where_nothing_listens_is_one_line(submit_to: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert submit_to(host) == 1

    assert f"{host} cannot be reached" in capsys.readouterr().err.splitlines()[-1]


def test_a_host_without_a_scheme_is_refused(submit_to: Submit, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_to("localhost:8080") == 1

    assert "expected http://" in capsys.readouterr().err.splitlines()[-1]
