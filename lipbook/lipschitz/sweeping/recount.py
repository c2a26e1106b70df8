"""A count of all cells of a network of two inputs, to check an upper bound.

Line by line: which neurons are positive on its far end, where it is crossed by which others, in
order, and what the gradient is on both sides of every edge that meets the inside of the domain. All
of it in whole numbers and fractions, and without the code of the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby

import numpy as np

from lipbook.lipschitz.arrays import BoolArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays
from lipbook.lipschitz.sweeping.clipping import middle_of
from lipbook.lipschitz.sweeping.whole_numbers import whole_numbers

# Some 10 µs for each pair of neurons: about ten seconds.
LARGEST_RECOUNT = 1024

Pair = tuple[Fraction, Fraction]
End = Fraction | None  # None: unbounded
Jacobian = list[int]  # J₁₁, J₁₂, J₂₁, …, as multiples of a unit


@dataclass(frozen=True)
class Recount:
    """The proof is the count itself: nothing is stored."""

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why counting the cells does not prove Lip(f, domain) ≤ upper, None if it does."""
        n_live = int(np.count_nonzero(_live(problem)))
        if n_live == 0:
            return None
        if problem.activation.kink_slopes is None or _inputs(problem).size != 2:
            return "cells are counted for piecewise-linear networks of two inputs only"
        if n_live > LARGEST_RECOUNT:
            return (
                f"counting the cells of {n_live} neurons again takes too long: "
                f"at most {LARGEST_RECOUNT} are counted"
            )
        neurons = _neurons(problem)
        bound = (Fraction(upper) / neurons.unit) ** 2
        steep = any(not _is_at_most(jacobian, bound) for jacobian in neurons.jacobians(problem))
        return f"a cell has a gradient above {upper!r}" if steep else None


def has_gradient(problem: Problem, lower: float) -> bool:
    """Tell whether some cell that meets the inside of the domain has ‖J‖ ≥ lower, exactly.

    Args:
        problem: a piecewise-linear network with two inputs, or two in use.
        lower: what its gradient is to reach.
    """
    if lower <= 0.0:
        return True
    neurons = _neurons(problem)
    bound = (Fraction(lower) / neurons.unit) ** 2
    return any(not _is_below(jacobian, bound) for jacobian in neurons.jacobians(problem))


def _is_at_most(jacobian: Jacobian, bound: Fraction) -> bool:
    """Tell whether ‖J‖² ≤ bound, exactly."""
    a, b, c = _difference(jacobian, bound)
    return a >= 0 and c >= 0 and a * c >= b * b


def _is_below(jacobian: Jacobian, bound: Fraction) -> bool:
    """Tell whether ‖J‖² < bound, exactly."""
    a, b, c = _difference(jacobian, bound)
    return a > 0 and c > 0 and a * c > b * b


def _difference(jacobian: Jacobian, bound: Fraction) -> tuple[int, int, int]:
    """Return a, b, c with bound·I − JᵀJ a positive multiple of [[a, b], [b, c]]."""
    u, v = jacobian[::2], jacobian[1::2]
    p, q = bound.numerator, bound.denominator
    return (
        p - q * sum(x * x for x in u),
        -q * sum(x * y for x, y in zip(u, v, strict=True)),
        p - q * sum(y * y for y in v),
    )


@dataclass(frozen=True)
class _Neurons:
    """Hold the live neurons in whole numbers.

    Attributes:
        rows: (w₁, w₂, b) of each, times a positive number.
        off: what each adds to J/unit where its pre-activation is negative.
        on: what each adds where it is positive.
        unit: of J.
    """

    rows: list[tuple[int, int, int]]
    off: list[Jacobian]
    on: list[Jacobian]
    unit: Fraction

    def jacobians(self, problem: Problem) -> Iterator[Jacobian]:
        """Yield J/unit on every cell that meets the inside of the domain, most several times."""
        met = False
        for line in range(len(self.rows)):
            for jacobian in self._along(line, problem):
                met = True
                yield jacobian
        if not met:
            point = middle_of(problem)
            x, y = (point[i] for i in _inputs(problem))
            yield self._sum([p * x + q * y + c > 0 for p, q, c in self.rows])

    def _sum(self, positive: list[bool]) -> Jacobian:
        chosen = [on if s else off for s, on, off in zip(positive, self.on, self.off, strict=True)]
        return [sum(entries) for entries in zip(*chosen, strict=True)]

    def _along(self, line: int, problem: Problem) -> Iterator[Jacobian]:
        """Yield J on both sides of each edge of one line that meets the inside of the domain."""
        p, q, c = self.rows[line]
        size, way = p * p + q * q, (-q, p)
        positive, beside, crossings = [], [False] * len(self.rows), []
        for j, (r, s, e) in enumerate(self.rows):
            # On the line, at foot + t·way, the pre-activation is (value + t·size·slope)/size.
            value, slope = e * size - c * (p * r + q * s), p * s - q * r
            positive.append(slope < 0 if slope else value > 0 or (value == 0 and p * r + q * s > 0))
            beside[j] = slope == 0 and value == 0
            if slope:
                crossings.append((-value, slope, j) if slope > 0 else (value, -slope, j))
        other = [s != b for s, b in zip(positive, beside, strict=True)]
        jacobian, mirrored = self._sum(positive), self._sum(other)
        before: End = None
        foot = Fraction(-c * p, size), Fraction(-c * q, size)
        meets = _meets_inside(problem, foot, way)
        for after, crossed in _in_order(crossings, size):
            if meets(before, after):
                yield from (jacobian, mirrored)
            for j in crossed:
                old, new = (self.on, self.off) if positive[j] else (self.off, self.on)
                step = [y - x for x, y in zip(old[j], new[j], strict=True)]
                jacobian = [x + y for x, y in zip(jacobian, step, strict=True)]
                mirrored = [x + y for x, y in zip(mirrored, step, strict=True)]
            before = after


