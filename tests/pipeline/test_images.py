"""What can be seen of the images without building them."""

import re

import pytest

from merlb_model.params import load_params
from tests.pipeline.conftest import ROOT

DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")
STAGES = {
    name: body
    for body in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]
    for name in re.findall(r"\A\S+ AS (\w+)$", body, flags=re.MULTILINE)
}
TARGETS = ["cpu", "gpu", "serving"]


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_that_params_name_is_a_target(target: str) -> None:
    image = getattr(load_params(ROOT / "params.yaml").pipeline, f"{target}_image")

    assert image.split("/")[-1].split(":")[0] == target
    assert target in STAGES


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_installs_its_own_lock_and_nothing_unhashed(target: str) -> None:
    installs = re.findall(r"pip install (.*)", STAGES[target])

    assert f"COPY requirements/{target}.txt " in STAGES[target]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_ends_without_rights(target: str) -> None:
    assert re.findall(r"^USER (\d+)", STAGES[target], flags=re.MULTILINE)[-1] != "0"


def test_serving_tells_whether_it_is_ready() -> None:
    assert "/v2/health/ready" in STAGES["serving"].split("HEALTHCHECK")[1]


def test_what_is_copied_exists_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)", DOCKERFILE, flags=re.MULTILINE)
        for source in line.split()[:-1]
    }

    assert len(copied) > len(TARGETS)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored, source
