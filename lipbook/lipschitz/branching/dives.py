"""A dive: from a node straight down to one cell, towards the pattern that its bound would like."""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.branching.feasibility import Finder
from lipbook.lipschitz.branching.incumbents import Incumbent
from lipbook.lipschitz.branching.open_cells import CLEAR, Cell
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.problem import Options


def dive(
    cell: Cell, switches: Switches, finder: Finder, incumbent: Incumbent, options: Options
) -> None:
    """Set switch after switch to the sign that the bound would like, where cells allow it."""
    if cell.doubtful or not len(cell.points):
        return
    wish = np.einsum("nr,nr->n", switches.weight @ cell.right, switches.jump.T @ cell.left)
    point = cell.points[-1]
    decided, signs = list(cell.decided), cell.signs.copy()
    for switch in np.argsort(-cell.impact).tolist():
        if signs[switch] != 0.0 or options.out_of_time:
            continue
        signs[switch] = 1.0 if wish[switch] > 0.0 else -1.0
        side = finder.sides(point[None])[0, switch] * signs[switch]
        if side <= CLEAR:
            chosen = np.array([*decided, switch], dtype=np.intp)
            found = finder.find(chosen, signs[chosen])
            if found.point is None:
                signs[switch] *= -1.0
                continue
            point = found.point
            incumbent.offer(point[None], finder.sides(point[None]))
        decided.append(switch)
