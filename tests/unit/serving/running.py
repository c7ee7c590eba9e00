"""The server's application on a free port, in a thread."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from fastapi import FastAPI

_DEADLINE_SECONDS = 120


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of ``app`` while it runs."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(_DEADLINE_SECONDS)


def wait_until(true) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_ready(client: httpx.Client) -> None:
    wait_until(lambda: client.get("/v2/health/ready").status_code == 200)
