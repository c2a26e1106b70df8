"""Proof of the semidefinite bound from its multipliers, checked without the search and its bounds.

To prove: upper·I − M(t) ⪰ 0. With α_i = h_i t_i and any β_i ≥ h_i/t_i the matrix

    Σ_i [ α_i w_i w_iᵀ   c_i w_i a_iᵀ ]
        [ c_i a_i w_iᵀ   β_i a_i a_iᵀ ]

bounds the norm as M(t) does, and its entries are integers times a power of two. Up to a certain
size the matrix is formed and proved semidefinite in integers. Beyond it, floating-point Cholesky
has to run to completion for S = upper·I − M(t) − shift·I. Its factor has FFᵀ = S + Δ with |Δ| ≤
γ_(n+1)|F||Fᵀ|, so that λ_min(S) ≥ −γ_(n+1)/(1 − γ_(n+1))·tr S (S. M. Rump, Verification of positive
definiteness, BIT Numerical Mathematics 46, 2006; we take γ_(n+3), for triangular solvers that
multiply by reciprocals). The shift covers that and the rounding errors of M(t).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from scipy.linalg import lapack

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.exact_slopes import Range, exact_slope_ranges
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import UNIT, exponent, gamma, norm_upper, up
from lipbook.lipschitz.semidefinite.exact_semidefinite import (
    IntegerMatrix,
    as_integers,
    is_semidefinite,
)
from lipbook.lipschitz.slope_intervals import centred_interval

# Products of integers to form M(t): some seconds.
_LARGEST_EXACT = 1_000_000
# Multipliers of rows scaled to length about 1, as a power of 2, with which underflow is harmless.
_EXTREME = 400


def room_for_check(width: int, n: int) -> float:
    """Return by which share the bound of a large network is to be raised, so that floating point
    can check it: 0 where integers will."""
    return 0.0 if width * n * n <= _LARGEST_EXACT else 16.0 * (width + n) * n * UNIT


@dataclass(frozen=True)
class Multipliers:
    """Hold the multipliers of one semidefinite bound.

    Attributes:
        multiplier: t, (m,); 0 or ∞ stands for the power of two that balances w_i and a_i.
    """

    multiplier: FloatArray = field(compare=False)

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why λ_max(M(t)) ≤ upper is not proved on the domain, or None if it is."""
        if self.multiplier.shape != (problem.width,):
            return f"there are {self.multiplier.size} multipliers for {problem.width} neurons"
        if not (self.multiplier >= 0.0).all():
            return "a multiplier is negative or not a number"
        if not 0.0 <= upper < np.inf:
            return None if upper == np.inf else "the upper bound is negative or not a number"
        live = np.any(problem.hidden_weight, axis=1) & np.any(problem.output_weight, axis=0)
        if not live.any():
            return None
        n = problem.input_dim + problem.output_dim
        small = problem.width * n * n <= _LARGEST_EXACT
        proved = (_in_integers if small else _in_floats)(problem, self.multiplier, live, upper)
        return None if proved else f"λ_max(M(t)) is not proved to be at most {upper!r}"


def _balanced(problem: Problem, multiplier: FloatArray) -> list[Fraction]:
    """Return t as rational numbers; balancing powers of two for 0 and ∞."""
    lean = (exponent(problem.output_weight.T, -1) - exponent(problem.hidden_weight, -1))[:, 0]
    return [
        Fraction(t) if 0.0 < t < np.inf else Fraction(2) ** power
        for t, power in zip(multiplier.tolist(), lean.tolist(), strict=True)
    ]


