"""What a graph of operators computes, if that is a perceptron.

Followed from the input to the output, every tensor is constant, or holds one vector a sample that
is affine in the sample or an activation of such a vector: along the last axis (as rows), or along
the first of two (as columns).

Reshaping the input does no harm: it is an isometry, and a map that treats rows of length d alike
has the Lipschitz constant of what it does to one of them. Nor does reshaping rows later, if the
next matrix takes vectors as long as the last one gave: then each row still is one of the old rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.deep.chain import Chain
from lipbook.network_files.errors import NetworkFileError, refusal
from lipbook.network_files.limits import exact_floats

_MUST = "hold a perceptron: affine maps and one kind of activation"


@dataclass(frozen=True)
class Node:
    """Hold one operator: its kind, the names it reads and writes, its attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class Graph:
    """Hold nodes in order, constants by name, inputs with their numbers of axes, outputs."""

    path: Path
    nodes: list[Node]
    constants: Mapping[str, Any]
    inputs: Mapping[str, int | None]
    outputs: list[str]


@dataclass(frozen=True)
class Vector:
    """Hold a tensor that depends on the input: what has been done to each sample.

    Attributes:
        chain: the layers so far, without `product`.
        axes: their number, None if unknown.
        as_rows: whether vectors lie along the last axis; None as long as nothing says.
        product: a matrix that has been applied, with its name, its bias not yet known.
        names: of the layers so far.
        before: the tensor of which this is the activation.
    """

    chain: Chain
    axes: int | None
    as_rows: bool | None = None
    product: tuple[FloatArray, str] | None = None
    names: tuple[str, ...] = ()
    before: Vector | None = field(default=None, compare=False)

    def settled(self, bias: FloatArray | None = None) -> Vector:
        """Return the vector with its last product made a layer."""
        if self.product is None:
            return self
        matrix, name = self.product
        chain = self.chain.affine(matrix, bias)
        return replace(self, chain=chain, product=None, names=(*self.names, name))


Value = Vector | np.ndarray
Operator = Callable[["Tracer", Node, list[Value]], Value]
Operators = Mapping[str, Operator]


def traced(graph: Graph, operators: Operators) -> tuple[Chain, tuple[str, ...]]:
    """Return the finished chain that the graph computes, and its layers' names.

    Args:
        graph: the graph.
        operators: by kind, what turns the values that a node reads into the one that it writes.

    Raises:
        NetworkFileError: an operator that has no place in a perceptron.
        ValueError: layers that make none (see `Chain`).
    """
    tracer = Tracer(graph, operators)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise tracer.refused(f"with {len(graph.inputs)} inputs and {len(graph.outputs)} outputs")
    needed = {graph.outputs[0]}
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= set(node.inputs)
    for node in graph.nodes:
        if needed & set(node.outputs):
            tracer.apply(node)
    result = tracer.values.get(graph.outputs[0])
    if not isinstance(result, Vector):
        raise tracer.refused("whose output does not depend on its input")
    settled = result.settled()
    chain = settled.chain.finished()
    added = ("identity",) * (len(chain.layers) - len(settled.names))
    return chain, settled.names + added


class Tracer:
    """Follow the tensors through a graph."""

    def __init__(self, graph: Graph, operators: Operators) -> None:
        """Begin with the constants and the input."""
        self.path, self.operators = graph.path, operators
        self.values: dict[str, Value] = {n: np.asarray(v) for n, v in graph.constants.items()}
        for name, axes in graph.inputs.items():
            self.values[name] = Vector(Chain(), axes)

    def refused(self, got: str) -> NetworkFileError:
        """Return the error that says what the graph has."""
        return refusal(self.path, _MUST, got, "Export only such layers.")

    def apply(self, node: Node) -> None:
        """Find out what a node writes.

        Raises:
            NetworkFileError: an operator that has no place in a perceptron.
        """
        operator = self.operators.get(node.kind)
        if operator is None:
            raise self.refused(f"with the operator {node.kind!a}")
        written = [name for name in node.outputs if name]
        if len(written) != 1 or any(n and n not in self.values for n in node.inputs):
            raise self.refused(f"whose {node.kind} is not wired as it must be")
        inputs = [self.values[name] for name in node.inputs if name]
        try:
            self.values[written[0]] = operator(self, node, inputs)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            if str(error).startswith("`"):  # one of ours, which says what is wrong
                raise
            raise self.refused(f"whose {node.kind} has the wrong inputs or attributes") from None

    def attributes(self, node: Node, **defaults: Any) -> list[Any]:
        """Return the attributes in the order of `defaults`; no others may be there."""
        unknown = set(node.attributes) - set(defaults)
        if unknown:
            raise self.refused(f"whose {node.kind} has the attribute {min(unknown)!a}")
        found = [node.attributes.get(name, default) for name, default in defaults.items()]
        for value, default in zip(found, defaults.values(), strict=True):
            if type(value) is not type(default):
                raise self.refused(f"whose {node.kind} has an attribute of the wrong type")
        return found

    def numbers(self, node: Node, name: str, value: Value) -> FloatArray:
        """Return a constant in float64, or say that it is none."""
        if isinstance(value, Vector):
            raise self.refused(f"whose {node.kind} joins two tensors that are computed")
        return exact_floats(self.path, name, value)
