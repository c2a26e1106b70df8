"""Sums and prefix sums in blocks, so that every term passes through about 2√n additions only.

The rounding error of a sum is bounded by γ_h·Σ|terms|, h the most additions that one term passes
through. A running sum has h = n − 1, which at n = 10⁶ would spoil a relative accuracy of 1e-6.
"""

from __future__ import annotations

import math

import numpy as np

from lipbook.lipschitz.arrays import FloatArray

# Up to here a running sum is quicker and accurate enough.
_SHORT = 256


def _blocks(x: FloatArray) -> FloatArray:
    """Cut the last axis into about √n blocks of about √n, padded with zeros."""
    n = x.shape[-1]
    length = max(1, math.isqrt(n))
    count = -(-n // length)
    padded = np.zeros((*x.shape[:-1], count * length))
    padded[..., :n] = x
    return padded.reshape(*x.shape[:-1], count, length)


def block_sum(x: FloatArray) -> tuple[FloatArray, int]:
    """Return the sum over the last axis (kept) and the most additions one term passes through."""
    if x.shape[-1] <= _SHORT:
        return x.sum(axis=-1, keepdims=True), x.shape[-1]
    blocks = _blocks(x)
    total = blocks.sum(axis=-1).sum(axis=-1, keepdims=True)
    return total, blocks.shape[-1] + blocks.shape[-2]


def block_cumsum(x: FloatArray) -> tuple[FloatArray, int]:
    """Return prefix sums over the last axis and the most additions one term passes through."""
    if x.shape[-1] <= _SHORT:
        return x.cumsum(axis=-1), x.shape[-1]
    blocks = _blocks(x)
    sums = np.cumsum(blocks, axis=-1)
    sums[..., 1:, :] += np.cumsum(sums[..., -1], axis=-1)[..., :-1, None]
    flat = sums.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    return flat, blocks.shape[-1] + blocks.shape[-2]
