"""Arrays of finite numbers: whatever a caller passes, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Products of two numbers up to this are float64 numbers, and so are sums of very many of them.
LARGEST = 1e150

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def as_floats(name: str, values: Any) -> FloatArray:
    """Return `values` (list, numpy array or torch tensor) as a float64 array of finite numbers.

    Args:
        name: the argument's name, for the message.
        values: real numbers of any shape.

    Returns:
        A float64 array; float32 input is converted without rounding.

    Raises:
        ValueError: something in it is not a finite real number.
    """
    if hasattr(values, "detach"):  # a torch tensor; torch itself is not needed to say so
        values = values.detach().cpu().double().numpy()
    try:
        raw = np.asarray(values)
        array = np.asarray(raw, dtype=np.float64) if raw.dtype.kind in "iuf" else None
    except (TypeError, ValueError):
        array = None
    if array is None:
        raise ValueError(
            f"`{name}` must be an array of real numbers. Got {type(values).__name__}. "
            "Pass a list, a numpy array or a torch tensor of numbers."
        )
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise ValueError(f"`{name}` must be finite. Got {bad}. Remove NaN and infinite entries.")
    return array


def bounded(name: str, values: Any) -> FloatArray:
    """Return `values` as floats (see `as_floats`) up to 1e150, or say what is wrong."""
    array = as_floats(name, values)
    if array.size and np.abs(array).max() > LARGEST:
        raise ValueError(
            f"`{name}` must stay within ±{LARGEST:g}. Got {np.abs(array).max():g}. Rescale it."
        )
    return array
