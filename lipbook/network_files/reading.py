"""`read_network`: the layers of a perceptron, from a file whose kind is told by its content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.deep.chain import Chain, Layer, chained, same_activation
from lipbook.network_files.errors import refusal
from lipbook.network_files.limits import checked_archive
from lipbook.network_files.named import NamedArrays, named_layers
from lipbook.network_files.numpy_files import read_npz
from lipbook.network_files.onnx_files import read_onnx
from lipbook.network_files.paths import KINDS, SAVE, checked_path
from lipbook.network_files.safetensors_files import read_safetensors
from lipbook.network_files.torch_files import read_torch

_KNOWN_OTHERS = {
    b"\x93NUMPY": "a single numpy array",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive",
}


@dataclass(frozen=True)
class FileNetwork:
    """Hold what a file says of a perceptron f(x) = W_n σ(… σ(W_1 x + b_1) …) + b_n.

    Attributes:
        layers: the pairs (W_i, b_i), W_i (out, in), b_i (out,), in float64; missing biases are 0.
        activation: σ, None if neither the file nor the caller says.
        source: the kind of file, in words.
        names: of the layers in the file.
    """

    layers: tuple[Layer, ...]
    activation: Activation | None
    source: str
    names: tuple[str, ...]


def read_network(path: str | Path, activation: str | Activation | None = None) -> FileNetwork:
    """Read a perceptron from a file; no code in it is run, no other file is opened.

    .npz: arrays hidden_weight, hidden_bias, output_weight, output_bias, or W, b, A, c, or named as
    in a state_dict. torch and .safetensors: a state_dict of Linear layers, NAME.weight and
    NAME.bias, applied one after another with one activation between them. .onnx: a graph that
    does just that; it also says which activation.

    Args:
        path: of the file.
        activation: σ; must agree with the file's, where it has one.

    Returns:
        The `FileNetwork`.

    Raises:
        NetworkFileError: no such file, not one of these kinds, damaged, hostile, or no perceptron.
        ValueError: an unknown activation.
    """
    given = None if activation is None else get_activation(activation)
    file = checked_path(Path(path))
    kind = _kind(file)
    if kind == "onnx":
        chain, names = read_onnx(file)
        return FileNetwork(chain.layers, _agreed(file, chain, given), "ONNX graph", names)
    source, named = _read_named(file, kind)
    found = named_layers(file, named)
    pairs = [(weight, bias) for _, weight, bias in found]
    try:
        layers = chained(pairs, get_activation("relu")).layers
    except ValueError as error:
        raise refusal(file, "hold layers that fit together", f"where {error}", "") from None
    return FileNetwork(layers, given, source, tuple(name for name, _, _ in found))


def _kind(path: Path) -> str:
    """Return npz, torch archive, torch pickle, safetensors or onnx, by content."""
    with path.open("rb") as stream:
        head = stream.read(16)
    if head.startswith(b"PK"):
        with checked_archive(path) as archive:
            names = archive.namelist()
        is_torch = any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in names)
        return "torch archive" if is_torch else "npz"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and length <= path.stat().st_size:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "torch pickle"
    suffix = path.suffix.lower()
    if suffix == ".onnx" or (head[:1] == b"\x08" and suffix not in (".npz", ".pt", ".pth")):
        return "onnx"
    if suffix == ".safetensors":
        return "safetensors"
    known = [words for magic, words in _KNOWN_OTHERS.items() if head.startswith(magic)]
    what = known[0] if known else f"which begins with {ascii(head[:8])[1:]}"
    raise refusal(path, f"be {KINDS}", what, SAVE)


def _read_named(path: Path, kind: str) -> tuple[str, NamedArrays]:
    if kind == "npz":
        return "numpy archive", read_npz(path)
    if kind == "safetensors":
        return "safetensors file", read_safetensors(path)
    return "torch state_dict", read_torch(path, is_archive=kind == "torch archive")


def _agreed(path: Path, chain: Chain, given: Activation | None) -> Activation | None:
    """Return the graph's activation, or the caller's if the graph has none."""
    if given is None or chain.activation is None:
        return chain.activation or given
    if not same_activation(given, chain.activation):
        raise refusal(
            path,
            f"agree with the activation that is asked for, {given.name!r}",
            f"whose graph has {chain.activation.name!r}",
            "Leave the activation out.",
        )
    return chain.activation
