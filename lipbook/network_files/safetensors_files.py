"""Reading .safetensors files."""

from __future__ import annotations

import math
from pathlib import Path

from lipbook.network_files.errors import INSTALL, NetworkFileError, refusal
from lipbook.network_files.limits import check_count
from lipbook.network_files.named import NamedArrays
from lipbook.network_files.torch_files import check_plain, tensor_floats

_MUST = "be a .safetensors file"
_REMEDY = "Save it with safetensors.torch.save_file(model.state_dict(), path)."


def read_safetensors(path: Path) -> NamedArrays:
    """Return the tensors of a .safetensors file, which keeps no order.

    Raises:
        NetworkFileError: the package is missing; damaged, too large, or no real numbers.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise refusal(
            path, "be readable by the package safetensors", "but that is not installed", INSTALL
        ) from None
    try:
        with safe_open(str(path), framework="pt") as opened:
            names = list(opened.keys())
            sizes = [math.prod(opened.get_slice(name).get_shape()) for name in names]
            check_count(path, sum(sizes))
            tensors = {name: opened.get_tensor(name) for name in names}
    except NetworkFileError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        raise refusal(path, _MUST, f"which is damaged ({error})", _REMEDY) from None
    for name, tensor in tensors.items():
        check_plain(path, name, tensor)
    arrays = {name: tensor_floats(path, name, tensor) for name, tensor in tensors.items()}
    return NamedArrays(arrays, ordered=False)
