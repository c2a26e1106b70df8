"""Proved upper bounds of max ‖A·diag(s)·W‖ over slopes s_i ∈ [c_i − h_i, c_i + h_i], one for each
choice of multipliers t > 0.

For p_i = w_iᵀx, q_i = a_iᵀy and s_i = c_i + h_iθ_i, |θ_i| ≤ 1,

    yᵀA·diag(s)·Wx = Σ c_i p_i q_i + h_i θ_i p_i q_i ≤ Σ c_i p_i q_i + ½h_i(t_i p_i² + q_i²/t_i)
                   = ½ zᵀM(t)z,   z = (x, y),   ‖z‖² = 2 on unit vectors,

    M(t) = Σ_i [ h_i t_i w_i w_iᵀ    c_i w_i a_iᵀ    ]
               [ c_i a_i w_iᵀ     (h_i/t_i) a_i a_iᵀ ],

so that *every* t bounds the norm by λ_max(M(t)). The least of these bounds is the value of LipSDP
(Fazlyab et al., Efficient and Accurate Estimation of Lipschitz Constants for Deep Neural Networks,
NeurIPS 2019) with one multiplier per neuron.

Rigour. Powers of two scale every row w_i and a_i to entries below 1, and the coefficients with them
(t_i becomes τ_i, cut to [2⁻²⁰⁰, 2²⁰⁰]: any positive multiplier will do). A term of M then carries m
+ 2 roundings at most, so that the computed M̂ satisfies

    ‖M̂ − M‖ ≤ γ_(m+2)·(max(tr M_xx, tr M_yy) + Σ|c_i|‖w_i‖‖a_i‖).

No eigenvalue is trusted: for any number τ and any square matrix F, τI − M̂ = FFᵀ − R with R the
residual, hence λ_max(M̂) ≤ τ + ‖R‖_F, and fl(FFᵀ) is off by at most γ_n‖F‖_F² in norm. τ is an
eigenvalue from LAPACK, slightly enlarged; F is a Cholesky factor. (That the factorisation runs to
completion would prove as much, see S. M. Rump, Verification of positive definiteness, BIT 46, 2006;
but that theorem asks how it was carried out, the residual does not.) The bound exceeds λ_max by a
relative 2n²u + 2mnu or so, n = d + k.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.rounding import (
    UNIT,
    down,
    exponent,
    frobenius_upper,
    gamma,
    norm_upper,
    up,
    vector_norm,
)

IntArray = npt.NDArray[np.intc]

# Multipliers of rows scaled to length about 1 are cut to 2^±200.
_EXTREME = 200
# More than a sum of scaled terms loses to underflow: each loses less than 2^(200 - 1073).
_LOST = 2.0**-500


@dataclass(frozen=True)
class Rows:
    """Hold the rows w_i, a_i scaled by powers of two to entries below 1.

    Attributes:
        weight: ŵ_i = 2^-p_i·w_i, (..., m, d).
        output: â_i = 2^-q_i·a_i, (..., m, k).
        lean: p_i − q_i, (..., m): τ_i = t_i·2^(p_i − q_i).
        size: p_i + q_i, (..., m): coefficients of neuron i are · 2^(p_i + q_i).
        live: whether w_i ≠ 0 and a_i ≠ 0, (..., m); other neurons change nothing.
    """

    weight: FloatArray
    output: FloatArray
    lean: IntArray
    size: IntArray
    live: BoolArray

    @cached_property
    def lengths(self) -> FloatArray:
        """Return upper bounds of ‖ŵ_i‖‖â_i‖ before the rounding of the product, (..., m)."""
        return norm_upper(self.weight) * norm_upper(self.output)


def scaled_rows(weight: FloatArray, output: FloatArray) -> Rows:
    """Return the rows of W (..., m, d) and the columns of A (..., k, m), scaled."""
    columns = np.swapaxes(output, -1, -2)
    p, q = exponent(weight, -1), exponent(columns, -1)
    live = np.any(weight, axis=-1) & np.any(columns, axis=-1)
    lean, size = (p - q)[..., 0], (p + q)[..., 0]
    return Rows(np.ldexp(weight, -p), np.ldexp(columns, -q), lean, size, live)


def relaxation_upper(
    weight: FloatArray,
    output: FloatArray,
    centre: FloatArray,
    half_width: FloatArray,
    multiplier: FloatArray,
    rows: Rows | None = None,
) -> FloatArray:
    """Bound λ_max(M(t)) from above, hence ‖A·diag(s)·W‖_op for all s_i ∈ [c_i − h_i, c_i + h_i].

    Leading axes are a batch; those of `weight` and `output` may be missing. A multiplier that is no
    positive finite number is replaced by the one that balances its neuron.

    Args:
        weight: W, (..., m, d).
        output: A, (..., k, m).
        centre: c, (..., m), finite.
        half_width: h ≥ 0, (..., m), finite.
        multiplier: t, (..., m); without influence where h is 0.
        rows: what `scaled_rows` returns of W and A, if it is known already.

    Returns:
        The bounds, (...), rounded up; 0 where no neuron counts.
    """
    if centre.size == 0:
        return np.zeros(centre.shape[:-1])
    rows = scaled_rows(weight, output) if rows is None else rows
    tau = _cut(multiplier, rows.lean)
    mean, spread, e = coefficients(rows, centre, half_width)
    matrix, error = _matrix(rows, mean, spread * tau, spread / tau)
    bound = up(largest_eigenvalue_upper(matrix) + error, 2) + _LOST
    counts = (np.maximum(np.abs(mean), spread) > 0.0).any(axis=-1)
    return np.where(counts, np.nextafter(np.ldexp(bound, e), np.inf), 0.0)


def relaxation_lower(
    weight: FloatArray,
    output: FloatArray,
    centre: FloatArray,
    half_width: FloatArray,
    factor: FloatArray,
    rows: Rows | None = None,
) -> FloatArray:
    """Bound the least λ_max(M(t)) over all t from below, whatever Z = (P; Q) is given.

    Σ_i h_i|Pᵀw_i||Qᵀa_i| + c_i⟨Pᵀw_i, Qᵀa_i⟩ ≤ λ_max(M(t))·‖P‖_F‖Q‖_F for every t. Its terms have
    errors up to γ(h_i + |c_i|)‖w_i‖‖a_i‖‖P‖_F‖Q‖_F; the bound holds for all c and h within 8u(|c| +
    h) of the given ones.

    Args:
        weight: W, (..., m, d).
        output: A, (..., k, m).
        centre: c, (..., m), finite.
        half_width: h ≥ 0, (..., m), finite.
        factor: Z, (..., d + k, r).
        rows: what `scaled_rows` returns of W and A, if it is known already.

    Returns:
        The bounds ≥ 0, (...), rounded down.
    """
    rows = scaled_rows(weight, output) if rows is None else rows
    mean, spread, e = coefficients(rows, centre, half_width)
    d, (n, rank) = weight.shape[-1], factor.shape[-2:]
    sizes = frobenius_upper(factor[..., :d, :]) * frobenius_upper(factor[..., d:, :])
    inner, outer = rows.weight @ factor[..., :d, :], rows.output @ factor[..., d:, :]
    value = (spread * vector_norm(inner) * vector_norm(outer)).sum(axis=-1)
    value = value + (mean * np.einsum("...mr,...mr->...m", inner, outer)).sum(axis=-1)
    path = ((spread + np.abs(mean)) * rows.lengths).sum(axis=-1) * sizes
    error = gamma(mean.shape[-1] + n + 2 * rank + 24) * path + _LOST
    usable = (sizes > 0.0) & np.isfinite(sizes)
    bound = np.maximum(value - up(error, 2), 0.0) / np.where(usable, sizes, 1.0)
    return down(np.ldexp(down(np.where(usable, bound, 0.0), 4), e), 1)


def _cut(multiplier: FloatArray, lean: IntArray) -> FloatArray:
    """Return τ = t·2^lean cut to 2^±200, and 1 where t is no positive finite number."""
    usable = (multiplier > 0.0) & np.isfinite(multiplier)
    # The mantissa apart, for t·2^lean may leave the range of float64 before it is cut.
    mantissa, e = np.frexp(np.where(usable, multiplier, 1.0))
    tau = np.ldexp(mantissa, np.clip(e + lean, -_EXTREME, _EXTREME))
    return np.where(usable, tau, 1.0)


def coefficients(
    rows: Rows, centre: FloatArray, half_width: FloatArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return c and h of the scaled rows, 0 where a neuron is not live, both · 2^-e, and e (...)."""
    largest = np.where(rows.live, np.maximum(np.abs(centre), half_width), 0.0)
    # Neurons that do not count must not set the scale.
    sizes = np.where(largest > 0.0, np.frexp(largest)[1] + rows.size, -(2**20))
    e = sizes.max(axis=-1)
    shift = rows.size - e[..., None]
    mean = np.ldexp(np.where(rows.live, centre, 0.0), shift)
    spread = np.ldexp(np.where(rows.live, half_width, 0.0), shift)
    return mean, spread, e


