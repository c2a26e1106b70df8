"""Bounds of ‖J‖ on boxes for the check of certificates: simpler than those of the search, and apart
from them.

J is P₀ + P₁[s] + ½P₂[s, s] on the cube, up to remainders; convexity puts the largest ‖P₀ + P₁[s]‖
on a corner, so

    ‖J‖ ≤ max over corners ‖P₀ + P₁[s]‖ + ½ sup ‖P₂[s, s]‖ + Σ_j e_j‖V_j‖.

Each neuron enters by its Taylor polynomial, e_j = t³/6·sup|σ''''|, or, where that is less, by the
range of its slope; or all of them by their ranges, if that is better. On a ball, λh ≥ 0 is added,
h = 1 − ‖x − center‖²/radius² without its quadratic part, which is negative. Rounding is accounted
for as in `box_bounds`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.domains import Ball
from lipbook.lipschitz.jacobians import SLOPE_ERROR
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import UNIT, exponent, gamma, norm_upper, spectral_norm_upper, up
from lipbook.lipschitz.slope_ranges import slope_range
from lipbook.lipschitz.smooth.box_trees import IntArray
from lipbook.lipschitz.smooth.slope_expansions import THIRD_ERROR, slope_constants, third_slope

_LOST = 2.0**-900
# Entries of arrays at once.
_AT_ONCE = 200_000


def used_neurons(problem: Problem) -> BoolArray:
    """Tell which neurons have weights at both ends, (m,)."""
    used: BoolArray = np.any(problem.hidden_weight, axis=1) & np.any(problem.output_weight, axis=0)
    return used


@dataclass(frozen=True)
class _Slopes:
    """Hold what is known of σ' on n boxes.

    Attributes:
        first: σ' of the Taylor polynomial, or the middle of the range, (n, m).
        second: σ'', or 0, (n, m).
        third: σ''', or 0, (n, m).
        flat: whether the range is used, (n, m).
        rest: Σ_j e_j‖V_j‖, (n,).
        middle: of the ranges, (n, m).
        half: the same as `rest` with the ranges of all neurons, (n,).
    """

    first: FloatArray
    second: FloatArray
    third: FloatArray
    flat: BoolArray
    rest: FloatArray
    middle: FloatArray
    half: FloatArray


def _norms(matrix: FloatArray) -> FloatArray:
    """Return upper bounds of ‖M‖ over the last two axes, ∞ where an entry is not finite."""
    finite = np.asarray(np.isfinite(matrix).all(axis=(-2, -1)))
    matrix = np.where(finite[..., None, None], matrix, 0.0)
    one_row = matrix.shape[-2] == 1
    norms = norm_upper(matrix[..., 0, :]) if one_row else spectral_norm_upper(matrix)
    return np.where(finite, norms, np.inf)


class BoxCheck:
    """Bound ‖J‖ on boxes, in the coordinates of the network."""

    def __init__(self, problem: Problem) -> None:
        """Scale a_j w_jᵀ to entries below 1."""
        self.problem = problem
        used = used_neurons(problem)
        self.weight, self.bias = problem.hidden_weight[used], problem.hidden_bias[used]
        output = problem.output_weight.T[used]
        p, q = exponent(self.weight, 1), exponent(output, 1)
        rows, columns = np.ldexp(self.weight, -p), np.ldexp(output, -q)
        self.scale = int((p + q).max())
        shift = p + q - self.scale
        self.values = np.ldexp(columns[:, :, None] * rows[:, None, :], shift[:, :, None])
        self.sizes = np.ldexp(up(norm_upper(rows) * norm_upper(columns), 2), shift[:, 0]) + _LOST
        m, k, d = self.values.shape
        self.corners = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
        self.step = max(1, _AT_ONCE // (m * (k * d + d * d) + len(self.corners) * k * d))

    def bounds(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, IntArray]:
        """Return bounds of sup ‖J‖ on the boxes, (n,), and the axis to cut next, (n,)."""
        center = 0.5 * low + 0.5 * high
        radius = np.maximum(high - center, center - low) * (1.0 + 1e-12)
        with np.errstate(all="ignore"):
            moves = self.weight * radius[:, None, :]
            known = self._slopes(center, moves)
            # A neuron without Taylor polynomial may move by more than a float64 can hold.
            gentle = np.where(known.flat[..., None], 0.0, moves)
            by_taylor = self._corners(center, radius, gentle, known) + known.rest
            by_range = _norms(self._sums(known.middle)) + known.half
            bound = np.nextafter(np.ldexp(up(np.fmin(by_taylor, by_range), 4), self.scale), np.inf)
        bound = np.where(np.isnan(bound), np.inf, bound)
        bound = np.where(self._outside(low, high), 0.0, bound)
        return bound, np.einsum("m,nmi->ni", self.sizes, np.abs(moves)).argmax(axis=1)

    def _slopes(self, center: FloatArray, moves: FloatArray) -> _Slopes:
        """Return each neuron's slopes on each box, with rounding errors in `rest` and `half`."""
        activation = self.problem.activation
        assert activation.curvature is not None
        s1, s2, s3 = slope_constants(activation)
        z = center @ self.weight.T + self.bias
        size = np.abs(center) @ np.abs(self.weight.T) + np.abs(self.bias)
        error = gamma(center.shape[1] + 2) * size + 2.0**-1000
        t = np.abs(moves).sum(axis=2) * (1.0 + 1e-12) + error
        slope, curvature, third = activation.slope(z), activation.curvature(z), np.zeros_like(z)
        rest = 0.5 * s3 * t**2
        known = third_slope(activation)
        if known is not None:
            third, rest = known.third(z, slope, curvature), known.largest * t**3 / 6.0
        product = gamma(len(self.sizes) + 12)
        rest = rest + (s2 + s3 * t) * error + SLOPE_ERROR * (1.0 + t) + 0.5 * THIRD_ERROR * t**2
        rest = rest + product * (s1 + s2 * t + 0.5 * s3 * t**2)
        least, most = slope_range(activation, z - t, z + t)
        half = 0.5 * (most - least) + (4.0 * UNIT + product) * s1
        flat = ~(rest <= half)
        middle, inflate = 0.5 * (least + most), 1.0 + gamma(len(self.sizes) + 128)
        return _Slopes(
            first=np.where(flat, middle, slope),
            second=np.where(flat, 0.0, curvature),
            third=np.where(flat, 0.0, third),
            flat=flat,
            rest=inflate * (np.where(flat, half, rest) @ self.sizes) + _LOST,
            middle=middle,
            half=inflate * (half @ self.sizes) + _LOST,
        )

    def _sums(self, slopes: FloatArray) -> FloatArray:
        """Return Σ_j s_j V_j, (n, k, d), for each row of slopes."""
        m, k, d = self.values.shape
        return (slopes @ self.values.reshape(m, k * d)).reshape(-1, k, d)

    def _corners(
        self,
        center: FloatArray,
        radius: FloatArray,
        moves: FloatArray,
        slopes: _Slopes,
    ) -> FloatArray:
        """Return max over corners ‖P₀ + P₁[s]‖ + λh + ½ sup ‖P₂[s, s]‖."""
        m, k, d = self.values.shape
        n = len(center)
        flat = self.values.reshape(m, k * d).T
        pairs = (moves[..., :, None] * moves[..., None, :]).reshape(n, m, d * d)
        p0 = self._sums(slopes.first)
        p1 = ((flat * slopes.second[:, None, :]) @ moves).reshape(n, k, d, d)
        p2 = ((flat * slopes.third[:, None, :]) @ pairs).reshape(n, k * d, d * d)
        bend = norm_upper(np.abs(p2).sum(axis=2)) * (1.0 + gamma(d * d))
        ends = p0[:, None] + np.einsum("nkdi,ci->nckd", p1, self.corners)
        norms = _norms(ends)
        # The rounding of p0 + p1·s, relative to its terms.
        size = norm_upper((np.abs(p0) + np.abs(p1).sum(axis=3)).reshape(n, k * d))
        norms = norms + gamma(d + 4) * size[:, None]
        if isinstance(self.problem.domain, Ball):
            norms = norms + self._pulled(center, radius, p0, p1)
        return np.asarray(norms.max(axis=1) + 0.5 * bend)

    def _pulled(
        self, center: FloatArray, radius: FloatArray, p0: FloatArray, p1: FloatArray
    ) -> FloatArray:
        """Return an upper bound of λ(h + ‖s∘radius‖²) at the corners, (n, corners), λ ≥ 0."""
        assert isinstance(self.problem.domain, Ball)
        middle, size = ball_arrays(self.problem.domain, center.shape[1])
        offset = (center - middle) / size
        reach = radius / size
        across = -2.0 * offset * reach
        left, _, right = np.linalg.svd(np.where(np.isfinite(p0), p0, 0.0), full_matrices=False)
        slope = np.einsum("nk,nkdi,nd->ni", left[:, :, 0], p1, right[:, 0])
        length = np.einsum("ni,ni->n", across, across)
        pull = -np.einsum("ni,ni->n", slope, across) / np.where(length > 0.0, length, 1.0)
        beyond = ((np.abs(offset) + reach) ** 2).sum(axis=1) > 1.0
        pull = np.where(beyond & (pull > 0.0) & np.isfinite(pull), pull, 0.0)
        inside = 1.0 - (offset**2).sum(axis=1)
        shares = (np.abs(center) + np.abs(middle)) / size + np.abs(offset) + reach
        error = gamma(32) * (1.0 + (shares**2).sum(axis=1) * center.shape[1])
        room = inside[:, None] + across @ self.corners.T + error[:, None]
        pulled: FloatArray = pull[:, None] * room * (1.0 + 4.0 * UNIT * np.sign(room))
        return pulled

    def _outside(self, low: FloatArray, high: FloatArray) -> FloatArray | bool:
        """Tell which boxes do not meet the ball, those close to it excepted."""
        if not isinstance(self.problem.domain, Ball):
            return False
        center, radius = ball_arrays(self.problem.domain, low.shape[1])
        beyond = np.maximum(np.maximum(low - center, center - high), 0.0) / radius
        return (beyond**2).sum(axis=1) > 1.0 + 1e-9
