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

from fractions import Fraction

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.feasibility import IntArray, Multipliers
from lipbook.lipschitz.branching.integers import nonnegative_relation
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.domains import Ball, Domain, box_arrays
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import gamma, norm_upper, up

# Multipliers below this share of the largest one are taken to be 0.
_NEGLIGIBLE = 1e-11
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


def emptiness_is_proved(
    switches: Switches,
    domain: Domain,
    chosen: IntArray,
    signs: FloatArray,
    multipliers: Multipliers,
) -> bool:
    """Tell whether the multipliers can be made a proof that the cell is empty.

    Args:
        switches: the network.
        domain: None, a box or a ball.
        chosen: F, (f,).
        signs: s, (f,), ±1.
        multipliers: what the search found.

    Returns:
        True only if the cell is empty.
    """
    if isinstance(domain, Ball):
        return _ball_misses(switches, domain, chosen, signs, multipliers)
    rows = rows_of(switches, domain, chosen, signs)
    u = np.concatenate([multipliers.switches, multipliers.faces])
    weighted = u * np.abs(rows).max(axis=1)
    support = np.flatnonzero(weighted > _NEGLIGIBLE * weighted.max(initial=0.0))
    if not support.size:
        return False
    rows, u = rows[support], u[support]
    if relation_is_positive(rows, u):
        return True
    if support.size > min(rows.shape[1] + 1, _LONGEST_RELATION):
        return False
    return nonnegative_relation([[Fraction(v) for v in row] for row in rows])


def relation_is_positive(rows: FloatArray, u: FloatArray) -> bool:
    """Tell whether there is μ > 0 with Σμ_i·row_i = 0 or = (0, …, 0, −μ₀), by Krawczyk's test.

    Args:
        rows: (n, d + 1), exact.
        u: approximate multipliers, (n,).

    Returns:
        True only if there is one; False for n other than d + 1 and d + 2.
    """
    d = rows.shape[1] - 1
    if rows.shape[0] == d + 1:
        rows = np.concatenate([rows, np.eye(d + 1)[d:]])
        u = np.append(u, max(-float(u @ rows[:-1, d]), 0.0))
    if rows.shape[0] != d + 2:
        return False
    scaled, u = _scaled(rows, u)
    if scaled is None:
        return False
    pivot = int(u.argmax())
    system, target = np.delete(scaled, pivot, axis=0).T, scaled[pivot]
    try:
        inverse = np.asarray(np.linalg.inv(system), dtype=np.float64)
    except np.linalg.LinAlgError:
        return False
    with np.errstate(all="ignore"):
        return _solution_is_positive(system, inverse, target)


def _solution_is_positive(system: FloatArray, inverse: FloatArray, target: FloatArray) -> bool:
    """Tell whether the exact solution of Bμ = −c is proved to be positive."""
    n = len(target)
    guess = -inverse @ target
    guess = guess - inverse @ (system @ guess + target)
    residual = np.abs(system @ guess + target)
    residual += 2.0 * gamma(n + 2) * (np.abs(system) @ np.abs(guess) + np.abs(target))
    size = np.abs(inverse)
    defect = np.abs(inverse @ system - np.eye(n)) + 2.0 * gamma(n + 2) * (
        size @ np.abs(system) + 1.0
    )
    eta = float(up(defect.sum(axis=1).max(), n + 4))
    if not eta < 0.5:
        return False
    error = float(up((size @ residual).max(), 2 * n + 8)) / (1.0 - eta) * (1.0 + 1e-6)
    return bool((guess > error).all())


def _scaled(rows: FloatArray, u: FloatArray) -> tuple[FloatArray | None, FloatArray]:
    """Scale rows and the last column by powers of two, exactly, or return None."""
    weight_size = np.abs(rows[:, :-1]).max()
    column = int(np.frexp(np.abs(rows[:, -1]).max() + 2.0**-1000)[1]) - int(
        np.frexp(weight_size + 2.0**-1000)[1]
    )
    scaled = rows.copy()
    scaled[:, -1] = np.ldexp(rows[:, -1], -column)
    e = np.frexp(np.abs(scaled).max(axis=1))[1]
    scaled = np.ldexp(scaled, -e[:, None])
    back = np.ldexp(scaled, e[:, None])
    back[:, -1] = np.ldexp(back[:, -1], column)
    return (scaled if np.array_equal(back, rows) else None), np.ldexp(u, e)


def _ball_misses(
    switches: Switches, ball: Ball, chosen: IntArray, signs: FloatArray, multipliers: Multipliers
) -> bool:
    """Tell whether Σ u_g s_g(⟨w_g, x⟩ + b_g) is proved negative all over the ball."""
    weight = switches.raw_weight[chosen]
    d = weight.shape[1]
    center, radius = ball_arrays(ball, d)
    sizes = np.maximum(norm_upper(weight), 1e-290)
    weight, bias = weight / sizes[:, None], switches.bias[chosen] / sizes
    u = multipliers.switches * sizes
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
