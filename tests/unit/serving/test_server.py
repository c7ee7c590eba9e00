import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.serving.scorer import Scorer
from merlb_model.serving.server import create_app, serve
from merlb_model.serving.tensors import encode, pack
from tests.unit.serving.running import running, wait_ready, wait_until

INFER = "/v2/models/merlb/infer"


@pytest.fixture(scope="module")
def server(serving_root, scorer):
    with running(create_app(serving_root, load=lambda folder: scorer, max_batch=4)) as client:
        wait_ready(client)
        yield client


def request(arrays, binary=True, **message):
    tensors, parts = encode(arrays, arrays if binary else ())
    return pack({"inputs": tensors} | message, parts)


def test_it_is_live_at_once_and_ready_when_loaded_and_warmed(serving_root, scorer):
    may_load, loaded, may_warm = threading.Event(), threading.Event(), threading.Event()

    class Slow(Scorer):
        def warm(self) -> None:
            loaded.set()
            may_warm.wait(20)

    def load(folder):
        may_load.wait(20)
        return Slow(folder, scorer.info, scorer._model)

    with running(create_app(serving_root, load=load)) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        answer = client.get("/v2/health/ready")
        assert answer.status_code == 503 and "loading" in answer.json()["error"] and answer.json()["ready"] is False
        may_load.set()
        assert loaded.wait(20)
        for path in ("/v2/health/ready", "/v2/models/merlb/ready", "/v2/models/merlb"):
            assert client.get(path).status_code == 503
        assert client.post(INFER, content=b"{}").status_code == 503
        may_warm.set()
        wait_ready(client)
        assert client.get("/v2/models/merlb/versions/3/ready").json() == {"name": "merlb", "ready": True}


@pytest.mark.parametrize("fill", ["nothing", "broken"])
def test_without_a_model_it_is_never_ready_and_says_why(tmp_path, fill):
    if fill == "broken":
        (tmp_path / "1").mkdir()
    reason = {"nothing": "run `merlb promote`", "broken": "run `merlb export`"}[fill]
    with running(create_app(tmp_path)) as client:
        wait_until(lambda: reason in client.get("/v2/health/ready").json()["error"])
        assert client.get("/v2/health/ready").status_code == 503
        assert reason in client.post(INFER, content=b"{}").json()["error"]
        assert client.get("/v2/health/live").status_code == 200


def test_an_unforeseen_failure_of_the_load_is_the_reason(serving_root):
    def load(folder):
        raise RuntimeError("out of memory\nwhile loading")

    with running(create_app(serving_root, load=load)) as client:
        wait_until(lambda: "out of memory while loading" in client.get("/v2/health/ready").json()["error"])


def test_metadata_tells_the_tensors_the_classes_and_the_hashes(server):
    assert server.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    told = server.get("/v2/models/merlb").json()
    assert told == server.get("/v2/models/merlb/versions/3").json()
    assert told["versions"] == ["3"] and told["platform"] == "tensorflow_savedmodel"
    assert {item["name"]: (item["datatype"], item["shape"]) for item in told["inputs"]} == {
        "face": ("UINT8", [-1, 20, 64, 64, 3]),
        "screen": ("UINT8", [-1, 20, 128, 128, 3]),
        "audio": ("INT16", [-1, 20, 5512]),
        "present": ("FP32", [-1, 3]),
    }
    assert [(item["name"], item["shape"]) for item in told["outputs"]] == [
        ("valence", [-1, 3]),
        ("arousal", [-1, 3]),
        ("event", [-1, 8]),
    ]
    assert told["parameters"]["store_hash"] == "5" * 64
    assert told["parameters"]["weights_hash"] == "e" * 64
    assert told["parameters"]["git"] == "0123abc"
    assert told["parameters"]["temperature"] == dict.fromkeys(TASKS, 1.0)
    assert told["parameters"]["classes"]["arousal"] == ["low", "neutral", "high"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_json_and_binary_give_the_models_scores(server, scorer, windows, binary_in, binary_out):
    one = {name: value[:1] for name, value in windows.items()}
    body, headers = request(one, binary_in, id="7", parameters={"binary_data_output": binary_out})
    answer = server.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get("Inference-Header-Content-Length", len(answer.content)))
    assert (length < len(answer.content)) == binary_out
    message, rest = json.loads(answer.content[:length]), answer.content[length:]
    assert (message["id"], message["model_name"], message["model_version"]) == ("7", "merlb", "3")
    for output in message["outputs"]:
        if binary_out:
            size = output["parameters"]["binary_data_size"]
            values, rest = np.frombuffer(rest[:size], "<f4"), rest[size:]
        else:
            values = np.array(output["data"])
        np.testing.assert_allclose(values.reshape(output["shape"]), scorer.score(**one)[output["name"]], atol=1e-6)
    assert rest == b""


def test_an_absent_modality_is_scored_masked(server, scorer, windows):
    present = np.array([[0, 1, 1], [1, 1, 1], [1, 0, 0]], np.float32)
    body, headers = request(windows | {"present": present})
    answer = server.post("/v2/models/merlb/versions/3/infer", content=body, headers=headers).json()
    expected = scorer.score(**windows, present=present)
    for output in answer["outputs"]:
        np.testing.assert_allclose(np.reshape(output["data"], output["shape"]), expected[output["name"]], atol=1e-6)


