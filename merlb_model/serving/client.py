"""A client of the model server: NumPy in, NumPy out, binary tensors between. Imports no TensorFlow."""

import time
from types import TracebackType
from typing import Any, Final

import httpx
import numpy as np
from numpy.typing import NDArray

from merlb_model.errors import MerlbError
from merlb_model.serving.tensors import JSON_LENGTH_HEADER, InferResponse, TensorError, decode, encode, pack, unpack

_FIRST_PAUSE_SECONDS: Final = 0.2
_LONGEST_PAUSE_SECONDS: Final = 5.0
_MODEL_PATH: Final = "/v2/models/merlb"


class Client:
    """Talks to one server; keeps its connections open between calls. Use it in a ``with`` or close it.

    Args:
        url: the server's address, e.g. ``http://127.0.0.1:8080``.
        timeout_seconds: longest wait for one answer.
        attempts: tries of a call while the server is busy (503) or cannot be reached, with growing pauses.
    """

    def __init__(self, url: str = "http://127.0.0.1:8080", timeout_seconds: float = 30.0, attempts: int = 5) -> None:
        self.url = url.rstrip("/")
        self.attempts = attempts
        try:
            self._http = httpx.Client(base_url=self.url, timeout=timeout_seconds)
        except httpx.InvalidURL as error:
            raise MerlbError(f"{url}: no address of a server ({error}); expected http://host:port") from None

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def infer(
        self,
        face: NDArray[np.uint8],
        screen: NDArray[np.uint8],
        audio: NDArray[np.int16],
        present: NDArray[np.float32] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Score windows.

        Args:
            face: u8 [B,20,64,64,3], RGB.
            screen: u8 [B,20,128,128,3], RGB.
            audio: i16 [B,20,5512].
            present: f32 [B,3], 1 or 0 for face, screen, audio; None: all are there.

        Returns:
            calibrated probabilities, f32 [B, classes] a task.

        Raises:
            MerlbError: the server refuses, or does not answer after all attempts.
        """
        arrays: dict[str, NDArray[Any]] = {"face": face, "screen": screen, "audio": audio}
        if present is not None:
            arrays["present"] = present
        inputs, parts = encode(arrays, arrays.keys())
        body, headers = pack({"inputs": inputs, "parameters": {"binary_data_output": True}}, parts)
        answer = self._send("POST", f"{_MODEL_PATH}/infer", content=body, headers=headers)
        try:
            response, binary = unpack(InferResponse, answer.content, answer.headers.get(JSON_LENGTH_HEADER))
            return decode(response.outputs, binary)
        except TensorError as error:
            raise MerlbError(f"{self.url}: an answer that is not the protocol's: {error}") from None

    def metadata(self) -> dict[str, Any]:
        """What the server tells about the model: versions, inputs, outputs, classes, hashes, calibration.

        Raises:
            MerlbError: as ``infer``.
        """
        return dict(self._send("GET", _MODEL_PATH).json())

    def wait_ready(self, timeout_seconds: float = 60.0) -> None:
        """Return once the server is ready.

        Raises:
            MerlbError: it is not after ``timeout_seconds``; the message has the server's reason.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            try:
                answer = self._http.get("/v2/health/ready")
                if answer.is_success:
                    return
                reason = _complaint(answer)
            except httpx.TransportError as error:
                reason = _reason(error)
            if time.monotonic() >= deadline:
                raise MerlbError(f"{self.url} is not ready after {timeout_seconds:g} s: {reason}")
            time.sleep(_FIRST_PAUSE_SECONDS)

    def _send(self, method: str, path: str, **content: Any) -> httpx.Response:
        reason = ""
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(min(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), _LONGEST_PAUSE_SECONDS))
            try:
                answer = self._http.request(method, path, **content)
            except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
                # The server has the request and is slow with it: the same once more makes it slower.
                raise MerlbError(f"{self.url}{path}: {_reason(error)}: give it more time or fewer windows") from None
            except httpx.TransportError as error:
                reason = _reason(error)
                continue
            if answer.is_success:
                return answer
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                raise MerlbError(f"{self.url}{path}: {answer.status_code}: {_complaint(answer)}")
            reason = _complaint(answer)
        raise MerlbError(f"{self.url}{path}: no answer after {self.attempts} attempts: {reason}")


def _reason(error: httpx.TransportError) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _complaint(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}"
