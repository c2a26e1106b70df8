"""Network files of every kind for the tests, good and hostile ones."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

RELU = ("Relu", {})


def arrays_of(*sizes: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The state_dict of nn.Sequential(Linear, act, Linear, …) as float32 arrays."""
    g = np.random.default_rng(seed)
    found = {}
    for index, (before, after) in enumerate(pairwise(sizes)):
        found[f"{2 * index}.weight"] = g.normal(size=(after, before)).astype(np.float32)
        found[f"{2 * index}.bias"] = g.normal(size=after).astype(np.float32)
    return found


def pairs_of(arrays: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(W, b) of each layer, in float64."""
    values = [array.astype(float) for array in arrays.values()]
    return list(zip(values[::2], values[1::2], strict=True))


def tensors_of(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    np.savez(path, **arrays)
    return path


def write_torch(path: Path, tree: Any, **options: Any) -> Path:
    torch.save(tree, path, **options)
    return path


def write_safetensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> Path:
    save_file(dict(tensors), str(path))
    return path


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    shape: Sequence[Any] | None = ("N", 3),
    opset: int = 20,
) -> onnx.ModelProto:
    """A model from x to y."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def gemm_model(
    arrays: Mapping[str, np.ndarray], activation: tuple[str, dict[str, Any]] = RELU
) -> onnx.ModelProto:
    """What torch exports: Gemm with transB = 1, and an activation between."""
    names, nodes, last = list(arrays), [], "x"
    for index, (weight, bias) in enumerate(zip(names[::2], names[1::2], strict=True)):
        end = "y" if 2 * index + 2 == len(names) else f"z{index}"
        nodes.append(node("Gemm", [last, weight, bias], end, transB=1))
        if end != "y":
            nodes.append(node(activation[0], [end], f"a{index}", **activation[1]))
            last = f"a{index}"
    return model_of(nodes, arrays)


