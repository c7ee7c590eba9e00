"""The model server: Open Inference Protocol v2 over REST, with JSON and binary tensors."""

import asyncio
import logging
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from merlb_model import __version__
from merlb_model.dataset.store import SHAPES
from merlb_model.errors import MerlbError
from merlb_model.labels import MODALITIES
from merlb_model.serving.scorer import Scorer, find_model
from merlb_model.serving.tensors import JSON_LENGTH_HEADER, InferRequest, TensorError, decode, encode, pack, unpack

MODEL_NAME: Final = "merlb"
MAX_BATCH: Final = 32
MAX_BODY_BYTES: Final = 64 << 20
MAX_REQUESTS: Final = 64
"""Requests held at once; more are turned away, so that their bodies cannot fill the memory."""
DRAIN_SECONDS: Final = 30

_INPUTS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "face": ("UINT8", SHAPES["face"]),
    "screen": ("UINT8", SHAPES["screen"]),
    "audio": ("INT16", SHAPES["audio"]),
    "present": ("FP32", (len(MODALITIES),)),
}
_OPTIONAL_INPUTS: Final = ("present",)
_log = logging.getLogger(__name__)


class RefusedError(Exception):
    """A request that gets an error: its status and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServedModel:
    """The model that answers, or the reason why there is none yet.

    Attributes:
        scorer: set once it is loaded *and* warmed.
        reason: why ``scorer`` is None.
    """

    def __init__(self, root: Path, load: Callable[[Path], Scorer]) -> None:
        self.scorer: Scorer | None = None
        self.reason = f"the model of {root} is loading"
        self._root = root
        self._load = load
        self._stopping = threading.Event()

    def load(self) -> None:
        """Load and warm the newest version; a failure becomes the reason."""
        started = time.monotonic()
        try:
            scorer = self._load(find_model(self._root))
            if self._stopping.is_set():
                return
            scorer.warm()
        except MerlbError as error:
            self.reason = str(error)
            _log.error("not ready: %s", error)
        except Exception as error:  # whatever TensorFlow finds wrong must reach the one who asks for readiness
            self.reason = f"{self._root}: the model cannot be loaded: {' '.join(str(error).split())[:300]}"
            _log.exception("not ready: %s", self.reason)
        else:
            self.scorer = scorer
            _log.info("version %s ready after %.1f s", scorer.folder.name, time.monotonic() - started)

    def stop(self) -> None:
        """Let a load under way end as soon as it can."""
        self._stopping.set()

    def get(self, model: str, version: str | None) -> Scorer:
        """The scorer for a request's path.

        Raises:
            RefusedError: another model or version is asked for (404), or none is ready (503).
        """
        if model != MODEL_NAME:
            raise RefusedError(404, f"no model {model[:80]!r} here, only {MODEL_NAME!r}")
        if self.scorer is None:
            raise RefusedError(503, self.reason)
        if version is not None and version != self.scorer.folder.name:
            raise RefusedError(
                404, f"no version {version[:80]!r} of {MODEL_NAME} here, only {self.scorer.folder.name!r}"
            )
        return self.scorer


def create_app(
    root: Path,
    *,
    load: Callable[[Path], Scorer] = Scorer.load,
    max_batch: int = MAX_BATCH,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_requests: int = MAX_REQUESTS,
) -> FastAPI:
    """The server as an ASGI application; it loads the model in the background when it starts.

    Args:
        root: ``models/serving`` (its newest version is served) or one exported model.
        load: makes the scorer of a model's folder.
        max_batch: most windows in a request.
        max_body_bytes: longest body read; more is 413.
        max_requests: most ``infer`` requests held at once; more are 503.
    """
    model = ServedModel(root, load)
    # One thread for TensorFlow, which spreads over the cores by itself; the event loop stays free for health checks.
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="score")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        thread.submit(model.load)
        yield
        model.stop()
        thread.shutdown(wait=True, cancel_futures=True)

    app = FastAPI(title="MERLB", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _answer_errors_as_json(app)
    _add_health(app, model)
    _add_inference(app, model, thread, max_batch, max_body_bytes, max_requests)
    return app


def _answer_errors_as_json(app: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": str(error)}, error.status, headers)

    async def no_such_route(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    async def failed(_: Request, __: Exception) -> Response:
        return JSONResponse({"error": "the server failed on this request; its log has the trace"}, 500)

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(HTTPException, no_such_route)
    app.add_exception_handler(Exception, failed)


def _add_health(app: FastAPI, model: ServedModel) -> None:
    @app.get("/v2")
    async def server_metadata() -> dict[str, Any]:
        return {"name": "merlb", "version": __version__, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        if model.scorer is None:
            return JSONResponse({"ready": False, "error": model.reason}, 503)
        return JSONResponse({"ready": True})

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        model.get(name, version)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def model_metadata(name: str, version: str | None = None) -> dict[str, Any]:
        return _describe(model.get(name, version))


def _describe(scorer: Scorer) -> dict[str, Any]:
    inputs = [
        {"name": name, "datatype": datatype, "shape": [-1, *shape], "optional": name in _OPTIONAL_INPUTS}
        for name, (datatype, shape) in _INPUTS.items()
    ]
    outputs = [
        {"name": task, "datatype": "FP32", "shape": [-1, len(classes)]} for task, classes in scorer.tasks.items()
    ]
    told = ("store_hash", "weights_hash", "git", "temperature", "prior", "modalities", "created_from")
    return {
        "name": MODEL_NAME,
        "versions": [scorer.folder.name],
        "platform": "tensorflow_savedmodel",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {
            "classes": {task: list(classes) for task, classes in scorer.tasks.items()},
            **{name: scorer.info[name] for name in told if name in scorer.info},
        },
    }


def _add_inference(
    app: FastAPI, model: ServedModel, thread: ThreadPoolExecutor, max_batch: int, max_body_bytes: int, max_requests: int
) -> None:
    held = 0

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        nonlocal held
        if held >= max_requests:
            raise RefusedError(503, f"{held} requests are waiting already; try again")
        held += 1
        try:
            # The body is read before anything is refused: a connection closed on unread bytes loses the answer.
            body = await _read_body(request, max_body_bytes)
            scorer = model.get(name, version)
            length = request.headers.get(JSON_LENGTH_HEADER)
            loop = asyncio.get_running_loop()
            content, headers = await loop.run_in_executor(thread, _answer, scorer, body, length, max_batch)
        except TensorError as error:
            raise RefusedError(400, str(error)) from None
        finally:
            held -= 1
        return Response(content, headers=headers)


async def _read_body(request: Request, most: int) -> bytes:
    """The body; of one that is too long, as much again is read and thrown away, so that its sender hears why."""
    blocks: list[bytes] = []
    size = 0
    async for block in request.stream():
        size += len(block)
        if size <= most:
            blocks.append(block)
        elif size > 2 * most:
            break
    if size > most:
        raise RefusedError(413, f"the body exceeds the {most} bytes that are read; send fewer windows, or binary")
    return b"".join(blocks)


def _answer(scorer: Scorer, body: bytes, json_length: str | None, max_batch: int) -> tuple[bytes, dict[str, str]]:
    """Score one request's windows; runs in the scoring thread.

    Raises:
        TensorError: the request is wrong.
    """
    request, binary = unpack(InferRequest, body, json_length)
    _check_inputs(request, max_batch)
    wanted = _wanted_outputs(request, scorer)
    arrays = decode(request.inputs, binary)
    _check_present(arrays.get("present"))
    scores = scorer.score(**arrays)
    tensors, parts = encode({task: scores[task] for task in wanted}, {task for task in wanted if wanted[task]})
    message: dict[str, Any] = {"model_name": MODEL_NAME, "model_version": scorer.folder.name, "outputs": tensors}
    if request.id is not None:
        message["id"] = request.id
    return pack(message, parts)


def _check_inputs(request: InferRequest, max_batch: int) -> None:
    names = [tensor.name for tensor in request.inputs]
    if lacking := [name for name in _INPUTS if name not in names and name not in _OPTIONAL_INPUTS]:
        raise TensorError(f"inputs: no {', '.join(lacking)}; expected {', '.join(_INPUTS)} (the last is optional)")
    batch: int | None = None
    for tensor in request.inputs:
        if tensor.name not in _INPUTS:
            raise TensorError(f"inputs: unknown {tensor.name[:80]!r}; expected {', '.join(_INPUTS)}")
        datatype, shape = _INPUTS[tensor.name]
        if tensor.datatype != datatype:
            raise TensorError(f"{tensor.name}: datatype {tensor.datatype[:20]!r}, expected {datatype}")
        if not tensor.shape or tuple(tensor.shape[1:]) != shape:
            raise TensorError(f"{tensor.name}: shape {tensor.shape[:10]}, expected {['B', *shape]}")
        batch = tensor.shape[0] if batch is None else batch
        if tensor.shape[0] != batch:
            raise TensorError(f"{tensor.name}: {tensor.shape[0]} windows, {request.inputs[0].name} has {batch}")
    if batch is None or not 1 <= batch <= max_batch:
        raise TensorError(f"inputs: {batch} windows in a request, expected 1 to {max_batch}")


def _check_present(present: NDArray[Any] | None) -> None:
    if present is not None and not np.isin(present, (0.0, 1.0)).all():
        raise TensorError("present: expected 1 (there) or 0 (absent) for face, screen and audio; found another value")


def _wanted_outputs(request: InferRequest, scorer: Scorer) -> dict[str, bool]:
    """The asked-for tasks, and whether each goes back as binary."""
    everywhere = (request.parameters or {}).get("binary_data_output", False) is True
    if not request.outputs:
        return dict.fromkeys(scorer.tasks, everywhere)
    wanted: dict[str, bool] = {}
    for output in request.outputs:
        if output.name not in scorer.tasks:
            raise TensorError(f"outputs: unknown {output.name[:80]!r}; this model has {', '.join(scorer.tasks)}")
        wanted[output.name] = (output.parameters or {}).get("binary_data", everywhere) is True
    return wanted


def serve(root: Path, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve ``root`` until TERM or Ctrl-C; requests under way are answered first.

    Args:
        root: ``models/serving`` or one exported model.
        host: the address to listen on; the default is reached from this machine only.
        port: 0 takes a free one. The first line on stdout tells the address.

    Raises:
        MerlbError: the address cannot be listened on.
    """
    listener = _listen(host, port)
    config = uvicorn.Config(
        create_app(root), log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS
    )
    logging.basicConfig(level=logging.INFO, format="merlb serve: %(message)s")
    # uvicorn drains on TERM, then raises the signal again for whom it belongs to: here it means what Ctrl-C means.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        address = f"[{host}]" if ":" in host else host
        print(f"merlb serve: http://{address}:{listener.getsockname()[1]} answers for {root}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        print("merlb serve: stopped", flush=True)
    finally:
        signal.signal(signal.SIGTERM, former)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MerlbError(f"cannot listen on {host}:{port} ({reason}): choose another --host or --port") from None
