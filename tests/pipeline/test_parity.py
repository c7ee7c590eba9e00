"""Kubeflow and DVC drive the same stages: same graph, same functions, same sections of ``params.yaml``."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from merlb_model.params import Params, load_params
from pipelines.submit import compile_pipeline
from pipelines.training import STAGES
from tests.pipeline.conftest import ROOT

ALLOWED_EXTRA: frozenset[str] = frozenset()
"""Tasks of Kubeflow's that DVC has no stage for, e.g. a gate, a deployment, an exit task."""
NAMES = [stage.__name__ for stage in STAGES]
SECTIONS = [field.alias or name for name, field in Params.model_fields.items()]
Edges = set[tuple[str, str]]


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compiled pipeline."""
    out = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compile_pipeline(load_params(ROOT / "params.yaml"), out)
    return yaml.safe_load(out.read_text(encoding="utf-8"))


def _kubeflow_graph(definition: dict[str, Any]) -> tuple[set[str], Edges]:
    """Tasks and edges, a group (a loop, a condition, an exit handler) contracted to the tasks inside it."""
    edges: Edges = set()

    def tasks_in(name: str, task: dict[str, Any]) -> set[str]:
        dag = definition["components"][task["componentRef"]["name"]].get("dag")
        return walk(dag["tasks"]) if dag else {name}

    def walk(tasks: dict[str, Any]) -> set[str]:
        inside = {name: tasks_in(name, task) for name, task in tasks.items()}
        for name, task in tasks.items():
            for before in task.get("dependentTasks", []):
                edges.update((first, then) for first in inside[before] for then in inside[name])
        return set().union(*inside.values())

    return walk(definition["root"]["dag"]["tasks"]), edges


def _dvc_graph() -> tuple[set[str], Edges]:
    """Stages and edges as DVC itself understands ``dvc.yaml``."""
    with Repo(str(ROOT)) as repo:
        graph = repo.index.graph
        names = {stage: getattr(stage, "name", None) for stage in graph}
    edges = {(names[first], names[then]) for then, first in graph.edges if names[first] and names[then]}
    return {name for name in names.values() if name}, edges


def _stage_function(path: Path, name: str) -> tuple[str, str]:
    """Module and name of what function ``name`` of the file imports ``as stage``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    ((module, imported),) = (
        (node.module, alias.name)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == "stage"
    )
    called = [node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and hasattr(node.func, "id")]
    assert called.count("stage") == 1, f"{path.name}: {name} calls its stage {called.count('stage')} times"
    return str(module), imported


def test_kubeflow_runs_the_stages_of_dvc_in_the_same_order(definition: dict[str, Any]) -> None:
    tasks, kubeflow_edges = _kubeflow_graph(definition)
    stages, dvc_edges = _dvc_graph()

    assert tasks - ALLOWED_EXTRA == stages
    assert {edge for edge in kubeflow_edges if not ALLOWED_EXTRA & set(edge)} == dvc_edges


@pytest.mark.parametrize("name", NAMES)
def test_a_component_calls_the_function_that_the_command_calls(name: str) -> None:
    called = _stage_function(ROOT / "components" / f"{name}.py", name)

    assert called == _stage_function(ROOT / "merlb_model" / "cli.py", name)
    assert called[1] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_component_takes_the_sections_that_dvc_watches(name: str, definition: dict[str, Any]) -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    groups = [definition["root"], *definition["components"].values()]
    (task,) = (group["dag"]["tasks"][name] for group in groups if name in group.get("dag", {}).get("tasks", {}))
    taken = {
        argument: source["componentInputParameter"].removeprefix("pipelinechannel--")
        for argument, source in task["inputs"]["parameters"].items()
    }

    assert taken["params"] == name
    assert set(taken.values()) & set(SECTIONS) == set(stage["params"])


def test_there_is_a_component_for_each_file_and_a_file_for_each_component() -> None:
    files = {path.stem for path in (ROOT / "components").glob("*.py")} - {"__init__"}

    assert files - ALLOWED_EXTRA == set(NAMES)
