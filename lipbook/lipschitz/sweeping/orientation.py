"""The order in which lines cross a line, decided exactly.

Lines j and k cross line i, both from their negative to their positive side, in an order given by
the sign of a determinant of their coefficients: walked along u_i, j comes before k exactly if

    det(ℓ_i, ℓ_j, ℓ_k) < 0,   ℓ = (w₁, w₂, b),

and the three meet in one point exactly if it is 0. Floating point decides where the determinant
exceeds its error bound: 5 roundings, relative to Σ|b|(|w₁w₂'| + |w₂w₁'|). The rest is decided in
whole numbers.
"""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import BoolArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.rounding import gamma
from lipbook.lipschitz.sweeping.lines import Lines

# Few enough for the processor's cache.
_AT_ONCE = 8192


def triple_signs(lines: Lines, i: IntArray, j: IntArray, k: IntArray) -> IntArray:
    """Return the signs of det(ℓ_i, ℓ_j, ℓ_k), exact, for entries 0, …, 2n − 1 of `lines`, (N,)."""
    signs = np.empty(i.size, dtype=np.intp)
    for start in range(0, i.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        signs[part] = _signs(lines, i[part], j[part], k[part])
    return signs


def _signs(lines: Lines, i: IntArray, j: IntArray, k: IntArray) -> IntArray:
    first, second, third = (lines.scaled.take(entry, axis=1) for entry in (i, j, k))
    value, size = np.zeros(i.size), np.zeros(i.size)
    for a, b, c in ((first, second, third), (second, third, first), (third, first, second)):
        one, two = a[0] * b[1], a[1] * b[0]
        value += (one - two) * c[2]
        size += (np.abs(one) + np.abs(two)) * np.abs(c[2])
    decided = (np.abs(value) > gamma(6) * size) | (size == 0.0)
    if not lines.trusted.all():
        decided &= lines.trusted[i] & lines.trusted[j] & lines.trusted[k]
    signs = np.sign(value).astype(np.intp)
    undecided = np.flatnonzero(~decided)
    if undecided.size:
        signs[undecided] = _integer_signs(lines, *(entry[undecided] for entry in (i, j, k)))
    return signs


def _integer_signs(lines: Lines, i: IntArray, j: IntArray, k: IntArray) -> IntArray:
    p, q, r = (lines.integers[index].T for index in (i, j, k))
    value = (
        (p[0] * q[1] - p[1] * q[0]) * r[2]
        + (q[0] * r[1] - q[1] * r[0]) * p[2]
        + (r[0] * p[1] - r[1] * p[0]) * q[2]
    )
    return np.asarray(value > 0, dtype=np.intp) - np.asarray(value < 0, dtype=np.intp)


def exact_crossings(lines: Lines, line: int, entries: IntArray) -> tuple[IntArray, BoolArray]:
    """Sort entries that cross a line by whole numbers.

    With t|w|² = (b(w·w') − b'|w|²)/D, D = w × w' > 0, two different crossings are 1/(DD') or more
    apart, so that ⌊2^s·t|w|²⌋ with 2^s ≥ max D² tells them apart, and no others.

    Args:
        lines: the lines.
        line: i < n.
        entries: among i + 1, …, i + n − 1, not parallel to i, (N,).

    Returns:
        The entries in the order of crossing, (N,); which neighbours cross in different points,
        (N − 1,).
    """
    w1, w2, b = lines.integer_row(line)
    v1, v2, c = lines.big_integers[entries].T
    width = w1 * v2 - w2 * v1
    shift = 2 * max((int(v).bit_length() for v in width), default=0)
    keys = ((b * (w1 * v1 + w2 * v2) - c * (w1 * w1 + w2 * w2)) << shift) // width
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    return entries[order], np.asarray(keys[1:] != keys[:-1], dtype=bool)


def crossing_point(lines: Lines, i: int, j: int) -> tuple[int, int, int]:
    """Return whole numbers x, y, z > 0 such that entries i and j meet in (x/z, y/z)."""
    (w1, w2, b), (v1, v2, c) = lines.integer_row(i), lines.integer_row(j)
    x, y, z = w2 * c - v2 * b, v1 * b - w1 * c, w1 * v2 - w2 * v1
    return (x, y, z) if z > 0 else (-x, -y, -z)
