"""Which edges of an arrangement of lines lie inside the domain, decided exactly.

An edge counts if it meets the inside of the domain in more than a point. A cell that meets the
inside has such an edge on its boundary, unless no line at all meets it.

A box adds its four sides to the lines, as neurons that change nothing. Walking along a line, one is
in the box while inside of all four.

A ball is met by line i between the ends of a chord, |t − t_c|·|w| < √(r² − (w·c + b)²/|w|²). Where
floating point cannot tell a crossing from an end of the chord, whole numbers do: crossing v lies
beyond the chord's first end exactly if |v − c| < r or (v − c)·u > 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.rounding import gamma
from lipbook.lipschitz.sweeping.crossings import Crossings
from lipbook.lipschitz.sweeping.lines import Lines
from lipbook.lipschitz.sweeping.orientation import crossing_point

Point = tuple[Fraction, Fraction]


class Clip(Protocol):
    """The inside of a domain, as the sweep of lines sees it."""

    def edges(self, lines: Lines, found: Crossings) -> BoolArray | None:
        """Return which edges meet the inside, (R, n), or None if all do."""


@dataclass(frozen=True)
class Everywhere:
    """The whole plane."""

    def edges(self, lines: Lines, found: Crossings) -> BoolArray | None:
        """Return which edges there are, (R, n), or None if all are."""
        return found.edges


def middle_of(problem: Problem) -> list[Fraction]:
    """Return a point inside the domain: its middle, or the origin, d coordinates."""
    d = problem.input_dim
    if isinstance(problem.domain, Ball):
        return [Fraction(v) for v in ball_arrays(problem.domain, d)[0].tolist()]
    box = box_arrays(problem.domain, d)
    if box is None:
        return [Fraction(0)] * d
    return [
        (Fraction(a) + Fraction(b)) / 2 for a, b in zip(*(end.tolist() for end in box), strict=True)
    ]


def side_rows(low: FloatArray, high: FloatArray) -> FloatArray:
    """Return (w, b) of the sides of a box: left, right, lower, upper one."""
    rows = np.zeros((4, 3))
    rows[:2, 0], rows[2:, 1] = 1.0, 1.0
    rows[::2, 2], rows[1::2, 2] = -low, -high
    return rows


@dataclass(frozen=True)
class BoxSides:
    """The inside of a box.

    Attributes:
        owner: which lines its sides are, in the order of `side_rows`, (4,).
    """

    owner: IntArray

    def edges(self, lines: Lines, found: Crossings) -> BoolArray | None:
        """Return which edges meet the inside of the box, (R, n)."""
        n, count = lines.count, len(found.order)
        codes = np.zeros(2 * n, dtype=np.int8)  # +1: who crosses it enters, −1: who crosses, leaves
        codes[self.owner] = (1, -1, 1, -1)
        codes[n:] = -codes[:n]
        leaving = np.concatenate([[0], np.cumsum(codes < 0)])
        line = np.arange(found.start, found.start + count)
        within = np.empty((count, n), dtype=np.int8)
        within[:, 0] = leaving[line + n] - leaving[line + 1]
        within[:, 1:] = codes.take(found.order)
        inside: BoolArray = np.cumsum(within, axis=1, dtype=np.int8) == 4
        return inside if found.edges is None else inside & found.edges


@dataclass(frozen=True)
class Disc:
    """The inside of a ball.

    Attributes:
        center: c.
        radius: r.
    """

    center: tuple[float, float]
    radius: float

    def edges(self, lines: Lines, found: Crossings) -> BoolArray | None:
        """Return which edges meet the inside of the ball, (R, n)."""
        n, count = lines.count, len(found.order)
        rows = np.arange(found.start, found.start + count)
        low, high, slack, met = self._chords(lines, rows)
        slack += 1.01 * found.tolerance
        edges = np.arange(n) <= lines.crossed[rows, None]
        edges = edges if found.edges is None else found.edges.copy()
        crossed = np.arange(n - 1) < lines.crossed[rows, None]
        begun = ~crossed | (found.position > (low + slack)[:, None])
        ended = ~(found.position < (high - slack)[:, None])
        doubtful = ~(begun | (found.position < (low - slack)[:, None]))
        doubtful |= ended & ~(found.position > (high + slack)[:, None])
        doubtful &= met[:, None] & crossed
        for r, s in zip(*np.nonzero(doubtful), strict=True):
            begun[r, s], ended[r, s] = self._beyond(lines, int(rows[r]), int(found.order[r, s]))
        edges[:, :-1] &= begun
        edges[:, 1:] &= ~ended
        return edges & met[:, None]

    def reach(self, point: tuple[Any, Any], direction: tuple[Any, Any]) -> Any:
        """Return a t with point ± t·direction in the ball, from a point in it, in the kind of
        numbers that the point is given in."""
        number = type(point[0])
        e1, e2, r = (
            point[0] - number(self.center[0]),
            point[1] - number(self.center[1]),
            number(self.radius),
        )
        # r − |e| ≥ (r² − |e|²)/(2r), and |v| ≤ |v₁| + |v₂|.
        return (r - (e1 * e1 + e2 * e2) / r) / (2 * (abs(direction[0]) + abs(direction[1])))

    def _chords(
        self, lines: Lines, rows: IntArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
        """Return the ends of the chords, a bound of their errors, and which lines are met, (R,)."""
        (w1, w2, b), (c1, c2) = lines.scaled[:, rows], self.center
        with np.errstate(all="ignore"):
            square = w1 * w1 + w2 * w2
            value, size = w1 * c1 + w2 * c2 + b, abs(w1 * c1) + abs(w2 * c2) + abs(b)
            distance, room = value * value / square, self.radius**2
            half = room - distance
            doubt = gamma(10) * (room + distance + abs(value) * size / square)
            doubt += (gamma(5) * size) ** 2 / square + 2.0**-1000
            middle = (c2 * w1 - c1 * w2) / square
            reach = np.sqrt(np.maximum(half, 0.0) / square)
            # √(h + δ) − √h ≤ √δ, and ≤ δ/√h.
            slack = np.minimum(np.sqrt(doubt), doubt / np.sqrt(np.maximum(half - doubt, 0.0)))
            slack = 1.01 * slack / np.sqrt(square) + gamma(10) * (
                reach + (abs(c1) + abs(c2)) / square
            )
        met = half > doubt
        unclear = ~(abs(half) > doubt) | ~lines.trusted[rows] | ~np.isfinite(slack)
        for r in np.flatnonzero(unclear):
            met[r] = self._meets(lines, int(rows[r]))
        return middle - reach, middle + reach, np.where(unclear, np.inf, slack), met

    def _exact(self) -> tuple[Fraction, Fraction, Fraction]:
        return Fraction(self.center[0]), Fraction(self.center[1]), Fraction(self.radius)

    def _meets(self, lines: Lines, line: int) -> bool:
        """Tell whether the line meets the inside of the ball: |w·c + b| < r|w|."""
        w1, w2, b = (Fraction(v) for v in lines.rows[line].tolist())
        c1, c2, r = self._exact()
        return (w1 * c1 + w2 * c2 + b) ** 2 < r * r * (w1 * w1 + w2 * w2)

    def _beyond(self, lines: Lines, line: int, entry: int) -> tuple[bool, bool]:
        """Tell whether a crossing lies beyond the first end of the chord; not before its last."""
        x, y, z = crossing_point(lines, line, entry)
        c1, c2, r = self._exact()
        e1, e2 = Fraction(x, z) - c1, Fraction(y, z) - c2
        w1, w2, _ = lines.integer_row(line)
        inside, along = e1 * e1 + e2 * e2 < r * r, e2 * w1 - e1 * w2
        return inside or along > 0, not inside and along >= 0
