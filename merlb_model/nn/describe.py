"""What a network costs: parameters, multiply-adds and memory of a clip, layer by layer.

Counted are the products that are summed in convolutions, dense layers, recurrences, other matrix products and Fourier
transforms, and one multiply-add an element of what is scaled and shifted. Activations, poolings, gates, distances and
moves of data count 0.

Memory is that of the layers' outputs as float32. What a layer holds while it works (frames of a Fourier transform,
gates of a recurrence) and the input itself are left out; a reshaped output counts, though it may share memory.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2, prod
from typing import Any, Final

import keras
import pandas as pd
import tensorflow as tf
from keras import layers

from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
from merlb_model.nn.audio import FRAME_SAMPLES, EachSegment, LogMel
from merlb_model.nn.inception_dense import EachStep, Places
from merlb_model.nn.key_segments import KeySegments
from merlb_model.nn.model import PRESETS, build_model
from merlb_model.nn.tensor_train import TensorTrainFusion
from merlb_model.params import ModelParams

COLUMNS: Final = ("part", "layer", "kind", "output", "parameters", "multiply_adds", "activation_bytes")
_FLOAT_BYTES: Final = 4
_TEXTS: Final = COLUMNS[1:4]
_NUMBER_WIDTH: Final = 16  # of the terminal's table
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a layer on one clip; shapes are without [B]."""

    layer: Any
    inputs: Sequence[Shape]
    output: Shape


def _each_element(call: Call) -> int:
    return prod(call.output)


def _convolution(call: Call) -> int:
    return prod(call.output[:-1]) * prod(call.layer.kernel.shape)


def _dense(call: Call) -> int:
    return prod(call.output) * call.inputs[0][-1]


def _lstm(call: Call) -> int:
    (steps, width), units = call.inputs[0], call.layer.units
    return 4 * units * (width + units) * steps


def _both_ways(call: Call) -> int:
    return sum(
        multiply_adds(replace(call, layer=each)) for each in (call.layer.forward_layer, call.layer.backward_layer)
    )


def _log_mel(call: Call) -> int:
    """A Fourier transform of N samples as 5·N·log2(N) operations, two a multiply-add, and the mel matrix, each frame.

    The operations are those by which FFTW's authors compare complex transforms (Frigo and Johnson 2005).
    """
    frames, mels = call.output
    transform = round(5 / 2 * FRAME_SAMPLES * log2(FRAME_SAMPLES))
    return frames * (transform + call.layer.matrix.shape[0] * mels)


def _traced(call: Call) -> int:
    """Multiply-adds of the matrix products in a layer's graph that one clip more adds: what weights alone make is free.

    Loops of the graph are not looked into.
    """

    def products(batch: int) -> int:
        shapes = [tf.TensorSpec((batch, *shape), call.layer.compute_dtype) for shape in call.inputs]
        function = tf.function(lambda *tensors: call.layer(list(tensors) if len(tensors) > 1 else tensors[0]))
        operations = function.get_concrete_function(*shapes).graph.get_operations()
        return sum(_product(each) for each in operations)

    return products(2) - products(1)


def _product(operation: Any) -> int:
    """Multiply-adds of a matrix product in a graph; 0 of any other operation."""
    if operation.type == "Einsum":
        terms = operation.get_attr("equation").decode().split("->")[0].split(",")
        pairs = (zip(term, tensor.shape, strict=True) for term, tensor in zip(terms, operation.inputs, strict=True))
        return prod(dict(pair for term in pairs for pair in term).values())
    turned = {"MatMul": "transpose_a", "BatchMatMulV2": "adj_x"}.get(operation.type)
    if turned is None:
        return 0
    summed = operation.inputs[0].shape[-2 if operation.get_attr(turned) else -1]
    return operation.outputs[0].shape.num_elements() * summed


COUNTS: Final[Mapping[type, Callable[[Call], int]]] = {
    layers.BatchNormalization: _each_element,
    layers.Bidirectional: _both_ways,
    layers.Conv2D: _convolution,
    layers.Dense: _dense,
    layers.LSTM: _lstm,
    layers.Rescaling: _each_element,
    KeySegments: _traced,
    LogMel: _log_mel,
    Places: _traced,
    TensorTrainFusion: _traced,
}
"""How the multiply-adds of a kind of layer are counted; a kind that is derived from one of these counts as that one."""


def multiply_adds(call: Call) -> int:
    """Multiply-adds of a call; a kind of layer without weights that is not in ``COUNTS`` has none.

    Raises:
        MerlbError: the kind has weights and is not in ``COUNTS``.
    """
    kind = type(call.layer)
    count = next((COUNTS[each] for each in kind.__mro__ if each in COUNTS), None)
    if count is not None:
        return count(call)
    if getattr(call.layer, "weights", ()):  # an operation that is no layer has no such attribute
        raise MerlbError(
            f"{kind.__name__} {call.layer.name} has weights, but its multiply-adds are not counted: "
            "add its kind to COUNTS in merlb_model/nn/describe.py"
        )
    return 0


def describe(network: keras.Model) -> pd.DataFrame:
    """The costs of each layer for one clip, in the columns ``COLUMNS``: a row a layer, in the order of the graph.

    ``part`` is the encoder or the model within ``network`` that the layer stands in, else ``network`` itself. What runs
    on each step counts once a step, and its output has the steps in front.

    Raises:
        MerlbError: a layer has weights, and its kind is not in ``COUNTS``.
    """
    rows = []
    for operation in network.operations:
        part = operation.name if isinstance(operation, (keras.Model, EachStep)) else network.name
        rows += [{"part": part, **row} for row in _rows(operation, ())]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(operation: Any, steps: Shape) -> Iterator[dict[str, Any]]:
    """A row a layer in ``operation``, which runs ``steps`` times a clip."""
    if isinstance(operation, layers.InputLayer):
        return
    if isinstance(operation, keras.Model):
        for inner in operation.operations:
            yield from _rows(inner, steps)
        return
    inputs, outputs = _shapes(operation.input), _shapes(operation.output)
    if not isinstance(operation, EachStep):
        yield _row(operation, inputs, outputs, steps)
        return
    if isinstance(operation, EachSegment):
        log_mel = operation.log_mel
        yield _row(log_mel, inputs, [log_mel.compute_output_shape((None, *inputs[0]))[1:]], steps)
    yield from _rows(operation.layer, (*steps, outputs[0][0]))


