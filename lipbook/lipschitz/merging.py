"""Neurons that see the same inputs, merged exactly.

J(x) = Σ_j a_j w_jᵀ σ'(w_jᵀx + b_j). Equal (w, b) share one term. Where σ'(−z) = κ + s·σ'(z),
neurons (w, b) and (−w, −b) do too, up to a constant matrix:

    a wᵀσ'(−z) = κ·a wᵀ + (−s·a)(−w)ᵀσ'(z),   −z = wᵀx + b,

so that a network which is constant or affine in disguise is recognised: silu(x) − silu(−x) = x.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from lipbook.activations import ACTIVATIONS, Activation
from lipbook.lipschitz.arrays import BoolArray, FloatArray

# σ'(−z) = κ + s·σ'(z): (s, κ).
MIRRORS = {
    "tanh": (1, 0),
    "sigmoid": (1, 0),
    "softplus": (-1, 1),
    "gelu": (-1, 1),
    "silu": (-1, 1),
}


def merged(
    weight: FloatArray, bias: FloatArray, output: FloatArray, activation: Activation
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return W, b, A with equal and mirrored neurons added up, and the constant part of J.

    Args:
        weight: W, (m, d).
        bias: b, (m,).
        output: A, (m, k).
        activation: σ.

    Returns:
        W (n, d), b (n,), A (n, k), n ≤ m, and the matrix (k, d) left over; every sum is correctly
        rounded, from exact products.
    """
    constant_part = np.zeros((output.shape[1], weight.shape[1]))
    flipped = _flipped(weight, activation)
    sign = np.where(flipped, -1.0, 1.0)
    keys = np.column_stack([weight * sign[:, None], bias * sign]) + 0.0  # + 0.0 turns −0 into 0
    if len(np.unique(keys[:, 0])) == len(keys):
        return weight, bias, output, constant_part
    groups, inverse = np.unique(keys, axis=0, return_inverse=True)
    if len(groups) == len(keys):
        return weight, bias, output, constant_part
    mirror, constant = MIRRORS[activation.name] if flipped.any() else (1, 0)
    if constant:
        constant_part = constant * _exact_product(output[flipped], weight[flipped])
    turned = output * np.where(flipped, -float(mirror), 1.0)[:, None]
    total = _grouped(turned, inverse.ravel())
    kept = total.any(axis=1)
    return groups[kept, :-1], groups[kept, -1], total[kept], constant_part


def _grouped(rows: FloatArray, group: npt.NDArray[np.intp]) -> FloatArray:
    """Return the sum of the rows of each group, correctly rounded."""
    order = np.argsort(group, kind="stable")
    parts = np.split(rows[order], np.cumsum(np.bincount(group))[:-1])
    return np.array([[math.fsum(column) for column in part.T] for part in parts])


def known_by_name(activation: Activation) -> bool:
    """Tell whether σ is one of the package, not an activation of the caller's own."""
    return ACTIVATIONS.get(activation.name) is activation


def _flipped(weight: FloatArray, activation: Activation) -> BoolArray:
    """Tell which neurons are written as their mirror images: first entry ≠ 0 of w negative."""
    if not known_by_name(activation) or activation.name not in MIRRORS:
        return np.zeros(len(weight), dtype=bool)
    first = np.take_along_axis(weight, (weight != 0.0).argmax(axis=1)[:, None], axis=1)
    negative: BoolArray = first[:, 0] < 0.0
    return negative


def _exact_product(output: FloatArray, weight: FloatArray) -> FloatArray:
    """Return Σ_j a_j w_jᵀ, (k, d), correctly rounded."""
    columns = [[Fraction(v) for v in column] for column in weight.T.tolist()]
    rows = [[Fraction(v) for v in row] for row in output.T.tolist()]
    return np.array(
        [
            [float(sum((a * w for a, w in zip(r, c, strict=True)), Fraction(0))) for c in columns]
            for r in rows
        ]
    )
