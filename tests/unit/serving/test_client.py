import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from merlb_model.errors import MerlbError
from merlb_model.serving import client as client_module
from merlb_model.serving.client import Client
from merlb_model.serving.server import create_app
from tests.unit.serving.running import running


@pytest.fixture(scope="module")
def url(serving_root, scorer):
    app = create_app(serving_root, load=lambda folder: scorer, max_batch=4)
    with running(app) as client:
        yield str(client.base_url)


@pytest.fixture
def answers():
    """A server that gives these answers one after the other: (status, content)."""
    planned: list[tuple[int, bytes]] = []
    taken: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            taken.append(self.path)
            status, content = planned.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}", planned, taken
        web.shutdown()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(client_module, "_FIRST_PAUSE_SECONDS", 0.01)


def test_its_answer_is_the_models(url, scorer, windows):
    with Client(url) as client:
        client.wait_ready(20)
        plain = client.infer(**windows)
        present = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]], np.float32)
        masked = client.infer(**windows, present=present)
    for task, expected in scorer.score(**windows).items():
        assert plain[task].dtype == np.float32
        np.testing.assert_allclose(plain[task], expected, atol=1e-6)
    for task, expected in scorer.score(**windows, present=present).items():
        np.testing.assert_allclose(masked[task], expected, atol=1e-6)


def test_it_tells_what_the_server_says_about_the_model(url):
    with Client(url) as client:
        client.wait_ready(20)
        assert client.metadata()["parameters"]["store_hash"] == "5" * 64


def test_the_servers_refusal_is_an_error_in_one_line(url, windows):
    five = {name: value[[0] * 5] for name, value in windows.items()}
    with Client(url) as client, pytest.raises(MerlbError, match=r"^http.*: 400: inputs: 5 windows.*1 to 4$"):
        client.wait_ready(20)
        client.infer(**five)


def test_a_busy_server_is_asked_again(answers):
    url, planned, taken = answers
    planned += [(503, b'{"error": "busy"}'), (503, b"no json"), (200, b'{"name": "merlb"}')]
    with Client(url) as client:
        assert client.metadata() == {"name": "merlb"}
    assert len(taken) == 3


def test_a_server_that_stays_busy_is_given_up_with_its_reason(answers):
    url, planned, taken = answers
    planned += [(503, b'{"error": "no model: run `merlb promote`"}')] * 3
    with Client(url, attempts=3) as client, pytest.raises(MerlbError, match="after 3 attempts: no model"):
        client.metadata()
    assert len(taken) == 3


def test_a_wrong_request_is_not_sent_again(answers):
    url, planned, taken = answers
    planned += [(404, b'{"error": "no such model"}'), (200, b"{}")]
    with Client(url) as client, pytest.raises(MerlbError, match="404: no such model"):
        client.metadata()
    assert len(taken) == 1


@pytest.mark.parametrize("content", [b"<html>", b'{"model_name": "merlb"}', json.dumps({"outputs": 1}).encode()])
def test_an_answer_of_another_protocol_is_told(answers, windows, content):
    url, planned, _ = answers
    planned += [(200, content)]
    with Client(url) as client, pytest.raises(MerlbError, match="an answer that is not the protocol's"):
        client.infer(**windows)


def test_no_server_is_told_with_the_address(answers):
    with Client("http://127.0.0.1:9", attempts=2) as client:
        with pytest.raises(MerlbError, match=r"http://127\.0\.0\.1:9.*after 2 attempts"):
            client.metadata()
        with pytest.raises(MerlbError, match=r"not ready after 0\.1 s"):
            client.wait_ready(0.1)


def test_it_waits_until_the_server_is_ready(answers):
    url, planned, taken = answers
    planned += [(503, b'{"ready": false, "error": "loading"}')] * 2 + [(200, b'{"ready": true}')]
    with Client(url) as client:
        client.wait_ready(20)
    assert taken == ["/v2/health/ready"] * 3


def test_wrong_arrays_never_leave(windows):
    with Client("http://127.0.0.1:9") as client, pytest.raises(MerlbError, match="face: dtype float64"):
        client.infer(**(windows | {"face": windows["face"].astype(np.float64)}))


def test_it_needs_neither_tensorflow_nor_pandas():
    code = "import sys, merlb_model.serving.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "httpx" in done.stdout.split()
    assert not {"tensorflow", "keras", "pandas", "av"} & set(done.stdout.split())
