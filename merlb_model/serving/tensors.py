"""Tensors of the Open Inference Protocol v2 over HTTP, in JSON or as binary after the JSON; server and client share it.

Source: the protocol's REST part and its binary tensor data extension (little-endian, row-major, no padding; the
binary parts follow the JSON in the order of its tensors).
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, NonNegativeInt, ValidationError

from merlb_model.errors import MerlbError

JSON_LENGTH_HEADER: Final = "Inference-Header-Content-Length"
DATATYPES: Final[dict[str, np.dtype[Any]]] = {
    "UINT8": np.dtype("u1"),
    "INT16": np.dtype("<i2"),
    "FP32": np.dtype("<f4"),
}
"""The protocol's names of the types in use."""

_NAMES: Final = {dtype: name for name, dtype in DATATYPES.items()}
M = TypeVar("M", bound=BaseModel)


class TensorError(MerlbError):
    """A message or a tensor that breaks the protocol."""


class WireTensor(BaseModel):
    """A tensor as the JSON describes it: with ``data``, flat or nested, or the parameter ``binary_data_size``."""

    name: str
    datatype: str
    shape: list[NonNegativeInt]
    parameters: dict[str, Any] | None = None
    data: Any = None


class WantedOutput(BaseModel):
    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[WireTensor]
    outputs: list[WantedOutput] | None = None


class InferResponse(BaseModel, protected_namespaces=()):
    model_name: str
    model_version: str | None = None
    outputs: list[WireTensor]


def unpack(kind: type[M], body: bytes, json_length: str | None) -> tuple[M, memoryview]:
    """Part a body into its JSON message and its binary.

    Args:
        kind: what the JSON has to be.
        body: the whole body.
        json_length: the header ``Inference-Header-Content-Length``; None: the body is JSON to its end.

    Raises:
        TensorError: the header is no length within the body, or the JSON is broken or lacks something.
    """
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdecimal() and int(json_length[:20]) <= len(body)):
            raise TensorError(
                f"{JSON_LENGTH_HEADER}: {json_length[:40]!r}, expected the JSON's length in bytes, at most {length}"
            )
        length = int(json_length)
    try:
        message = kind.model_validate_json(body[:length])
    except ValidationError as error:
        complaint = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in complaint["loc"])
        raise TensorError(f"{place + ': ' if place else ''}{complaint['msg']}") from None
    return message, memoryview(body)[length:]


def decode(tensors: Sequence[WireTensor], binary: memoryview) -> dict[str, NDArray[Any]]:
    """Read the tensors' values; a binary one is a view, not a copy.

    Raises:
        TensorError: an unknown datatype, a size that does not fit the shape, a value that the datatype cannot hold,
            or binary that no tensor asks for.
    """
    arrays: dict[str, NDArray[Any]] = {}
    offset = 0
    for tensor in tensors:
        if tensor.name in arrays:
            raise TensorError(f"{tensor.name}: given twice")
        if tensor.datatype not in DATATYPES:
            raise TensorError(f"{tensor.name}: datatype {tensor.datatype!r}, expected one of {', '.join(DATATYPES)}")
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            arrays[tensor.name] = _from_json(tensor)
            continue
        arrays[tensor.name] = _from_binary(tensor, size, binary[offset:])
        offset += size
    if offset != len(binary):
        raise TensorError(f"the binary part has {len(binary)} bytes, its tensors take {offset}")
    return arrays


def _from_binary(tensor: WireTensor, size: Any, rest: memoryview) -> NDArray[Any]:
    dtype = DATATYPES[tensor.datatype]
    expected = math.prod(tensor.shape) * dtype.itemsize
    if tensor.data is not None:
        raise TensorError(f"{tensor.name}: has both data and binary_data_size, expected one of them")
    if type(size) is not int or size != expected:
        raise TensorError(
            f"{tensor.name}: binary_data_size {size!r}, expected {expected} for {tensor.datatype} {tensor.shape}"
        )
    if len(rest) < expected:
        raise TensorError(f"{tensor.name}: the body ends after {len(rest)} of its {expected} bytes")
    return np.frombuffer(rest[:expected], dtype).reshape(tensor.shape)


def _from_json(tensor: WireTensor) -> NDArray[Any]:
    dtype = DATATYPES[tensor.datatype]
    if not isinstance(tensor.data, list):
        raise TensorError(f"{tensor.name}: no data; expected a list, or binary_data_size and bytes after the JSON")
    try:
        values = np.asarray(tensor.data)
    except (ValueError, OverflowError):
        raise TensorError(f"{tensor.name}: the data's rows differ in length") from None
    wanted = "ui" if dtype.kind in "ui" else "uif"
    if values.size and values.dtype.kind not in wanted:
        raise TensorError(f"{tensor.name}: the data are not numbers of {tensor.datatype}")
    if values.size != math.prod(tensor.shape):
        raise TensorError(
            f"{tensor.name}: {values.size} values, expected {math.prod(tensor.shape)} for the shape {tensor.shape}"
        )
    bounds: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if values.size and not (bounds.min <= values.min() and values.max() <= bounds.max):
        raise TensorError(f"{tensor.name}: the data exceed {tensor.datatype}'s {bounds.min} to {bounds.max}")
    return values.astype(dtype).reshape(tensor.shape)


def encode(arrays: Mapping[str, NDArray[Any]], binary: Collection[str]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Describe arrays as the protocol's tensors.

    Args:
        arrays: by name, of the dtypes in ``DATATYPES``.
        binary: names of those that go as binary.

    Returns:
        the tensors for the JSON, and the binary parts in their order.

    Raises:
        TensorError: an array's dtype has no name here.
    """
    tensors: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, array in arrays.items():
        if array.dtype not in _NAMES:
            raise TensorError(f"{name}: dtype {array.dtype}, expected one of {', '.join(map(str, _NAMES))}")
        tensor: dict[str, Any] = {"name": name, "datatype": _NAMES[array.dtype], "shape": list(array.shape)}
        if name in binary:
            parts.append(array.tobytes())
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    return tensors, parts


def pack(message: Mapping[str, Any], parts: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """Join the JSON message and its binary parts to a body; the headers that go with it come along."""
    text = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if not parts:
        return text, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(text))}
    return b"".join((text, *parts)), headers