def test_only_the_outputs_asked_for_come_each_in_its_form(server, windows):
    outputs = [{"name": "event", "parameters": {"binary_data": True}}, {"name": "valence"}]
    body, headers = request(windows, outputs=outputs)
    answer = server.post(INFER, content=body, headers=headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    event, valence = json.loads(answer.content[:length])["outputs"]
    assert event["parameters"] == {"binary_data_size": 3 * 8 * 4} and "data" not in event
    assert len(valence["data"]) == 9
    assert len(answer.content) - length == 3 * 8 * 4


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda w: without(w, "audio"), "inputs: no audio"),
        (lambda w: w | {"video": w["face"]}, "unknown 'video'"),
        (lambda w: w | {"face": w["face"].astype(np.float32)}, "face: datatype 'FP32', expected UINT8"),
        (lambda w: w | {"face": w["face"][:, :19]}, "face: shape [3, 19, 64, 64, 3], expected ['B', 20, 64, 64, 3]"),
        (lambda w: w | {"face": w["face"][0, 0, 0, 0, 0]}, "face: shape []"),
        (lambda w: w | {"screen": w["screen"][:2]}, "screen: 2 windows, face has 3"),
        (lambda w: {name: value[[0] * 5] for name, value in w.items()}, "5 windows in a request, expected 1 to 4"),
        (lambda w: {name: value[:0] for name, value in w.items()}, "0 windows in a request"),
        (lambda w: w | {"present": np.full((3, 3), np.nan, np.float32)}, "present: expected 1"),
        (lambda w: w | {"present": np.full((3, 3), 0.5, np.float32)}, "present: expected 1"),
    ],
)
def test_wrong_inputs_are_refused_in_one_line(server, windows, change, complaint):
    body, headers = request(change(windows))
    answer = server.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_wrong_envelope_is_refused_in_one_line(server, windows):
    body, headers = request(windows)
    for content, given, complaint in [
        (b"hello", {}, "Invalid JSON"),
        (body, {}, "Invalid JSON"),
        (body[:-1], headers, "ends after"),
        (body + b"x", headers, "bytes, its tensors take"),
        (body, headers | {"Inference-Header-Content-Length": "12x"}, "Inference-Header-Content-Length"),
        (b'{"inputs": 3}', {}, "inputs"),
    ]:
        answer = server.post(INFER, content=content, headers=given)
        assert answer.status_code == 400
        assert complaint in answer.json()["error"] and "\n" not in answer.json()["error"]


def test_an_unknown_output_is_refused(server, windows):
    body, headers = request(windows, outputs=[{"name": "mood"}])
    assert "unknown 'mood'" in server.post(INFER, content=body, headers=headers).json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/merlb/versions/2", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/merlb/versions/4/infer", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", INFER, 405),
    ],
)
def test_what_is_not_there_is_a_404_or_405_with_a_line(server, method, path, status):
    answer = server.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"] and "\n" not in answer.json()["error"]


def test_a_body_over_the_limit_is_a_413(serving_root, scorer):
    with running(create_app(serving_root, load=lambda folder: scorer, max_body_bytes=1000)) as client:
        wait_ready(client)
        assert client.post(INFER, content=b"x" * 1000).status_code == 400
        for size in (1001, 5000):
            answer = client.post(INFER, content=b"x" * size)
            assert answer.status_code == 413 and "1000 bytes" in answer.json()["error"]


def test_more_requests_than_are_held_get_a_503_and_when_to_come_again(serving_root, scorer, windows):
    scoring, go_on = threading.Event(), threading.Event()

    class Slow(Scorer):
        def score(self, *args, **arrays):
            scoring.set()
            go_on.wait(20)
            return super().score(*args, **arrays)

        def warm(self) -> None:
            pass

    slow = Slow(scorer.folder, scorer.info, scorer._model)
    body, headers = request(windows)
    with running(create_app(serving_root, load=lambda folder: slow, max_requests=1)) as client:
        wait_ready(client)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(client.post, INFER, content=body, headers=headers)
            assert scoring.wait(20)
            second = client.post(INFER, content=body, headers=headers)
            assert client.get("/v2/health/live").status_code == 200  # a busy model does not block the event loop
            go_on.set()
            assert first.result().status_code == 200
        assert second.status_code == 503 and second.headers["Retry-After"] == "1"
        assert client.post(INFER, content=body, headers=headers).status_code == 200


def test_a_failure_inside_is_a_500_without_its_trace(serving_root, scorer, windows):
    class Failing(Scorer):
        def score(self, *args, **arrays):
            raise RuntimeError("secret")

        def warm(self) -> None:
            pass

    failing = Failing(scorer.folder, scorer.info, scorer._model)
    app = create_app(serving_root, load=lambda folder: failing)
    body, headers = request(windows)
    with running(app) as client:
        wait_ready(client)
        answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 500 and "secret" not in answer.text


def test_an_address_that_cannot_be_listened_on_is_told(tmp_path):
    with pytest.raises(MerlbError, match=r"cannot listen on 192\.0\.2\.1:80"):
        serve(tmp_path, "192.0.2.1", 80)
    with pytest.raises(MerlbError, match=r"cannot listen on 127\.0\.0\.1:70000"):
        serve(tmp_path, "127.0.0.1", 70_000)
