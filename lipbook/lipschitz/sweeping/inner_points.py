"""A point well inside a cell of an arrangement of lines.

From a point of an edge one walks into the cell, halfway to the first line or to the end of the
domain, and then again and again to the middle of the longest way through the cell in some
direction. The same steps run in floating point, which is quick, and in rational numbers, which find
the way into a cell however thin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray
from lipbook.lipschitz.sweeping.clipping import Disc, Point
from lipbook.lipschitz.sweeping.crossings import Crossings
from lipbook.lipschitz.sweeping.lines import Lines
from lipbook.lipschitz.sweeping.orientation import crossing_point


@dataclass(frozen=True)
class Place:
    """Hold one side of one edge.

    Attributes:
        found: the crossings on its line alone.
        edge: how many of them come before the edge.
        side: whether the positive side is meant.
    """

    found: Crossings
    edge: int
    side: bool


@dataclass(frozen=True)
class Cell:
    """Hold one cell and a point of its closure, inside the domain.

    Attributes:
        positive: on which side of each line the cell lies, (n,).
        point: a point of an edge's interior, or of the cell's.
        inward: a direction from there into the cell.
    """

    positive: BoolArray
    point: Point
    inward: tuple[int, int]


def cell_beside(lines: Lines, place: Place, disc: Disc | None) -> Cell:
    """Return the cell on one side of an edge that meets the inside of the domain, `disc` if that is
    a ball."""
    line, order, edge, side = place.found.start, place.found.order[0], place.edge, place.side
    passed = np.zeros(2 * lines.count, dtype=bool)
    passed[order[:edge]] = True
    # Entry n + j is line j reversed: not passed, j's positive side.
    positive = np.where(
        np.arange(lines.count) < line, ~passed[lines.count :], passed[: lines.count]
    )
    positive[line] = side
    w1, w2, _ = lines.integer_row(line)
    ends = (edge - 1 if edge > 0 else None, edge if edge < lines.crossed[line] else None)
    before, after = (_parameter(lines, line, None if e is None else order[e]) for e in ends)
    foot = _foot(lines, line)
    if disc is not None:
        before, after = _inside(before, after, foot, (w1, w2), disc)
    t = _between(before, after, Fraction(1, max(abs(w1), abs(w2))))
    inward = (w1, w2) if side else (-w1, -w2)
    return Cell(positive, (foot[0] - t * w2, foot[1] + t * w1), inward)


def _foot(lines: Lines, line: int) -> Point:
    """Return the foot of the origin on a line."""
    w1, w2, b = lines.integer_row(line)
    size = w1 * w1 + w2 * w2
    return Fraction(-b * w1, size), Fraction(-b * w2, size)


def _parameter(lines: Lines, line: int, entry: Any) -> Fraction | None:
    """Return where on a line an entry crosses it, as a multiple of (−w₂, w₁) from the foot."""
    if entry is None:
        return None
    w1, w2, _ = lines.integer_row(line)
    x, y, z = crossing_point(lines, line, int(entry))
    return Fraction(y * w1 - x * w2, z * (w1 * w1 + w2 * w2))


def _between(low: Any, high: Any, unit: Any) -> Any:
    """Return a number between two, None for −∞ and ∞; `unit` is how far to go out there."""
    if low is None and high is None:
        return 0 * unit
    if low is None or high is None:
        known = high if low is None else low
        step = abs(known) + unit
        return known - step if low is None else known + step
    return (low + high) / 2


def _inside(
    low: Fraction | None, high: Fraction | None, foot: Point, normal: tuple[int, int], disc: Disc
) -> tuple[Fraction, Fraction]:
    """Return a part of an edge that meets the inside of the ball, of which it is inside."""
    w1, w2 = normal
    center = Fraction(disc.center[0]), Fraction(disc.center[1])
    t = (center[1] * w1 - center[0] * w2) / (w1 * w1 + w2 * w2)
    t = t if low is None else max(t, low)
    t = t if high is None else min(t, high)
    reach = disc.reach((foot[0] - t * w2, foot[1] + t * w1), (-w2, w1))
    before, after = t - reach, t + reach
    return before if low is None else max(before, low), after if high is None else min(after, high)


def inner_point(lines: Lines, cell: Cell, disc: Disc | None, exactly: bool) -> tuple[float, float]:
    """Return the float64 point next to a point well inside a cell and the domain, which is looked
    for in floating point or in rational numbers."""
    rows: npt.NDArray[Any] = np.where(cell.positive[:, None], lines.rows, -lines.rows)
    if exactly:
        rows = np.array([Fraction(v) for v in rows.ravel().tolist()]).reshape(rows.shape)
    number = Fraction if exactly else as_float
    x, y = (number(v) for v in cell.point)
    size = max(abs(v) for v in cell.inward)
    inward = tuple(Fraction(v, size) for v in cell.inward)
    with np.errstate(all="ignore"):
        for direction in (inward, (-inward[1], inward[0]), (1, 0), (0, 1)):
            v = tuple(number(c) for c in direction)
            t = _middle(rows, (x, y), v, disc)
            x, y = x + t * v[0], y + t * v[1]
    return as_float(x), as_float(y)


def as_float(value: Any) -> float:
    """Return the float64 number next to `value`, the largest one for values beyond."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(float(np.finfo(np.float64).max), 1 if value > 0 else -1)


def _middle(rows: npt.NDArray[Any], point: Any, direction: Any, disc: Disc | None) -> Any:
    """Return the middle of the t with point + t·direction in the cell and the domain."""
    gaps = rows[:, 0] * point[0] + rows[:, 1] * point[1] + rows[:, 2]
    rates = rows[:, 0] * direction[0] + rows[:, 1] * direction[1]
    rising, falling = (rates > 0).astype(bool), (rates < 0).astype(bool)
    low = np.max(-gaps[rising] / rates[rising]) if rising.any() else None
    high = np.min(-gaps[falling] / rates[falling]) if falling.any() else None
    if disc is not None:
        reach = disc.reach(point, direction)
        low = -reach if low is None else max(low, -reach)
        high = reach if high is None else min(high, reach)
    t = _between(low, high, 1 + abs(point[0]) + abs(point[1]))
    if not isinstance(t, Fraction) or low is None or high is None or low == high:
        return t
    # A short fraction near the middle: exact middles would grow longer with every step.
    width = high - low
    places = max(0, 4 - width.numerator.bit_length() + width.denominator.bit_length())
    return Fraction(round(t * 2**places), 2**places)
