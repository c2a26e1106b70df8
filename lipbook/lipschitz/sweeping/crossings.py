"""Where and in which order the other lines cross each of a run of lines.

On line i, walked along u = (−w₂, w₁) from the foot of the origin, entry j is crossed at

    t_j = N_j/D_j,  N_j = q·w_j − b_j,  q = b w/|w|²,  D_j = w × w_j > 0.

In floating point |N̂ − N| ≤ γ₉(|q₁| + |q₂| + max|b|), |D̂ − D| ≤ 2γ₃ since entries of w are below
1, and so

    |t̂_j − t_j| ≤ (|N̂ − N| + |t̂_j||D̂ − D|)/(min D̂ − |D̂ − D|) + u|t̂_j| =: δ, largest over j.

Each t̂ carries its entry's number in its last bits, which moves it by at most 2^bits units in the
last place: so one sort of numbers gives positions and order. Neighbours more than 2δ apart are
in their true order; all others are asked for exactly (`orientation`), and a line on which any of
them stand the wrong way round is sorted in whole numbers. Neighbours in their true order, ties
known, are a proof of the whole order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.rounding import UNIT, gamma
from lipbook.lipschitz.sweeping.lines import Lines
from lipbook.lipschitz.sweeping.orientation import exact_crossings, triple_signs

# Parallel lines are crossed at infinity; no trusted crossing is that far out.
_INFINITY, _FAR = 2.0**1000, 2.0**980
# More than underflow takes from N or D, or the entry's number adds to t = 0.
_LOST = 2.0**-1020


@dataclass(frozen=True)
class Crossings:
    """Hold the crossings on R lines start, start + 1, …; line i has `Lines.crossed[i]` of them.

    Attributes:
        start: the first line.
        order: entries in the order of crossing, parallel ones last, (R, n − 1).
        position: t̂, (R, n − 1); without meaning where `tolerance` is ∞.
        tolerance: what |t̂ − t| stays below on each line, (R,).
        edges: whether there is an edge, of positive length, before crossing s and after s − 1,
            (R, n), or None if that is so for all s.
    """

    start: int
    order: IntArray
    position: FloatArray
    tolerance: FloatArray
    edges: BoolArray | None

    def on(self, row: int) -> Crossings:
        """Return the crossings on one of the lines alone."""
        rows = slice(row, row + 1)
        edges = None if self.edges is None else self.edges[rows]
        order, position, tolerance = self.order[rows], self.position[rows], self.tolerance[rows]
        return Crossings(self.start + row, order, position, tolerance, edges)


def crossings(lines: Lines, start: int, stop: int) -> Crossings:
    """Find the crossings on the lines start, …, stop − 1."""
    rows, crossed = np.arange(stop - start), lines.crossed[start:stop]
    position, least = _parameters(lines, start, stop)
    order, bits = _sort(lines, start, position)
    far = position[rows, np.maximum(crossed - 1, 0)]
    reach = np.maximum(np.abs(position[:, 0]), np.abs(far))
    # NaN and ∞ are sorted to the end, where they push others out: the last crossing shows it.
    sound = (position[:, 0] > -_FAR) & (far < _FAR) & (least > 16.0 * UNIT)
    sound &= bool(lines.trusted.all())
    reach = np.where(sound, reach, 0.0)
    tolerance = np.where(sound, _tolerance(lines, start, reach, least, bits), np.inf)
    found = Crossings(start, order[:, :-1], position[:, :-1], tolerance, None)
    return _settled(lines, found)


def _parameters(lines: Lines, start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    """Return t̂, (R, n), ∞ for parallels and the line itself, and the least |D̂| on each line."""
    foot, coefficients, normal, turned = lines.factors
    position = foot[start:stop] @ coefficients
    width = normal[start:stop] @ turned
    row = np.arange(stop - start)
    width[row, start + row], position[row, start + row] = 2.0, 2.0 * _INFINITY
    for r in np.flatnonzero(lines.crossed[start:stop] < lines.count - 1):
        first, past = lines.parallel[start + r]
        width[r, first:past], position[r, first:past] = 2.0, 2.0 * _INFINITY
    with np.errstate(all="ignore"):
        position /= width
    return position, np.abs(width, out=width).min(axis=1)


def _sort(lines: Lines, start: int, position: FloatArray) -> tuple[IntArray, int]:
    """Sort positions in place; return which entries they belong to, and the bits used for that."""
    count, n = position.shape
    bits = (2 * n - 1).bit_length()
    labels = np.arange(n)
    labels[:start] += n  # seen from line i, entry n + j stands for each line j < i
    packed = position.view(np.int64)
    packed &= -(1 << bits)
    packed |= labels
    packed[:, start : start + count] += n * np.tri(count, k=-1, dtype=np.int64)
    position.sort(axis=1)
    order: IntArray = (packed & ((1 << bits) - 1)).astype(np.intp, copy=False)
    return order, bits


def _tolerance(
    lines: Lines, start: int, reach: FloatArray, least: FloatArray, bits: int
) -> FloatArray:
    """Return a bound of |t̂ − t| on each line."""
    offsets = lines.offsets[start : start + reach.size]
    spread = gamma(10) * offsets + gamma(5) * reach + _LOST
    packing = (2.0**bits + 2.0) * 2.0 * UNIT * reach + 2.0**bits * _LOST
    return 1.01 * (spread / (least - 8.0 * UNIT) + packing)


def _settled(lines: Lines, found: Crossings) -> Crossings:
    """Decide exactly the order of neighbours that floating point leaves open."""
    n, start, order = lines.count, found.start, found.order
    crossed = lines.crossed[start : start + len(order), None]
    close = ~(found.position[:, 1:] - found.position[:, :-1] > 2.02 * found.tolerance[:, None])
    unsound = np.isinf(found.tolerance)
    row, s = np.divmod(np.flatnonzero(close), max(n - 2, 1))
    asked = (s < crossed[row, 0] - 1) & ~unsound[row]
    row, s = row[asked], s[asked]
    signs = triple_signs(lines, start + row, order[row, s], order[row, s + 1])
    if (signs < 0).all() and not unsound.any() and (crossed == n - 1).all():
        return found
    edges = np.arange(n) <= crossed
    edges[row, s + 1] = signs != 0
    tolerance = found.tolerance.copy()
    for r in np.union1d(row[signs > 0], np.flatnonzero(unsound)):
        _sort_exactly(lines, start + int(r), order[r], edges[r])
        tolerance[r] = np.inf
    return Crossings(start, order, found.position, tolerance, edges)


def _sort_exactly(lines: Lines, line: int, order: IntArray, edges: BoolArray) -> None:
    """Sort the crossings of one line in place by whole numbers."""
    first, past = lines.parallel[line]
    real = np.arange(past, lines.count + first)
    order[: real.size], edges[1 : real.size] = exact_crossings(lines, line, real)
    # Parallels are never reached, but each entry has to be listed once.
    order[real.size :] = np.r_[line + 1 : past, lines.count + first : lines.count + line]