def _row(layer: Any, inputs: Sequence[Shape], outputs: Sequence[Shape], steps: Shape) -> dict[str, Any]:
    outside = [(*steps, *shape) for shape in outputs]
    return {
        "layer": layer.name,
        "kind": type(layer).__name__,
        "output": ", ".join("×".join(map(str, shape)) for shape in outside),
        "parameters": sum(prod(weight.shape) for weight in getattr(layer, "weights", ())),
        "multiply_adds": prod(steps) * multiply_adds(Call(layer, inputs, outputs[0])),
        "activation_bytes": sum(map(_bytes, outside)),
    }


def _shapes(tensors: Any) -> list[Shape]:
    """Shapes of tensors in any nesting, [B] left out."""
    return [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(tensors)]


def _bytes(shape: Shape) -> int:
    return _FLOAT_BYTES * prod(shape)


def totals_of(network: keras.Model) -> dict[str, int]:
    """What a network costs in all.

    Returns:
        ``parameters``; ``trainable``, those of them that training changes; ``weight_bytes`` as float32; and for one
        clip ``multiply_adds``; ``inference_bytes``, the most outputs that are held at once where layers run in the
        order of the graph and an output goes after its last reader; ``training_bytes``, all outputs, kept for the
        gradients.

    Raises:
        MerlbError: as ``describe``.
    """
    table = describe(network)
    parameters = int(table["parameters"].sum())
    return {
        "parameters": parameters,
        "trainable": sum(prod(weight.shape) for weight in network.trainable_weights),
        "weight_bytes": _FLOAT_BYTES * parameters,
        "multiply_adds": int(table["multiply_adds"].sum()),
        "inference_bytes": _most_held(network),
        "training_bytes": int(table["activation_bytes"].sum()),
    }


def _most_held(operation: Any) -> int:
    """The most bytes of outputs that are held at once while ``operation`` runs, its input left out."""
    if isinstance(operation, layers.InputLayer):
        return 0
    if isinstance(operation, EachStep):
        return _shapes(operation.output)[0][0] * _most_held(operation.layer)
    if not isinstance(operation, keras.Model):
        return sum(map(_bytes, _shapes(operation.output)))
    readers = Counter(id(tensor) for inner in operation.operations for tensor in keras.tree.flatten(inner.input))
    readers.update(id(tensor) for tensor in keras.tree.flatten(operation.output))
    held: dict[int, int] = {}
    most = 0
    for inner in operation.operations:
        most = max(most, sum(held.values()) + _most_held(inner))
        if not isinstance(inner, layers.InputLayer):
            made = keras.tree.flatten(inner.output)
            held |= {id(tensor): size for tensor, size in zip(made, map(_bytes, _shapes(made)), strict=True)}
        for tensor in keras.tree.flatten(inner.input):
            readers[id(tensor)] -= 1
            if not readers[id(tensor)]:
                held.pop(id(tensor), None)
    return most


def description(params: ModelParams) -> str:
    """The table of the network that ``params`` name, for the terminal; made with fresh weights and even statistics.

    Raises:
        MerlbError: as ``describe``.
    """
    mels = PRESETS[params.preset].audio.mels
    level = {"mean": [0.0] * mels, "deviation": [1.0] * mels}
    prior = {task: [1 / len(labels)] * len(labels) for task, labels in TASKS.items()}
    network = build_model(params, level, prior, seed=0)
    table, totals = describe(network), totals_of(network)
    widths = [max(map(len, table[column])) + 2 for column in _TEXTS]
    widths[0] += 2
    lines = [f"preset {params.preset}, fusion {params.fusion}, tasks {params.tasks}; costs of one clip", ""]
    lines.append(_line(_TEXTS, ("parameters", "multiply-adds", "memory kB"), widths))
    for part, rows in table.groupby("part", sort=False):
        lines.append(_line((str(part), "", ""), _costs(rows.sum(numeric_only=True)), widths))
        lines += [
            _line((f"  {row['layer']}", row["kind"], row["output"]), _costs(row), widths) for _, row in rows.iterrows()
        ]
    lines += [
        "",
        f"parameters      {totals['parameters']:>16,}  of them trainable {totals['trainable']:,}",
        f"weights         {totals['weight_bytes'] / 1e6:>16,.2f}  MB as float32",
        f"multiply-adds   {totals['multiply_adds']:>16,}  a clip",
        f"memory          {totals['inference_bytes'] / 1e6:>16,.2f}  MB a clip held at once by outputs in inference",
        f"                {totals['training_bytes'] / 1e6:>16,.2f}  MB a clip kept of outputs in training",
    ]
    return "\n".join(lines)


def _costs(row: Any) -> tuple[str, str, str]:
    return f"{row['parameters']:,}", f"{row['multiply_adds']:,}", f"{row['activation_bytes'] / 1e3:,.1f}"


def _line(texts: Sequence[str], numbers: Sequence[str], widths: Sequence[int]) -> str:
    left = (f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))
    return "".join((*left, *(f"{number:>{_NUMBER_WIDTH}}" for number in numbers)))
