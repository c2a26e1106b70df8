"""How large a file may be, and numbers turned into float64 without loss."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from lipbook.lipschitz.arrays import FloatArray, bounded
from lipbook.network_files.errors import refusal
from lipbook.network_files.paths import MAX_BYTES

# Numbers in all arrays together: half a gigabyte in float64.
MAX_NUMBERS = 2**26


def check_count(path: Path, count: int) -> None:
    """Refuse a file whose arrays hold too many numbers, before they are read.

    Raises:
        NetworkFileError: more than `MAX_NUMBERS`.
    """
    if count > MAX_NUMBERS:
        must = f"hold at most {MAX_NUMBERS:,} numbers"
        raise refusal(path, must, f"with {count:,}", "Take a smaller network.")


def checked_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip archive whose contents are not too large and not locked; nothing is unpacked.

    Raises:
        NetworkFileError: damaged, too large when unpacked, encrypted, or with a name twice.
    """
    try:
        archive = zipfile.ZipFile(path)
        entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError, NotImplementedError) as error:
        raise refusal(
            path, "be an undamaged archive", f"which is damaged ({error})", "Save it again."
        ) from None
    names = [entry.filename for entry in entries]
    fault = ""
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        fault = "which unpacks to more"
    elif any(entry.flag_bits & 1 for entry in entries):
        fault = "which is encrypted"
    elif len(set(names)) < len(names):
        fault = "which holds a name twice"
    if fault:
        archive.close()
        must = f"be a plain archive of at most {MAX_BYTES:,} bytes"
        raise refusal(path, must, fault, "Save it again.")
    return archive


def exact_floats(path: Path, name: str, raw: Any) -> FloatArray:
    """Return an array of numbers in float64, each exactly as in the file.

    Raises:
        NetworkFileError: no real numbers, not finite, above 1e150, or not representable.
    """
    array = np.asarray(raw)
    if array.dtype.name == "bfloat16":  # an extension type: every value is a float32 number
        array = array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        got = f"whose {name!r} is of type {array.dtype.name}"
        raise refusal(path, "hold real numbers", got, "Convert it to floats.")
    with np.errstate(over="ignore"):
        converted = array.astype(np.float64)
    if array.dtype.kind in "iu":
        kept = all(int(a) == int(c) for a, c in _large_ones(array, converted))
    else:
        kept = array.dtype.itemsize <= 8 or bool(((converted == array) | ~np.isfinite(array)).all())
    if not kept:
        got = f"whose {name!r} of type {array.dtype.name} is not"
        raise refusal(path, "hold float64 numbers", got, "Convert it to float64.")
    try:
        return bounded(name, converted)
    except ValueError as error:
        raise refusal(path, "hold usable numbers", f"where {error}", "") from None


def _large_ones(array: Any, converted: FloatArray) -> list[tuple[Any, Any]]:
    """Return those integers that float64 might not represent, with their conversions."""
    large = np.abs(converted) >= 2.0**53
    return list(zip(array[large].tolist(), converted[large].tolist(), strict=True))
