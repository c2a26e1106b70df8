"""LipSDP of a perceptron of any depth: a proved upper bound for each choice of multipliers.

Let f(x) = W_n σ(… σ(W_1 x + b_1) …) + b_n with slopes of σ in [l, u], c = (l + u)/2 and κ = −l·u.
Moving the input by a vector x_0 moves what the hidden layers pass on by vectors x_1, …, x_(n−1),
and layer i, neuron j, with z = (W_i x_(i−1))_j, turns z into v = (x_i)_j by some slope in [l, u]:

    (v − l·z)(u·z − v) = 2c·v·z − v² + κz² ≥ 0.

Theorem. If λ ≥ 0 and ρ > 0 are such that the quadratic form

    Q(x_0, …, x_(n−1)) = ‖x_0‖² − ‖W_n x_(n−1)‖²/ρ + Σ_ij λ_ij (v² − 2c·v·z − κz²)

is positive semidefinite, then Lip(f) ≤ √ρ, on any domain.
Proof. Every summand with a λ is ≤ 0 at the vectors that two inputs produce, so that
0 ≤ Q ≤ ‖x_0‖² − ‖W_n x_(n−1)‖²/ρ there: ‖f(x + x_0) − f(x)‖ ≤ √ρ‖x_0‖. ∎

The least such ρ is the value of LipSDP with one multiplier per neuron (Fazlyab et al., Efficient
and Accurate Estimation of Lipschitz Constants for Deep Neural Networks, NeurIPS 2019). It is never
above a product of bounds of blocks of layers: the blocks' multipliers, scaled, fit together.

Rigour. l and u are moved outwards and κ is rounded up, which only weakens the hypothesis. An entry
of the computed matrix Q̂ has at most r = max width + 6 roundings, hence |Q̂ − Q| ≤ γ_r·B, B the same
sum of absolute values. Powers of two scale the diagonal to below 1; then Q̂ ⪰ (1 − β)I with
β ≥ λ_max(I − Q̂) from `largest_eigenvalue_upper`, which trusts no eigenvalue, and Q ⪰ 0 once
1 − β ≥ γ_r‖B‖_F.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.exact_sums import rounded
from lipbook.lipschitz.product import slope_bounds
from lipbook.lipschitz.rounding import UNIT, exponent, frobenius_upper, gamma, up
from lipbook.lipschitz.semidefinite.relaxation import largest_eigenvalue_upper

# A diagonal entry outside of 2^±400 is left to the other bounds.
_EXTREME = 400


@dataclass(frozen=True)
class Sector:
    """Hold c and κ with (v − cz)² ≤ (κ + c²)z² whenever v is a slope of σ times z."""

    centre: float
    kappa: float

    @classmethod
    def of(cls, activation: Activation) -> Sector:
        """Return the sector of σ, rounded outwards."""
        low, high = slope_bounds(activation)
        centre = 0.5 * low + 0.5 * high
        middle = Fraction(centre)
        half_width = max(Fraction(high) - middle, middle - Fraction(low))
        return cls(centre, rounded(half_width**2 - middle**2, 1))


@dataclass(frozen=True)
class Weights:
    """Hold the weights W_1, …, W_n of a perceptron without dead neurons, scaled by powers of two.

    Attributes:
        matrices: W_1, …, W_n, each with maximum below 1; the maxima of the rows of W_i and those of
            the columns of W_(i+1) are in one proportion, up to a factor 4.
        exponent: e; the Lipschitz constant is that of `matrices` · 2^e.
        exact: whether no entry was lost to underflow.
    """

    matrices: tuple[FloatArray, ...]
    exponent: int
    exact: bool

    @property
    def hidden(self) -> tuple[int, ...]:
        """Return the widths of the hidden layers."""
        return tuple(len(matrix) for matrix in self.matrices[:-1])


def balanced(matrices: Sequence[FloatArray]) -> Weights | None:
    """Return the scaled weights, or None if no path of nonzero weights leads through the network.

    Only for multipliers: that σ is not homogeneous does not matter, as the constraints of a neuron
    are homogeneous.

    Args:
        matrices: W_1, …, W_n.
    """
    alive = _without_dead([np.array(matrix) for matrix in matrices])
    if alive is None:
        return None
    exact = True
    for i in range(len(alive) - 1):
        rows, columns = exponent(alive[i], 1), exponent(alive[i + 1], 0)
        shift = (columns[0] - rows[:, 0]) // 2
        alive[i], kept = _shifted(alive[i], shift[:, None])
        alive[i + 1], also = _shifted(alive[i + 1], -shift)
        exact = exact and kept and also
    exponents = [int(exponent(matrix).item()) for matrix in alive]
    found = [_shifted(matrix, np.intp(-e)) for matrix, e in zip(alive, exponents, strict=True)]
    exact = exact and all(kept for _, kept in found)
    return Weights(tuple(matrix for matrix, _ in found), sum(exponents), exact)


def _shifted(matrix: FloatArray, shift: Any) -> tuple[FloatArray, bool]:
    """Return the matrix · 2^shift, and whether that is exact."""
    shifted = np.ldexp(matrix, shift)
    return shifted, np.array_equal(np.ldexp(shifted, -shift), matrix)


def _without_dead(matrices: list[FloatArray]) -> list[FloatArray] | None:
    """Drop neurons whose row or column is zero, again and again."""
    changed = True
    while changed:
        changed = False
        for i in range(len(matrices) - 1):
            alive = np.any(matrices[i], axis=1) & np.any(matrices[i + 1], axis=0)
            if not alive.any():
                return None
            if not alive.all():
                matrices[i], matrices[i + 1] = matrices[i][alive], matrices[i + 1][:, alive]
                changed = True
    return matrices if matrices[-1].any() and matrices[0].any() else None


def quadratic_form(
    weights: Weights, sector: Sector, multipliers: FloatArray, inverse: float
) -> FloatArray:
    """Return the matrix of Q for the multipliers λ (Σ m_i,) and 1/ρ = `inverse`."""
    return _assembled(weights.matrices, sector.centre, sector.kappa, multipliers, inverse, -1.0)


def _assembled(
    matrices: Sequence[FloatArray],
    centre: float,
    kappa: float,
    multipliers: FloatArray,
    inverse: float,
    sign: float,
) -> FloatArray:
    """Return the matrix of Q; with sign = 1, sizes in place of numbers, that of B."""
    offsets = np.concatenate([[0], np.cumsum([matrix.shape[1] for matrix in matrices])])
    size, first = int(offsets[-1]), int(offsets[1])
    form = np.zeros((size, size))
    form[range(first), range(first)] = 1.0
    for i, matrix in enumerate(matrices[:-1]):
        here = slice(offsets[i], offsets[i + 1])
        there = slice(offsets[i + 1], offsets[i + 2])
        chosen = multipliers[offsets[i + 1] - first : offsets[i + 2] - first]
        form[there, there] += np.diag(chosen)
        form[there, here] = sign * centre * (chosen[:, None] * matrix)
        form[here, there] = form[there, here].T
        if kappa != 0.0:
            form[here, here] += sign * kappa * (matrix.T @ (chosen[:, None] * matrix))
    last = slice(offsets[-2], offsets[-1])
    form[last, last] += sign * inverse * (matrices[-1].T @ matrices[-1])
    # A product of a matrix with its transpose may come out unsymmetric in its last digits.
    return 0.5 * form + 0.5 * form.T


def is_proved(weights: Weights, sector: Sector, multipliers: FloatArray, inverse: float) -> bool:
    """Tell whether Q is proved to be positive semidefinite, so that Lip ≤ 2^e/√inverse.

    Args:
        weights: scaled weights.
        sector: of σ.
        multipliers: λ, (Σ m_i,), any numbers.
        inverse: 1/ρ, any number.
    """
    if not (np.isfinite(multipliers).all() and (multipliers >= 0.0).all() and inverse > 0.0):
        return False
    form = quadratic_form(weights, sector, multipliers, inverse)
    diagonal = np.diagonal(form)
    if not (np.isfinite(form).all() and (diagonal > 0.0).all()):
        return False
    shift = -((np.frexp(diagonal)[1] + 1) // 2)
    if np.abs(shift).max() > _EXTREME:
        return False
    sizes = [np.abs(matrix) for matrix in weights.matrices]
    bound = _assembled(sizes, abs(sector.centre), abs(sector.kappa), multipliers, inverse, 1.0)
    terms = max(matrix.shape[0] for matrix in weights.matrices) + 6
    error = gamma(terms) * float(up(frobenius_upper(_scaled(bound, shift)), terms)) + 2.0**-200
    identity = np.eye(len(form))
    scaled = _scaled(form, shift)
    largest = float(largest_eigenvalue_upper(identity - scaled)) + 2.0 * UNIT
    return 1.0 - largest - error > 4.0 * UNIT


def _scaled(form: FloatArray, shift: FloatArray) -> FloatArray:
    return np.ldexp(np.ldexp(form, shift), shift[:, None])
