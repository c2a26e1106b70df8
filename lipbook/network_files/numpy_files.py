"""Reading .npz archives; nothing in them is unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.network_files.errors import NetworkFileError, refusal
from lipbook.network_files.limits import check_count, checked_archive, exact_floats
from lipbook.network_files.named import NamedArrays

_MUST = "be an .npz of numeric arrays"
_REMEDY = "Save it with numpy.savez(path, hidden_weight=W, hidden_bias=b, output_weight=A)."
_DAMAGE = (
    OSError, ValueError, EOFError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError,
    NotImplementedError, OverflowError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: Path) -> NamedArrays:
    """Return the arrays of an .npz; sizes are checked before any array is read.

    Raises:
        NetworkFileError: damaged, too large, pickled objects, or no real numbers.
    """
    with checked_archive(path) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        foreign = [e.filename for e in entries if not e.filename.endswith(".npy")]
        if foreign:
            raise refusal(path, _MUST, f"which also holds {foreign[0]!a}", _REMEDY)
        try:
            check_count(path, sum(_announced(path, archive, entry) for entry in entries))
            arrays = {e.filename[:-4]: _array(path, archive, e) for e in entries}
        except NetworkFileError:
            raise
        except _DAMAGE as error:
            reason = str(error) or type(error).__name__
            raise refusal(path, _MUST, f"which is damaged ({reason})", _REMEDY) from None
    return NamedArrays(arrays, ordered=True)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"array format {version}")
    shape, _, dtype = read[version](stream)
    return shape, dtype


def _announced(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Return how many numbers an array holds, if its header and its size agree."""
    with archive.open(entry) as stream:
        shape, dtype = _header(stream)
        begin = stream.tell()
    name = ascii(entry.filename[:-4])
    if dtype.hasobject or dtype.kind not in "iuf":
        got = f"whose {name} is of type {dtype.name}"
        raise refusal(path, _MUST, got, _REMEDY)
    count = math.prod(shape)
    if any(n < 0 for n in shape) or count * dtype.itemsize != entry.file_size - begin:
        got = f"whose {name} claims shape {shape} in {entry.file_size - begin:,} bytes"
        raise refusal(path, _MUST, got, _REMEDY)
    return count


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> FloatArray:
    with archive.open(entry) as stream:
        raw = np.lib.format.read_array(stream, allow_pickle=False)
    return exact_floats(path, entry.filename[:-4], raw)
