"""What the search knows about a cell that is still open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import FloatArray

# A point lies on one side of a hyperplane if it is farther from it than this.
CLEAR = 1e-10

SideArray = npt.NDArray[np.int8]


@dataclass
class Cell:
    """Hold what the search knows about an open node.

    Attributes:
        index: of the node.
        signs: (n,), −1, 0 (free) or 1.
        decided: the switches that were split at, in order; the others that are set follow from
            them.
        right: P, (d, r).
        left: Q, (k, r).
        impact: (n,).
        points: some points of the cell, (q, d).
        sides: on which sides of the hyperplanes they lie, ±1, or 0 if too close to tell, (q, n).
        bound: of ‖J‖.
        multiplier: t, (n,), that proves it.
        doubtful: whether multipliers once seemed to show this cell empty and proved nothing:
            its emptiness is not asked about again.
    """

    index: int
    signs: FloatArray
    decided: list[int]
    right: FloatArray
    left: FloatArray
    impact: FloatArray
    points: FloatArray
    sides: SideArray
    bound: float
    multiplier: np.ndarray | None = None
    doubtful: bool = False


def clear_sides(distances: FloatArray) -> SideArray:
    """Return the signs of the distances, 0 for those too small to be sure of."""
    return np.where(np.abs(distances) > CLEAR, np.sign(distances), 0.0).astype(np.int8)
