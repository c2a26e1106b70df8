"""Rigorous bounds of ‖J‖ on many boxes at once, for smooth networks of several inputs.

On a box with centre ξ and half-widths ρ, z_j = w_jᵀξ + b_j moves by at most t_j = Σ_i |w_ji|ρ_i,
and each neuron enters by an expansion of its slope with a remainder e_j:

    σ'(z_j + δ) ∈ σ'(z_j) + σ''(z_j)δ + ½σ'''(z_j)δ² ± e_j,   or   mid_j ± e_j,

the second, [mid ± e] the range of σ' over the box, where its e_j is less. With δ = w_jᵀ(ρ∘s) the
sum over neurons is a polynomial P(s) on the cube, whose norm `norms_upper` bounds, and

    ‖J‖ ≤ ‖P(s)‖ + min(Σ_j e_j‖V_j‖, √(Σ_j e_j‖V_j‖ · λ_max(Σ_j e_j‖V_j‖ŵ_jŵ_jᵀ))),   ŵ = w/‖w‖,

by the inequality of Cauchy and Schwarz. Terms of different sign cancel in P, not in the remainders,
and these fall with the cube of the box: that is why P is taken to second order.

Rounding, all of it added: ẑ is off by at most δ_j = γ_(d+2)(Σ_i|w_ji||y_i| + |b_j|), which counts
as part of t_j and adds S₂δ_j + S₃t_jδ_j to e_j, S_n = sup|σ^(n)|, where the Taylor polynomial is
used; the three functions are off by at most ε (assumed, and tested against 50-digit arithmetic);
products and sums of m terms by γ_(m+12)·Σ‖V_j‖(S₁ + S₂t_j + ½S₃t_j²). Error terms are sums of m
positive numbers with fewer than 100 roundings each, which a factor 1 + γ_(m+128) covers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.jacobians import SLOPE_ERROR
from lipbook.lipschitz.rounding import UNIT, gamma
from lipbook.lipschitz.slope_ranges import slope_range
from lipbook.lipschitz.smooth.jacobian_sums import JacobianSum, Region
from lipbook.lipschitz.smooth.polynomial_norms import Coefficients, Constraint, norms_upper
from lipbook.lipschitz.smooth.slope_expansions import (
    THIRD_ERROR,
    Expansion,
    expanded,
    slope_constants,
)

# Neurons that move by more than this over the whole domain enter by the range of their slope only.
_STEEPEST = 2.0**60
# The range of a slope is tried where the remainder exceeds this share of its range over ℝ.
_DOUBT = 0.1
# So is it where rounding errors of the Taylor polynomial exceed this.
_BLURRED = 1e-8
# Without remainders the longest axis is cut.
_LEAST_GAIN = 1e-30
# A box is settled where its bound exceeds the norm at its middle by so many rounding errors.
_NO_GAIN = 16.0
# Entries of (boxes, neurons) arrays evaluated at once: they fit a processor's cache.
_AT_ONCE = 32_000


@dataclass(frozen=True)
class Evaluation:
    """Hold what is known about n boxes.

    Attributes:
        upper: bounds of sup ‖J‖ over each box, (n,), in the units of the `JacobianSum`.
        point: where to look for a steep gradient in each box, (n, d).
        gain: how much there is to gain from cutting each axis, (n, d), in no particular unit.
        settled: boxes on which refinement gains no more than rounding errors, (n,).
    """

    upper: FloatArray
    point: FloatArray
    gain: FloatArray
    settled: BoolArray


class BoxBounds:
    """Evaluate boxes of one `JacobianSum`."""

    def __init__(self, terms: JacobianSum, region: Region) -> None:
        """Add up once the sums over neurons that no box changes."""
        self.terms, self.region = terms, region
        activation = terms.activation
        low, high = activation.slope_range
        self.doubt = _DOUBT * (high - low)
        m, k, d = terms.values.shape
        size = np.abs(terms.direction)
        self.steep = ~(size.sum(axis=1) < _STEEPEST)
        gentle = np.where(self.steep[:, None], 0.0, terms.direction)
        # Rows of Σ_j, one for each entry of P₀, P₁, P₂.
        first = terms.values[..., None] * gentle[:, None, None, :]
        second = first[..., None] * gentle[:, None, None, None, :]
        self.tables = [x.reshape(m, -1) for x in (terms.values, first, second)]
        self.shape = (k, d)
        self.inflate = 1.0 + gamma(m + 128)
        self.reach = np.ascontiguousarray(size.T)
        gram = terms.units[:, :, None] * terms.units[:, None, :]
        weighted = np.concatenate([np.ones((m, 1)), gram.reshape(m, -1), size], axis=1)
        self.moments = terms.sizes[:, None] * weighted

    def evaluate(self, low: FloatArray, high: FloatArray) -> Evaluation:
        """Bound ‖J‖ on the boxes [low, high], each (n, d)."""
        m, (k, d) = self.terms.bias.size, self.shape
        step = max(1, _AT_ONCE // max(m, k * d * d * d))
        with np.errstate(all="ignore"):
            parts = [
                self._evaluate(low[i : i + step], high[i : i + step])
                for i in range(0, len(low), step)
            ]
        fields = ("upper", "point", "gain", "settled")
        return Evaluation(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))

    def _evaluate(self, low: FloatArray, high: FloatArray) -> Evaluation:
        center = 0.5 * low + 0.5 * high
        radius = np.maximum(high - center, center - low) * (1.0 + 1e-12)
        (k, d), n = self.shape, len(center)
        slopes, rounding = self._slopes(center, radius)
        coefficients = self._coefficients(slopes, radius)
        moments = slopes.remainder @ self.moments
        constraint = self._constraint(center, radius)
        upper, point = norms_upper(coefficients, constraint)
        rounding = self.inflate * (rounding @ self.terms.sizes) + self.terms.spread
        # Rounding is counted twice: once is room for the check of the certificate.
        upper = (upper + self._remainder(moments) + rounding) * (1.0 + 4.0 * UNIT)
        upper = np.where(np.isnan(upper), np.inf, upper)
        middle = np.sqrt((coefficients.constant.reshape(n, -1) ** 2).sum(axis=1) / min(k, d))
        inside = np.ones(n, dtype=bool) if constraint is None else constraint.constant > 0.0
        return Evaluation(
            upper=np.where(self._outside(low, high), 0.0, upper),
            point=center + radius * point,
            gain=moments[:, -d:] * radius + _LEAST_GAIN * radius,
            settled=(upper - middle <= _NO_GAIN * rounding) & inside,
        )

    def _coefficients(self, slopes: Expansion, radius: FloatArray) -> Coefficients:
        """Return P₀, P₁, P₂ of each box."""
        (k, d), n = self.shape, len(radius)
        first, second, third = self.tables
        constant = (slopes.slope @ first).reshape(n, k, d) + self.terms.base
        linear = (slopes.curvature @ second).reshape(n, k, d, d) * radius[:, None, None, :]
        square = (slopes.third @ third).reshape(n, k, d, d, d)
        square *= (radius[:, :, None] * radius[:, None, :])[:, None, None]
        return Coefficients(constant, linear, square)

    def _slopes(self, center: FloatArray, radius: FloatArray) -> tuple[Expansion, FloatArray]:
        """Return each neuron's expansion on each box, and how much of its remainder is rounding."""
        terms = self.terms
        s1, s2, s3 = slope_constants(terms.activation)
        product = gamma(terms.sizes.size + 12)
        least_error = SLOPE_ERROR + product * s1
        z = center @ terms.direction.T + terms.bias
        off = gamma(center.shape[1] + 2)
        error = (off * np.abs(center)) @ self.reach + (off * np.abs(terms.bias) + 2.0**-1000)
        reach = radius @ self.reach + error
        slopes = expanded(terms.activation, z, reach)
        rounding = (0.5 * (THIRD_ERROR + product * s3)) * reach
        rounding += SLOPE_ERROR + product * s2 + s3 * error
        rounding *= reach
        rounding += s2 * error + least_error
        remainder = slopes.remainder
        remainder += rounding
        doubtful = ~(remainder <= self.doubt) | (rounding > least_error + _BLURRED) | self.steep
        rows, columns = np.nonzero(doubtful)
        if rows.size:
            middle, move = z[rows, columns], reach[rows, columns]
            least, most = slope_range(terms.activation, middle - move, middle + move)
            mean = 0.5 * (least + most)
            spread = np.maximum(most - mean, mean - least) * (1.0 + 4.0 * UNIT) + least_error
            better = ~(remainder[rows, columns] <= spread) | self.steep[columns]
            entry = rows[better], columns[better]
            slopes.slope[entry], remainder[entry] = mean[better], spread[better]
            slopes.curvature[entry] = slopes.third[entry] = 0.0
            rounding[entry] = least_error
        return slopes, rounding

    def _remainder(self, moments: FloatArray) -> FloatArray:
        """Return a bound of ‖Σ_j ±e_j V_j‖."""
        d = self.shape[1]
        total, gram = moments[:, 0], moments[:, 1 : 1 + d * d].reshape(-1, d, d)
        return self.inflate * np.sqrt(
            total * np.minimum(total, np.abs(gram).sum(axis=2).max(axis=1))
        )

    def _constraint(self, center: FloatArray, radius: FloatArray) -> Constraint | None:
        """Return radius² − ‖y − center‖² ≥ 0 on each box, with what rounding may add."""
        sphere = self.region.sphere
        if sphere is None:
            return None
        offset = center - sphere.center
        scale = np.abs(center) + np.abs(sphere.center) + radius
        size = sphere.radius**2 + (scale**2).sum(axis=1)
        reach = np.abs(offset) + radius
        return Constraint(
            constant=sphere.radius**2 - (offset**2).sum(axis=1),
            linear=-2.0 * offset * radius,
            square=radius**2,
            slack=gamma(len(sphere.center) + 16) * size,
            active=(reach**2).sum(axis=1) > sphere.radius**2,
        )

    def _outside(self, low: FloatArray, high: FloatArray) -> FloatArray | bool:
        """Tell which boxes do not meet the ball."""
        sphere = self.region.sphere
        if sphere is None:
            return False
        beyond = np.maximum(np.maximum(low - sphere.center, sphere.center - high), 0.0)
        distance = (beyond**2).sum(axis=1) * (1.0 - gamma(len(sphere.center) + 8))
        return distance > sphere.radius**2
