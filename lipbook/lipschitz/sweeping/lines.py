"""Lines in the plane, merged where they coincide and sorted by direction, all of it exactly.

A line {x ∈ ℝ² : w·x + b = 0} is oriented so that its normal w points up (w₂ > 0, or w₂ = 0 and
w₁ > 0). Lines are sorted by the angle of w in [0, π), parallel ones by b/|w| downwards, and listed
a second time with reversed orientation, so that line n + i is line i seen from the other side.
Then line i, walked along u = (−w₂, w₁), is crossed by the lines i + 1, …, i + n − 1 of that list,
each from its negative to its positive side, and lies on the negative side of those among them that
are parallel to it: they are crossed at infinity. No sign is left to look up.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray, exact_order
from lipbook.lipschitz.rounding import exponent
from lipbook.lipschitz.sweeping.whole_numbers import primitive

# Products of three trusted numbers, and quotients of two of their differences, stay far from over-
# and underflow.
_SMALLEST, _LARGEST = 2.0**-300, 2.0**600
# Determinants of integers below this fit into 64 bits: 6·2⁶⁰ < 2⁶³.
_SHORT = 2**20


@dataclass(frozen=True)
class Lines:
    """Hold n distinct lines, oriented and sorted (see the module), entries 0, …, 2n − 1.

    Attributes:
        rows: (w, b) of the lines 0, …, n − 1, exact, (n, 3).
        parallel: the first, and one past the last, of the lines parallel to line i, (n, 2).
    """

    rows: FloatArray
    parallel: IntArray

    @property
    def count(self) -> int:
        """n, the number of lines."""
        return self.rows.shape[0]

    @cached_property
    def crossed(self) -> IntArray:
        """How many other lines cross line i, (n,)."""
        return self.count - (self.parallel[:, 1] - self.parallel[:, 0])

    @cached_property
    def scaled(self) -> FloatArray:
        """(w, b) of all 2n entries times powers of two, the larger entry of w in [½, 1), (3, 2n);
        exact where `trusted`."""
        with np.errstate(over="ignore", under="ignore"):
            scaled = np.ldexp(self.rows, -exponent(self.rows[:, :2], 1))
        scaled = np.clip(scaled, -_LARGEST, _LARGEST).T
        return np.concatenate([scaled, -scaled], axis=1)

    @cached_property
    def trusted(self) -> BoolArray:
        """Which of the 2n entries floating point may be trusted with, (2n,)."""
        size = np.abs(self.scaled[:, : self.count])
        zero = (size == 0.0) & (self.rows.T == 0.0)
        fine = zero | ((size >= _SMALLEST) & (size < _LARGEST))
        return np.tile(fine.all(axis=0), 2)

    @cached_property
    def feet(self) -> FloatArray:
        """b w/|w|² of `scaled`, with at most 6 roundings, (2, n)."""
        w, b = self.scaled[:2, : self.count], self.scaled[2, : self.count]
        feet: FloatArray = w * (b / (w[0] * w[0] + w[1] * w[1]))
        return feet

    @cached_property
    def factors(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """F (n, 3), G (3, n), H (n, 2), K (2, n) with N̂ = FG and D̂ = HK in module `crossings`."""
        w1, w2, b = self.scaled[:, : self.count]
        foot = np.stack([*self.feet, np.full(self.count, -1.0)], axis=1)
        return foot, np.stack([w1, w2, b]), np.stack([w1, -w2], axis=1), np.stack([w2, w1])

    @cached_property
    def offsets(self) -> FloatArray:
        """‖b w/|w|²‖₁ + max|b|, of `scaled`, (n,)."""
        sizes: FloatArray = np.abs(self.feet).sum(axis=0) + np.abs(self.scaled[2]).max()
        return sizes

    @cached_property
    def integers(self) -> npt.NDArray[Any]:
        """Whole numbers proportional to (w, b), (2n, 3): int64 if three of them multiply without
        overflow, else Python's."""
        rows = np.array([primitive(row) for row in self.rows.tolist()], dtype=object)
        both = np.concatenate([rows, -rows])
        return both.astype(np.int64) if np.abs(rows).max() < _SHORT else both

    @cached_property
    def big_integers(self) -> npt.NDArray[Any]:
        """`integers` as Python's, (2n, 3)."""
        return self.integers.astype(object)

    def integer_row(self, entry: int) -> tuple[int, int, int]:
        """Return one row of `integers`, without the others."""
        w1, w2, b = primitive(self.rows[entry % self.count].tolist())
        return (w1, w2, b) if entry < self.count else (-w1, -w2, -b)


def arranged(rows: FloatArray) -> tuple[Lines, IntArray, FloatArray]:
    """Merge and sort the lines w·x + b = 0.

    Args:
        rows: (w, b), (m, 3), no w = 0.

    Returns:
        The `Lines`; which of them each row is, (m,); +1 where the row's normal points up, −1 where
        it points down, (m,).
    """
    down = (rows[:, 1] < 0.0) | ((rows[:, 1] == 0.0) & (rows[:, 0] < 0.0))
    sign = np.where(down, -1.0, 1.0)
    upward = rows * sign[:, None]
    order, turns = _by_direction(upward)
    first = np.concatenate([[True], turns])  # of its direction
    starts = np.flatnonzero(first)
    stops = np.append(starts[1:], order.size)
    fresh = first.copy()  # not the same line as its left neighbour
    for start, stop in zip(starts[stops > starts + 1], stops[stops > starts + 1], strict=True):
        group = upward[order[start:stop]]
        pivot = group[:, 0] if group[0, 1] == 0.0 else group[:, 1]
        _, within, distinct = exact_order(pivot[None], group[None, :, 2])
        order[start:stop] = order[start:stop][within[0]]
        fresh[start + 1 : stop] = distinct[0]
    owner = np.empty(order.size, dtype=np.intp)
    owner[order] = np.cumsum(fresh) - 1
    direction = np.cumsum(first)[fresh]
    parallel = np.stack(
        [np.searchsorted(direction, direction), np.searchsorted(direction, direction, "right")],
        axis=1,
    )
    return Lines(upward[order[fresh]], parallel), owner, sign


def _by_direction(upward: FloatArray) -> tuple[IntArray, BoolArray]:
    """Return the order by the angle of w, and which neighbours in it are not parallel."""
    level, steep = np.flatnonzero(upward[:, 1] == 0.0), np.flatnonzero(upward[:, 1])
    # The cotangent w₁/w₂ falls from ∞ to −∞ as the angle grows.
    _, order, turns = exact_order(upward[None, steep, 1], upward[None, steep, 0])
    border = np.ones(1 if level.size and steep.size else 0, dtype=bool)
    level_turns = np.zeros(max(level.size - 1, 0), dtype=bool)
    return (
        np.concatenate([level, steep[order[0]]]),
        np.concatenate([level_turns, border, turns[0]]),
    )
