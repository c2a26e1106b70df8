"""Slopes of a piecewise-linear network of one variable in exact integer arithmetic.

Every float64 is an integer times a power of two. Over a common power of two all slopes are
integers, their prefix sums are exact, and the largest norm is rounded once. Used where cancellation
leaves the floating-point bracket open.
"""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray


def largest_slope(
    weight: FloatArray,
    output: FloatArray,
    kink_slopes: tuple[float, float],
    order: IntArray,
    wanted: BoolArray,
) -> tuple[float, float, int]:
    """Return bounds one float64 apart, at most, of the largest slope over the wanted cells, and its
    cell.

    Args:
        weight: w, (m,).
        output: A, (k, m).
        kink_slopes: (σ'(0⁻), σ'(0⁺)).
        order: order of the breakpoints, (n,), n ≥ m; entries ≥ m are marks without a neuron.
        wanted: which of the n + 1 cells count, (n + 1,).

    Returns:
        lower, upper, cell.
    """
    sums = []
    products, shift = _integer_products(weight, output)
    left, right, denominator = _integer_kinks(kink_slopes)
    sign = [1 if w > 0.0 else -1 for w in weight]
    width = weight.size
    for row in products:
        start = sum(v * (left if s > 0 else right) for v, s in zip(row, sign, strict=True))
        jumps = ((right - left) * row[j] * sign[j] if j < width else 0 for j in order)
        sums.append(list(accumulate(jumps, initial=start)))
    cells = np.flatnonzero(wanted)
    best = max(cells, key=lambda i: sum(s[i] * s[i] for s in sums))
    square = sum(s[best] * s[best] for s in sums)
    lower, upper = rounded_root(square, Fraction(2) ** shift / denominator)
    return lower, upper, int(best)


def _integer_products(weight: FloatArray, output: FloatArray) -> tuple[list[list[int]], int]:
    """Return integers N_kj and s with A_kj·w_j = N_kj·2^s."""
    (mw, ew), (ma, ea) = np.frexp(weight), np.frexp(output)
    live = (mw != 0.0) & (ma != 0.0)
    exponents = np.where(live, ew + ea, 0)
    shift = int(exponents[live].min()) if live.any() else 0
    mantissa_w = np.ldexp(mw, 53).astype(np.int64).tolist()
    mantissas = np.ldexp(ma, 53).astype(np.int64).tolist()
    shifts = np.where(live, exponents - shift, 0).tolist()
    rows = [
        [(a * w) << e for a, w, e in zip(row, mantissa_w, row_shifts, strict=True)]
        for row, row_shifts in zip(mantissas, shifts, strict=True)
    ]
    return rows, shift - 106


def _integer_kinks(kink_slopes: tuple[float, float]) -> tuple[int, int, int]:
    """Return integers l, r, q with slopes l/q and r/q."""
    left, right = (Fraction(s) for s in kink_slopes)
    denominator = math.lcm(left.denominator, right.denominator)
    return int(left * denominator), int(right * denominator), denominator


def rounded_root(square: int, unit: Fraction) -> tuple[float, float]:
    """Return float64 numbers below and above unit·√square, equal if that is a float64."""
    spare = max(0, 160 - square.bit_length()) // 2 + 64
    root = math.isqrt(square << (2 * spare))
    inexact = root * root != square << (2 * spare)
    scale = unit / (1 << spare)
    return (
        rounded(root * scale, -1),
        rounded((root + inexact) * scale, 1),
    )


def rounded(value: Fraction, direction: int) -> float:
    """Return the nearest float64 that is not above `value` (direction −1) or not below it (+1)."""
    nearest = float(value)
    if (Fraction(nearest) - value) * direction < 0:
        return math.nextafter(nearest, direction * math.inf)
    return nearest
