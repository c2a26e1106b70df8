"""Which slopes a neuron can have on a domain, from the definition, in rational numbers.

An independent check of `slope_intervals`: on a box the ends of w_i·x + b_i are sums of products
with corners, on a ball w_i·c + b_i ± r‖w_i‖, a square root being compared through its square. The
domain is open, so that a pre-activation that is nonnegative on it is positive, unless w_i = 0.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.exact_sums import rounded
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.product import slope_bounds
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.slope_ranges import slope_range

Range = tuple[Fraction, Fraction]


def exact_slope_ranges(problem: Problem) -> list[Range]:
    """Return [low, high] ∋ σ'(w_i·x + b_i) for each neuron with w_i ≠ 0, x inside the domain.

    Smooth σ: the ends of w_i·x + b_i are exact, the range of σ' in between is `slope_range`.
    """
    low, high = (Fraction(v) for v in slope_bounds(problem.activation))
    if problem.domain is None:
        return [(low, high)] * problem.width
    ends = [_ends(problem, j) for j in range(problem.width)]
    if problem.activation.kink_slopes is not None:
        left, right = (Fraction(s) for s in problem.activation.kink_slopes)
        return [_kink_range(below, above, left, right) for below, above in ends]
    below = np.array([rounded(end, -1) for end, _ in ends])
    above = np.array([rounded(end, 1) for _, end in ends])
    found = slope_range(problem.activation, below, above)
    pairs = zip(*(side.tolist() for side in found), strict=True)
    return [(max(low, Fraction(a)), min(high, Fraction(b))) for a, b in pairs]


def _kink_range(below: Fraction, above: Fraction, left: Fraction, right: Fraction) -> Range:
    if below >= 0:
        return right, right
    if above <= 0:
        return left, left
    return min(left, right), max(left, right)


def _ends(problem: Problem, neuron: int) -> tuple[Fraction, Fraction]:
    """Return the least and largest w·x + b on the closed domain, or bounds that enclose them."""
    row = [Fraction(w) for w in problem.hidden_weight[neuron].tolist()]
    bias = Fraction(problem.hidden_bias[neuron].item())
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        pairs = zip(row, center.tolist(), strict=True)
        middle = sum((w * Fraction(c) for w, c in pairs), bias)
        reach = _root_above(Fraction(radius) ** 2 * sum(w * w for w in row))
        return middle - reach, middle + reach
    box = box_arrays(problem.domain, problem.input_dim)
    assert box is not None
    corners = [
        (w * Fraction(a), w * Fraction(b)) for w, a, b in zip(row, *map(list, box), strict=True)
    ]
    below = sum((min(pair) for pair in corners), bias)
    return below, sum((max(pair) for pair in corners), bias)


def _root_above(square: Fraction) -> Fraction:
    """Return a rational number from √square to a relative 2⁻⁶⁰ above it."""
    if square == 0:
        return Fraction(0)
    numerator, denominator = square.numerator * square.denominator, square.denominator
    shift = max(0, 64 - numerator.bit_length() // 2)
    root = math.isqrt(numerator << 2 * shift)
    exact = root * root == numerator << 2 * shift
    return Fraction(root if exact else root + 1, denominator << shift)
