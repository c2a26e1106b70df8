"""Outward rounding: turn float64 results with a known number of roundings into true bounds.

Model of arithmetic (IEEE 754, round to nearest): fl(x ∘ y) = (x ∘ y)(1 + δ), |δ| ≤ u = 2⁻⁵³, as
long as nothing overflows or underflows. A quantity built from n such factors carries ∏(1 + δᵢ)^±¹ =
1 + θ with |θ| ≤ γ_n = nu/(1 − nu); a sum of n terms in *any* order, fused or not, has error at most
γ_(n−1)·Σ|terms| (Higham, Accuracy and Stability of Numerical Algorithms, chapters 3 and 4). For nu
≤ 0.1 we use γ_n ≤ 2nu, which leaves room for the roundings of the bound itself. Every routine
scales by powers of two first, so that underflow can only reach terms below 2⁻⁵⁰⁰ of the largest
one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import FloatArray

UNIT = 2.0**-53


def gamma(n: int) -> float:
    """Return 2nu, an upper bound of γ_n = nu/(1 − nu) with room for rounding."""
    assert n * UNIT <= 0.05, n
    return 2.0 * n * UNIT


def up(x: npt.ArrayLike, roundings: int) -> FloatArray:
    """Return an upper bound of the number ≥ 0 of which `x` is a value with n roundings."""
    x = np.asarray(x, dtype=np.float64)
    return np.where(x == 0.0, 0.0, np.nextafter(x * (1.0 + gamma(roundings + 2)), np.inf))


def down(x: npt.ArrayLike, roundings: int) -> FloatArray:
    """Return a lower bound ≥ 0 of the number ≥ 0 of which `x` is a value with n roundings."""
    x = np.asarray(x, dtype=np.float64)
    return np.maximum(np.nextafter(x * (1.0 - gamma(roundings + 2)), -np.inf), 0.0)


def exponent(x: FloatArray, axis: tuple[int, ...] | int | None = None) -> npt.NDArray[np.intc]:
    """Return e with max|x| < 2^e over `axis` (kept), 0 where all of x is 0."""
    return np.frexp(np.abs(x).max(axis=axis, keepdims=True))[1]


def vector_norm(x: FloatArray) -> FloatArray:
    """Return ‖x‖₂ over the last axis with at most n + 4 roundings, free of overflow."""
    e = exponent(x, -1)
    scaled = np.ldexp(x, -e)
    return np.ldexp(np.sqrt(np.einsum("...i,...i->...", scaled, scaled)), e[..., 0])


def norm_upper(x: FloatArray) -> FloatArray:
    """Return an upper bound of ‖x‖₂ over the last axis."""
    return up(vector_norm(x), x.shape[-1] + 4)


def norm_lower(x: FloatArray) -> FloatArray:
    """Return a lower bound of ‖x‖₂ over the last axis."""
    return down(vector_norm(x), x.shape[-1] + 4)


def frobenius_upper(matrix: FloatArray) -> FloatArray:
    """Return an upper bound of ‖M‖_F over the last two axes."""
    return norm_upper(matrix.reshape(*matrix.shape[:-2], -1))


def _largest_sum(square: FloatArray) -> FloatArray:
    """Return max(‖S‖₁, ‖S‖_∞) ≥ ‖S‖₂ with q roundings; a computed S may lack symmetry."""
    size = np.abs(square)
    return np.maximum(size.sum(axis=-1).max(axis=-1), size.sum(axis=-2).max(axis=-1))


def spectral_norm_upper(matrix: FloatArray) -> FloatArray:
    """Return a proved upper bound of ‖M‖_op over the last two axes.

    The singular value decomposition only suggests V; the proof does not trust it. For any square V
    with ε = ‖VᵀV − I‖ < 1,

        ‖M‖ ≤ ‖MV‖·‖V⁻¹‖ ≤ √‖(MV)ᵀ(MV)‖_∞ / √(1 − ε),

    and the three products carry the error bounds γ_n·‖·‖_F‖·‖_F of inner products summed in any
    order. With the right singular vectors the row sums are σ_i² up to rounding, so the bound
    exceeds ‖M‖ by about (p + 2q)·u·(‖M‖_F/‖M‖)², p ≥ q the sides of M.

    Args:
        matrix: M, (..., p, q).

    Returns:
        Shape (...).
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        matrix = np.swapaxes(matrix, -1, -2)
    p, q = matrix.shape[-2:]
    if q == 1:
        return norm_upper(matrix[..., 0])
    e = exponent(matrix, (-2, -1))
    scaled = np.ldexp(matrix, -e)
    v = np.swapaxes(np.linalg.svd(scaled, full_matrices=False)[2], -1, -2)
    image = scaled @ v
    size = frobenius_upper(image)
    image_error = gamma(q) * frobenius_upper(scaled) * frobenius_upper(v)
    gram = _largest_sum(np.swapaxes(image, -1, -2) @ image)
    image_norm = np.sqrt(up(gram, q) + gamma(p) * size**2) + image_error
    defect = _largest_sum(np.swapaxes(v, -1, -2) @ v - np.eye(q))
    defect = up(defect, q + 1) + gamma(q) * frobenius_upper(v) ** 2
    trusted = defect < 0.5
    bound = image_norm / np.sqrt(1.0 - np.where(trusted, defect, 0.0))
    total = frobenius_upper(scaled)
    bound = np.where(trusted, np.minimum(up(bound, 12), total), total)
    return up(np.ldexp(bound, e[..., 0, 0]), 1)


def spectral_norm_lower(matrix: FloatArray) -> FloatArray:
    """Return a proved lower bound of ‖M‖_op over the last two axes: ‖Mv‖/‖v‖, v from the SVD."""
    if matrix.shape[-2] < matrix.shape[-1]:
        matrix = np.swapaxes(matrix, -1, -2)
    q = matrix.shape[-1]
    if q == 1:
        return norm_lower(matrix[..., 0])
    e = exponent(matrix, (-2, -1))
    scaled = np.ldexp(matrix, -e)
    v = np.linalg.svd(scaled, full_matrices=False)[2][..., 0, :]
    image = np.einsum("...pq,...q->...p", scaled, v)
    error = gamma(q) * frobenius_upper(scaled) * norm_upper(v)
    bound = np.maximum(norm_lower(image) - up(error, 2), 0.0) / norm_upper(v)
    return down(np.ldexp(down(bound, 3), e[..., 0, 0]), 1)
