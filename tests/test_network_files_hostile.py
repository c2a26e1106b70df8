"""Damaged, hostile and foreign files: refused in one line, and nothing of theirs is run."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from network_writers import (
    arrays_of,
    gemm_model,
    hostile_files,
    node,
    tensors_of,
    write_npz,
    write_onnx,
    write_safetensors,
    write_torch,
)
from onnx import TensorProto, helper, numpy_helper

from lipbook.network_files import limits, paths
from lipbook.network_files.errors import NetworkFileError
from lipbook.network_files.reading import FileNetwork, read_network

GOOD = arrays_of(3, 4, 5, 2)


def refused(path: Path, *arguments: str) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(NetworkFileError) as caught:
        read_network(path, *arguments)
    line = str(caught.value)
    assert line.startswith("`FILE` must ") and ". Got '" in line and len(line) < 400
    assert line.isprintable()
    return line


MESSAGES = {
    "pickle.pt": "a pickle of something else", "pickle.npz": "a pickle of something else",
    "code.pt": "a pickled object", "old.pt": "a pickled object",
    "module.pt": "a pickled object (torch.nn.modules.linear.Linear), whose code is not run. "
    "Save it with torch.save(model.state_dict()", "script.pt": "a TorchScript program",
    "text.pt": "which begins with 'import o'", "array.npy": "a single numpy array",
    "hdf5.h5": "an HDF5 file", "gzip.pt": "a gzip archive", "zip.npz": "which also holds 'x'",
    "empty.npz": "which holds no array", "object.npz": "is of type object",
    "claims.npz": "claims shape (1000000000000,)", "bomb.npz": "must hold at most 67,108,864",
    "expanded.pt": "must hold at most 67,108,864", "nan.npz": "`0.weight` must be finite. Got nan",
    "inf.npz": "`2.bias` must be finite. Got inf", "huge.npz": "must stay within ±1e+150",
    "complex.npz": "is of type complex128", "chain.npz": "must hold layers that fit together",
    "rank.npz": "whose W has shape (3,)", "bias.npz": "`layers[0] bias` must have shape (4,)",
    "list.pt": "an object of type list", "numbers.pt": "an object of type dict",
    "two.pt": "an object of type dict", "sparse.pt": "sparse_coo", "meta.pt": "on meta",
    "complex.pt": "complex64", "bool.pt": "bool", "norm.pt": "which holds '1.weight' of shape (2,)",
    "conv.pt": "which holds 'weight' of shape (1, 1, 3, 3)", "lstm.pt": "'weight_ih_l0'",
    "embedding.pt": "which holds 'embedding.weight'", "order.pt": "fit in several",
}  # fmt: skip


def test_hostile_files_are_refused_and_run_nothing(tmp_path):
    mark = tmp_path / "mark"
    files = hostile_files(tmp_path, mark)
    assert MESSAGES.keys() <= files.keys()
    before = set(tmp_path.iterdir())
    for name, path in files.items():
        line = refused(path)
        assert MESSAGES.get(name, "") in line, line
    assert set(tmp_path.iterdir()) == before and not mark.exists()


def test_the_attack_would_be_seen(tmp_path):
    """Negative control: loaded the careless way, the same file does run its code."""
    mark = tmp_path / "mark"
    files = hostile_files(tmp_path, mark)
    torch.load(files["code.pt"], weights_only=False)["x"].close()
    assert mark.exists()


@pytest.mark.parametrize("suffix", ["npz", "pt", "safetensors", "onnx", "old.pt"])
def test_truncated_and_altered_files_are_refused_or_read(tmp_path, suffix):
    path = tmp_path / f"net.{suffix}"
    if suffix == "npz":
        write_npz(path, GOOD)
    elif suffix == "safetensors":
        write_safetensors(path, tensors_of(GOOD))
    elif suffix == "onnx":
        write_onnx(path, gemm_model(GOOD))
    else:
        write_torch(path, tensors_of(GOOD), _use_new_zipfile_serialization=suffix == "pt")
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for cut in {0, 1, 4, 9, *generator.integers(1, len(whole), 25).tolist()}:
        path.write_bytes(whole[:cut])
        if suffix == "onnx":  # a message may end early and still be one
            attempt(path)
        else:
            refused(path)
    for place in generator.integers(0, len(whole), 60):
        changed = bytearray(whole)
        changed[place] ^= int(generator.integers(1, 256))
        path.write_bytes(bytes(changed))
        attempt(path)


def attempt(path: Path) -> None:
    """Read a file that may be damaged: a network or a line, nothing else."""
    try:
        assert isinstance(read_network(path), FileNetwork)
    except NetworkFileError as error:
        assert str(error).isprintable() and len(str(error)) < 400


def test_random_bytes_are_refused(tmp_path):
    path, generator = tmp_path / "net.pt", np.random.default_rng(1)
    heads = [b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", b"\x08\x0a", b"\x93NUMPY", b"{"]
    for i in range(140):
        path = tmp_path / f"net{('.pt', '.onnx', '.npz', '.safetensors')[i % 4]}"
        path.write_bytes(heads[i % 7] + generator.bytes(int(generator.integers(1, 300))))
        refused(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "which is no regular file" in refused(tmp_path / "pipe")
    assert "which is no regular file" in refused(tmp_path)
    assert "No such file" in refused(tmp_path / "absent.pt")
    assert "cannot be opened" in refused(Path("a\0b"))
    (tmp_path / "empty.pt").touch()
    assert "which is empty" in refused(tmp_path / "empty.pt")
    (tmp_path / "line\nbreak.pt").write_bytes(b"abc")
    assert "'line\\nbreak.pt'" in refused(tmp_path / "line\nbreak.pt")


def test_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    with (tmp_path / "net.pt").open("wb") as stream:
        stream.truncate(paths.MAX_BYTES + 1)  # a hole: no disk is used
    assert "must have at most 2,000,000,000 bytes" in refused(tmp_path / "net.pt")
    path = write_torch(tmp_path / "net.pt", tensors_of(GOOD))
    monkeypatch.setattr(limits, "MAX_BYTES", 100)
    assert "which unpacks to more" in refused(path)
    monkeypatch.undo()
    monkeypatch.setattr(limits, "MAX_NUMBERS", 10)
    for good in (path, write_safetensors(tmp_path / "net.safetensors", tensors_of(GOOD)),
                 write_onnx(tmp_path / "net.onnx", gemm_model(GOOD))):  # fmt: skip
        assert "must hold at most 10 numbers" in refused(good)


def test_archives_that_lie_are_refused(tmp_path):
    path = write_npz(tmp_path / "net.npz", GOOD)
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the first entry is said to be encrypted
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    path.write_bytes(bytes(data))
    assert "which is encrypted" in refused(path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", b"")
        archive.writestr("a.npy", b"")
    assert "which holds a name twice" in refused(path)


@pytest.mark.parametrize(
    ("name", "package"), [("net.onnx", "onnx"), ("n.safetensors", "safetensors")]
)
def test_a_package_that_is_absent_is_named(tmp_path, monkeypatch, name, package):
    path = tmp_path / name
    if package == "onnx":
        write_onnx(path, gemm_model(GOOD))
    else:
        write_safetensors(path, tensors_of(GOOD))
    monkeypatch.setitem(sys.modules, package, None)
    line = refused(path)
    assert f"the package {package}" in line and "pip install 'lipbook[certify]'" in line


def test_an_unknown_activation_is_refused(tmp_path):
    path = write_torch(tmp_path / "net.pt", tensors_of(GOOD))
    with pytest.raises(ValueError, match="`activation` must be one of"):
        read_network(path, "sine")


# ---- ONNX models that lie


WEIGHT = GOOD["0.weight"]


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret", "weights.bin"])
def test_data_outside_of_the_file_is_never_opened(tmp_path, location):
    (tmp_path / "weights.bin").write_bytes(WEIGHT.tobytes())
    for place in ("initializer", "constant"):
        tensor = numpy_helper.from_array(WEIGHT, "0.weight")
        onnx.external_data_helper.set_external_data(tensor, location=location)
        tensor.ClearField("raw_data")
        model = gemm_model(GOOD)
        if place == "initializer":
            model.graph.initializer[0].CopyFrom(tensor)
        else:
            del model.graph.initializer[0]
            model.graph.node.insert(0, node("Constant", [], "0.weight", value=tensor))
        line = refused(write_onnx(tmp_path / "net.onnx", model))
        assert "whose weights lie in other files, which are not opened" in line
        assert "save_as_external_data=False" in line


def test_models_that_change_the_standard_are_refused(tmp_path):
    model = gemm_model(GOOD)
    model.functions.append(
        helper.make_function(
            "", "Relu", ["a"], ["b"], [node("Abs", ["a"], "b")], model.opset_import
        )
    )
    assert "which redefines standard operators" in refused(write_onnx(tmp_path / "net.onnx", model))
    for version in (6, 1):
        model = gemm_model(GOOD)
        model.opset_import[0].version = version
        assert f"of opset {version}" in refused(write_onnx(tmp_path / "net.onnx", model))
    del model.opset_import[:]
    assert "without one opset" in refused(write_onnx(tmp_path / "net.onnx", model))
    model = gemm_model(GOOD)
    model.graph.sparse_initializer.append(onnx.SparseTensorProto())
    assert "with sparse ones" in refused(write_onnx(tmp_path / "net.onnx", model))


def test_tensors_that_lie_are_refused(tmp_path):
    for dims, message in (([4, 4], "is damaged"), ([-4, -3], "a negative dimension"),
                          ([2**40, 2**40], "must hold at most 67,108,864 numbers")):  # fmt: skip
        model = gemm_model(GOOD)
        model.graph.initializer[0].dims[:] = dims
        assert message in refused(write_onnx(tmp_path / "net.onnx", model))
    model = gemm_model(GOOD)
    model.graph.initializer[0].data_type = TensorProto.STRING
    assert "must" in refused(write_onnx(tmp_path / "net.onnx", model))
    model = gemm_model(GOOD)
    model.graph.initializer.append(model.graph.initializer[0])
    assert "which gives a name twice" in refused(write_onnx(tmp_path / "net.onnx", model))
