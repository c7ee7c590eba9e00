import json
import struct

import numpy as np
import pytest

from merlb_model.serving.tensors import (
    InferRequest,
    InferResponse,
    TensorError,
    WireTensor,
    decode,
    encode,
    pack,
    unpack,
)


def tensor(**fields):
    return WireTensor(**{"name": "x", "datatype": "INT16", "shape": [2, 2]} | fields)


def test_binary_is_little_endian_and_row_major():
    parts = struct.pack("<4h", 1, -2, 3, -4)
    (array,) = decode([tensor(parameters={"binary_data_size": 8})], memoryview(parts)).values()
    assert array.tolist() == [[1, -2], [3, -4]]
    assert array.dtype == np.int16


@pytest.mark.parametrize("data", [[1, -2, 3, -4], [[1, -2], [3, -4]]])
def test_json_data_may_be_flat_or_nested(data):
    assert decode([tensor(data=data)], memoryview(b""))["x"].tolist() == [[1, -2], [3, -4]]


def test_binary_parts_follow_the_json_in_the_order_of_the_tensors():
    arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.ones(2, np.float32), "c": np.array([-1], np.int16)}
    tensors, parts = encode(arrays, {"a", "c"})
    body, headers = pack({"model_name": "m", "outputs": tensors}, parts)
    length = int(headers["Inference-Header-Content-Length"])
    assert body[length:] == b"\x00\x01\x02\xff\xff"
    assert json.loads(body[:length])["outputs"][1] == {
        "name": "b",
        "datatype": "FP32",
        "shape": [2],
        "data": [1.0, 1.0],
    }
    message, binary = unpack(InferResponse, body, str(length))
    back = decode(message.outputs, binary)
    assert all(np.array_equal(back[name], arrays[name]) and back[name].dtype == arrays[name].dtype for name in arrays)


@pytest.mark.parametrize(
    ("fields", "binary", "complaint"),
    [
        ({"parameters": {"binary_data_size": 6}}, b"\0" * 6, "binary_data_size 6, expected 8"),
        ({"parameters": {"binary_data_size": -8}}, b"", "binary_data_size -8"),
        ({"parameters": {"binary_data_size": True}}, b"\0", "binary_data_size True"),
        ({"parameters": {"binary_data_size": 8}}, b"\0" * 7, "ends after 7 of its 8 bytes"),
        ({"parameters": {"binary_data_size": 8}}, b"\0" * 9, "has 9 bytes, its tensors take 8"),
        ({"parameters": {"binary_data_size": 8}, "data": [0] * 4}, b"\0" * 8, "both data and binary_data_size"),
        ({}, b"", "no data"),
        ({"data": [1, 2, 3]}, b"", "3 values, expected 4"),
        ({"data": [[1, 2], [3]]}, b"", "rows differ in length"),
        ({"data": [1, 2, 3, 40_000]}, b"", "exceed INT16's -32768 to 32767"),
        ({"data": [1, 2, 3, 4.5]}, b"", "not numbers of INT16"),
        ({"data": [1, 2, 3, "4"]}, b"", "not numbers of INT16"),
        ({"data": [1, 2, 3, 10**40]}, b"", "not numbers of INT16"),
        ({"data": [1, 2, 3, 1e300], "datatype": "FP32"}, b"", "exceed FP32"),
        ({"datatype": "FP64"}, b"", "'FP64', expected one of UINT8, INT16, FP32"),
    ],
)
def test_a_wrong_tensor_is_told_in_one_line(fields, binary, complaint):
    with pytest.raises(TensorError, match=r"^.*$") as error:
        decode([tensor(**fields)], memoryview(binary))
    assert complaint in str(error.value)


@pytest.mark.parametrize("length", ["-1", "1e3", "", "999", "²", "9" * 5000])
def test_a_json_length_outside_the_body_is_refused(length):
    with pytest.raises(TensorError, match="Inference-Header-Content-Length"):
        unpack(InferRequest, b'{"inputs":[]}', length)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"inputs":{}}', b'{"inputs":[{"name":"x"}]}', b"[" * 100_000, b"\xff"]
)
def test_broken_json_is_told_in_one_line(body):
    with pytest.raises(TensorError, match=r"^.+$"):
        unpack(InferRequest, body, None)


def test_a_tensor_given_twice_is_refused():
    with pytest.raises(TensorError, match="x: given twice"):
        decode([tensor(data=[0] * 4), tensor(data=[1] * 4)], memoryview(b""))


def test_an_array_of_another_dtype_is_refused_before_it_is_sent():
    with pytest.raises(TensorError, match="face: dtype float64"):
        encode({"face": np.zeros(2)}, ())
