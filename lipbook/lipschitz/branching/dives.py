"""Dives: switch after switch is set to the side that raises uᵀJv, where cells allow it.

For unit vectors u and v, uᵀJv = uᵀG₀v + Σ_g s_g⟨α_g, u⟩⟨w_g, v⟩ over the sides s_g = ±1 of the
hyperplanes. The largest terms choose first; a side that the sides chosen before make impossible is
given up. That is a greedy way through a problem of maximal feasible subsystems.

Where u and v come from: within a branch from its bound, in `search`; for the whole domain, in
`dive_points`, from the low-rank solution Z = (P; Q) of the semidefinite relaxation, as u = Qz and
v = Pz for random z (M. X. Goemans and D. P. Williamson, Journal of the ACM 42, 1995, round their
relaxation alike). The Jacobian of the cell that a dive ends in has singular vectors of its own;
from these the dive is repeated as long as it ends higher.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.feasibility import Finder, finder_for
from lipbook.lipschitz.branching.node_bounds import root_suggestion, set_jacobians
from lipbook.lipschitz.branching.open_cells import CLEAR, Cell
from lipbook.lipschitz.branching.switches import Switches, switches_of
from lipbook.lipschitz.problem import Options, Problem
from lipbook.lipschitz.regions import project

_RANK = 4
_DIVES = 8
_REPEATS = 5
# All dives of one network together: what a search for a point costs at least, and in all.
_SEARCH = 200_000.0
_WORK = 4e8


@dataclass
class Diver:
    """Go down from partly chosen sides to one cell.

    Attributes:
        switches: the network.
        finder: looks for points of cells.
        options: the time limit.
        work: what may still be spent, in steps of the searches for points.
        seen: points of cells on the way, (d,) each.
    """

    switches: Switches
    finder: Finder
    options: Options
    work: float = float("inf")
    seen: list[FloatArray] = field(default_factory=list)

    def dive(
        self, wish: FloatArray, decided: list[int], signs: FloatArray, point: FloatArray
    ) -> FloatArray:
        """Set all free switches, those of the largest |wish| first; return a point of the cell.

        Args:
            wish: what side 1 of each hyperplane adds to uᵀJv, (n,).
            decided: the switches that are set and do not follow from others.
            signs: (n,), −1, 0 (free) or 1.
            point: a point of the cell that is left by the signs, (d,).
        """
        decided, signs = list(decided), signs.copy()
        height = len(point) + 2
        for switch in np.argsort(-np.abs(wish)).tolist():
            if signs[switch] != 0.0:
                continue
            signs[switch] = 1.0 if wish[switch] > 0.0 else -1.0
            if self.finder.sides(point[None])[0, switch] * signs[switch] <= CLEAR:
                self.work -= _SEARCH + (len(decided) + 1) * height**2
                if self.work < 0.0 or self.options.out_of_time:
                    break
                chosen = np.array([*decided, switch], dtype=np.intp)
                found = self.finder.find(chosen, signs[chosen])
                if found.point is None:
                    signs[switch] *= -1.0
                    continue
                point = found.point
                self.seen.append(point)
            decided.append(switch)
        return point


def dive_in(cell: Cell, switches: Switches, finder: Finder, options: Options) -> list[FloatArray]:
    """Dive within a branch towards what its bound would like; return points on the way."""
    if cell.doubtful or not len(cell.points):
        return []
    wish = np.einsum("nr,nr->n", switches.weight @ cell.right, switches.jump.T @ cell.left)
    diver = Diver(switches, finder, options)
    diver.dive(wish, cell.decided, cell.signs, cell.points[-1])
    return diver.seen


def dive_points(problem: Problem, options: Options) -> FloatArray:
    """Return points of steep cells of a piecewise-linear network, (n, d), from a few dives.

    Args:
        problem: a network with a piecewise-linear σ, any domain.
        options: the time limit, and the seed of the random z.
    """
    switches = switches_of(problem)
    n, d = switches.weight.shape
    if n == 0:
        return np.empty((0, d))
    finder = finder_for(switches, problem.domain)
    rank = min(_RANK, d + problem.output_dim)
    _, right, left = root_suggestion(switches, rank, lambda: options.out_of_time)
    diver = Diver(switches, finder, options, work=_WORK)
    generator = np.random.default_rng([options.seed, 2])
    points = []
    for index in range(_DIVES):
        z = generator.standard_normal(rank) if index else np.eye(rank)[0]
        points.append(_repeated(diver, left @ z, right @ z))
        if diver.work < 0.0 or options.out_of_time:
            break
    return project(np.array(points), problem)


def _repeated(diver: Diver, u: FloatArray, v: FloatArray) -> FloatArray:
    """Dive along u and v, then along the top singular vectors of the cell found, while it helps."""
    switches, start = diver.switches, diver.finder.middle
    free = np.zeros(switches.count)
    best, steepest = start, -1.0
    for _ in range(_REPEATS):
        wish = (switches.weight @ v) * (u @ switches.jump)
        point = diver.dive(wish, [], free, start)
        signs = np.where(diver.finder.sides(point[None]) > 0.0, 1.0, -1.0)
        left, sizes, right = np.linalg.svd(set_jacobians(switches, signs)[0], full_matrices=False)
        if sizes[0] <= steepest * (1.0 + 1e-9):
            break
        best, steepest = point, float(sizes[0])
        u, v = left[:, 0], right[0]
        if diver.work < 0.0:
            break
    return best
