"""The server as a process of its own, asked by its own client and by KServe's."""

import asyncio
import http.client
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

from merlb_model.serving.client import Client
from merlb_model.serving.scorer import Scorer
from merlb_model.serving.tensors import encode, pack
from tests.unit.serving.running import wait_until
from tests.unit.serving.tiny_model import make_windows, write_tiny_model

TYPES = {"face": "UINT8", "screen": "UINT8", "audio": "INT16", "present": "FP32"}
SERVE = """
import sys
from pathlib import Path
from merlb_model.serving.server import serve

serve(Path(sys.argv[1]), port=0)
"""


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """The server's process and its address, as its first line tells it."""
    command = [sys.executable, "-c", SERVE, str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found, process.stderr.read()
            yield process, found.group()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models") / "serving"
    write_tiny_model(root / "1")
    return root


@pytest.fixture(scope="module")
def server(root) -> Iterator[str]:
    with serving(root) as (_, url):
        with Client(url) as client:
            client.wait_ready(120)
        yield url


def ask_kserve(url: str, arrays: dict, binary: bool) -> dict[str, np.ndarray]:
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, list(array.shape), TYPES[name])
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    request = InferRequest("merlb", inputs, parameters={"binary_data_output": binary})

    async def ask() -> dict[str, np.ndarray]:
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
            assert await client.is_server_live(url) and await client.is_server_ready(url)
            assert await client.is_model_ready(url, "merlb") and not await client.is_model_ready(url, "other")
            answer = await client.infer(url, request, model_name="merlb")
            return {output.name: output.as_numpy() for output in answer.outputs}

    return asyncio.run(ask())


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("present", [None, [[1.0, 0.0, 1.0]]])
def test_kserves_client_and_ours_get_the_models_scores(server, root, binary, present):
    arrays = make_windows(1)
    if present is not None:
        arrays["present"] = np.array(present, np.float32)
    expected = Scorer.load(root / "1").score(**arrays)
    with Client(server) as client:
        ours = client.infer(**arrays)
    theirs = ask_kserve(server, arrays, binary)
    assert list(theirs) == list(ours) == list(expected) == ["valence", "arousal", "event"]
    for task in expected:
        np.testing.assert_allclose(ours[task], expected[task], atol=1e-6)
        np.testing.assert_allclose(theirs[task], expected[task], atol=1e-6)


def test_a_request_that_is_too_long_hears_why(server):
    answer = httpx.post(f"{server}/v2/models/merlb/infer", content=b" " * (65 << 20), timeout=60)
    assert answer.status_code == 413 and "67108864 bytes" in answer.json()["error"]


def refuses_connections(url: str) -> bool:
    try:
        httpx.get(f"{url}/v2/health/live")
    except httpx.TransportError:
        return True
    return False


def test_it_is_live_while_it_loads_and_term_ends_it_with_0(root):
    with serving(root) as (process, url):
        assert httpx.get(f"{url}/v2/health/live").status_code == 200
        assert httpx.get(f"{url}/v2/health/ready").status_code == 503
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert "Traceback" not in process.stderr.read()


def test_without_a_model_it_stays_up_unready_with_the_reason_until_ctrl_c(tmp_path):
    with serving(tmp_path) as (process, url):
        wait_until(lambda: "merlb promote" in httpx.get(f"{url}/v2/health/ready").text)
        assert httpx.get(f"{url}/v2/health/ready").status_code == 503
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_request_accepted_before_term_is_answered_and_nothing_is_left_behind(root):
    tensors, parts = encode(make_windows(1), TYPES)
    body, headers = pack({"inputs": tensors}, parts)
    with serving(root) as (process, url):
        with Client(url) as client:
            client.wait_ready(120)
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        connection.putrequest("POST", "/v2/models/merlb/infer")
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(body[: len(body) // 2])
        assert httpx.get(f"{url}/v2/health/live").status_code == 200  # so the half before it has been taken in
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses_connections(url))
        connection.send(body[len(body) // 2 :])
        answer = connection.getresponse()
        assert answer.status == 200 and b"valence" in answer.read()
        assert process.wait(60) == 0
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
