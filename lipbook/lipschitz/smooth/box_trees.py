"""A box cut in two, its halves cut in two, and so on: which axes, in a few bytes per box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import BoolArray, FloatArray

IntArray = npt.NDArray[np.intp]
Axes = npt.NDArray[np.uint8]

# The mark of a box that is not cut.
LEAF = 255


def halved(
    low: FloatArray, high: FloatArray, axis: npt.NDArray[np.integer]
) -> tuple[FloatArray, FloatArray]:
    """Cut each box at the float64 middle of one axis.

    Args:
        low: (n, d).
        high: (n, d).
        axis: (n,).

    Returns:
        low and high of the halves, (2n, d) each: the two halves of a box are neighbours.
    """
    row = np.arange(len(axis))
    middle = 0.5 * low[row, axis] + 0.5 * high[row, axis]
    lows, highs = np.repeat(low, 2, axis=0), np.repeat(high, 2, axis=0)
    highs[2 * row, axis] = lows[2 * row + 1, axis] = middle
    return lows, highs


def divisible(low: FloatArray, high: FloatArray) -> BoolArray:
    """Tell along which axes there is a float64 number between the ends, (n, d)."""
    middle = 0.5 * low + 0.5 * high
    between: BoolArray = (low < middle) & (middle < high)
    return between


class SplitTree:
    """Record how the domain was cut. Node 0 is the domain; the halves of a node are neighbours."""

    def __init__(self) -> None:
        """Start with the uncut domain."""
        self._axis: Axes = np.full(1024, LEAF, dtype=np.uint8)
        self._child = np.zeros(1024, dtype=np.int32)
        self.size = 1

    def cut(self, node: IntArray, axis: npt.NDArray[np.integer]) -> IntArray:
        """Record cuts, and return the numbers of the halves, (2n,)."""
        first = self.size + 2 * np.arange(len(node))
        needed = self.size + 2 * len(node)
        if needed > self._axis.size:
            spare = max(needed, 2 * self._axis.size) - self._axis.size
            self._axis = np.concatenate([self._axis, np.full(spare, LEAF, dtype=np.uint8)])
            self._child = np.concatenate([self._child, np.zeros(spare, dtype=np.int32)])
        # In this order the tree is sound even if an interrupt falls between two lines.
        self._child[node] = first
        self._axis[node] = axis
        self.size = needed
        return np.stack([first, first + 1], axis=1).ravel()

    def levels(self) -> tuple[bytes, ...]:
        """Return, generation by generation, the axis of each box in turn, or `LEAF`."""
        levels, node = [], np.zeros(1, dtype=np.intp)
        while node.size:
            axis = self._axis[node]
            levels.append(axis.tobytes())
            first = self._child[node[axis != LEAF]].astype(np.intp)
            node = np.stack([first, first + 1], axis=1).ravel()
        return tuple(levels)