def write_onnx(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def write_examples(folder: Path) -> None:
    """Write kink.npz, plane.pt, deep.pt, affine.npz and tanh.onnx."""
    write_npz(folder / "kink.npz", {"W": [[1.0], [1], [-1]], "b": [1.0, 0, 0], "A": [3.0, -2, 2]})
    write_torch(folder / "plane.pt", tensors_of(arrays_of(2, 6, 1)))
    write_torch(folder / "deep.pt", tensors_of(arrays_of(3, 5, 4, 2)))
    write_npz(folder / "affine.npz", {"weight": [[3.0, 4.0]]})
    write_onnx(folder / "tanh.onnx", gemm_model(arrays_of(1, 5, 1), ("Tanh", {})))


class Attack:
    """A pickle of this creates the file `path` when it is loaded with code."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (open, (str(self.path), "w"))


def hostile_files(folder: Path, mark: Path) -> dict[str, Path]:
    """Files that must be refused; `mark` comes into being if one of them runs code."""
    files = {}
    for name, data in {**hostile_bytes(mark), **hostile_archives(mark)}.items():
        files[name] = folder / name
        files[name].write_bytes(data)
    trees = hostile_trees(mark)
    for name, tree in trees.items():
        files[name] = write_torch(folder / name, tree)
    files["old.pt"] = write_torch(
        folder / "old.pt", trees["code.pt"], _use_new_zipfile_serialization=False
    )
    return files


def hostile_bytes(mark: Path) -> dict[str, bytes]:
    """What is no archive."""
    return {
        "pickle.pt": pickle.dumps(Attack(mark)),
        "pickle.npz": pickle.dumps(Attack(mark)),
        "text.pt": b"import os\nos.system('true')\n",
        "text.onnx": b"hello, world\n",
        "zeros.onnx": bytes(200),
        "zeros.npz": bytes(200),
        "one.safetensors": b"\x00",
        "brackets.safetensors": struct.pack("<Q", 90_000) + b"{" * 90_000,
        "length.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "shape.safetensors": safetensors_bytes([2**40, 2**40], [0, 8], bytes(8)),
        "offsets.safetensors": safetensors_bytes([2], [0, 2**60], bytes(8)),
        "array.npy": npy_bytes(np.ones(3)),
        "hdf5.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "gzip.pt": b"\x1f\x8b" + bytes(100),
    }


def hostile_archives(mark: Path) -> dict[str, bytes]:
    """Archives, of arrays and other things."""
    good = arrays_of(3, 4, 2)
    return {
        "zip.npz": zip_bytes({"../../evil.npy": npy_bytes(np.ones(3)), "x": b""}),
        "script.pt": zip_bytes({"m/data.pkl": b"N.", "m/constants.pkl": b"N.", "m/version": b"3"}),
        "empty.npz": zip_bytes({}),
        "object.npz": npz_bytes({"W": np.array([Attack(mark)], dtype=object)}),
        "claims.npz": zip_bytes({"W.npy": npy_bytes(np.ones(3), claimed=(10**12,))}),
        "negative.npz": zip_bytes({"W.npy": npy_bytes(np.ones(3), claimed=(-3, -1))}),
        "header.npz": zip_bytes({"W.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 60_000}),
        "code.npz": zip_bytes({"W.npy": code_npy(mark)}),
        "bomb.npz": zip_bytes({"W.npy": npy_bytes(np.zeros(2**26 + 1, np.uint8))}, deflate=True),
        "structured.npz": npz_bytes({"W": np.zeros(3, dtype=[("a", "f8")])}),
        "complex.npz": npz_bytes({"weight": np.ones((2, 2), dtype=complex)}),
        "text.npz": npz_bytes({"weight": np.array([["a", "b"]])}),
        "bool.npz": npz_bytes({"weight": np.ones((2, 2), dtype=bool)}),
        "nan.npz": npz_bytes({**good, "0.weight": good["0.weight"] * np.nan}),
        "inf.npz": npz_bytes({**good, "2.bias": good["2.bias"] + np.inf}),
        "huge.npz": npz_bytes({"weight": np.full((1, 1), 1e200)}),
        "integers.npz": npz_bytes({"weight": np.array([[2**53 + 1]])}),
        "chain.npz": npz_bytes({**good, "2.weight": np.ones((2, 5), np.float32)}),
        "rank.npz": npz_bytes({"W": np.ones(3), "b": np.ones(3), "A": np.ones((1, 3))}),
        "bias.npz": npz_bytes({**good, "0.bias": np.ones(7)}),
    }


def hostile_trees(mark: Path) -> dict[str, Any]:
    """What torch saves, and is no state_dict of a perceptron."""
    return {
        "code.pt": {"0.weight": torch.ones(2, 2), "x": Attack(mark)},
        "list.pt": [torch.ones(2, 2)],
        "tensor.pt": torch.ones(2, 2),
        "numbers.pt": {"lr": 0.1},
        "sparse.pt": {"weight": torch.ones(2, 2).to_sparse()},
        "complex.pt": {"weight": torch.ones(2, 2, dtype=torch.complex64)},
        "bool.pt": {"weight": torch.ones(2, 2, dtype=torch.bool)},
        "expanded.pt": {"weight": torch.ones(1, 1).expand(2**20, 2**20)},
        "meta.pt": {"weight": torch.ones(2, 2, device="meta")},
        "module.pt": torch.nn.Linear(2, 2),
        "norm.pt": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).state_dict(),
        "conv.pt": torch.nn.Conv2d(1, 1, 3).state_dict(),
        "embedding.pt": {"embedding.weight": torch.ones(4, 4)},
        "lstm.pt": torch.nn.LSTM(2, 2).state_dict(),
        "two.pt": {"a": {"weight": torch.ones(1, 1)}, "b": {"weight": torch.ones(1, 1)}},
        "order.pt": {"2.weight": torch.ones(2, 2), "0.weight": torch.ones(2, 2)},
    }


def npy_bytes(array: np.ndarray, claimed: tuple[int, ...] | None = None) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    data = stream.getvalue()
    if claimed is None:
        return data
    header = {"descr": "<f8", "fortran_order": False, "shape": claimed}
    text = repr(header).ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data[128:]


def code_npy(mark: Path) -> bytes:
    text = f"open({str(mark)!r}, 'w')".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def zip_bytes(entries: Mapping[str, bytes], deflate: bool = False) -> bytes:
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return stream.getvalue()


def safetensors_bytes(shape: list[int], offsets: list[int], data: bytes) -> bytes:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    header = json.dumps({"weight": entry}).encode()
    return struct.pack("<Q", len(header)) + header + data
