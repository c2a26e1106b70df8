"""Perceptrons from numpy, torch and safetensors files: exactly as written, or refused in a line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from network_writers import (
    arrays_of,
    gemm_model,
    pairs_of,
    tensors_of,
    write_npz,
    write_onnx,
    write_safetensors,
    write_torch,
)
from torch import nn

from lipbook.activations import ACTIVATIONS
from lipbook.network_files.errors import NetworkFileError
from lipbook.network_files.reading import FileNetwork, read_network

GOOD = arrays_of(3, 4, 5, 2)


def same_layers(found: FileNetwork, expected: list[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether the layers agree in every bit."""
    return len(found.layers) == len(expected) and all(
        w.dtype == b.dtype == np.float64 and np.array_equal(w, v) and np.array_equal(b, c)
        for (w, b), (v, c) in zip(found.layers, expected, strict=True)
    )


def refused(path: Path, *arguments: str) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(NetworkFileError) as caught:
        read_network(path, *arguments)
    line = str(caught.value)
    assert line.startswith("`FILE` must ") and ". Got '" in line and len(line) < 400
    assert line.isprintable()
    return line


# ---- kinds of files


@pytest.mark.parametrize("suffix", ["npz", "pt", "pth", "safetensors", "onnx", "old.pt"])
def test_every_kind_holds_the_same_network(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    if suffix == "npz":
        write_npz(path, GOOD)
    elif suffix == "safetensors":
        write_safetensors(path, tensors_of(GOOD))
    elif suffix == "onnx":
        write_onnx(path, gemm_model(GOOD))
    else:
        new = suffix != "old.pt"
        write_torch(path, tensors_of(GOOD), _use_new_zipfile_serialization=new)
    found = read_network(path)
    assert same_layers(found, pairs_of(GOOD))
    assert found.activation is (ACTIVATIONS["relu"] if suffix == "onnx" else None)
    assert suffix == "onnx" or found.names == ("0", "2", "4")
    assert read_network(str(path), "relu").activation is ACTIVATIONS["relu"]


@pytest.mark.parametrize("name", ["net.onnx", "net", "net.txt", "net.safetensors"])
def test_content_counts_more_than_the_suffix(tmp_path, name):
    for writer, content in ((write_npz, GOOD), (write_torch, tensors_of(GOOD))):
        with (tmp_path / name).open("wb") as stream:
            writer(stream, content)
        assert same_layers(read_network(tmp_path / name), pairs_of(GOOD))


@pytest.mark.parametrize(
    ("names", "biases"),
    [
        (("hidden_weight", "hidden_bias", "output_weight", "output_bias"), True),
        (("hidden_weight", "hidden_bias", "output_weight", None), False),
        (("W", "b", "A", "c"), True),
        (("W", None, "A", None), False),
    ],
)
def test_named_two_layer_arrays(tmp_path, names, biases):
    (w, b), (a, c) = pairs_of(arrays_of(3, 4, 2))
    given = {n: v for n, v in zip(names, (w, b, a, c), strict=True) if n}
    found = read_network(write_npz(tmp_path / "net.npz", given))
    b = b if names[1] else np.zeros(4)
    assert same_layers(found, [(w, b), (a, c if biases else np.zeros(2))])


def test_one_output_may_be_a_vector(tmp_path):
    found = read_network(write_npz(tmp_path / "net.npz", {"W": np.ones((3, 2)), "A": np.ones(3)}))
    assert found.layers[1][0].shape == (1, 3)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", ">f4", "longdouble", "int8", "uint16", "int64", "uint64"],
)
def test_numpy_numbers_are_converted_exactly(tmp_path, dtype):
    weight = np.array([[3, 1], [7, 0]]).astype(dtype) / (1 if "int" in dtype else 3)
    weight = weight.astype(np.float64 if dtype == "longdouble" else dtype).astype(dtype)
    found = read_network(write_npz(tmp_path / "net.npz", {"weight": weight}))
    assert (found.layers[0][0] == weight).all()


@pytest.mark.parametrize("kind", ["pt", "safetensors"])
@pytest.mark.parametrize(
    "dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int64", "float8_e4m3fn"]
)
def test_torch_numbers_are_converted_exactly(tmp_path, dtype, kind):
    weight = torch.tensor([[3.0, -1.3], [7.1, 0.0]]).to(getattr(torch, dtype))
    write = write_torch if kind == "pt" else write_safetensors
    found = read_network(write(tmp_path / f"net.{kind}", {"weight": weight}))
    assert torch.equal(torch.from_numpy(found.layers[0][0]), weight.double())


