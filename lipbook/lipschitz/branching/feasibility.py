"""Points of a cell, or multipliers that show it empty: one nonnegative least-squares problem.

A cell is {x in the domain: s_g(⟨w_g, x⟩ + b_g) > 0, g ∈ F}. Two forms, both least distance problems
in the sense of Lawson and Hanson, solved by their NNLS:

- *cone* (whole space, boxes): y = (x, ξ) with C y > 0, the rows of C being s_g(w_g, b_g), the faces
  of the box, and (0, 1). Shortest y with C y ≥ 1, or u ≥ 0 with Cᵀu = 0.
- *ball*: the point of the cell nearest to the centre, or u ≥ 0 that shows that its distance is at
  least the radius; a cell that is neither far nor seen to have a point is looked at as a cone.

Rows are scaled to norm 1, which changes neither problem. What comes back is in floating point:
points are looked at again by whoever takes a gradient there, multipliers by `emptiness`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.domains import Ball, Domain, box_arrays
from lipbook.lipschitz.regions import ball_arrays

IntArray = npt.NDArray[np.intp]

# Below this residual of a problem with right-hand side 1 the cell is claimed to be empty. It may be
# very thin instead: then the claim is not proved, and the search takes the cell back.
_EMPTY = 1e-8


@dataclass(frozen=True)
class Multipliers:
    """Hold u ≥ 0 for the switches of F, in their order, and for the faces of the domain.

    Attributes:
        switches: one number per switch of F, for rows (w_g, b_g) as they are in the network.
        faces: 2d numbers, low faces first, for rows (e_j, −low_j) and (−e_j, high_j); () where the
            domain is no box.
    """

    switches: FloatArray
    faces: FloatArray


@dataclass(frozen=True)
class Finding:
    """Hold what is known about a cell: a point, or multipliers, or neither.

    Attributes:
        point: x in the cell, (d,).
        multipliers: they show that the cell is empty, up to rounding.
    """

    point: FloatArray | None = None
    multipliers: Multipliers | None = None


UNDECIDED = Finding()
Question = Callable[[int, float], Finding]


class ConeFinder:
    """Look for points of cells in the whole space or in a box."""

    def __init__(self, switches: Switches, domain: Domain) -> None:
        """Shift the origin to the middle of the box, and choose a unit of length."""
        d = switches.raw_weight.shape[1]
        box = box_arrays(domain, d)
        self.middle = np.zeros(d) if box is None else 0.5 * box[0] + 0.5 * box[1]
        bias = switches.bias + switches.raw_weight @ self.middle
        if box is None:
            self.unit = _typical_distance(switches.raw_weight, bias)
            self.faces = np.zeros((0, d + 1))
        else:
            half = 0.5 * box[1] - 0.5 * box[0]
            self.unit = float(half.max())
            self.faces = np.concatenate(
                [_faces(half / self.unit, 1.0), _faces(half / self.unit, -1.0)]
            )
        rows = np.concatenate([switches.raw_weight, bias[:, None] / self.unit], axis=1)
        self.sizes = _row_norms(rows)
        self.face_sizes = _row_norms(self.faces)
        self.rows = rows / self.sizes[:, None]
        self.always = np.concatenate(
            [self.faces / self.face_sizes[:, None], np.eye(d + 1)[d:]], axis=0
        )

    def find(self, chosen: IntArray, signs: FloatArray) -> Finding:
        """Look at the cell where the chosen switches (f,) have these signs (f,)."""
        return self._solved(self._system(chosen, signs), chosen)

    def questions(self, chosen: IntArray, signs: FloatArray) -> Question:
        """Return what looks at a cell where one more switch has a sign: find(switch, sign)."""
        f = chosen.size
        system = self._system(np.append(chosen, 0), np.append(signs, 1.0))

        def find(switch: int, sign: float) -> Finding:
            system[:-1, f] = sign * self.rows[switch]
            return self._solved(system, np.append(chosen, switch))

        return find

    def _system(self, chosen: IntArray, signs: FloatArray) -> FloatArray:
        """Return the rows of C, and 1 for each, as columns."""
        f = chosen.size
        system = np.empty((self.rows.shape[1] + 1, f + len(self.always)))
        system[:-1, :f] = (signs[:, None] * self.rows[chosen]).T
        system[:-1, f:] = self.always.T
        system[-1] = 1.0
        return system

    def _solved(self, system: FloatArray, chosen: IntArray) -> Finding:
        f, target = chosen.size, np.zeros(len(system))
        target[-1] = 1.0
        solved = _nnls(system, target)
        if solved is None:
            return UNDECIDED
        u, residual = solved
        if residual < _EMPTY:
            faces = u[f : f + len(self.faces)] / self.face_sizes
            return Finding(multipliers=Multipliers(u[:f] / self.sizes[chosen], faces))
        y = target - system @ u
        return Finding(point=self.middle + self.unit * (y[:-2] / y[-2]))

    def sides(self, points: FloatArray) -> FloatArray:
        """Return ⟨w_g, x⟩ + b_g at points (q, d), rows scaled to norm 1, (q, n)."""
        local = (points - self.middle) / self.unit
        side: FloatArray = local @ self.rows[:, :-1].T + self.rows[:, -1]
        return side


class BallFinder:
    """Look for points of cells in a ball."""

    def __init__(self, switches: Switches, ball: Ball) -> None:
        """Shift the origin to the centre and measure lengths in radii."""
        self.anywhere = ConeFinder(switches, None)
        self.middle, self.unit = ball_arrays(ball, switches.raw_weight.shape[1])
        self.sizes = _row_norms(switches.raw_weight) * self.unit
        self.rows = switches.raw_weight * self.unit / self.sizes[:, None]
        self.offsets = (switches.bias + switches.raw_weight @ self.middle) / self.sizes

    def find(self, chosen: IntArray, signs: FloatArray) -> Finding:
        """Look at the cell where the chosen switches (f,) have these signs (f,)."""
        rows, offsets = signs[:, None] * self.rows[chosen], signs * self.offsets[chosen]
        if not chosen.size:
            return Finding(point=self.middle.copy())
        inside, _ = self._nearest(rows, offsets - 1e-7)
        if inside is not None and float(inside @ inside) < (1.0 - 1e-9) ** 2:
            return Finding(point=self.middle + self.unit * inside)
        closest, u = self._nearest(rows, offsets)
        if u is None or (closest is not None and float(closest @ closest) < 1.0 + 1e-12):
            elsewhere = self.anywhere.find(chosen, signs)
            return UNDECIDED if elsewhere.multipliers is None else elsewhere
        return Finding(multipliers=Multipliers(u / self.sizes[chosen], np.zeros(0)))

    def questions(self, chosen: IntArray, signs: FloatArray) -> Question:
        """Return what looks at a cell where one more switch has a sign: find(switch, sign)."""
        return lambda switch, sign: self.find(np.append(chosen, switch), np.append(signs, sign))

    def _nearest(
        self, rows: FloatArray, offsets: FloatArray
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """Return the shortest x with rows·x + offsets ≥ 0 if there is one, and u ≥ 0."""
        system = np.concatenate([rows.T, -offsets[None]])
        target = np.zeros(len(system))
        target[-1] = 1.0
        solved = _nnls(system, target)
        if solved is None:
            return None, None
        u, residual = solved
        if residual < _EMPTY:
            return None, u
        r = target - system @ u
        return -r[:-1] / r[-1] if r[-1] > 0.0 else None, u

    def sides(self, points: FloatArray) -> FloatArray:
        """Return ⟨w_g, x⟩ + b_g at points (q, d) as distances in radii, (q, n)."""
        local = (points - self.middle) / self.unit
        side: FloatArray = local @ self.rows.T + self.offsets
        return side


Finder = ConeFinder | BallFinder


def finder_for(switches: Switches, domain: Domain) -> Finder:
    """Return what looks for points of cells in that domain."""
    if isinstance(domain, Ball):
        return BallFinder(switches, domain)
    return ConeFinder(switches, domain)


def _nnls(system: FloatArray, target: FloatArray) -> tuple[FloatArray, float] | None:
    """Return argmin over u ≥ 0 of ‖system·u − target‖ and the minimum, or None if it fails."""
    try:
        u, residual = nnls(system, target)
    except RuntimeError:  # too many iterations
        return None
    return u, float(residual)


def _faces(half: FloatArray, sign: float) -> FloatArray:
    """Return the rows (±e_j, half_j) of faces on one side."""
    return np.concatenate([sign * np.eye(half.size), half[:, None]], axis=1)


def _row_norms(rows: FloatArray) -> FloatArray:
    return np.maximum(np.linalg.norm(rows, axis=1), 1e-290)


def _typical_distance(weight: FloatArray, bias: FloatArray) -> float:
    """Return the median distance of the hyperplanes from the origin, or 1 if most go through it."""
    distance = np.abs(bias) / _row_norms(weight) if bias.size else np.zeros(1)
    typical = float(np.median(distance))
    return float(np.clip(typical, 1e-100, 1e100)) if typical > 0.0 else 1.0
