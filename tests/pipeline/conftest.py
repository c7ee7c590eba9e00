from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.kubeflow_double import KubeflowDouble, kubeflow_double

ROOT = Path(__file__).parents[2]


@pytest.fixture
def kubeflow() -> Iterator[KubeflowDouble]:
    with kubeflow_double() as double:
        yield double


@pytest.fixture
def params_file(tmp_path: Path) -> Callable[..., Path]:
    """Write the project's ``params.yaml`` with some values changed: ``params_file(train={"epochs": 1})``."""

    def write(**changes: dict[str, Any]) -> Path:
        content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for section, values in changes.items():
            content[section] |= values
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write