def _in_order(crossings: list[tuple[int, int, int]], size: int) -> Iterator[tuple[End, list[int]]]:
    """Yield t and the neurons of each crossing, given (N, D > 0, j) with t = N/(D·size); at last
    ∞ and none."""
    # Different N/D are 1/(D D') or more apart: rounded down to 2^-shift they stay different.
    shift = 2 * max((d.bit_length() for _, d, _ in crossings), default=0)
    keyed = sorted(((n << shift) // d, j, n, d) for n, d, j in crossings)
    for _, group in groupby(keyed, key=lambda entry: entry[0]):
        members = list(group)
        _, _, n, d = members[0]
        yield Fraction(n, d * size), [j for _, j, _, _ in members]
    yield None, []


def _neurons(problem: Problem) -> _Neurons:
    """Return the live neurons in whole numbers."""
    assert problem.activation.kink_slopes is not None
    live = _live(problem)
    weight = problem.hidden_weight[np.ix_(live, _inputs(problem))]
    table = np.column_stack([weight, problem.hidden_bias[live]])
    rows = [whole_numbers(row)[0] for row in table.tolist()]
    slopes, slope_unit = whole_numbers(problem.activation.kink_slopes)
    inputs, input_unit = whole_numbers(weight.ravel().tolist())
    outputs, output_unit = whole_numbers(problem.output_weight[:, live].T.ravel().tolist())
    k = problem.output_dim
    terms = [
        [a * w for a in outputs[k * j : k * (j + 1)] for w in inputs[2 * j : 2 * j + 2]]
        for j in range(len(rows))
    ]
    off, on = ([[s * v for v in term] for term in terms] for s in slopes)
    return _Neurons([(p, q, c) for p, q, c in rows], off, on, slope_unit * input_unit * output_unit)


def _meets_inside(problem: Problem, foot: Pair, way: tuple[int, int]) -> Callable[[End, End], bool]:
    """Return (low, high) ↦ whether {foot + t·way : low < t < high} meets the domain's inside."""
    inputs = _inputs(problem)
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        return _meets_ball(foot, way, [Fraction(v) for v in center[inputs]], Fraction(radius))
    box = box_arrays(problem.domain, problem.input_dim)
    if box is None:
        return lambda low, high: True
    return _meets_box(foot, way, *([Fraction(v) for v in end[inputs]] for end in box))


def _meets_ball(
    foot: Pair, way: tuple[int, int], center: list[Fraction], radius: Fraction
) -> Callable[[End, End], bool]:
    size = way[0] ** 2 + way[1] ** 2
    offset = center[0] - foot[0], center[1] - foot[1]
    nearest = (offset[0] * way[0] + offset[1] * way[1]) / size
    distance = (offset[0] * way[1] - offset[1] * way[0]) ** 2 / size
    room = (radius**2 - distance) / size

    def meets(low: End, high: End) -> bool:
        if low is not None and low > nearest:
            return (low - nearest) ** 2 < room
        if high is not None and high < nearest:
            return (high - nearest) ** 2 < room
        return room > 0

    return meets


def _meets_box(
    foot: Pair, way: tuple[int, int], low_corner: list[Fraction], high_corner: list[Fraction]
) -> Callable[[End, End], bool]:
    first, last = [], []
    for d in (0, 1):
        ends = low_corner[d] - foot[d], high_corner[d] - foot[d]
        if way[d]:
            before, after = sorted(end / way[d] for end in ends)
            first.append(before)
            last.append(after)
        elif not ends[0] < 0 < ends[1]:
            return lambda low, high: False
    start, stop = max(first), min(last)
    if start >= stop:
        return lambda low, high: False
    return lambda low, high: (low is None or low < stop) and (high is None or high > start)


def _live(problem: Problem) -> BoolArray:
    return np.any(problem.hidden_weight, axis=1) & np.any(problem.output_weight, axis=0)


def _inputs(problem: Problem) -> IntArray:
    """Return the inputs that live neurons look at, and others up to two."""
    used = problem.hidden_weight[_live(problem)].any(axis=0)
    order = np.argsort(~used, kind="stable")
    return np.sort(order[: max(2, np.count_nonzero(used))])