def _matrix(
    rows: Rows, mean: FloatArray, alpha: FloatArray, beta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return M̂ (..., n, n) with blocks Σα_i ŵ_i ŵ_iᵀ, Σc_i ŵ_i â_iᵀ, Σβ_i â_i â_iᵀ, and a bound of
    ‖M̂ − M‖ (...)."""
    first = weighted_gram(alpha, rows.weight, rows.weight)
    last = weighted_gram(beta, rows.output, rows.output)
    cross = weighted_gram(mean, rows.weight, rows.output)
    d, k = cross.shape[-2:]
    matrix = np.empty((*cross.shape[:-2], d + k, d + k))
    matrix[..., :d, :d], matrix[..., d:, d:] = first, last
    matrix[..., :d, d:], matrix[..., d:, :d] = cross, np.swapaxes(cross, -1, -2)
    width = mean.shape[-1]
    traces = np.maximum(np.trace(first, axis1=-2, axis2=-1), np.trace(last, axis1=-2, axis2=-1))
    path = (np.abs(mean) * rows.lengths).sum(axis=-1)
    return matrix, gamma(width + 2) * up(traces + path, 2 * width + d + k + 8)


def weighted_gram(coefficient: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """Return Σ_i x_i l_i r_iᵀ, (..., p, q), for x (..., m), l (..., m, p) and r (..., m, q).

    Each term has at most m + 1 roundings, whichever way the sum is taken.
    """
    p, q = left.shape[-1], right.shape[-1]
    batch = math.prod(coefficient.shape[:-1])
    if left.ndim == right.ndim == 2 and p * q <= 4 * batch:
        # One product for the whole batch is several times faster than one for each of its members.
        table = (left[:, :, None] * right[:, None, :]).reshape(-1, p * q)
        return (coefficient @ table).reshape(*coefficient.shape[:-1], p, q)
    product: FloatArray = (np.swapaxes(left, -1, -2) * coefficient[..., None, :]) @ right
    return product


def largest_eigenvalue_upper(matrix: FloatArray) -> FloatArray:
    """Return a proved upper bound of λ_max of symmetric matrices, (...), as they stand.

    Where rounding has left (i, j) and (j, i) different, it bounds zᵀMz/‖z‖².

    Args:
        matrix: M, (..., n, n), entries below 2⁵⁰⁰ in magnitude.

    Returns:
        Bounds ≥ 0, rounded up; the Frobenius norm where LAPACK gives no eigenvalue.
    """
    n = matrix.shape[-1]
    try:
        guess = np.maximum(np.linalg.eigvalsh(matrix)[..., -1], 0.0)
    except np.linalg.LinAlgError:
        return frobenius_upper(matrix)
    guess = guess * (1.0 + 8.0 * (n + 8) * UNIT) + 2.0**-600
    shifted = guess[..., None, None] * np.eye(n) - matrix
    factor = _factor(shifted)
    residual = frobenius_upper(factor @ np.swapaxes(factor, -1, -2) - shifted)
    diagonal = np.abs(np.diagonal(shifted, axis1=-2, axis2=-1)).max(axis=-1)
    product_error = gamma(n) * up(frobenius_upper(factor) ** 2, 1)
    error = up(residual, 1) + product_error + 2.0 * UNIT * diagonal
    bound = up(guess + error, 4)
    if np.isfinite(bound).all():
        return bound
    return np.fmin(bound, frobenius_upper(matrix))  # a factorisation that overflows to NaN


def _factor(shifted: FloatArray) -> FloatArray:
    """Return F with FFᵀ ≈ S, by Cholesky, or from eigenvectors where that breaks down."""
    try:
        return np.asarray(np.linalg.cholesky(shifted), dtype=np.float64)
    except np.linalg.LinAlgError:
        value, vector = np.linalg.eigh(shifted)
        root = np.sqrt(np.maximum(value, 0.0))
        return np.asarray(vector * root[..., None, :], dtype=np.float64)
