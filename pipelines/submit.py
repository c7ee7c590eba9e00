"""Compile the training pipeline, run it here without Docker, or submit it to a Kubeflow cluster."""

import builtins
import io
import json
import logging
import os
import re
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

import kfp
import kfp_server_api
import typer
import urllib3
from kfp import local
from kfp.compiler import Compiler

from merlb_model.errors import MerlbError
from merlb_model.files import read_json, replacing
from merlb_model.params import Params, load_params
from merlb_model.results import results_table
from merlb_model.tracking import default_uri
from pipelines.training import NAME, training_pipeline

COMPILED = Path("build/merlb-training.yaml")
RAN_HERE = Path("build/pipeline-run")
TIMEOUT_SECONDS = 20
RESULTS = {
    "ingest/raw": "data/raw",
    "convert/store": "data/store",
    "split/splits": "data/splits.parquet",
    "oversample/train_rows": "data/train_rows.parquet",
    "train/models": "models",
    "export/exported": "models/export",
    "evaluate/reports": "reports",
    "validate/validation": "reports/validation.json",
    "validate/page": "reports/validation.html",
}
"""What a run here keeps, ``task/output``, and its place below the run's folder: as on a laptop."""

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameters.")]


# Compile


def compile_pipeline(params: Params, out: Path) -> None:
    """Write the pipeline's definition; the same parameters give the same bytes."""
    with replacing(out) as fresh, _quiet(io.StringIO()):
        Compiler().compile(training_pipeline(params), str(fresh))
        # kfp heads the file with comments whose order changes from process to process.
        lines = fresh.read_text(encoding="utf-8").splitlines(keepends=True)
        fresh.write_text("".join(line for line in lines if not line.startswith("#")), encoding="utf-8")


@app.command("compile")
def compile_command(
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="The file to write.")] = COMPILED,
) -> None:
    """Write the pipeline's definition for the images that the parameters name."""
    compile_pipeline(load_params(params), out)
    typer.echo(f"wrote {out}")


# Run here


class TaskLog(io.TextIOWrapper):
    """A log file that also tells people, on stderr, which task is at work.

    Attributes:
        task: the task that started last.
        complaint: what the last exception said.
    """

    _STARTED = re.compile(r"Executing task \W*(?:\[\d+m)?'([\w-]+)'")
    _TIME_LEFT = re.compile(r"^\s*\S.*, about \d+ s left$", re.MULTILINE)
    _RAISED = re.compile(r"^([\w.]+(?:Error|Exception))(?:: (.*))?$", re.MULTILINE)

    def __init__(self, path: Path) -> None:
        super().__init__(path.open("wb"), encoding="utf-8", line_buffering=True)
        self.path = path
        self._began = time.monotonic()
        self._starts: Counter[str] = Counter()
        self.task = ""
        self.complaint = ""

    def write(self, text: str) -> int:
        super().write(text)
        if started := self._STARTED.search(text):
            self.task = started[1]
            self._starts[self.task] += 1
            again = f" {self._starts[self.task]}" if self._starts[self.task] > 1 else ""
            self._tell(f"{self.task}{again}")
        elif left := self._TIME_LEFT.search(text):
            self._tell(left[0])
        elif raised := self._RAISED.search(text):
            self.complaint = raised[2] if raised[1].endswith("MerlbError") else raised[0]
        return len(text)

    def _tell(self, line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - self._began:5.0f} s] {line}\n")
        sys.stderr.flush()


@contextmanager
def _quiet(stream: TextIO) -> Iterator[None]:
    """Send what kfp prints and logs to ``stream``, and leave the process as it was found.

    Two local tasks at once restore each other's handlers and ``print``; here that ends with the run.
    """
    root, say = logging.getLogger(), builtins.print
    level, handlers = root.level, root.handlers[:]
    try:
        with redirect_stdout(stream), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of image names and pod requests, which mean nothing here
            yield
    finally:
        builtins.print = say
        root.setLevel(level)
        root.handlers[:] = handlers


@contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have the processes started meanwhile put their temporary files there: kfp leaves a folder a task behind."""
    folder.mkdir(parents=True)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before


def run_here(params: Params, out: Path, tracking_uri: str) -> None:
    """Run the pipeline on this machine, a process a task, and keep its results in ``out``.

    The log stands beside ``out``, with the suffix ``.log``; a run that fails leaves the last results.

    Raises:
        MerlbError: a task failed.
    """
    with replacing(out) as fresh:
        work = fresh.resolve().with_name("work")
        with TaskLog(out.with_suffix(".log")) as log, _quiet(log), _temporary_files_in(work / "tmp"):
            _run_tasks(params, work, tracking_uri, log)
        _keep_results(next((work / "root").iterdir()), fresh)


def _run_tasks(params: Params, work: Path, tracking_uri: str, log: TaskLog) -> None:
    runner = local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=str(work / "root"), workspace_root=str(work / "workspace"))
    pipeline = training_pipeline(params)
    try:
        pipeline(tracking_uri=tracking_uri)
    except (RuntimeError, ValueError) as error:
        reason = log.complaint or " ".join(str(error).split())
        raise MerlbError(f"task {log.task or '(none)'} failed: {reason}; the whole log is {log.path}") from error


def _keep_results(root: Path, out: Path) -> None:
    """Move the results below ``root``, where kfp laid them, to their places in ``out``."""
    for made, place in RESULTS.items():
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / made, out / place)


@app.command("run")
def run_command(
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="The folder for the results.")] = RAN_HERE,
) -> None:
    """Run the very pipeline on this machine, without Docker."""
    run_here(load_params(params), out, default_uri())
    metrics = read_json(out / "reports/metrics.json", "make pipeline-run")
    meta = read_json(out / "data/store/meta.json", "make pipeline-run")
    typer.echo(results_table(metrics, synthetic=meta["source"] == "sample"))
    typer.echo(f"\nstore {meta['store_hash']}\nscores in {out}/reports/metrics.json, the model in {out}/models/export")


# Submit


WHAT_TO_DO = {
    401: "set KFP_TOKEN to a token that is still valid",
    403: "ask for the right to submit in this namespace, or name another with --namespace",
    404: "HOST must be where Kubeflow Pipelines 2 listens, e.g. http://localhost:8080 or https://…/pipeline",
    409: "it is there already: submit again",
}
"""What a person can do about an HTTP status."""


@contextmanager
def _one_line(host: str) -> Iterator[None]:
    """Turn what the API's client raises into one line that says what to do."""
    try:
        yield
    except kfp_server_api.ApiException as error:
        advice = WHAT_TO_DO.get(error.status or 0, "see the log of Kubeflow's ml-pipeline pod")
        raise MerlbError(f"{host} answered {error.status}: {_said(error)}; {advice}") from error
    except urllib3.exceptions.HTTPError as error:
        last = getattr(error, "reason", error)  # of several attempts
        refused = isinstance(last, urllib3.exceptions.NewConnectionError)
        if isinstance(last, urllib3.exceptions.TimeoutError) and not refused:
            raise MerlbError(
                f"{host} did not answer within {TIMEOUT_SECONDS} s: see whether Kubeflow's pods are up"
            ) from error
        raise MerlbError(f"{host} cannot be reached: see that HOST is right and its port forwarded") from error


def _said(error: kfp_server_api.ApiException) -> str:
    """The message of an error's body, else the reason of its status; one short line."""
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason
    return " ".join(str(message).split())[:200]


