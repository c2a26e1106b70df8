"""Proofs that a cell is empty: multipliers, made exact.

The open cell {x in the interior of D: s_g(⟨w_g, x⟩ + b_g) > 0, g ∈ F} is empty if there are u ≥ 0,
not all 0 on F, with Σ u_g s_g w_g = 0 and Σ u_g s_g b_g ≤ 0, the faces of a box counted as further
rows: a point of it would make Σ u_g s_g(⟨w_g, x⟩ + b_g) positive, and the sum is not. The search
has such u up to rounding only. They are made exact in one of three ways.

*Krawczyk.* With rows C = (s_g w_g, s_g b_g) and d + 2 of them, (0, 1) included if it helps: divide
by one multiplier, and Bμ = −c is a square system, B holding the other rows as columns. For any X
with ‖I − XB‖_∞ ≤ η < 1 and any μ̃, ‖μ − μ̃‖_∞ ≤ ‖X(Bμ̃ + c)‖_∞/(1 − η); if μ̃ exceeds that
everywhere, the exact solution is positive. Inner products of length n are off by γ_(n+1)·Σ|terms|.

*Rational.* Where hyperplanes are parallel, or meet in more than the generic way, the support of u
is smaller: its null vector is computed in integers.

*Ball.* There z = Σ u_g s_g w_g need not vanish: with β = Σ u_g s_g b_g it suffices that
⟨z, x⟩ + β ≤ ⟨z, c⟩ + r‖z‖ + β
< 0, with rounding added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.branching.feasibility import IntArray, Multipliers
from lipbook.lipschitz.branching.integers import nonnegative_relation
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.domains import Ball, Domain, box_arrays
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import gamma, norm_upper, up

# Multipliers below this share of the largest one are taken to be 0.
_NEGLIGIBLE = 1e-11
# Systems inverted in one batch.
_AT_ONCE = 2000
# Longer relations are not looked for in integers: the numbers grow with every elimination step.
_LONGEST_RELATION = 40


def rows_of(switches: Switches, domain: Domain, chosen: IntArray, signs: FloatArray) -> FloatArray:
    """Return the rows (s_g w_g, s_g b_g) and those of a box's faces, exact, (f + 2d, d + 1)."""
    rows = np.concatenate([switches.raw_weight[chosen], switches.bias[chosen, None]], axis=1)
    rows = signs[:, None] * rows
    d = rows.shape[1] - 1
    box = box_arrays(domain, d)
    if box is None:
        return rows
    low = np.concatenate([np.eye(d), -box[0][:, None]], axis=1)
    high = np.concatenate([-np.eye(d), box[1][:, None]], axis=1)
    return np.concatenate([rows, low, high])


@dataclass(frozen=True)
class Claim:
    """Hold the claim that a cell is empty, and why.

    Attributes:
        chosen: F, (f,).
        signs: s, (f,), ±1.
        multipliers: what the search found.
    """

    chosen: IntArray
    signs: FloatArray
    multipliers: Multipliers


def claims_are_proved(switches: Switches, domain: Domain, claims: Sequence[Claim]) -> BoolArray:
    """Tell of each claim whether it can be made a proof that its cell is empty.

    Args:
        switches: the network.
        domain: None, a box or a ball.
        claims: n of them.

    Returns:
        (n,); True only where the cell is empty.
    """
    if isinstance(domain, Ball):
        proved = np.array([_ball_misses(switches, domain, claim) for claim in claims], dtype=bool)
        rest = np.flatnonzero(~proved).tolist()  # they may be empty beyond the ball, too
        if rest:
            proved[rest] = claims_are_proved(switches, None, [claims[i] for i in rest])
        return proved
    relations = [_relation(switches, domain, claim) for claim in claims]
    proved = np.zeros(len(claims), dtype=bool)
    generic = np.array([i for i, r in enumerate(relations) if r.is_generic], dtype=np.intp)
    for start in range(0, generic.size, _AT_ONCE):
        chunk = generic[start : start + _AT_ONCE]
        systems = [relations[i].completed() for i in chunk]
        rows, weights, sound = _scaled(*(np.array(part) for part in zip(*systems, strict=True)))
        proved[chunk] = sound & _are_positive(rows, weights)
    for i in np.flatnonzero(~proved):
        rows = relations[i].rows
        if 0 < len(rows) <= min(rows.shape[1] + 1, _LONGEST_RELATION):
            proved[i] = nonnegative_relation([[Fraction(v) for v in row] for row in rows])
    return proved


@dataclass(frozen=True)
class _Relation:
    """Hold the rows that have a multiplier: Σ weight·row ≈ (0, …, 0, −slack)."""

    rows: FloatArray
    weights: FloatArray

    @property
    def is_generic(self) -> bool:
        """Tell whether there are d + 2 rows, (0, …, 0, 1) included if need be."""
        return len(self.rows) in (self.rows.shape[1], self.rows.shape[1] + 1)

    def completed(self) -> tuple[FloatArray, FloatArray]:
        """Return d + 2 rows and their weights."""
        columns = self.rows.shape[1]
        if len(self.rows) > columns:
            return self.rows, self.weights
        slack = max(-float(self.weights @ self.rows[:, -1]), 0.0)
        return np.concatenate([self.rows, np.eye(columns)[-1:]]), np.append(self.weights, slack)


