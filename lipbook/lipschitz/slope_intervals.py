"""Which slopes each neuron can have on a domain, as intervals [c_i − h_i, c_i + h_i].

On the domain the pre-activation w_i·x + b_i stays within an interval. On a box its ends are sums of
products with corners, on a ball they are w_i·c + b_i ± r‖w_i‖; both are moved outwards by γ_(d+4)
times the sum of the magnitudes.
"""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.product import slope_bounds
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import UNIT, gamma, norm_upper, up
from lipbook.lipschitz.slope_ranges import slope_range

# What underflow may take from a pre-activation: far more than d + 1 of the smallest numbers.
_LOST = 2.0**-1060


def preactivation_ranges(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Bound Wx + b over the domain: below ≤ w_i·x + b_i ≤ above, each (m,), ±∞ on ℝ^d."""
    weight, bias, d = problem.hidden_weight, problem.hidden_bias, problem.input_dim
    box = box_arrays(problem.domain, d)
    if box is not None:
        ends = weight * box[0], weight * box[1]
        below, above = np.minimum(*ends).sum(axis=1), np.maximum(*ends).sum(axis=1)
        size = np.maximum(*np.abs(ends)).sum(axis=1)
    elif isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, d)
        middle, reach = weight @ center, up(norm_upper(weight) * radius, 1)
        below, above = middle - reach, middle + reach
        size = np.abs(weight) @ np.abs(center) + reach
    else:
        return np.full(bias.size, -np.inf), np.full(bias.size, np.inf)
    error = gamma(d + 4) * (size + np.abs(bias)) + _LOST
    return below + bias - error, above + bias + error


def slope_intervals(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Return c and h, (m,), such that |σ'(w_i·x + b_i) − c_i| ≤ h_i on the domain."""
    low, high = slope_bounds(problem.activation)
    least, most = slope_range(problem.activation, *preactivation_ranges(problem))
    return centred_interval(np.clip(least, low, high), np.clip(most, low, high))


def centred_interval(low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return c and h with [low, high] ⊆ [c − h, c + h]: h is 0 where low = high, and both are off
    by 4u(|c| + h) at most."""
    centre = 0.5 * low + 0.5 * high
    half_width = np.maximum(high - centre, centre - low) * (1.0 + 4.0 * UNIT)
    return centre, half_width