def _connect(host: str, namespace: str, token: str) -> kfp.Client:
    """A client of the API at ``host`` none of whose requests waits for ever.

    Raises:
        MerlbError: something answers there that is not Kubeflow Pipelines.
    """
    # kfp.Client asks for the API's health without a time limit, and five times over: ask once before.
    configuration = kfp_server_api.Configuration(host=host)
    configuration.retries = False
    if token:
        configuration.api_key["authorization"] = token
        configuration.api_key_prefix["authorization"] = "Bearer"
    health = kfp_server_api.HealthzServiceApi(kfp_server_api.ApiClient(configuration))
    *_, headers = health.healthz_service_get_healthz_with_http_info(_request_timeout=TIMEOUT_SECONDS)
    if "json" not in headers.get("Content-Type", ""):  # a proxy's log-in page
        raise MerlbError(f"{host} answers, but not as Kubeflow Pipelines: {WHAT_TO_DO[404]}")
    client = kfp.Client(host=host, namespace=namespace or "kubeflow", existing_token=token or None)
    rest = client._run_api.api_client.rest_client  # all of the client's calls go through this one
    unlimited = rest.request
    rest.request = lambda *args, **options: unlimited(*args, **{**options, "_request_timeout": TIMEOUT_SECONDS})
    return client


def _upload(client: kfp.Client, package: Path, stamp: str) -> tuple[str, str]:
    """Upload the definition as a new version, of a new pipeline where there is none; their ids."""
    pipeline_id = client.get_pipeline_id(NAME)
    if pipeline_id is None:
        pipeline_id = client.upload_pipeline(str(package), pipeline_name=NAME).pipeline_id
        version = client.list_pipeline_versions(pipeline_id).pipeline_versions[0]
    else:
        version = client.upload_pipeline_version(str(package), f"{NAME} {stamp}", pipeline_id=pipeline_id)
    return pipeline_id, version.pipeline_version_id


def submit(package: Path, host: str, namespace: str, experiment: str, token: str, tracking_uri: str) -> str:
    """Upload ``package`` and start a run of it.

    Args:
        package: the compiled pipeline.
        host: where Kubeflow Pipelines listens, with ``http://`` or ``https://``.
        namespace: of a cluster with several users; else empty.
        experiment: the experiment's name; made where missing.
        token: a bearer token, or empty.
        tracking_uri: MLflow as the pods reach it, or empty.

    Returns:
        The address of the run's page.

    Raises:
        MerlbError: ``host`` cannot be reached, does not answer, or refuses.
    """
    host = host.rstrip("/")
    if not host.startswith(("http://", "https://")):
        raise MerlbError(f"HOST={host}: expected http://… or https://…, e.g. http://localhost:8080")
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    with _one_line(host), _quiet(io.StringIO()):
        client = _connect(host, namespace, token)
        pipeline_id, version_id = _upload(client, package, stamp)
        run = client.run_pipeline(
            client.create_experiment(experiment, namespace=namespace or None).experiment_id,
            job_name=f"{NAME} {stamp}",
            pipeline_id=pipeline_id,
            version_id=version_id,
            params={"tracking_uri": tracking_uri},
        )
    return f"{host}/#/runs/details/{run.run_id}"


@app.command("submit")
def submit_command(
    host: Annotated[str, typer.Option(help="Where Kubeflow Pipelines listens, e.g. http://localhost:8080.")],
    namespace: Annotated[str, typer.Option(envvar="KFP_NAMESPACE", help="Where a cluster has several users.")] = "",
    experiment: Annotated[str, typer.Option(help="The experiment; made where missing.")] = "merlb",
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="The definition to write and upload.")] = COMPILED,
) -> None:
    """Upload a version of the pipeline and start a run. The token, if any, is read from KFP_TOKEN."""
    compile_pipeline(load_params(params), out)
    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not tracking_uri.startswith(("http://", "https://")):
        tracking_uri = ""  # a file of this machine is nothing to a pod
        typer.echo("MLFLOW_TRACKING_URI names no server (http…): the run will not be logged", err=True)
    link = submit(out, host, namespace, experiment, os.environ.get("KFP_TOKEN", ""), tracking_uri)
    typer.echo(f"run started: {link}")


def main() -> None:
    """Run the command; an error that a person can mend is one line and exit code 1."""
    try:
        app()
    except MerlbError as error:
        typer.echo(f"pipelines.submit: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
