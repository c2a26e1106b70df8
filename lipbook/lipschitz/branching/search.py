"""Best-first search over activation patterns: a tree of cells, bounded, split or empty.

A node sets the signs of some switches. It is *closed* where its bound does not exceed the target,
(1 + rel_gap)·lower up to a margin for the roundings of the proof; *empty* where multipliers show
that no point of the domain has those signs; else *split* at the free switch with the largest
impact. Before that, the switches with the largest impacts are probed: one whose other sign is
impossible is set at once, which is a split with an empty child. Every node keeps some points of its
cell; they tell which signs occur, and their gradients raise `lower`. A cell about which neither a
point nor multipliers are known stays open until its bound closes it.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import replace

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.dives import dive_in
from lipbook.lipschitz.branching.feasibility import ConeFinder, Finder, Multipliers
from lipbook.lipschitz.branching.incumbents import Incumbent
from lipbook.lipschitz.branching.node_bounds import (
    node_bounds,
    relaxation_matrices,
    root_suggestion,
    set_jacobians,
)
from lipbook.lipschitz.branching.open_cells import CLEAR, Cell, clear_sides
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.branching.tree import CLOSED, EMPTY, OPEN, SPLIT, Tree
from lipbook.lipschitz.problem import Options

# Nodes expanded together, so that their bounds come from one batch.
_BATCH = 32
_RANK = 4
_ROUNDS = 10
# Points kept per node.
_POINTS = 24
# The bound of a closed node stays below the target by this share, for the roundings of the proof.
_MARGIN = 1e-10

# Switches probed in one visit of a node.
_PROBED = 12
# Seconds between two calls of `watch`.
_PAUSE = 0.2
# Share of the time limit after which the search stops: the proof needs some, too.
_SHARE = 0.75
# Bytes that the tree may take; then the search ends with the bracket it has.
_MEMORY = 1e9


class Search:
    """Grow the tree of one network until its bracket is closed."""

    def __init__(
        self, switches: Switches, finder: Finder, incumbent: Incumbent, options: Options
    ) -> None:
        """Bound the root and put it into the heap.

        Args:
            switches: the network.
            finder: looks for points of cells.
            incumbent: keeps the best witness.
            options: tolerance and time limit.
        """
        self.switches, self.finder, self.incumbent = switches, finder, incumbent
        self.options = options
        self.tree = Tree()
        self.heap: list[tuple[float, int, Cell]] = []
        self.stuck = 0.0
        self.interrupted = False
        self.dives_at = 1
        self.expanded = 0
        self.shown_at = time.perf_counter()
        n, d = switches.weight.shape
        self.root = root_suggestion(
            switches, min(_RANK, d + len(switches.base)), lambda: options.out_of_time
        )
        # In the whole space fewer than d + 1 hyperplanes in general position forbid nothing.
        self.shallow = d if isinstance(finder, ConeFinder) and not len(finder.faces) else 0
        root = self._new_cell(self.tree.add(-1, -1, 0, None), np.zeros(n))
        root.points = finder.middle[None]
        root.sides = clear_sides(finder.sides(root.points))
        self._bound([root], _ROUNDS)

    def _new_cell(self, index: int, signs: FloatArray, doubtful: bool = False) -> Cell:
        """Return a cell of which nothing is known that is not known of the whole domain."""
        n, d = self.switches.weight.shape
        multiplier, right, left = self.root
        multiplier = np.where(signs == 0.0, multiplier, 0.0)
        fixed = set_jacobians(self.switches, signs[None])
        matrix = relaxation_matrices(self.switches, fixed, multiplier[None])
        bound = float(np.linalg.eigvalsh(matrix)[0, -1])
        self.tree.nodes[index].multiplier = multiplier.astype(np.float32)
        return Cell(
            index, signs, [], right, left, np.zeros(n), np.zeros((0, d)), np.zeros((0, n), np.int8),
            bound, multiplier.astype(np.float32), doubtful,
        )  # fmt: skip

    @property
    def target(self) -> float:
        """Return the bound below which a node is closed."""
        lower, spread = self.incumbent.lower, self.switches.spread
        aim = lower * (1.0 + self.options.rel_gap) * (1.0 - _MARGIN) - 2.0 * spread
        return max(aim, lower + 2.0 * spread)

    @property
    def upper(self) -> float:
        """Return the largest bound of a node that is not closed, not rounded outwards."""
        return max(-self.heap[0][0] if self.heap else 0.0, self.stuck)

    def run(self) -> str:
        """Expand nodes until none is left above the target; return why it ended."""
        try:
            while self.heap and self.upper > self.target:
                if self.interrupted:
                    break
                if self.options.seconds > _SHARE * self.options.time_limit:
                    return "the time limit was reached"
                if self._bytes() > _MEMORY:
                    return "the node budget is spent"
                if self.expanded >= self.dives_at:
                    self.dives_at *= 2
                    self._offer(dive_in(self.heap[0][2], self.switches, self.finder, self.options))
                self._expand(self._taken())
                self._show()
        except KeyboardInterrupt:
            # Cells may have been lost on the way: the tree is whole, the heap is not.
            self.interrupted = True
        if self.interrupted:
            return "it was interrupted"
        if self.stuck > self.target:
            return "cells are left of which no point was found"
        return "the gap is closed"

    def reopen(self, indices: list[int]) -> None:
        """Take cells whose emptiness was not proved back into the search."""
        cells = []
        for index in indices:
            self.tree.nodes[index].state = OPEN
            self.tree.nodes[index].emptiness = None
            signs = self.tree.signs(index, self.switches.count)
            cells.append(self._new_cell(index, signs, doubtful=True))
        for start in range(0, len(cells), _BATCH):
            self._bound(cells[start : start + _BATCH], _ROUNDS)

    def _bytes(self) -> float:
        """Estimate the memory that the tree and the open cells take."""
        n, d = self.switches.weight.shape
        rank = self.root[1].shape[1]
        per_cell = (16 + _POINTS) * n + 8 * _POINTS * d + 8 * rank * (d + 8) + 1000
        return len(self.tree.nodes) * (4 * n + 500) + len(self.heap) * per_cell

    def _taken(self) -> list[Cell]:
        """Take the cells with the largest bounds out of the heap."""
        cells: list[Cell] = []
        while self.heap and len(cells) < _BATCH and -self.heap[0][0] > self.target:
            cells.append(heapq.heappop(self.heap)[2])
        return cells

    def _expand(self, cells: list[Cell]) -> None:
        """Probe each cell; set what follows, or split it; bound what results."""
        children: list[Cell] = []
        for cell in cells:
            self.expanded += 1
            if cell.doubtful or len(cell.decided) < self.shallow - 1:
                free = np.flatnonzero(cell.signs == 0.0)
                branch = int(free[cell.impact[free].argmax()]) if free.size else -1
                changed = False
            else:
                branch, changed = self._probe(cell)
            if cell.index < 0:
                continue
            if changed:
                children.append(cell)
            elif branch < 0:
                self._settle(cell)
            else:
                children.extend(self._split(cell, branch))
        if children:
            self._bound(children, _ROUNDS)

    def _offer(self, points: list[FloatArray]) -> None:
        """Look at the gradients at these points."""
        if points:
            stack = np.array(points)
            self.incumbent.offer(stack, self.finder.sides(stack))

    def _settle(self, cell: Cell) -> None:
        """Close a cell in which every switch is set, if a point of it is known or found."""
        node = self.tree.nodes[cell.index]
        if not (cell.doubtful or len(cell.points)):
            chosen = np.array(cell.decided, dtype=np.intp)
            found = self.finder.find(chosen, cell.signs[chosen])
            if found.point is not None:
                self._offer([found.point])
            elif found.multipliers is not None:
                node.emptiness = (chosen, found.multipliers)
                node.state = EMPTY
                return
        if cell.bound <= self.target:
            node.state = CLOSED
        else:
            self.stuck = max(self.stuck, cell.bound)

    def _probe(self, cell: Cell) -> tuple[int, bool]:
        """Set the switches of large impact one sign of which is impossible.

        Returns:
            The free switch of largest impact both signs of which may occur, or −1; and whether
            anything was set. `cell.index` becomes −1 if the cell turns out to be empty.
        """
        order = np.argsort(-cell.impact)
        order = order[cell.signs[order] == 0.0][:_PROBED]
        branch, changed = -1, False
        seen = {sign: np.asarray((cell.sides == sign).any(axis=0)) for sign in (1, -1)}
        decided = np.array(cell.decided, dtype=np.intp)
        ask, points = self.finder.questions(decided, cell.signs[decided]), []
        for switch in order.tolist():
            refuted = {}
            for sign in (1, -1):
                if not seen[sign][switch]:
                    found = ask(switch, sign)
                    if found.multipliers is not None:
                        refuted[sign] = found.multipliers
                    if found.point is not None:
                        points.append(found.point)
                        distances = self.finder.sides(found.point[None])[0]
                        for each in (1, -1):
                            seen[each] |= distances * each > CLEAR
            if refuted:
                self._set(cell, switch, refuted)
                changed = True
            elif branch < 0:
                branch = switch
            if cell.index < 0:
                break
        self._keep(cell, points)
        return branch, changed

    def _keep(self, cell: Cell, points: list[FloatArray]) -> None:
        """Let points of the cell join it, and look at the gradients there."""
        if points:
            stack = np.array(points)
            distances = self.finder.sides(stack)
            cell.points = np.concatenate([cell.points, stack])
            cell.sides = np.concatenate([cell.sides, clear_sides(distances)])
            self.incumbent.offer(stack, distances)

    def _set(self, cell: Cell, switch: int, refuted: dict[int, Multipliers]) -> None:
        """Split a cell into an empty one and one that takes its place, or into two empty ones."""
        parent, chosen = cell.index, np.array([*cell.decided, switch], dtype=np.intp)
        cell.index = -1
        for sign in (1, -1):
            child = self.tree.add(parent, switch, sign, cell.multiplier)
            if sign in refuted:
                self.tree.nodes[child].emptiness = (chosen, refuted[sign])
                self.tree.nodes[child].state = EMPTY
            else:
                cell.index = child
                cell.signs[switch] = sign
        cell.impact[switch] = 0.0
        self._forget(parent)

    def _forget(self, index: int) -> None:
        """Make a node a split one; its own bound is no longer needed.

        Its children come first: whenever an interrupt strikes, the leaves cover the domain.
        """
        self.tree.nodes[index].state = SPLIT
        self.tree.nodes[index].multiplier = None

    def _split(self, cell: Cell, switch: int) -> list[Cell]:
        """Return the two children of a cell."""
        children = []
        for sign in (1, -1):
            signs = cell.signs.copy()
            signs[switch] = sign
            here = np.flatnonzero(cell.sides[:, switch] == sign)[-_POINTS:]
            children.append(
                replace(
                    cell,
                    index=self.tree.add(cell.index, switch, sign, cell.multiplier),
                    signs=signs,
                    decided=[*cell.decided, switch],
                    points=cell.points[here],
                    sides=cell.sides[here],
                )
            )
        self._forget(cell.index)
        return children

    def _bound(self, cells: list[Cell], rounds: int) -> None:
        """Bound cells in one batch; close them or put them into the heap."""
        found = node_bounds(
            self.switches,
            np.array([cell.signs for cell in cells]),
            np.array([cell.right for cell in cells]),
            np.array([cell.left for cell in cells]),
            rounds,
        )
        for i, cell in enumerate(cells):
            # The multipliers of the parent serve its children too, where theirs are no better.
            if found.upper[i] < cell.bound:
                cell.bound = float(found.upper[i])
                cell.multiplier = found.multiplier[i].astype(np.float32)
            cell.right, cell.left, cell.impact = found.right[i], found.left[i], found.impact[i]
            node = self.tree.nodes[cell.index]
            node.multiplier = cell.multiplier
            if cell.bound <= self.target:
                node.state = CLOSED
            else:
                heapq.heappush(self.heap, (-cell.bound, cell.index, cell))

    def _show(self) -> None:
        """Tell whoever watches, a few times a second."""
        now = time.perf_counter()
        if self.options.watch is not None and now - self.shown_at >= _PAUSE:
            self.shown_at = now
            lower, upper = self.incumbent.lower, max(self.upper, self.target)
            scale = 2.0**self.switches.exponent
            self.options.watch(lower * scale, upper * scale)
