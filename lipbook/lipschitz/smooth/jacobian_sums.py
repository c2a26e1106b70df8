"""The Jacobian of a smooth network on a bounded domain, as a sum of slopes in scaled coordinates.

    2^-e·J(x) = base + Σ_j V_j σ'(w_jᵀy + b_j),   y_i = 2^-s_i·x_i,

V_j = a_j w_jᵀ, w_j in units of y. The domain is about as wide as 1 in every y_i and V_j has entries
below 1, whatever the scales of the weights. Scaling is by powers of two and therefore exact, but
for underflow: it moves the domain outwards, and takes less than 2⁻¹⁰⁰⁰ from a pre-activation, for
|y_i| ≤ 2⁵⁵ since the domain's ends are different float64 numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.merging import merged
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import UNIT, exponent, frobenius_upper, norm_upper, up, vector_norm

# More than scaled sums lose to underflow.
_LOST = 2.0**-900


@dataclass(frozen=True)
class Sphere:
    """Hold the ball {y : ‖y − center‖ ≤ radius} around the domain, radius rounded up."""

    center: FloatArray
    radius: float


@dataclass(frozen=True)
class Region:
    """Hold the domain in scaled coordinates, rounded outwards.

    Attributes:
        low: (d,).
        high: (d,).
        sphere: the ball whose bounding box [low, high] is, or None.
        exponents: s, (d,).
    """

    low: FloatArray
    high: FloatArray
    sphere: Sphere | None
    exponents: npt.NDArray[np.intc]

    def points(self, y: FloatArray) -> FloatArray:
        """Return y in the coordinates of the network; a point may end up outside by rounding."""
        return np.ldexp(y, self.exponents)


@dataclass(frozen=True)
class JacobianSum:
    """Hold 2^-e·J as base + Σ_j V_j σ'(w_jᵀy + b_j), up to `spread` in norm.

    Attributes:
        direction: w, (m, d).
        bias: b, (m,).
        values: V, (m, k, d), each entry with two roundings.
        sizes: upper bounds of ‖V_j‖, (m,).
        units: w_j/‖w_j‖ in the units of x, to d + 8 roundings, (m, d).
        base: (k, d).
        spread: bound of what is left out.
        activation: σ.
        value_exponent: e.
    """

    direction: FloatArray
    bias: FloatArray
    values: FloatArray
    sizes: FloatArray
    units: FloatArray
    base: FloatArray
    spread: float
    activation: Activation
    value_exponent: int


def region(problem: Problem) -> Region:
    """Return the domain, a box or a `Ball`, in coordinates in which it is about as wide as 1."""
    d = problem.input_dim
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, d)
        shift = np.full(d, np.frexp(radius)[1])
        scaled, size = np.ldexp(center, -shift), float(np.ldexp(radius, -shift[0]))
        if not np.array_equal(np.ldexp(scaled, shift), center):
            size = float(up(size + _LOST, 1))
        low = np.nextafter(scaled - size, -np.inf)
        return Region(low, np.nextafter(scaled + size, np.inf), Sphere(scaled, size), shift)
    box = box_arrays(problem.domain, d)
    assert box is not None
    low, high = box
    shift = np.frexp(0.5 * high - 0.5 * low)[1]
    shift = np.maximum(shift, shift.max() - 300)
    ends = [np.ldexp(end, -shift) for end in box]
    inexact = [np.ldexp(y, shift) != x for y, x in zip(ends, box, strict=True)]
    low = np.where(inexact[0], np.nextafter(ends[0], -np.inf), ends[0])
    return Region(low, np.where(inexact[1], np.nextafter(ends[1], np.inf), ends[1]), None, shift)


def jacobian_sum(problem: Problem, exponents: npt.NDArray[np.intc]) -> JacobianSum:
    """Return J as a `JacobianSum`, s the exponents of y (d,)."""
    used = problem.hidden_weight.any(axis=1) & problem.output_weight.any(axis=0)
    weight, bias, output, constant = merged(
        problem.hidden_weight[used],
        problem.hidden_bias[used],
        problem.output_weight.T[used],
        problem.activation,
    )
    p, q = exponent(weight, 1)[:, 0], exponent(output, 1)[:, 0]
    scale = int(max((p + q).max(initial=-2000), _exponent_of(constant)))
    rows, columns = np.ldexp(weight, -p[:, None]), np.ldexp(output, -q[:, None])
    values = np.ldexp(columns[:, :, None] * rows[:, None, :], (p + q - scale)[:, None, None])
    sizes = np.ldexp(up(norm_upper(rows) * norm_upper(columns), 2), p + q - scale)
    base = np.ldexp(constant, -scale)
    return JacobianSum(
        direction=np.ldexp(weight, exponents),
        bias=bias,
        values=values,
        sizes=sizes + _LOST,
        units=rows / vector_norm(rows)[:, None],
        base=base,
        spread=2.0 * UNIT * float(frobenius_upper(base))
        + (_LOST if bias.size or constant.any() else 0.0),
        activation=problem.activation,
        value_exponent=scale,
    )


def _exponent_of(matrix: FloatArray) -> int:
    """Return e with max|M| < 2^e, far below all others where M = 0."""
    return int(exponent(matrix).item()) if matrix.any() else -2000
