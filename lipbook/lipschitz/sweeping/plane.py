"""What a network of two inputs is to the sweep: lines, and the part of the plane that counts.

Neurons without an input or an output weight change no gradient and are left out. Inputs that no
other neuron looks at change none either: Lip(f, domain) is that of the remaining two inputs on the
domain's projection, which is a box for a box and a ball for a ball.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.jacobians import preactivations, witness_at
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays, project
from lipbook.lipschitz.results import Witness
from lipbook.lipschitz.sweeping.clipping import (
    BoxSides,
    Clip,
    Disc,
    Everywhere,
    middle_of,
    side_rows,
)
from lipbook.lipschitz.sweeping.inner_points import Cell, inner_point
from lipbook.lipschitz.sweeping.lines import Lines, arranged


def live_neurons(problem: Problem) -> BoolArray:
    """Return which neurons have an input and an output weight, (m,)."""
    return np.any(problem.hidden_weight, axis=1) & np.any(problem.output_weight, axis=0)


def used_inputs(problem: Problem) -> IntArray:
    """Return which inputs live neurons look at."""
    return np.flatnonzero(problem.hidden_weight[live_neurons(problem)].any(axis=0))


@dataclass(frozen=True)
class Plane:
    """Hold the lines of a network with a live neuron, and of its domain.

    Attributes:
        problem: the network as given.
        reduced: live neurons and two inputs of it; its domain is not reduced.
        live: which neurons those are, (m,).
        inputs: which inputs those are, (2,).
        lines: the lines of those neurons, and the sides of a box.
        owner: which line each live neuron belongs to.
        sign: +1 if its normal points the same way as that of the line, −1 if the other way.
        clip: the inside of the domain.
    """

    problem: Problem
    reduced: Problem
    live: BoolArray
    inputs: IntArray
    lines: Lines
    owner: IntArray
    sign: FloatArray
    clip: Clip

    @property
    def disc(self) -> Disc | None:
        """Return the domain, if it is a ball."""
        return self.clip if isinstance(self.clip, Disc) else None

    def only_cell(self) -> Cell:
        """Return the domain as a cell, if no line meets its inside."""
        middle = middle_of(self.problem)
        x, y = (middle[i] for i in self.inputs)
        rows = self.lines.rows.tolist()
        positive = [Fraction(p) * x + Fraction(q) * y + Fraction(b) > 0 for p, q, b in rows]
        return Cell(np.array(positive), (x, y), (1, 0))

    def witness(self, cell: Cell, lower: float) -> Witness:
        """Return a point of a cell whose gradient is at least `lower`."""
        crossed = np.zeros(self.problem.width, dtype=bool)
        crossed[self.live] = cell.positive[self.owner] == (self.sign > 0.0)
        for exactly in (False, True):
            point = _as_floats(middle_of(self.problem))
            point[self.inputs] = inner_point(self.lines, cell, self.disc, exactly)
            if self._confirms(point, crossed):
                break
        else:
            point = project(point[None], self.problem)[0]
        with np.errstate(all="ignore"):
            pattern = np.where(
                self.live, crossed, preactivations(self.problem, point[None])[0][0] > 0.0
            )
        return Witness(tuple(point.tolist()), pattern, lower)

    def _confirms(self, point: FloatArray, crossed: BoolArray) -> bool:
        """Tell whether the point lies inside the domain and the cell, beyond rounding errors."""
        with np.errstate(all="ignore"):
            seen = witness_at(self.problem, point)
        if seen is None or not _is_inside(self.problem, point):
            return False
        assert seen.pattern is not None
        return bool((seen.pattern == crossed)[self.live].all())


def flat_witness(problem: Problem) -> Witness:
    """Return a witness of a constant network without a live neuron."""
    point = _as_floats(middle_of(problem))
    pattern = preactivations(problem, point[None])[0][0] > 0.0
    return Witness(tuple(point.tolist()), pattern, 0.0)


def _as_floats(point: list[Fraction]) -> FloatArray:
    return np.array([float(v) for v in point])


def _is_inside(problem: Problem, point: FloatArray) -> bool:
    """Tell exactly whether a point lies inside the domain."""
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        offsets = [Fraction(x) - Fraction(c) for x, c in zip(point, center, strict=True)]
        return sum(e * e for e in offsets) < Fraction(radius) ** 2
    box = box_arrays(problem.domain, problem.input_dim)
    return box is None or bool(((box[0] < point) & (point < box[1])).all())


def plane_of(problem: Problem) -> Plane:
    """Return the lines of a network with a live neuron and at most two inputs in use."""
    live, used = live_neurons(problem), used_inputs(problem)
    spare = np.setdiff1d(np.arange(problem.input_dim), used)
    inputs = np.sort(np.concatenate([used, spare[: 2 - used.size]]))
    reduced = replace(
        problem,
        hidden_weight=problem.hidden_weight[np.ix_(live, inputs)],
        hidden_bias=problem.hidden_bias[live],
        output_weight=problem.output_weight[:, live],
    )
    rows = np.column_stack([reduced.hidden_weight, reduced.hidden_bias])
    box = box_arrays(problem.domain, problem.input_dim)
    if box is not None:
        rows = np.concatenate([rows, side_rows(box[0][inputs], box[1][inputs])])
    lines, owner, sign = arranged(rows)
    clip: Clip = Everywhere() if box is None else BoxSides(owner[-4:])
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        clip = Disc((float(center[inputs[0]]), float(center[inputs[1]])), radius)
    neurons = slice(reduced.width)
    return Plane(problem, reduced, live, inputs, lines, owner[neurons], sign[neurons], clip)
