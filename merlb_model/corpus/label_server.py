"""The labelling page's server: this machine only, and only for the page that it serves itself."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from merlb_model.corpus.label import LabelError, Labels, annotator_name
from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS

HOST: Final = "127.0.0.1"
KEYS: Final = {"valence": "qwe", "arousal": "asd", "event": "12345678"}
"""One key a class, in the order of ``labels.TASKS``."""
_MAX_BODY_BYTES: Final = 1 << 14
_PAGE: Final = {
    "/": ("page.html", "text/html"),
    "/label.css": ("label.css", "text/css"),
    "/label.js": ("label.js", "text/javascript"),
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MEDIA_TYPES: Final = {".webm": "video/webm", ".mkv": "video/x-matroska", ".mov": "video/quicktime"}


class Stroke(BaseModel):
    """One key pressed: an answer, or with ``label`` null one taken back."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotated[str, Field(max_length=200)]
    file: Annotated[str, Field(max_length=500)]
    task: Annotated[str, Field(max_length=20)]
    label: Annotated[str, Field(max_length=20)] | None


def create_app(labels: Labels, folder: Path, name: str) -> FastAPI:
    """The page of one source.

    Args:
        labels: the source's.
        folder: ``data/sources/<name>``.
        name: shown on the page.
    """
    app = FastAPI(openapi_url=None)
    _guard(app)
    for path, (file, kind) in _PAGE.items():
        app.get(path)(_static(file, kind))
    _answer(app, labels, name)

    @app.get("/clips/{file}")
    def clip(file: str) -> Response:
        path = folder / "clips" / file
        if not labels.has(file) or not path.is_file():
            return JSONResponse({"detail": "no such clip"}, 404)
        return FileResponse(path, media_type=_MEDIA_TYPES.get(path.suffix.lower(), "video/mp4"))

    return app


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def only_this_page(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        if refusal := _refusal(request):
            return JSONResponse({"detail": refusal}, 403, _HEADERS)
        response = await answer(request)
        response.headers.update(_HEADERS)
        if not request.url.path.startswith("/clips/"):
            response.headers["Cache-Control"] = "no-store"
        return response

    @app.exception_handler(LabelError)
    async def refuse(_: Request, error: LabelError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(OSError)
    async def not_saved(_: Request, error: OSError) -> JSONResponse:
        return JSONResponse({"detail": f"not saved: {error.strerror or error}"}, 507)


def _answer(app: FastAPI, labels: Labels, name: str) -> None:
    @app.get("/api/source")
    def source(annotator: str = "") -> dict[str, Any]:
        labels.refresh()
        mine = labels.of(annotator_name(annotator)) if annotator else {}
        return {
            "name": name,
            "tasks": [{"name": task, "classes": _with_keys(task)} for task in TASKS],
            "annotators": labels.annotators,
            "clips": [
                {
                    "file": file,
                    "url": f"/clips/{quote(file, safe='')}",
                    "streamer": labels.streamer(file),
                    "labels": mine.get(file, {}),
                }
                for file in labels.clips
            ],
        }

    @app.put("/api/label")
    def put(stroke: Stroke) -> dict[str, Any]:
        return {"former": labels.put(stroke.annotator, stroke.file, stroke.task, stroke.label)}

    @app.get("/api/agreement")
    def agreement() -> dict[str, Any]:
        return {
            "annotators": {who: len(labels.of(who)) for who in labels.annotators},
            "tasks": {task: asdict(found) for task, found in labels.agreement().items()},
        }


def _with_keys(task: str) -> list[dict[str, str]]:
    return [{"name": label, "key": key} for label, key in zip(TASKS[task], KEYS[task], strict=True)]


def _static(file: str, kind: str) -> Callable[[], Response]:
    content = resources.files(__package__).joinpath("label_page", file).read_bytes()

    def answer() -> Response:
        return Response(content, media_type=kind)

    return answer


def _refusal(request: Request) -> str:
    """Why a request does not come from this page: another site's script, or a name that only leads here (rebinding)."""
    host = request.headers.get("host", "")
    port = (request.scope.get("server") or ("", None))[1]
    if host not in {f"{name}:{port}" for name in (HOST, "localhost")}:
        return "this page answers to its own address alone"
    if request.headers.get("origin", f"http://{host}") != f"http://{host}":
        return "another page may not ask this one"
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return "another page may not ask this one"
    if request.method not in {"GET", "HEAD"}:
        if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
            return "expected JSON"
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY_BYTES:
            return "expected a short request of known length"
    return ""


def serve(folder: Path, name: str, port: int = 0, opened: Callable[[str], None] = print) -> None:
    """Serve the page until Ctrl-C or TERM.

    Args:
        folder: ``data/sources/<name>``.
        name: of the source.
        port: 0 takes a free one.
        opened: called with the address once it is listened on.

    Raises:
        MerlbError: see `Labels`; or the port is taken.
    """
    labels = Labels(folder)
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise MerlbError(f"cannot listen on {HOST}:{port} ({error.strerror}): choose another --port") from None
    config = uvicorn.Config(
        create_app(labels, folder, name), log_level="warning", access_log=False, timeout_graceful_shutdown=5
    )
    try:
        opened(f"http://{HOST}:{listener.getsockname()[1]}/")
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    except KeyboardInterrupt:
        pass  # every stroke is on the disk
    finally:
        listener.close()
        labels.close()