def _in_integers(problem: Problem, multiplier: FloatArray, live: BoolArray, upper: float) -> bool:
    weight, p = as_integers(problem.hidden_weight[live])
    output, q = as_integers(problem.output_weight.T[live])
    ranges, t = exact_slope_ranges(problem), _balanced(problem, multiplier)
    terms = [_coefficients(ranges[j], t[j]) for j in np.flatnonzero(live)]
    two = Fraction(2)
    alpha = [a * two ** int(2 * e) for (a, _, _), e in zip(terms, p, strict=True)]
    mean = [c * two ** int(e + f) for (_, c, _), e, f in zip(terms, p, q, strict=True)]
    beta = [b * two ** int(2 * f) for (_, _, b), f in zip(terms, q, strict=True)]
    common = max(x.denominator for x in (*alpha, *mean, *beta, Fraction(upper)))
    first, cross, last = (
        np.array([int(x * common) for x in part], dtype=object)[:, None]
        for part in (alpha, mean, beta)
    )
    top = np.concatenate([weight.T @ (first * weight), weight.T @ (cross * output)], axis=1)
    bottom = np.concatenate([output.T @ (cross * weight), output.T @ (last * output)], axis=1)
    matrix: IntegerMatrix = -np.concatenate([top, bottom])
    np.fill_diagonal(matrix, matrix.diagonal() + int(Fraction(upper) * common))
    return is_semidefinite(matrix)


def _coefficients(slopes: Range, t: Fraction) -> tuple[Fraction, Fraction, Fraction]:
    """Return α, c, β with αβ ≥ h², all of them integers times powers of two."""
    low, high = slopes
    half_width = (high - low) / 2
    beta = half_width / t
    shift = 64 + beta.denominator.bit_length() - beta.numerator.bit_length()
    scale = Fraction(2) ** shift
    return half_width * t, (low + high) / 2, Fraction(math.ceil(beta * scale)) / scale


def _in_floats(problem: Problem, multiplier: FloatArray, live: BoolArray, upper: float) -> bool:
    """Form M(t), scaled, with up to m + 4 roundings in each term, and let Cholesky decide."""
    ranges = np.array([(float(a), float(b)) for a, b in exact_slope_ranges(problem)])
    live = live & ranges.any(axis=1)
    if not live.any():
        return True
    centre, half_width = centred_interval(*ranges[live].T)
    weight, output = problem.hidden_weight[live], problem.output_weight.T[live]
    p, q = exponent(weight, -1), exponent(output, -1)
    weight, output = np.ldexp(weight, -p), np.ldexp(output, -q)
    size, lean = (p + q)[:, 0], (p - q)[:, 0]
    unit = int(size.max())
    t = multiplier[live]
    given = (t > 0.0) & (t < np.inf) & (half_width > 0.0)
    tau = np.where(given, np.ldexp(np.where(given, t, 1.0), np.where(given, lean, 0)), 1.0)
    if (np.abs(np.frexp(tau)[1]) > _EXTREME).any():
        return False
    scale = np.ldexp(1.0, size - unit)
    alpha, beta = half_width * scale * tau, half_width * scale / tau
    mean = centre * scale
    top = weight.T @ np.hstack([alpha[:, None] * weight, mean[:, None] * output])
    bottom = output.T @ np.hstack([mean[:, None] * weight, beta[:, None] * output])
    masses = (
        (alpha * norm_upper(weight) ** 2).sum(),
        (beta * norm_upper(output) ** 2).sum(),
        (np.abs(mean) * norm_upper(weight) * norm_upper(output)).sum(),
    )
    error = gamma(len(alpha) + 4) * up(sum(masses), len(alpha) + 8) + 2.0**-500
    return _is_below(np.vstack([top, bottom]), float(np.ldexp(upper, -unit)), float(error))


def _is_below(matrix: FloatArray, upper: float, error: float) -> bool:
    """Tell whether λ_max ≤ upper is proved of every symmetric matrix within `error` of M̂."""
    n = len(matrix)
    if not (np.isfinite(matrix).all() and np.isfinite(error)):
        return False
    trace = n * upper + float(np.abs(np.diagonal(matrix)).sum())
    shift = float(up(error + gamma(n + 3) * trace + 4.0 * UNIT * trace, 4))
    shifted = -matrix
    np.fill_diagonal(shifted, (upper - shift) - np.diagonal(matrix))
    _, info = lapack.dpotrf(shifted, lower=1)
    return bool(info == 0)
