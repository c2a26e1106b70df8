"""The operators of ONNX that have a place in a perceptron, followed symbolically."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.deep.chain import Chain, leaky_relu
from lipbook.network_files.onnx_graph import Node, Operator, Operators, Tracer, Value, Vector

_FLOAT, _DOUBLE = 1, 11  # the standard's numbers of these types


# --- affine maps


def _multiplied(
    tracer: Tracer, node: Node, vector: Vector, as_rows: bool, weight: tuple[str, Value, bool]
) -> Vector:
    """Return the vector after z ↦ Mz or, if the third part of `weight` says so, z ↦ Mᵀz.

    as_rows says how the operator takes the vectors.
    """
    name, value, turned = weight
    matrix = tracer.numbers(node, name, value)
    if matrix.ndim != 2:
        raise tracer.refused(f"whose {node.kind} has a weight of shape {matrix.shape}")
    if vector.as_rows not in (None, as_rows):
        raise tracer.refused(f"whose {node.kind} mixes the samples of a batch")
    return replace(
        vector.settled(),
        as_rows=as_rows,
        product=(matrix.T if turned else matrix, name),
        before=None,
    )


def _matmul(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    tracer.attributes(node)
    left, right = inputs
    if isinstance(left, Vector):
        return _multiplied(tracer, node, left, True, (node.inputs[1], right, True))
    if isinstance(right, Vector):
        return _multiplied(tracer, node, right, False, (node.inputs[0], left, False))
    raise tracer.refused("whose MatMul has constant inputs only")


def _gemm(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    """Follow Y = alpha·A'·B' + beta·C, where A' and B' may be transposed."""
    alpha, beta, first, second = tracer.attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    left, right = inputs[:2]
    if isinstance(left, Vector):  # the vectors are rows of A', so that W is the transpose of B'
        weight = (node.inputs[1], right, not second)
        product = _multiplied(tracer, node, left, not first, weight)
    elif isinstance(right, Vector):  # the vectors are columns of B', and W is A'
        product = _multiplied(
            tracer, node, right, bool(second), (node.inputs[0], left, bool(first))
        )
    else:
        raise tracer.refused("whose Gemm has constant inputs only")
    assert product.product is not None
    matrix, name = product.product
    scaled = _scaled(tracer, node, alpha, matrix), name
    product = replace(product, product=scaled, as_rows=isinstance(left, Vector), axes=2)
    if len(inputs) == 2:
        return product
    bias = _scaled(tracer, node, beta, tracer.numbers(node, node.inputs[2], inputs[2]))
    return product.settled(_offset(tracer, node, product, bias))


def _scaled(tracer: Tracer, node: Node, factor: float, array: FloatArray) -> FloatArray:
    """Return factor·array, if that is exact: for float32 numbers, and for powers of two."""
    result = np.asarray(factor * array)
    with np.errstate(over="ignore"):
        is_short = np.array_equal(array.astype(np.float32), array)
    back = math.frexp(factor)[0] in (0.5, -0.5) and np.array_equal(result / factor, array)
    if not (factor == 0.0 or is_short or back):
        raise tracer.refused(f"whose {node.kind} scales weights by {factor:g} with rounding errors")
    return result


def _add(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    tracer.attributes(node)
    first, second = inputs
    index = int(isinstance(first, Vector))
    vector, other = (first, second) if index else (second, first)
    bias = tracer.numbers(node, node.inputs[index], other)
    if not isinstance(vector, Vector) or vector.product is None:
        raise tracer.refused("whose Add does not come after a product with a matrix")
    return vector.settled(_offset(tracer, node, vector, bias))


def _offset(tracer: Tracer, node: Node, vector: Vector, bias: FloatArray) -> FloatArray:
    """Return the bias with one entry per row of the matrix, the same for every sample."""
    assert vector.product is not None
    width = len(vector.product[0])
    if bias.size == 1:
        return np.full(width, bias.item())
    lengths = bias.shape if vector.as_rows or vector.axes == 1 else bias.shape[::-1]
    fits = bias.size == lengths[-1] == width
    if not vector.as_rows:
        fits = fits and bias.ndim == vector.axes
    if not fits:
        got = f"whose {node.kind} adds a bias of shape {bias.shape} to vectors of length {width}"
        raise tracer.refused(got)
    return bias.reshape(width)


# --- activations, and what changes nothing


def _activated(name: str) -> Operator:
    def operator(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
        tracer.attributes(node)
        return _after(tracer, node, inputs, name)

    return operator


def _after(tracer: Tracer, node: Node, inputs: list[Value], name: str) -> Value:
    """Return the activation of the only input."""
    (value,) = inputs
    return _applied(tracer, node, value, lambda chain: chain.activate(ACTIVATIONS[name]))


def _applied(tracer: Tracer, node: Node, value: Value, change: Callable[[Chain], Chain]) -> Value:
    if not isinstance(value, Vector):
        raise tracer.refused(f"whose {node.kind} has a constant input")
    settled = value.settled()
    return replace(settled, chain=change(settled.chain), before=value)


def _leaky(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (alpha,) = tracer.attributes(node, alpha=float(np.float32(0.01)))
    (value,) = inputs
    return _applied(tracer, node, value, lambda chain: chain.activate(leaky_relu(alpha)))


def _gelu(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (approximate,) = tracer.attributes(node, approximate="none")
    if approximate != "none":
        raise tracer.refused(f"whose Gelu is the approximation {approximate!a}")
    return _after(tracer, node, inputs, "gelu")


def _swish(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (alpha,) = tracer.attributes(node, alpha=1.0)
    if alpha != 1.0:
        raise tracer.refused(f"whose Swish has alpha = {alpha:g}")
    return _after(tracer, node, inputs, "silu")


def _mul(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    """Follow z·sigmoid(z), which is how SiLU is written."""
    tracer.attributes(node)
    for plain, gate in (inputs, inputs[::-1]):
        if isinstance(plain, Vector) and isinstance(gate, Vector) and gate.before is plain:
            last = gate.chain.activation
            if gate.chain.activated and last is ACTIVATIONS["sigmoid"]:
                return _after(tracer, node, [plain], "silu")
    raise tracer.refused("whose Mul is not z·sigmoid(z)")


def _same(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    tracer.attributes(node)
    (value,) = inputs
    return value


def _reshaped(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    """Follow Flatten, Reshape, Squeeze, Unsqueeze: numbers keep their order."""
    value = inputs[0]
    if not isinstance(value, Vector):
        raise tracer.refused(f"whose {node.kind} has a constant input")
    if value.as_rows is False:
        raise tracer.refused(f"whose {node.kind} mixes the samples of a batch")
    return replace(value.settled(), axes=None, before=None)


def _cast(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (kind,) = tracer.attributes(node, to=0)
    (value,) = inputs
    if kind not in (_FLOAT, _DOUBLE):
        raise tracer.refused("whose Cast is to neither float32 nor float64")
    if isinstance(value, Vector):
        return value
    numbers = tracer.numbers(node, node.inputs[0], value)
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32) if kind == _FLOAT else numbers


def _transpose(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (order,) = tracer.attributes(node, perm=np.array([1, 0]))
    (value,) = inputs
    matrix = tracer.numbers(node, node.inputs[0], value)
    if matrix.ndim != 2 or sorted(order.tolist()) != [0, 1]:
        raise tracer.refused("whose Transpose is not of a matrix")
    return matrix.transpose(order)


def _constant(tracer: Tracer, node: Node, inputs: list[Value]) -> Value:
    (value,) = node.attributes.values()
    return np.asarray(value)


OPERATORS: Operators = {
    "Abs": _activated("abs"),
    "Add": _add,
    "Cast": _cast,
    "Constant": _constant,
    "Flatten": _reshaped,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "Identity": _same,
    "LeakyRelu": _leaky,
    "MatMul": _matmul,
    "Mul": _mul,
    "Relu": _activated("relu"),
    "Reshape": _reshaped,
    "Sigmoid": _activated("sigmoid"),
    "Softplus": _activated("softplus"),
    "Squeeze": _reshaped,
    "Swish": _swish,
    "Tanh": _activated("tanh"),
    "Transpose": _transpose,
    "Unsqueeze": _reshaped,
}
