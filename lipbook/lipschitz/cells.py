"""Rigorous bounds of ‖f'‖ on many intervals at once, for smooth networks of one input.

Each cell [l, h] with midpoint c and radius r gets the least of

    Taylor:   max ‖f'(c) ± r·f''(c)‖ + ½r²·sup|σ'''|·Σ‖v_j‖w_j²          (a convex function is
        largest at the ends)
    centred:  the same, with the remainder of neuron j replaced by the range of its slope where that
        is less
    interval: ‖Σ v_j·mid_j‖ + Σ‖v_j‖·rad_j, [mid ± rad] the range of σ' over the cell, by its
        monotone pieces

the last two only where they can help: on cells wide for some neuron, unbounded ones included.
Rounding, all of it added: ẑ = fl(wc + b) is off by δ ≤ 3u(|wc| + |b|), which moves σ' by at most
(|σ''(ẑ)| + ε)δ + ½sup|σ'''|δ²; `slope` and `curvature` are off by at most ε = 2⁻⁴⁸ (assumed, and
tested against 50-digit arithmetic); sums of m terms and the rounding of v_j by
γ_(m+3)·Σ‖v_j‖·sup|σ'|. Error terms are sums of positive numbers; their own rounding is covered by a
factor 1 + 10⁻⁶ (m ≤ 10⁹).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.jacobians import SLOPE_ERROR
from lipbook.lipschitz.rounding import UNIT, down, gamma, up, vector_norm
from lipbook.lipschitz.slope_ranges import slope_range
from lipbook.lipschitz.slope_sums import SlopeSum

_INFLATE = 1.0 + 1e-6
# A cell is wide where some pre-activation moves by more than this from its middle.
_WIDE = 0.5
# A slope is doubtful where its error bound exceeds this share of it.
_DOUBT = 1e-9


@dataclass(frozen=True)
class Evaluation:
    """Hold what is known about C cells, in the units of the `SlopeSum`.

    Attributes:
        upper: bounds of sup ‖f'‖ over each cell, (C,).
        lower: bounds of ‖f'(c)‖ from below, (C,).
        center: c, (C,); the finite end of an unbounded cell.
        floor: the rounding error at c, (C,): no refinement takes `upper` below ‖f'(c)‖ + floor.
    """

    upper: FloatArray
    lower: FloatArray
    center: FloatArray
    floor: FloatArray


class CellBounds:
    """Evaluate cells of one `SlopeSum`."""

    def __init__(self, terms: SlopeSum) -> None:
        """Add up once the sums over neurons that no cell changes."""
        activation = terms.activation
        assert activation.slope_lipschitz is not None
        assert activation.curvature_lipschitz is not None
        self.terms = terms
        self.slope_max = activation.lipschitz * _INFLATE
        self.curvature_max = activation.slope_lipschitz * _INFLATE
        self.third_max = activation.curvature_lipschitz * _INFLATE
        self.abs_weight = np.abs(terms.weight)
        self.largest_weight = float(self.abs_weight.max())
        sizes, width = terms.sizes, terms.sizes.size
        self.sum_error = gamma(width + 5) * float(sizes.sum()) * self.slope_max + terms.spread
        self.weighted = sizes * self.abs_weight
        self.remainder = 0.5 * self.third_max * float((self.weighted * self.abs_weight).sum())
        # Columns for Σ‖v‖|w|s and Σ‖v‖|b|s, s = |σ''| at the cell's middle.
        self.moments = np.stack([self.weighted, sizes * np.abs(terms.bias)], axis=1)
        self.tilted = terms.values * terms.weight[:, None]

    def evaluate(self, low: FloatArray, high: FloatArray) -> Evaluation:
        """Bound ‖f'‖ on the cells [low, high], each (C,), unbounded ends allowed."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return self._evaluate(low, high)

    def _evaluate(self, low: FloatArray, high: FloatArray) -> Evaluation:
        terms, activation = self.terms, self.terms.activation
        assert activation.curvature is not None
        center = 0.5 * low + 0.5 * high
        center = np.where(np.isneginf(low), high, np.where(np.isposinf(high), low, center))
        radius = np.nextafter(np.maximum(high - center, center - low), np.inf)
        z = center[:, None] * terms.weight + terms.bias
        slope, curvature = activation.slope(z), activation.curvature(z)
        value = slope @ terms.values + terms.base
        tilt = curvature @ self.tilted
        value_error, tilt_error = self._point_errors(np.abs(center), np.abs(curvature))
        k = value.shape[1]
        lower = np.maximum(down(_norm(value), k + 4) - _INFLATE * value_error, 0.0)
        linear = self._linear(value, tilt, radius)
        rounding = _INFLATE * (value_error + radius * tilt_error)
        remainder = _INFLATE * self.remainder * radius**2
        upper = linear + rounding + remainder
        # Narrow cells on which f' is far below the remainder lie where all neurons are saturated.
        narrow = (radius * self.largest_weight <= _WIDE) & (remainder <= linear)
        wide = np.flatnonzero(~narrow)
        if wide.size:
            by_range, rest = self._ranges(
                low[wide], high[wide], slope[wide], curvature[wide], radius[wide]
            )
            centred = linear[wide] + rounding[wide] + _INFLATE * rest
            upper[wide] = np.fmin(by_range, np.fmin(centred, upper[wide]))
        # Far out, δ is large where σ' is flat: there the range of σ' over ẑ ± δ says more.
        doubtful = np.flatnonzero(~(value_error <= _DOUBT * _norm(value)))
        if doubtful.size:
            by_range = self._lower_by_range(center[doubtful])
            lower[doubtful] = np.fmax(by_range, lower[doubtful])
        upper = np.where(np.isnan(upper), np.inf, upper)
        return Evaluation(upper, np.where(np.isnan(lower), 0.0, lower), center, value_error)

    def _linear(self, value: FloatArray, tilt: FloatArray, radius: FloatArray) -> FloatArray:
        """Return max ‖f'(c) ± r·f''(c)‖, rounded up."""
        move = tilt * radius[:, None]
        largest = np.maximum(_norm(value + move), _norm(value - move))
        return up(largest, value.shape[1] + 4) + 4.0 * UNIT * _norm(move)

    def _point_errors(
        self, distance: FloatArray, curvature: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return error bounds of the computed f'(c) and f''(c), each (C,)."""
        terms, sizes = self.terms, self.terms.sizes
        by_weight, by_bias = (curvature @ self.moments).T
        reach = self.weighted.sum() * distance + self.moments[:, 1].sum()
        first = 3.0 * UNIT * (by_weight * distance + by_bias + SLOPE_ERROR * reach)
        # (x + y)² ≤ 2x² + 2y² in the square of δ.
        square = (self.weighted * self.abs_weight).sum() * distance**2
        square += (self.moments[:, 1] * np.abs(terms.bias)).sum()
        second = self.third_max * (3.0 * UNIT) ** 2 * square
        value = first + second + SLOPE_ERROR * sizes.sum() + self.sum_error
        shift = 3.0 * UNIT * self.third_max
        tilted = self.weighted * (
            SLOPE_ERROR + shift * (self.abs_weight * distance[:, None] + np.abs(terms.bias))
        )
        total = self.weighted.sum() * self.curvature_max
        return value, tilted.sum(axis=1) + gamma(sizes.size + 5) * total

    def _ranges(
        self,
        low: FloatArray,
        high: FloatArray,
        slope: FloatArray,
        curvature: FloatArray,
        radius: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """Return the interval bound, and Σ‖v_j‖ρ_j with ρ_j the lesser remainder of neuron j."""
        terms = self.terms
        least, most = self._slope_range(low, high)
        middle, half = 0.5 * (least + most), 0.5 * (most - least) + 4.0 * UNIT * self.slope_max
        value = middle @ terms.values + terms.base
        by_range = up(_norm(value), value.shape[1] + 4)
        by_range += _INFLATE * (half @ terms.sizes + self.sum_error)
        move = self.abs_weight * radius[:, None]
        jump = np.maximum(most - slope, slope - least) + (np.abs(curvature) + SLOPE_ERROR) * move
        rest = np.fmin(0.5 * self.third_max * move**2, jump)
        return by_range, rest @ terms.sizes

    def _lower_by_range(self, center: FloatArray) -> FloatArray:
        """Return ‖Σ v_j·mid_j‖ − Σ‖v_j‖·rad_j, [mid ± rad] the range of σ' over ẑ ± δ at c."""
        least, most = self._slope_range(center, center)
        middle, half = 0.5 * (least + most), 0.5 * (most - least) + 4.0 * UNIT * self.slope_max
        value = middle @ self.terms.values + self.terms.base
        norm = down(_norm(value), value.shape[1] + 4)
        return norm - _INFLATE * (half @ self.terms.sizes + self.sum_error)

    def _slope_range(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return bounds of σ' over each cell's pre-activations, (C, m) each, by monotone pieces."""
        terms = self.terms
        ends = [end[:, None] * terms.weight + terms.bias for end in (low, high)]
        far = np.maximum(*(np.where(np.isfinite(end), np.abs(end), 0.0) for end in (low, high)))
        slack = 3.0 * UNIT * (self.abs_weight * far[:, None] + np.abs(terms.bias))
        below, above = np.minimum(*ends) - slack, np.maximum(*ends) + slack
        return slope_range(terms.activation, below, above)


def _norm(x: FloatArray) -> FloatArray:
    """Return ‖x‖₂ over the last axis with at most k + 4 roundings."""
    return np.abs(x[:, 0]) if x.shape[1] == 1 else vector_norm(x)