def _relation(switches: Switches, domain: Domain, claim: Claim) -> _Relation:
    """Return the rows of a claim that have a multiplier."""
    rows = rows_of(switches, domain, claim.chosen, claim.signs)
    u = np.concatenate([claim.multipliers.switches, claim.multipliers.faces])
    weighted = u * np.abs(rows).max(axis=1, initial=0.0)
    support = np.flatnonzero(weighted > _NEGLIGIBLE * weighted.max(initial=0.0))
    return _Relation(rows[support], u[support])


def _are_positive(rows: FloatArray, weights: FloatArray) -> BoolArray:
    """Tell of each system whether some μ > 0 has Σμ_i·row_i = 0, by Krawczyk's test.

    Args:
        rows: (E, d + 2, d + 1), exact.
        weights: approximate μ, (E, d + 2).

    Returns:
        (E,); True only where there is one.
    """
    pivot = weights.argmax(axis=1)
    others = np.arange(rows.shape[1]) != pivot[:, None]
    columns = rows.shape[2]
    system = np.swapaxes(rows[others].reshape(-1, columns, columns), 1, 2)
    target = rows[~others].reshape(-1, columns)
    try:
        inverse = np.asarray(np.linalg.inv(system), dtype=np.float64)
    except np.linalg.LinAlgError:
        if len(rows) == 1:
            return np.zeros(1, dtype=bool)
        return np.concatenate(
            [_are_positive(rows[i : i + 1], weights[i : i + 1]) for i in range(len(rows))]
        )
    with np.errstate(all="ignore"):
        return _solutions_are_positive(system, inverse, target)


def _solutions_are_positive(
    system: FloatArray, inverse: FloatArray, target: FloatArray
) -> BoolArray:
    """Tell of each system whether the exact solution of Bμ = −c is proved to be positive."""
    n = target.shape[1]
    guess = -_apply(inverse, target)
    guess = guess - _apply(inverse, _apply(system, guess) + target)
    residual = np.abs(_apply(system, guess) + target)
    residual += 2.0 * gamma(n + 2) * (_apply(np.abs(system), np.abs(guess)) + np.abs(target))
    size = np.abs(inverse)
    defect = np.abs(inverse @ system - np.eye(n))
    defect += 2.0 * gamma(n + 2) * (size @ np.abs(system) + 1.0)
    eta = up(defect.sum(axis=2).max(axis=1), n + 4)
    trusted = eta < 0.5
    largest = up(_apply(size, residual).max(axis=1), 2 * n + 8)
    error = largest / (1.0 - np.where(trusted, eta, 0.0)) * (1.0 + 1e-6)
    positive: BoolArray = trusted & (guess > error[:, None]).all(axis=1)
    return positive


def _apply(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    """Return the products of (E, n, n) and (E, n)."""
    product: FloatArray = np.matmul(matrix, vector[..., None])[..., 0]
    return product


def _scaled(rows: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Scale rows and the last column by powers of two; neither changes the signs of a relation.

    Args:
        rows: (E, n, d + 1).
        weights: (E, n).

    Returns:
        Rows with entries below 1, the weights that go with them, and where nothing was rounded.
    """
    sizes = np.abs(rows).max(axis=1)
    bias, weight = (np.frexp(x)[1] for x in (sizes[:, -1], sizes[:, :-1].max(axis=1)))
    column = np.where(sizes[:, -1] > 0.0, bias - weight, 0)[:, None]
    scaled = rows.copy()
    scaled[..., -1] = np.ldexp(rows[..., -1], -column)
    e = np.frexp(np.abs(scaled).max(axis=2))[1]
    scaled = np.ldexp(scaled, -e[..., None])
    back = np.ldexp(scaled, e[..., None])
    back[..., -1] = np.ldexp(back[..., -1], column)
    return scaled, np.ldexp(weights, e), (back == rows).all(axis=(1, 2))


def _ball_misses(switches: Switches, ball: Ball, claim: Claim) -> bool:
    """Tell whether Σ u_g s_g(⟨w_g, x⟩ + b_g) is proved negative all over the ball."""
    chosen, signs = claim.chosen, claim.signs
    weight = switches.raw_weight[chosen]
    d = weight.shape[1]
    center, radius = ball_arrays(ball, d)
    sizes = np.maximum(norm_upper(weight), 1e-290)
    weight, bias = weight / sizes[:, None], switches.bias[chosen] / sizes
    u = claim.multipliers.switches * sizes
    total = u.sum()
    if not (np.isfinite(total) and total > 0.0):
        return False
    u, signed = u / total, signs * u / total
    z, offset = signed @ weight, float(signed @ bias)
    value = float(z @ center) + radius * float(norm_upper(z)) + offset
    # Every product in the sum, the division by `sizes` included, is off by a few roundings; the
    # multipliers are what they are, and any nonnegative ones will do.
    reach = float(np.abs(center).max()) * d + radius
    size = float(u @ (np.abs(weight).sum(axis=1) * reach + np.abs(bias)))
    return value + 4.0 * gamma(chosen.size + 2 * d + 12) * size < 0.0
