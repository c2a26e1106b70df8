"""Networks of two inputs for tests, and a naive count of their cells in rational arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from lipschitz_oracles import Network, random_network

from lipbook.lipschitz import Ball
from lipbook.lipschitz.domains import box_arrays
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.sweeping.sweep import sweep_bracket

BOX = ((-1.0, -0.5), (0.5, 1.0))
DOMAINS = [None, (-1.0, 1.0), BOX, Ball(0.0, 1.0), Ball((0.3, -0.7), 0.5)]


def plane(w, b, a) -> Network:
    return Network(np.array(w, float), np.array(b, float), np.atleast_2d(np.array(a, float)))


def lattice(seed: int, width: int, size: int, k: int = 1) -> Network:
    generator = np.random.default_rng(seed)
    shapes = (width, 2), width, (k, width)
    return plane(*(generator.integers(-size, size + 1, shape) for shape in shapes))


def through(point, net: Network) -> Network:
    """All kinks through one point, up to rounding."""
    return replace(net, hidden_bias=-net.hidden_weight @ np.array(point))


def scaled_rows(net: Network, powers) -> Network:
    s = 10.0 ** np.asarray(powers, float)
    return Network(net.hidden_weight * s[:, None], net.hidden_bias * s, net.output_weight / s)


RANDOM = random_network(1, 12, 2)
# One table for every property: a new kind of network is one new row.
NETS: dict[str, Network] = {
    "one neuron": plane([[3, 4]], [1], [2]),
    "parallel": plane([[1, 2], [2, 4], [-1, -2], [3, 6]], [0, 1, 1, 0.5], [1, -2, 3, 0.5]),
    "nearly parallel": plane(
        np.outer([1.1, 0.3, -0.7, 1.9], [1.5, -0.7]), [0, 0.1, 0.2, -1], [1, -2, 3, 0.5]
    ),
    "star": plane([[1, 0], [0, 1], [1, 1], [1, -1]], np.zeros(4), [1, 2, -1, 3]),
    "zero biases": replace(RANDOM, hidden_bias=np.zeros(12)),
    "one point": through([0.3, 0.7], random_network(2, 8, 2)),
    "almost one point": through([0.3, 0.7 + 1e-15], random_network(3, 8, 2)),
    "duplicates": plane(
        [[1, 2], [2, 4], [-3, -6], [0, 1], [0, 1]], [1, 2, -3, 0, 0], [1, 1, 1, 2, -2]
    ),
    "axes": plane(
        [[1, 0], [-1, 0], [0, 1], [0, -2], [1, 0]], [0, 1, 0.5, 1, -0.5], [1, 2, 3, 1, 1]
    ),
    "dead": plane([[0, 0], [1, 1], [2, -1], [1, 0]], [1, 0, 0.5, -0.5], [5, 1, 0, -2]),
    "constant": plane([[0, 0], [1, 1]], [1, 0], [1, 0]),
    "affine": plane([[1, 2], [-1, -2]], [0.3, -0.3], [2, -2]),
    "vanishes": plane([[1, 2], [1, 2], [-1, 1], [-1, 1]], [1, 1, 0, 0], [1, -1, 3, -3]),
    "lattice": lattice(0, 12, 2),
    "lattice, k = 2": lattice(1, 10, 3, k=2),
    "random": RANDOM,
    "random, k = 2": random_network(4, 9, 2, k=2),
    "random, k = 3": random_network(5, 8, 2, k=3),
    "badly scaled": scaled_rows(random_network(6, 8, 2), range(-8, 8, 2)),
    "very badly scaled": scaled_rows(random_network(7, 6, 2), [-100, 100, 0, 60, -3, 8]),
}


def problem_of(net: Network, activation="relu", domain=None) -> Problem:
    return checked_problem(*net.parts, activation, domain)


def swept(net: Network, activation="relu", domain=None, **options):
    return sweep_bracket(problem_of(net, activation, domain), Options(**options))


def patterns(problem: Problem) -> set[tuple[bool, ...]]:
    """Which neurons are positive on each cell that meets the inside of the domain.

    The sign of every pre-activation in the middle of every edge, and on both sides of it those of
    the neurons that vanish there: the definition, point by point.
    """
    table = np.column_stack([problem.hidden_weight, problem.hidden_bias]).tolist()
    rows = [tuple(Fraction(v) for v in row) for row in table]
    found = set()
    for p, q, c in rows:
        if p == q == 0:
            continue
        size, way = p * p + q * q, (-q, p)
        foot = -c * p / size, -c * q / size
        marks = {
            (c * (p * r + q * s) - e * size) / (size * (p * s - q * r))
            for r, s, e in rows
            if p * s != q * r
        }
        ends = [min(marks, default=Fraction(0)) - 1, max(marks, default=Fraction(0)) + 1]
        for low, high in pairwise(sorted(marks | set(ends))):
            bounds = None if low == ends[0] else low, None if high == ends[1] else high
            if not meets(problem, foot, way, *bounds):
                continue
            t = (low + high) / 2
            x, y = foot[0] + t * way[0], foot[1] + t * way[1]
            values = [r * x + s * y + e for r, s, e in rows]
            for side in (1, -1):
                found.add(
                    tuple(
                        v > 0 if v else side * (p * r + q * s) > 0
                        for v, (r, s, _) in zip(values, rows, strict=True)
                    )
                )
    return found or {pattern_inside(problem, rows)}


def pattern_inside(problem: Problem, rows) -> tuple[bool, ...]:
    """The pattern in the middle of the domain."""
    if isinstance(problem.domain, Ball):
        x, y = (Fraction(v) for v in np.broadcast_to(problem.domain.center, 2).tolist())
    else:
        corners = box_arrays(problem.domain, 2) or (np.zeros(2), np.zeros(2))
        x, y = (sum(map(Fraction, ends)) / 2 for ends in np.array(corners).T.tolist())
    return tuple(p * x + q * y + c > 0 for p, q, c in rows)


def meets(problem: Problem, foot, way, low, high) -> bool:
    """Whether {foot + t·way : low < t < high} meets the inside of the domain; None: unbounded."""
    if isinstance(problem.domain, Ball):
        c = [Fraction(v) for v in np.broadcast_to(problem.domain.center, 2).tolist()]
        t = sum((c[d] - foot[d]) * way[d] for d in (0, 1)) / (way[0] ** 2 + way[1] ** 2)
        t = t if low is None else max(t, low)
        t = t if high is None else min(t, high)
        square = sum((foot[d] + t * way[d] - c[d]) ** 2 for d in (0, 1))
        return square < Fraction(problem.domain.radius) ** 2
    if problem.domain is None:
        return True
    for d, ends in enumerate(np.transpose(box_arrays(problem.domain, 2)).tolist()):
        before, after = (Fraction(end) - foot[d] for end in ends)
        if way[d] == 0:
            if not before < 0 < after:
                return False
            continue
        before, after = sorted((before / way[d], after / way[d]))
        low = before if low is None else max(low, before)
        high = after if high is None else min(high, after)
    return low is None or high is None or low < high


def grams(problem: Problem) -> list[tuple[Fraction, Fraction, Fraction]]:
    """JᵀJ = [[a, b], [b, c]] as (a, b, c) on every cell that meets the inside of the domain."""
    left, right = (Fraction(s) for s in problem.activation.kink_slopes)
    weight = [[Fraction(v) for v in row] for row in problem.hidden_weight.tolist()]
    output = [[Fraction(v) for v in row] for row in problem.output_weight.tolist()]
    found = []
    for pattern in patterns(problem):
        scaled = [
            [v * (right if s else left) for v in w] for s, w in zip(pattern, weight, strict=True)
        ]
        u, v = (
            [sum(a * w[d] for a, w in zip(row, scaled, strict=True)) for row in output]
            for d in (0, 1)
        )
        products = ((u, u), (u, v), (v, v))
        found.append(tuple(sum(x * y for x, y in zip(*pair, strict=True)) for pair in products))
    return found


def encloses_largest(cells, lower: float, upper: float) -> bool:
    """Whether lower ≤ max ‖J‖ ≤ upper over cells given by JᵀJ, in rational arithmetic."""
    low, high = (Fraction(v) ** 2 for v in (lower, upper))
    below = all(low > a and low > c and (low - a) * (low - c) > b * b for a, b, c in cells)
    return not below and all(
        high >= a and high >= c and (high - a) * (high - c) >= b * b for a, b, c in cells
    )


def is_right(problem: Problem, found) -> bool:
    return encloses_largest(grams(problem), found.lower, found.upper)


small = st.integers(-3, 3)
numbers = st.one_of(
    small.map(float), small.map(lambda i: i / 3.0), st.floats(-4, 4, allow_nan=False, width=32)
)


@st.composite
def networks(draw):
    width, k = draw(st.integers(1, 7)), draw(st.sampled_from([1, 1, 2, 3]))

    def table(rows, columns):
        row = st.lists(numbers, min_size=columns, max_size=columns)
        return draw(st.lists(row, min_size=rows, max_size=rows))

    return plane(table(width, 2), table(1, width)[0], table(k, width))