def test_numbers_that_float64_does_not_hold_are_refused(tmp_path):
    for value in (2**53 + 1, 2**63 - 1, -(2**53) - 1):
        path = write_npz(tmp_path / "net.npz", {"weight": np.array([[value]])})
        assert "must hold float64 numbers" in refused(path)
    if np.finfo(np.longdouble).nmant > 52:
        path = write_npz(tmp_path / "net.npz", {"weight": np.longdouble([[1]]) / 3})
        assert "must hold float64 numbers" in refused(path)
    path = write_torch(tmp_path / "net.pt", {"weight": torch.tensor([[2**53 + 1]])})
    assert "must hold float64 numbers" in refused(path)


# ---- the order of the layers


def linear(before: int, after: int) -> torch.Tensor:
    return torch.ones(after, before)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"fc1": (3, 4), "fc2": (4, 2)}, ("fc1", "fc2")),
        ({f"net.{i}": (2, 2) for i in (0, 2, 4, 6, 8, 10, 12)}, None),
        ({"module.net.0": (3, 3), "module.net.2": (3, 3)}, ("module.net.0", "module.net.2")),
        ({"hidden": (2, 2), "output": (2, 2)}, ("hidden", "output")),
        ({"m.input": (2, 2), "m.hidden": (2, 2), "m.output": (2, 2)}, None),
        ({"first": (3, 4), "then": (4, 5), "again": (5, 2)}, ("first", "then", "again")),
        ({"encoder": (3, 5), "head": (5, 1)}, ("encoder", "head")),
        ({"ensemble.0": (3, 5), "ensemble.2": (5, 1)}, ("ensemble.0", "ensemble.2")),
    ],
)
def test_layers_come_in_order(tmp_path, shapes, expected):
    tensors = {f"{name}.weight": linear(*shape) for name, shape in shapes.items()}
    expected = expected or tuple(shapes)
    assert read_network(write_torch(tmp_path / "net.pt", tensors)).names == expected
    # This format stores names sorted as text.
    assert read_network(write_safetensors(tmp_path / "n.safetensors", tensors)).names == expected


def test_an_order_that_is_not_certain_is_refused(tmp_path):
    square = {"encoder.weight": torch.ones(2, 2), "decoder.weight": torch.ones(2, 2)}
    line = refused(write_safetensors(tmp_path / "net.safetensors", square))
    assert "must say in which order its layers come" in line and "0, 1, 2" in line
    assert read_network(write_torch(tmp_path / "net.pt", square)).names == ("encoder", "decoder")
    turned = {"fc2.weight": torch.ones(2, 2), "fc1.weight": torch.ones(2, 2)}
    assert "fit in several" in refused(write_torch(tmp_path / "net.pt", turned))
    # Only one of the two orders fits here.
    turned = {"fc2.weight": linear(4, 2), "fc1.weight": linear(3, 4)}
    assert read_network(write_torch(tmp_path / "net.pt", turned)).names == ("fc1", "fc2")
    many = {f"{'abcdefgh'[i]}.weight": torch.ones(2, 2) for i in range(8)}
    assert "fit in several" in refused(write_safetensors(tmp_path / "net.safetensors", many))


def test_layers_that_do_not_fit_are_named_with_their_sizes(tmp_path):
    tensors = {"fc1.weight": linear(3, 4), "fc2.weight": linear(5, 2)}
    for path in (
        write_torch(tmp_path / "net.pt", tensors),
        write_safetensors(tmp_path / "net.safetensors", tensors),
    ):
        line = refused(path)
        assert "must hold layers that fit together" in line and "fc1: 3→4, fc2: 5→2" in line


def test_a_checkpoint_may_hold_one_state(tmp_path):
    optimiser = {"state": {}, "param_groups": [{"lr": 0.1}]}
    tree = {"epoch": 3, "model_state_dict": tensors_of(GOOD), "optimizer": optimiser}
    found = read_network(write_torch(tmp_path / "net.pt", tree))
    assert same_layers(found, pairs_of(GOOD))


def test_parameters_and_views_are_tensors(tmp_path):
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    tree = {name: torch.stack([p, p], -1)[..., 0] for name, p in module.named_parameters()}
    found = read_network(write_torch(tmp_path / "net.pt", dict(module.named_parameters())))
    again = read_network(write_torch(tmp_path / "net.pt", tree))
    assert same_layers(found, list(again.layers))
