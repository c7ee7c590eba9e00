"""A small Kubeflow: an HTTP server that speaks as much of the v2beta1 API as submitting needs."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"


@dataclass(frozen=True)
class Upload:
    """A definition that was uploaded: where, by which name, for which pipeline, and its bytes."""

    path: str
    name: str
    pipeline_id: str
    content: bytes


@dataclass
class Trouble:
    """What is answered instead: a status and a body; or nothing for some seconds, then that."""

    status: int
    body: str = ""
    after_seconds: float = 0


@dataclass
class KubeflowDouble:
    """What the server was told, and what it is to answer.

    Attributes:
        troubles: by method and path, e.g. ``"GET /pipelines"``, without the API's prefix.
        tokens: the ``Authorization`` header of each request, or None.
    """

    url: str = ""
    experiments: list[dict[str, Any]] = field(default_factory=list)
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    troubles: dict[str, Trouble] = field(default_factory=dict)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> dict[str, Any] | None:
        """The answer's JSON; None is a path that the API does not have."""
        match method, path.split("/")[1:]:
            case "GET", ["healthz"]:
                return {"multi_user": False, "pipeline_store": "database"}
            case "GET", ["experiments"]:
                return {"experiments": _filtered(self.experiments, query)}
            case "POST", ["experiments"]:
                return _added(self.experiments, "experiment_id", body)
            case "GET", ["pipelines"]:
                return {"pipelines": _filtered(self.pipelines, query)}
            case "POST", ["pipelines", "upload"]:
                made = _added(self.pipelines, "pipeline_id", {"display_name": query["name"]})
                self._add_version(query["name"], made["pipeline_id"], path, body)
                return made
            case "POST", ["pipelines", "upload_version"]:
                return self._add_version(query["name"], query["pipelineid"], path, body)
            case "GET", ["pipelines", pipeline_id, "versions"]:
                mine = [version for version in self.versions if version["pipeline_id"] == pipeline_id]
                return {"pipeline_versions": mine}
            case "POST", ["runs"]:
                return _added(self.runs, "run_id", body)
        return None

    def _add_version(self, name: str, pipeline_id: str, path: str, content: bytes) -> dict[str, Any]:
        self.uploads.append(Upload(path, name, pipeline_id, content))
        return _added(self.versions, "pipeline_version_id", {"display_name": name, "pipeline_id": pipeline_id})


def _added(things: list[dict[str, Any]], key: str, thing: dict[str, Any]) -> dict[str, Any]:
    made = {**thing, key: f"{key.removesuffix('_id')}-{len(things) + 1}"}
    things.append(made)
    return made


def _filtered(things: list[dict[str, Any]], query: dict[str, str]) -> list[dict[str, Any]]:
    predicates = json.loads(query.get("filter", "{}")).get("predicates", [])
    return [thing for thing in things if all(thing[p["key"]] == p["stringValue"] for p in predicates)]


def _uploaded_file(content_type: str, body: bytes) -> bytes:
    """The one file of a multipart form."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    (part,) = message.iter_parts()
    assert part.get_param("name", header="content-disposition") == "uploadfile"
    return part.get_payload(decode=True)


def _handler(double: KubeflowDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix(API)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            double.tokens.append(self.headers["Authorization"])
            raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if trouble := double.troubles.get(f"{self.command} {path}"):
                time.sleep(trouble.after_seconds)
                return self._say(trouble.status, trouble.body)
            kind = self.headers["Content-Type"] or ""
            body = _uploaded_file(kind, raw) if kind.startswith("multipart") else json.loads(raw or b"null")
            answer = double.answer(self.command, path, query, body) if parts.path.startswith(API) else None
            return self._say(404, "{}") if answer is None else self._say(200, json.dumps(answer))

        def _say(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/html" if text.startswith("<") else "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._handle()

        def do_POST(self) -> None:
            self._handle()

    return Handler


@contextmanager
def kubeflow_double() -> Iterator[KubeflowDouble]:
    """A double that listens on a free port of this machine until the block ends."""
    double = KubeflowDouble()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(double))
    server.daemon_threads = True
    server.block_on_close = False
    double.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
