"""Sort the breakpoints −b/w of many neurons in their exact order, quickly.

Division is correctly rounded, hence monotone: fl(p) < fl(q) implies p < q for the true quotients.
So floating point orders breakpoints correctly except where two rounded quotients are *equal* (±∞
after overflow and numbers lost to underflow included). Those ties are decided exactly: equality by
an error-free product, order by rational arithmetic in the few groups that tie in floating point but
not in truth.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray

IntArray = npt.NDArray[np.intp]
_SPLIT = 2.0**27 + 1.0


def exact_order(weight: FloatArray, bias: FloatArray) -> tuple[FloatArray, IntArray, BoolArray]:
    """Return the rounded breakpoints, their exact order, and which neighbours in it differ.

    Args:
        weight: w, (K, n), no entry 0.
        bias: b, (K, n).

    Returns:
        The sorted fl(−b/w), (K, n); the order, (K, n); whether the true breakpoints at sorted
        positions i and i + 1 differ, (K, n − 1).
    """
    with np.errstate(over="ignore", under="ignore"):
        points = -bias / weight
    order = np.argsort(points, axis=-1)
    points = gathered(points, order)
    distinct = points[:, 1:] != points[:, :-1]
    if not distinct.all():
        _settle_ties(weight, bias, order, distinct)
    return points, order, distinct


def gathered(x: FloatArray, order: IntArray) -> FloatArray:
    """Return x with its last axis in this order; one network alone is gathered the quick way."""
    if order.shape[0] == 1:
        return x.take(order.ravel(), axis=-1)
    return np.take_along_axis(x, order, axis=-1)


def _settle_ties(
    weight: FloatArray, bias: FloatArray, order: IntArray, distinct: BoolArray
) -> None:
    """Correct `order` and `distinct` in place where rounded breakpoints tie."""
    row, left = np.nonzero(~distinct)
    i, j = order[row, left], order[row, left + 1]
    unequal = ~_same_quotient(bias[row, i], weight[row, i], bias[row, j], weight[row, j])
    for k, start, stop in _unsettled_groups(row, left, unequal):
        members = order[k, start:stop]
        keys = {j: Fraction(-bias[k, j]) / Fraction(weight[k, j]) for j in members}
        ranked = sorted(members, key=keys.__getitem__)
        order[k, start:stop] = ranked
        distinct[k, start : stop - 1] = [keys[a] != keys[b] for a, b in pairwise(ranked)]


def _unsettled_groups(
    row: IntArray, left: IntArray, unequal: BoolArray
) -> list[tuple[int, int, int]]:
    """Return (row, start, stop) of each run of ties in which some neighbours truly differ."""
    if not unequal.any():
        return []
    first = np.ones(row.size, dtype=bool)
    first[1:] = (row[1:] != row[:-1]) | (left[1:] != left[:-1] + 1)
    starts = np.flatnonzero(first)
    stops = np.append(starts[1:], row.size)
    wanted = np.add.reduceat(unequal, starts, dtype=np.intp) > 0
    return [
        (int(row[s]), int(left[s]), int(left[e - 1]) + 2)
        for s, e in zip(starts[wanted], stops[wanted], strict=True)
    ]


def _same_quotient(b: FloatArray, w: FloatArray, c: FloatArray, v: FloatArray) -> BoolArray:
    """Tell exactly, elementwise, whether b/w = c/v, that is bv = cw.

    The mantissas lie in [½, 1), so that their products and the errors of these are exact float64
    pairs; the exponents are compared as integers. Exponents that differ by more than 2 cannot be
    made up by mantissas.
    """
    (mb, eb), (mv, ev), (mc, ec), (mw, ew) = (np.frexp(x) for x in (b, v, c, w))
    p, p_error = _two_product(mb, mv)
    q, q_error = _two_product(mc, mw)
    shift = np.clip((ec + ew) - (eb + ev), -3, 3)
    same: BoolArray = (p == np.ldexp(q, shift)) & (p_error == np.ldexp(q_error, shift))
    return same


def _two_product(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return p = fl(xy) and e with xy = p + e exactly (Dekker), for |x|, |y| in {0} ∪ [½, 1)."""
    product = x * y
    x_high, y_high = _high(x), _high(y)
    x_low, y_low = x - x_high, y - y_high
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, error


def _high(x: FloatArray) -> FloatArray:
    scaled = _SPLIT * x
    return scaled - (scaled - x)
