import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from merlb_model.errors import MerlbError
from merlb_model.params import load_params
from pipelines.submit import compile_pipeline

ParamsFile = Callable[..., Path]


@pytest.fixture
def compiled(params_file: ParamsFile, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The definition as Kubeflow reads it, for ``params.yaml`` with some values changed."""

    def make(**changes: dict[str, Any]) -> dict[str, Any]:
        compile_pipeline(load_params(params_file(**changes)), tmp_path / "pipeline.yaml")
        return yaml.safe_load((tmp_path / "pipeline.yaml").read_text(encoding="utf-8"))

    return make


def _containers(definition: dict[str, Any]) -> dict[str, dict[str, Any]]:
    executors = definition["deploymentSpec"]["executors"]
    return {name.removeprefix("exec-"): executor["container"] for name, executor in executors.items()}


def test_every_task_runs_in_the_image_and_asks_for_what_params_say(compiled: Callable[..., dict[str, Any]]) -> None:
    pods = {"cpu_image": "here/cpu:1", "gpu_image": "here/gpu:1", "cpu_request": "1500m", "memory_request": "3G"}

    containers = _containers(compiled(pipeline=pods))

    for container in containers.values():
        assert container["image"] == "here/cpu:1"
        assert container["resources"]["resourceCpuRequest"] == "1500m"
        assert container["resources"]["resourceMemoryRequest"] == "3G"
        assert "accelerator" not in container["resources"]


def test_gpus_are_asked_for_by_the_training_task_alone(compiled: Callable[..., dict[str, Any]]) -> None:
    containers = _containers(compiled(train={"gpus": 2}, pipeline={"gpu_image": "here/gpu:1"}))

    accelerators = {name: box["resources"].get("accelerator") for name, box in containers.items()}
    training = accelerators.pop("train")
    assert (training["resourceType"], training["resourceCount"]) == ("nvidia.com/gpu", "2")
    assert set(accelerators.values()) == {None}
    assert containers["train"]["image"] == "here/gpu:1"
    assert containers["evaluate"]["image"] != "here/gpu:1"


def test_no_task_installs_anything_when_it_starts(compiled: Callable[..., dict[str, Any]]) -> None:
    for container in _containers(compiled()).values():
        assert "pip install" not in " ".join(container["command"])


def test_extraction_fans_out_over_shards_and_is_sent_no_clips(compiled: Callable[..., dict[str, Any]]) -> None:
    definition = compiled(pipeline={"parallelism": 3})

    (loop,) = (task for task in definition["root"]["dag"]["tasks"].values() if "parameterIterator" in task)
    assert loop["iteratorPolicy"]["parallelismLimit"] == 3
    assert list(definition["components"]["comp-extract"]["inputDefinitions"]["artifacts"]) == ["index"]
    consumed = {
        (source["taskOutputArtifact"]["producerTask"], source["taskOutputArtifact"]["outputArtifactKey"])
        for task in definition["root"]["dag"]["tasks"].values()
        for source in task["inputs"].get("artifacts", {}).values()
    }
    assert ("ingest", "index") in consumed
    assert ("ingest", "raw") not in consumed


def test_every_component_and_every_input_says_what_it_is(compiled: Callable[..., dict[str, Any]]) -> None:
    for name, component in compiled()["components"].items():
        if "executorLabel" in component:
            inputs = component["inputDefinitions"]
            for kind in ("artifacts", "parameters"):
                for input_name, definition in inputs.get(kind, {}).items():
                    assert definition.get("description"), f"{name}: {input_name}"


def test_parameters_default_to_the_sections_of_params(compiled: Callable[..., dict[str, Any]]) -> None:
    parameters = compiled(train={"epochs": 3})["root"]["inputDefinitions"]["parameters"]

    assert parameters["train"]["defaultValue"]["epochs"] == 3
    assert parameters["tracking_uri"]["defaultValue"] == ""
    assert parameters["corpus"]["defaultValue"]["source"] == "sample"


def test_a_pod_decodes_with_one_process_unless_told_otherwise(compiled: Callable[..., dict[str, Any]]) -> None:
    def workers(**changes: dict[str, Any]) -> float:
        return compiled(**changes)["root"]["inputDefinitions"]["parameters"]["extract"]["defaultValue"]["workers"]

    assert workers() == 1
    assert workers(extract={"workers": 5}) == 5


def test_a_null_survives_where_it_is_the_default(compiled: Callable[..., dict[str, Any]]) -> None:
    parameters = compiled(corpus={"path": None})["root"]["inputDefinitions"]["parameters"]

    assert "path" not in parameters["corpus"]["defaultValue"]


def test_a_null_that_kubeflow_would_lose_is_refused(params_file: ParamsFile, tmp_path: Path) -> None:
    params = load_params(params_file())
    nulled = params.model_copy(update={"train": params.train.model_copy(update={"patience": None})})

    with pytest.raises(MerlbError, match=r"train\.patience: null cannot be passed to Kubeflow"):
        compile_pipeline(nulled, tmp_path / "pipeline.yaml")


def test_two_processes_compile_the_same_bytes(params_file: ParamsFile, tmp_path: Path) -> None:
    params = params_file()
    for seed in ("1", "2"):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pipelines.submit",
                "compile",
                "--params",
                params,
                "--out",
                tmp_path / f"{seed}.yaml",
            ],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )

    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()
