"""The only code that talks to MLflow: one run a pipeline run, whoever drives it."""

import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from merlb_model.errors import MerlbError
from merlb_model.processes import is_running

EXPERIMENT = "merlb"
RECREATED_FROM = "merlb.recreated_from"
"""Tag of a run that stands for one of another server: the run id that ``run.json`` names."""
_PROCESS = "merlb.process"
"""Tag: host and process id of who last opened the run."""
_ARTIFACT_FOLDER = "artifacts"


class RunLog(Protocol):
    """A run that remembers what it is told."""

    run_id: str
    uri: str | None

    def params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; nested sections become ``section.name``."""

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers, of epoch ``step`` where given."""

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def file(self, path: Path, folder: str = "") -> None:
        """Keep a file, or a folder's files, under ``folder`` of the run's artifacts."""

    def register(self, saved_model: Path, name: str, signature: Mapping[str, Any]) -> str:
        """Log a SavedModel with its signature, register it as ``name`` and return the version.

        ``signature`` maps ``inputs`` and ``outputs`` to ``{tensor: (dtype, shape)}``.
        """


class NoRun:
    """A run that remembers nothing."""

    run_id = ""
    uri: str | None = None

    def params(self, params: Mapping[str, Any]) -> None:
        pass

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def tags(self, tags: Mapping[str, str]) -> None:
        pass

    def file(self, path: Path, folder: str = "") -> None:
        pass

    def register(self, saved_model: Path, name: str, signature: Mapping[str, Any]) -> str:
        return ""


def default_uri() -> str:
    """``MLFLOW_TRACKING_URI``, else the database in this folder that ``make mlflow`` shows. For drivers to call."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('.merlb/mlflow/mlflow.db').resolve()}"


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"train": {"epochs": 3}}`` as ``{"train.epochs": 3}``."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _mlflow() -> Any:
    """Import MLflow (a second or two) where it is first needed, without its chatter."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


class MlflowRun:
    """A run of an MLflow server or database.

    Args:
        client: an ``mlflow.MlflowClient``.
        run_id: the run's id.
        uri: the tracking URI.
    """

    def __init__(self, client: Any, run_id: str, uri: str) -> None:
        self._client = client
        self.run_id = run_id
        self.uri: str | None = uri

    def params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        fresh = [Param(name, str(value)) for name, value in flatten(params).items() if name not in known]
        self._client.log_batch(self.run_id, params=fresh)

    def metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        batch = [Metric(name, float(value), now, step or 0) for name, value in metrics.items()]
        self._client.log_batch(self.run_id, metrics=batch)

    def tags(self, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value)

    def file(self, path: Path, folder: str = "") -> None:
        log = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
        log(self.run_id, str(path), folder or None)

    def register(self, saved_model: Path, name: str, signature: Mapping[str, Any]) -> str:
        _mlflow().set_tracking_uri(self.uri)
        from mlflow.models import Model

        with redirect_stderr(StringIO()):  # "Created version …", printed and not logged; what goes wrong is raised
            info = Model.log(
                None,
                _SavedModelFlavor,
                name="model",
                registered_model_name=name,
                run_id=self.run_id,
                saved_model=saved_model,
                signature=signature,
            )
        return str(info.registered_model_version)


