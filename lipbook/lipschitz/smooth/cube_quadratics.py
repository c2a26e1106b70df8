"""Upper bounds of quadratic polynomials on the cube [−1, 1]^d, many at once.

For any matrix L, any vectors y and z, and E = Q + LLᵀ, on the cube

    c·s + sᵀQs = c·s − ‖Lᵀs‖² + sᵀEs ≤ (c − 2Lz)·s + ‖z‖² + sᵀEs ≤ ‖c − 2Lz‖₁ + ‖z‖² + Σ|E_ij|,

since −‖v‖² ≤ ‖z‖² − 2z·v. LLᵀ is the negative part of Q, by eigenvectors, and z = Lᵀy with y a
maximiser of the concave part: then the bound is its maximum, by duality. Nothing that is computed
approximately has to be trusted.

Rounding. With |z_j| ≤ l_j = Σ_i|L_ij| (y lies in the cube), all sums above have at most 4d + 8
roundings per term and terms that add up to at most S = ‖c‖₁ + Σ|Q_ij| + 4Σ_j l_j².
"""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.rounding import gamma

# Rounds of coordinate ascent towards the maximiser y.
_SWEEPS = 4
# What underflow takes from a sum of squares is less than this.
_LOST = 2.0**-900


def largest_on_cube(linear: FloatArray, square: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Bound c·s + sᵀQs from above on [−1, 1]^d.

    Args:
        linear: c, (n, d).
        square: Q, (n, d, d), symmetric up to rounding.

    Returns:
        Bounds ≥ 0, rounded up, (n,), ∞ where an entry is not finite; and points of the cube where
        the polynomial is large, (n, d).
    """
    entries = np.concatenate([linear[:, :, None], square], axis=2)
    finite: BoolArray = np.isfinite(entries).all(axis=(1, 2), keepdims=True)[:, 0, 0]
    if not finite.all():
        linear = np.where(finite[:, None], linear, 0.0)
        square = np.where(finite[:, None, None], square, 0.0)
    values, vectors = np.linalg.eigh(square)
    factor = vectors * np.sqrt(np.maximum(-values, 0.0))[:, None, :]
    concave = factor @ np.swapaxes(factor, 1, 2)
    point = _ascended(linear, concave, _stationary(linear, values, vectors))
    z = np.einsum("nij,ni->nj", factor, point)
    residual = linear - 2.0 * np.einsum("nij,nj->ni", factor, z)
    bound = np.abs(residual).sum(axis=1) + np.einsum("nj,nj->n", z, z)
    bound += np.abs(square + concave).sum(axis=(1, 2))
    size = np.abs(linear).sum(axis=1) + np.abs(square).sum(axis=(1, 2))
    size += 4.0 * (np.abs(factor).sum(axis=1) ** 2).sum(axis=1)
    bound += gamma(8 * linear.shape[1] + 16) * size + _LOST
    return np.where(finite, bound, np.inf), point


def _stationary(linear: FloatArray, values: FloatArray, vectors: FloatArray) -> FloatArray:
    """Return the stationary points of the concave part, moved into the cube."""
    length = np.where(values < 0.0, -0.5 / np.where(values < 0.0, values, 1.0), 0.0)
    along = np.einsum("nij,ni->nj", vectors, linear) * length
    # Flat directions may overflow; any point will do.
    return np.clip(np.nan_to_num(np.einsum("nij,nj->ni", vectors, along)), -1.0, 1.0)


def _ascended(linear: FloatArray, concave: FloatArray, point: FloatArray) -> FloatArray:
    """Return points of the cube where c·s − sᵀPs is about as large as it gets, coordinatewise."""
    diagonal = 2.0 * np.einsum("nii->ni", concave)
    flat = diagonal <= 0.0
    safe = np.where(flat, 1.0, diagonal)
    doubled = 2.0 * concave
    for _ in range(_SWEEPS):
        for i in range(linear.shape[1]):
            pull = linear[:, i] - np.einsum("nj,nj->n", doubled[:, i], point)
            pull += diagonal[:, i] * point[:, i]
            step = np.where(flat[:, i], np.sign(pull), pull / safe[:, i])
            point[:, i] = np.minimum(np.maximum(step, -1.0), 1.0)
    return point
