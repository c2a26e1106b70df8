"""Perceptrons from ONNX graphs: what a graph computes, or why it is none."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from network_writers import (
    arrays_of,
    gemm_model,
    model_of,
    node,
    pairs_of,
    write_onnx,
)
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz.deep import leaky_relu
from lipbook.network_files.errors import NetworkFileError
from lipbook.network_files.reading import FileNetwork, read_network

GOOD = arrays_of(3, 4, 2)
W, B, A, C = GOOD.values()


def value(found: FileNetwork, x: np.ndarray) -> np.ndarray:
    """f at the rows of x."""
    for index, (weight, bias) in enumerate(found.layers):
        x = found.activation.value(x) if index else x
        x = x @ weight.T + bias
    return x


def read(tmp_path, model: onnx.ModelProto, *arguments) -> FileNetwork:
    return read_network(write_onnx(tmp_path / "net.onnx", model), *arguments)


def refused(tmp_path, model: onnx.ModelProto, *arguments) -> str:
    with pytest.raises(NetworkFileError) as caught:
        read(tmp_path, model, *arguments)
    line = str(caught.value)
    assert line.startswith("`FILE` must ") and line.isprintable() and len(line) < 400
    return line


def agrees(tmp_path, model: onnx.ModelProto, shape=(5, 3), rows=True) -> FileNetwork:
    """Compare with the reference implementation of the standard."""
    found = read(tmp_path, model)
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    flat = x.reshape(-1, found.layers[0][0].shape[1]) if rows else x.T
    ours = value(found, flat.astype(float))
    ours = ours if rows else ours.T
    np.testing.assert_allclose(ours, expected.reshape(ours.shape), rtol=2e-5, atol=2e-6)
    return found


@pytest.mark.parametrize(
    ("operator", "name"),
    [
        (("Relu", {}), "relu"),
        (("Abs", {}), "abs"),
        (("Tanh", {}), "tanh"),
        (("Sigmoid", {}), "sigmoid"),
        (("Softplus", {}), "softplus"),
        (("Gelu", {}), "gelu"),
        (("Gelu", {"approximate": "none"}), "gelu"),
        (("LeakyRelu", {"alpha": 0.0}), "relu"),
        (("LeakyRelu", {"alpha": -1.0}), "abs"),
    ],
)
def test_activations_come_from_the_graph(tmp_path, operator, name):
    model = gemm_model(arrays_of(3, 4, 4, 2), operator)
    found = agrees(tmp_path, model)
    assert found.activation is ACTIVATIONS[name] and len(found.layers) == 3
    assert read(tmp_path, model, name).activation is ACTIVATIONS[name]
    other = "tanh" if name != "tanh" else "relu"
    line = refused(tmp_path, model, other)
    assert f"the activation that is asked for, {other!r}" in line and f"has {name!r}" in line


@pytest.mark.parametrize("alpha", [0.25, 2.0, -0.5, 0.1])
def test_leaky_relu_has_the_slope_of_the_file(tmp_path, alpha):
    found = agrees(tmp_path, gemm_model(GOOD, ("LeakyRelu", {"alpha": alpha})))
    assert found.activation.kink_slopes == (float(np.float32(alpha)), 1.0)
    assert "has 'leaky relu" in refused(
        tmp_path, gemm_model(GOOD, ("LeakyRelu", {"alpha": alpha})), "leaky relu"
    )


def test_the_default_slope_is_a_float32_number(tmp_path):
    found = agrees(tmp_path, gemm_model(GOOD, ("LeakyRelu", {})))
    assert found.activation.kink_slopes == (float(np.float32(0.01)), 1.0)
    assert found.activation.kink_slopes == leaky_relu(float(np.float32(0.01))).kink_slopes
    assert read(tmp_path, gemm_model(GOOD, ("LeakyRelu", {})), "leaky relu").layers


@pytest.mark.parametrize("order", [1, -1])
def test_silu_is_a_product_with_a_sigmoid(tmp_path, order):
    nodes = [
        node("Gemm", ["x", "W", "b"], "z", transB=1), node("Identity", ["z"], "i"),
        node("Sigmoid", ["i"], "s"), node("Mul", ["z", "s"][::order], "a"),
        node("Gemm", ["a", "A", "c"], "y", transB=1),
    ]  # fmt: skip
    constants = {"W": W, "b": B, "A": A, "c": C}
    found = agrees(tmp_path, model_of(nodes, constants))
    assert found.activation is ACTIVATIONS["silu"]
    nodes[3] = node("Mul", ["s", "s"], "a")
    assert "whose Mul is not z·sigmoid(z)" in refused(tmp_path, model_of(nodes, constants))


def test_swish_is_silu(tmp_path):
    model = gemm_model(GOOD, ("Swish", {}))
    model.opset_import[0].version = 24
    assert read(tmp_path, model).activation is ACTIVATIONS["silu"]
    model = gemm_model(GOOD, ("Swish", {"alpha": 2.0}))
    assert "whose Swish has alpha = 2" in refused(tmp_path, model)


@pytest.mark.parametrize("on_left", [True, False])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", ["row", "flat", "one", None])
def test_gemm_in_all_its_forms(tmp_path, on_left, trans_a, trans_b, bias):
    """Y = A'B' + C with samples as rows of A', or as columns of B'."""
    weight = W.T if on_left else W  # B' = Wᵀ, A' = W
    turned = trans_b if on_left else trans_a
    constants = {"W": weight.T if turned else weight}
    names = ["x", "W"] if on_left else ["W", "x"]
    offset = {"row": B[None] if on_left else B[:, None], "flat": B, "one": B[:1]}.get(bias)
    if offset is not None:
        constants["b"] = offset
        names.append("b")
    nodes = [node("Gemm", names, "y", transA=trans_a, transB=trans_b)]
    # x itself may be stored the other way round.
    as_rows = on_left != bool(trans_a if on_left else trans_b)
    model = model_of(nodes, constants, ("N", 3) if as_rows else (3, "N"))
    if bias == "flat" and not on_left:
        assert "adds a bias of shape (4,)" in refused(tmp_path, model)
        return
    found = read(tmp_path, model)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x if as_rows else x.T})
    ours = value(found, x.astype(float))
    np.testing.assert_allclose(ours if on_left else ours.T, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (0.3, 0.7), (1.0, 0.0), (-2.0, 3.0)])
def test_gemm_with_factors_is_exact(tmp_path, alpha, beta):
    nodes = [node("Gemm", ["x", "W", "b"], "y", transB=1, alpha=alpha, beta=beta)]
    found = agrees(tmp_path, model_of(nodes, {"W": W, "b": B}))
    exact = [np.float64(np.float32(alpha)) * W.astype(float), np.float32(beta) * B.astype(float)]
    np.testing.assert_array_equal(found.layers[0][0], exact[0])
    np.testing.assert_array_equal(found.layers[0][1], exact[1])
    double = {"W": np.full((4, 3), 0.1), "b": np.full(4, 0.1)}
    if alpha == 0.3:
        assert "scales weights by 0.3 with rounding errors" in refused(
            tmp_path, model_of(nodes, double)
        )
    else:
        nodes = [node("Gemm", ["x", "W"], "y", transB=1, alpha=alpha)]
        np.testing.assert_array_equal(
            read(tmp_path, model_of(nodes, double)).layers[0][0], alpha * double["W"]
        )


@pytest.mark.parametrize("swap", [1, -1])
@pytest.mark.parametrize("shape", [("N", 3), (3,), None, (7, 3)])
def test_matmul_and_add(tmp_path, swap, shape):
    nodes = [
        node("MatMul", ["x", "W"], "p"), node("Add", ["p", "b"][::swap], "z"),
        node("Relu", ["z"], "a"), node("MatMul", ["a", "A"], "q"), node("Add", ["c", "q"], "y"),
    ]  # fmt: skip
    model = model_of(nodes, {"W": W.T, "b": B, "A": A.T, "c": C[None]}, shape)
    expected = (1, 3) if shape is None else tuple(5 if n == "N" else n for n in shape)
    found = agrees(tmp_path, model, expected)
    assert all(np.array_equal(a, b) for a, b in zip(found.layers[1], (A, C), strict=True))
    nodes[1:2] = []
    nodes[1] = node("Relu", ["p"], "a")
    assert not agrees(tmp_path, model_of(nodes, {"W": W.T, "A": A.T, "c": C})).layers[0][1].any()


@pytest.mark.parametrize("shape", [(3, "N"), (3,)])
def test_matmul_from_the_left(tmp_path, shape):
    flat = len(shape) == 1
    nodes = [node("MatMul", ["W", "x"], "p"), node("Add", ["p", "b"], "z"),
             node("Relu", ["z"], "a"), node("MatMul", ["A", "a"], "y")]  # fmt: skip
    bias = B if flat else B[:, None]
    model = model_of(nodes, {"W": W, "b": bias, "A": A}, shape)
    found = read(tmp_path, model)
    x = np.random.default_rng(0).normal(size=(3,) if flat else (3, 5)).astype(np.float32)
    (expected,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(value(found, x.T.astype(float)).T, expected, rtol=1e-5, atol=1e-6)
    wrong = B[:, None] if flat else B  # would be added across the samples
    model = model_of(nodes, {"W": W, "b": wrong, "A": A}, shape)
    assert "adds a bias of shape" in refused(tmp_path, model)


def test_what_changes_nothing_is_passed_over(tmp_path):
    nodes = [
        node("Flatten", ["x"], "f"), node("Reshape", ["f", "s"], "r"),
        node("Cast", ["r"], "k", to=TensorProto.FLOAT), node("Identity", ["k"], "i"),
        node("Transpose", ["W"], "Wt", perm=[1, 0]),
        node("Cast", ["Wt"], "Wc", to=TensorProto.FLOAT),
        node("Gemm", ["i", "Wc", "b"], "z"), node("Relu", ["z"], "a"),
        node("Reshape", ["a", "t"], "q"), node("Gemm", ["q", "A", "c"], "w", transB=1),
        node("Unsqueeze", ["w", "one"], "u"), node("Squeeze", ["u", "one"], "y"),
    ]  # fmt: skip
    constants = {"W": W, "b": B, "A": A, "c": C, "s": np.array([-1, 3]), "t": np.array([-1, 4]),
                 "one": np.array([1])}  # fmt: skip
    assert len(agrees(tmp_path, model_of(nodes, constants, ("N", 1, 3)), (5, 1, 3)).layers) == 2


def test_constants_in_nodes_and_among_the_inputs(tmp_path):
    tensor = numpy_helper.from_array(W, "ignored")
    nodes = [
        node("Constant", [], "W", value=tensor), node("Constant", [], "b", value_float=0.5),
        node("Constant", [], "c", value_floats=[1.0, -1.0]),
        node("Gemm", ["x", "W", "b"], "z", transB=1), node("Relu", ["z"], "a"),
        node("Gemm", ["a", "A", "c"], "y", transB=1), node("Softmax", ["y"], "unused"),
    ]  # fmt: skip
    model = model_of(nodes[:-1], {"A": A})
    model.graph.input.append(helper.make_tensor_value_info("A", TensorProto.FLOAT, [2, 4]))
    found = agrees(tmp_path, model)
    assert found.layers[0][1].tolist() == [0.5] * 4 and found.names == ("W", "A")
    # What the output does not depend on is not looked at.
    assert agrees(tmp_path, model_of(nodes, {"A": A})).names == ("W", "A")


def test_a_last_activation_is_followed_by_the_identity(tmp_path):
    nodes = [node("Gemm", ["x", "W", "b"], "z", transB=1), node("Tanh", ["z"], "y")]
    found = agrees(tmp_path, model_of(nodes, {"W": W, "b": B}))
    assert found.names == ("W", "identity") and np.array_equal(found.layers[1][0], np.eye(4))


@pytest.mark.parametrize("kind", [np.float16, np.float64, "bfloat16"])
def test_other_types_are_converted_exactly(tmp_path, kind):
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if kind == "bfloat16" else kind
    found = read(tmp_path, gemm_model({n: v.astype(kind) for n, v in GOOD.items()}))
    expected = pairs_of({n: v.astype(kind) for n, v in GOOD.items()})
    assert all(np.array_equal(w, v) for (w, _), (v, _) in zip(found.layers, expected, strict=True))


GEMM = [node("Gemm", ["x", "W", "b"], "z", transB=1)]
LAST = [node("Gemm", ["a", "A", "c"], "y", transB=1)]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("Conv", ["x", "W"], "y")], "with the operator 'Conv'"),
        ([*GEMM, node("Softmax", ["z"], "y")], "with the operator 'Softmax'"),
        ([*GEMM, node("Erf", ["z"], "a"), *LAST], "with the operator 'Erf'"),
        ([*GEMM, node("Gelu", ["z"], "a", approximate="tanh"), *LAST], "the approximation 'tanh'"),
        ([*GEMM, node("LeakyRelu", ["z"], "a", alpha=np.inf), *LAST], "`slope` must be finite"),
        ([*GEMM, node("LeakyRelu", ["z"], "a", alpha=1), *LAST], "an attribute of the wrong type"),
        ([*GEMM, node("Relu", ["z"], "a", up=1), *LAST], "whose Relu has the attribute 'up'"),
        ([*GEMM, node("Relu", ["z", "z"], "a"), *LAST], "the wrong inputs or attributes"),
        ([*GEMM, node("Relu", ["nothing"], "a"), *LAST], "is not wired as it must be"),
        ([node("Relu", ["x"], "a"), *LAST], "'relu' before the first affine map"),
        ([node("Relu", ["c"], "a"), *LAST], "whose Relu has a constant input"),
        ([node("Gemm", ["x", "W", "b"], "a", transB=1), *LAST], "two affine maps in a row"),
        ([*GEMM, node("Add", ["z", "b"], "a"), *LAST], "does not come after a product"),
        ([*GEMM, node("Add", ["z", "z"], "a"), *LAST], "joins two tensors that are computed"),
        ([*GEMM, node("Gemm", ["z", "z"], "y")], "joins two tensors that are computed"),
        ([node("Gemm", ["W", "W"], "y")], "whose Gemm has constant inputs only"),
        ([node("MatMul", ["W", "A"], "y")], "whose MatMul has constant inputs only"),
        ([*GEMM, node("Relu", ["z"], "a"), node("Gemm", ["A", "a"], "y")], "mixes the samples"),
        ([node("MatMul", ["x", "b"], "y")], "whose MatMul has a weight of shape (4,)"),
        ([node("MatMul", ["W", "x"], "p"), node("Flatten", ["p"], "y")], "mixes the samples"),
        ([node("Transpose", ["x"], "y")], "joins two tensors that are computed"),
        ([node("Transpose", ["W"], "V", perm=[0, 0]), node("MatMul", ["x", "V"], "y")],
         "whose Transpose is not of a matrix"),
        ([*GEMM, node("Cast", ["z"], "y", to=TensorProto.INT64)], "whose Cast is to neither"),
        ([*GEMM, node("Mul", ["z", "c"], "y")], "whose Mul is not z·sigmoid(z)"),
        ([node("Flatten", ["W"], "y")], "whose Flatten has a constant input"),
        ([node("Identity", ["W"], "y")], "whose output does not depend on its input"),
        ([node("Identity", ["x"], "y")], "must hold at least one affine map"),
        ([*GEMM, node("Relu", ["z"], "a"), node("Gemm", ["a", "A", "c"], "q", transB=1),
          node("Tanh", ["q"], "y")], "Got 'relu' and 'tanh'"),
        ([node("Gemm", ["x", "W", "A"], "y", transB=1)], "adds a bias of shape (2, 4)"),
        ([helper.make_node("Relu", ["x"], ["y"], domain="com.example")], "'com.example.Relu'"),
        ([helper.make_node("Relu", ["x"], ["y", "w"])], "is not wired as it must be"),
        ([*GEMM, node("Identity", ["z"], "z")], "which gives a name twice"),
        ([node("If", ["x"], "y", then_branch=helper.make_graph([], "t", [], []))],
         "has an attribute 'then_branch' of another kind"),
        ([], "which holds no graph"),
    ],
)  # fmt: skip
def test_what_is_no_perceptron_is_refused(tmp_path, nodes, message):
    constants = {"W": W, "b": B, "A": A, "c": C}
    assert message in refused(tmp_path, model_of(nodes, constants))


def test_a_graph_needs_one_input_and_one_output(tmp_path):
    model = gemm_model(GOOD)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, ["N", 3]))
    assert "with 2 inputs and 1 outputs" in refused(tmp_path, model)
    model = gemm_model(GOOD)
    model.graph.output.append(helper.make_tensor_value_info("z0", TensorProto.FLOAT, None))
    assert "with 1 inputs and 2 outputs" in refused(tmp_path, model)
