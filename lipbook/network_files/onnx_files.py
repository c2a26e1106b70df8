"""Reading .onnx files: the protobuf message, its constants; nothing outside of the file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lipbook.lipschitz.deep.chain import Chain
from lipbook.network_files.errors import INSTALL, NetworkFileError, refusal
from lipbook.network_files.limits import check_count
from lipbook.network_files.onnx_graph import Graph, Node, traced
from lipbook.network_files.onnx_operators import OPERATORS

_MUST = "be an ONNX graph"
_REMEDY = "Export the network again."
_OLDEST_OPSET = 7
_STANDARD = ("", "ai.onnx")


def read_onnx(path: Path) -> tuple[Chain, tuple[str, ...]]:
    """Return the chain of layers that an ONNX graph computes, and the layers' names in it.

    Raises:
        NetworkFileError: the package is missing; damaged, data outside of the file, or no
            perceptron.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise refusal(
            path, "be readable by the package onnx", "but that is not installed", INSTALL
        ) from None
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError, RecursionError, MemoryError):
        raise refusal(path, _MUST, "which is damaged or something else", _REMEDY) from None
    _check_model(path, model)
    graph = _graph(path, model.graph)
    try:
        return traced(graph, OPERATORS)
    except NetworkFileError:
        raise
    except ValueError as error:
        raise refusal(path, "hold a perceptron", f"where {error}", "") from None


def _check_model(path: Path, model: Any) -> None:
    """Refuse what would change the meaning of the standard operators, or lies outside."""
    if not model.graph.node or not model.graph.output:
        raise refusal(path, _MUST, "which holds no graph", _REMEDY)
    if any(function.domain in _STANDARD for function in model.functions):
        raise refusal(path, _MUST, "which redefines standard operators", _REMEDY)
    opsets = [entry.version for entry in model.opset_import if entry.domain in _STANDARD]
    if len(opsets) != 1 or opsets[0] < _OLDEST_OPSET:
        got = f"of opset {opsets[0]}" if len(opsets) == 1 else "without one opset"
        raise refusal(path, f"have opset {_OLDEST_OPSET} or newer", got, _REMEDY)
    if model.graph.sparse_initializer:
        raise refusal(path, "hold dense weights", "with sparse ones", _REMEDY)
    tensors = list(_tensors(model.graph))
    if any(tensor.data_location == 1 or tensor.external_data for tensor in tensors):
        raise refusal(
            path,
            "hold all its weights itself",
            "whose weights lie in other files, which are not opened",
            "Save it with onnx.save(model, path, save_as_external_data=False).",
        )
    if any(n < 0 for tensor in tensors for n in tensor.dims):
        raise refusal(path, _MUST, "with a negative dimension", _REMEDY)
    check_count(path, sum(math.prod(tensor.dims) for tensor in tensors))


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == 4:  # TENSOR
                yield attribute.t


def _graph(path: Path, graph: Any) -> Graph:
    """Return the graph with its constants as arrays."""
    constants = {tensor.name: _array(path, tensor) for tensor in graph.initializer}
    nodes = [_node(path, node) for node in graph.node]
    inputs = {v.name: _axes(v) for v in graph.input if v.name not in constants}
    names = [*constants, *inputs, *(out for node in nodes for out in node.outputs if out)]
    if len(set(names)) < len(names) or len(constants) < len(graph.initializer):
        raise refusal(path, _MUST, "which gives a name twice", _REMEDY)
    return Graph(path, nodes, constants, inputs, [value.name for value in graph.output])


def _axes(value: Any) -> int | None:
    """Return the declared number of axes."""
    tensor = value.type.tensor_type
    return len(tensor.shape.dim) if tensor.HasField("shape") else None


def _node(path: Path, node: Any) -> Node:
    standard = node.domain in _STANDARD
    kind = node.op_type if standard else f"{node.domain}.{node.op_type}"
    values = {a.name: _value(path, kind, a) for a in node.attribute}
    return Node(kind, tuple(node.input), tuple(node.output), values)


def _value(path: Path, kind: str, attribute: Any) -> Any:
    """Return an attribute as a number, a string, a list of numbers or an array."""
    readers = {
        1: lambda: attribute.f,
        2: lambda: attribute.i,
        3: lambda: attribute.s.decode("utf-8", "replace"),
        4: lambda: _array(path, attribute.t),
        6: lambda: np.array(attribute.floats, dtype=np.float32),
        7: lambda: np.array(attribute.ints, dtype=np.int64),
    }
    if attribute.type not in readers or attribute.ref_attr_name:
        got = f"whose {kind!a} has an attribute {attribute.name!a} of another kind"
        raise refusal(path, "hold a perceptron", got, _REMEDY)
    return readers[attribute.type]()


def _array(path: Path, tensor: Any) -> Any:
    from onnx import numpy_helper

    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError, RuntimeError) as error:
        got = f"whose {tensor.name!a} is damaged ({error})"
        raise refusal(path, _MUST, got, _REMEDY) from None
