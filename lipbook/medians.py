"""Medians of what is left when some networks have diverged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def finite_median(values: np.ndarray | Sequence[float]) -> float:
    """Return the median of the finite values, NaN if there is none."""
    array = np.asarray(values, dtype=np.float64)
    return _median(array[np.isfinite(array)])


def known_median(values: np.ndarray | Sequence[float]) -> float:
    """Return the median of the values that are not NaN, infinite ones included; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    return _median(array[~np.isnan(array)])


def _median(kept: np.ndarray) -> float:
    return float(np.median(kept)) if kept.size else float("nan")
