"""Reading state_dicts that torch saved; code in a file is never run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lipbook.lipschitz.arrays import FloatArray
from lipbook.network_files.errors import SAVE_TORCH, refusal
from lipbook.network_files.limits import check_count, checked_archive, exact_floats
from lipbook.network_files.named import NamedArrays

_MUST = "hold a state_dict"


def read_torch(path: Path, is_archive: bool) -> NamedArrays:
    """Return the tensors of a state_dict, also of one inside a checkpoint.

    Raises:
        NetworkFileError: damaged, too large, a pickled module, or no state_dict.
    """
    if is_archive:
        checked_archive(path).close()
    tree = _loaded(path)
    tensors = _state(tree)
    if tensors is None:
        what = f"an object of type {type(tree).__name__}"
        raise refusal(path, _MUST, what, SAVE_TORCH)
    for name, tensor in tensors.items():
        check_plain(path, name, tensor)
    check_count(path, sum(tensor.numel() for tensor in tensors.values()))
    arrays = {name: tensor_floats(path, name, tensor) for name, tensor in tensors.items()}
    return NamedArrays(arrays, ordered=True)


def _loaded(path: Path) -> Any:
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    # What a hostile file makes the unpickler raise has no common class.
    except Exception as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            got = f"a pickled object ({found[1]}), whose code is not run"
        elif "TorchScript" in str(error):
            got = "a TorchScript program"
        else:
            got = f"which is damaged, or a pickle of something else ({type(error).__name__})"
        raise refusal(path, _MUST, got, SAVE_TORCH) from None


def _is_state(tree: Any) -> bool:
    return (
        isinstance(tree, Mapping)
        and len(tree) > 0
        and all(isinstance(name, str) for name in tree)
        and all(isinstance(value, torch.Tensor) for value in tree.values())
    )


def _state(tree: Any) -> dict[str, torch.Tensor] | None:
    """Return the state_dict that the tree is, or the only one that a checkpoint holds."""
    if _is_state(tree):
        return dict(tree)
    inside = [v for v in tree.values() if _is_state(v)] if isinstance(tree, Mapping) else []
    return dict(inside[0]) if len(inside) == 1 else None


def check_plain(path: Path, name: str, tensor: torch.Tensor) -> None:
    """Refuse what is no ordinary tensor of real numbers, before it is converted.

    Raises:
        NetworkFileError: complex, boolean, quantized, sparse, or without data.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    odd = tensor.is_complex() or tensor.is_quantized or tensor.dtype == torch.bool
    if odd or tensor.layout != torch.strided or tensor.device.type != "cpu":
        where = f"{kind}, {str(tensor.layout).removeprefix('torch.')}, on {tensor.device.type}"
        got = f"whose {name!a} is {where}"
        raise refusal(path, "hold plain tensors of real numbers", got, "Convert it to floats.")


def tensor_floats(path: Path, name: str, tensor: torch.Tensor) -> FloatArray:
    """Return a plain tensor in float64, each number exactly as it is.

    Raises:
        NetworkFileError: not finite, above 1e150, or integers beyond float64.
    """
    plain = tensor.detach()
    # numpy knows no bfloat16 and no float8; all their values are float64 numbers.
    return exact_floats(
        path, name, (plain.double() if plain.is_floating_point() else plain).numpy()
    )