class _SavedModelFlavor:
    """MLflow's flavour of a SavedModel with named inputs; it needs no TensorFlow to be logged."""

    __name__ = "mlflow.tensorflow"

    @staticmethod
    def save_model(path: str, mlflow_model: Any, saved_model: Path, signature: Mapping[str, Any]) -> None:
        import numpy as np
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        def schema(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> Schema:
            return Schema([TensorSpec(np.dtype(dtype), shape, name) for name, (dtype, shape) in tensors.items()])

        folder = Path(path)
        shutil.copytree(saved_model, folder / "saved_model")
        mlflow_model.signature = ModelSignature(schema(signature["inputs"]), schema(signature["outputs"]))
        mlflow_model.add_flavor(
            "tensorflow",
            model_type="tf1-estimator",  # MLflow's word for any SavedModel called by a named signature
            saved_model_dir="saved_model",
            meta_graph_tags=["serve"],
            signature_def_key="serving_default",
        )
        pyfunc.add_to_model(mlflow_model, loader_module="mlflow.tensorflow")
        mlflow_model.save(str(folder / "MLmodel"))


def git_revision(folder: Path = Path()) -> str:
    """The checkout's commit, ``-dirty`` behind it where files differ; ``unknown`` outside a checkout."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("MERLB_GIT_REVISION", "unknown")


def _connect(uri: str) -> tuple[Any, str]:
    """A client and the experiment's id.

    Raises:
        MerlbError: nothing answers at ``uri``, or it is the file store.
    """
    if "://" not in uri:
        raise MerlbError(f"MLFLOW_TRACKING_URI={uri}: expected sqlite:///…, postgresql://… or http(s)://…")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    artifacts = None
    if uri.startswith("sqlite:///"):
        folder = Path(uri.removeprefix("sqlite:///")).resolve().parent
        folder.mkdir(parents=True, exist_ok=True)
        artifacts = (folder / _ARTIFACT_FOLDER).as_uri()
        # Without a server MLflow makes its default folder where the command runs; there is nothing to put in it.
        os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", artifacts)
    mlflow = _mlflow()
    try:
        client = mlflow.MlflowClient(uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is not None:
            return client, str(experiment.experiment_id)
        return client, str(client.create_experiment(EXPERIMENT, artifact_location=artifacts))
    except mlflow.MlflowException as error:
        reason = " ".join(str(error).split())[:300]
        raise MerlbError(f"MLflow at {uri} does not answer: {reason}; start it, or unset MLFLOW_TRACKING_URI") from None


@contextmanager
def _ending(client: Any, run: MlflowRun) -> Iterator[RunLog]:
    """Mark the run finished, or failed where the block raises."""
    try:
        yield run
    except BaseException as error:
        client.set_terminated(run.run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    client.set_terminated(run.run_id, "FINISHED")


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _end_abandoned(client: Any, experiment: str) -> None:
    """Mark as killed the runs whose process on this host is gone: a killed one could not do it itself."""
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        host, _, process = run.data.tags.get(_PROCESS, "").rpartition(":")
        if host == socket.gethostname() and not is_running(int(process)):
            client.set_terminated(run.info.run_id, "KILLED")


@contextmanager
def start(uri: str | None, name: str, tags: Mapping[str, str]) -> Iterator[RunLog]:
    """Open a new run; ``uri`` None logs nowhere.

    Raises:
        MerlbError: the server does not answer.
    """
    if uri is None:
        yield NoRun()
        return
    client, experiment = _connect(uri)
    _end_abandoned(client, experiment)
    known = {"mlflow.source.name": "merlb", _PROCESS: _this_process()}
    run = client.create_run(experiment, tags={**known, **tags}, run_name=name)
    with _ending(client, MlflowRun(client, run.info.run_id, uri)) as log:
        yield log


@contextmanager
def resume(uri: str | None, run: Mapping[str, Any]) -> Iterator[RunLog]:
    """Open again the run that ``run.json`` names.

    A run that this server does not know (another machine's, or outputs that came from a cache) is
    made once more, tagged ``recreated``; later stages find that one.

    Args:
        uri: where to log; None logs nowhere.
        run: the content of ``models/run.json``.

    Raises:
        MerlbError: the server does not answer.
    """
    if uri is None:
        yield NoRun()
        return
    client, experiment = _connect(uri)
    run_id = _find(client, experiment, str(run["run_id"])) or _recreate(client, experiment, run)
    client.set_tag(run_id, _PROCESS, _this_process())
    client.set_terminated(run_id, "RUNNING")
    with _ending(client, MlflowRun(client, run_id, uri)) as log:
        yield log


def _find(client: Any, experiment: str, run_id: str) -> str | None:
    import mlflow

    if run_id:
        try:
            return str(client.get_run(run_id).info.run_id)
        except mlflow.MlflowException:
            pass
    found = client.search_runs([experiment], f"tags.`{RECREATED_FROM}` = '{run_id or 'none'}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _recreate(client: Any, experiment: str, run: Mapping[str, Any]) -> str:
    tags = {
        "recreated": "true",
        RECREATED_FROM: str(run["run_id"]) or "none",
        "store_hash": str(run["store_hash"]),
        "weights_hash": str(run["weights_hash"]),
        "git": str(run["git"]),
    }
    made = client.create_run(experiment, tags=tags, run_name="merlb (recreated)")
    MlflowRun(client, made.info.run_id, "").params(run["params"])
    return str(made.info.run_id)


def is_known(uri: str, run: Mapping[str, Any]) -> bool:
    """Whether the server at ``uri`` has the run of ``run.json``, or one recreated from it."""
    client, experiment = _connect(uri)
    return _find(client, experiment, str(run["run_id"])) is not None
