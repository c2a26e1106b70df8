"""The tree of cells that a search leaves behind, and that a proof goes through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from lipbook.lipschitz.branching.feasibility import IntArray, Multipliers

OPEN, CLOSED, EMPTY, SPLIT = range(4)


@dataclass
class Node:
    """Hold one cell of the tree.

    Attributes:
        parent: index of the parent, −1 at the root.
        switch: which switch the parent was split at.
        sign: its sign here, ±1.
        state: OPEN, CLOSED, EMPTY or SPLIT.
        multiplier: t, (n,) in float32, of an OPEN or CLOSED node: they prove its bound.
        emptiness: of an EMPTY node, with the switches (f,) they belong to.
    """

    parent: int
    switch: int
    sign: int
    state: int = OPEN
    multiplier: np.ndarray | None = None
    emptiness: tuple[IntArray, Multipliers] | None = None


@dataclass
class Tree:
    """Hold the nodes, parents before children; node 0 is the whole domain."""

    nodes: list[Node] = field(default_factory=list)

    def add(self, parent: int, switch: int, sign: int, multiplier: np.ndarray | None) -> int:
        """Append an open node and return its index; a parent's multipliers serve its children."""
        self.nodes.append(Node(parent, switch, sign, OPEN, multiplier))
        return len(self.nodes) - 1

    def pruned(self) -> Tree:
        """Return the tree without nodes below a node that is not split."""
        new_index: dict[int, int] = {-1: -1}
        nodes: list[Node] = []
        for index, node in enumerate(self.nodes):
            if index == 0 or (node.parent in new_index and self.nodes[node.parent].state == SPLIT):
                new_index[index] = len(nodes)
                nodes.append(replace(node, parent=new_index[node.parent]))
        return Tree(nodes)

    def signs(self, index: int, count: int) -> np.ndarray:
        """Return the signs set at a node, (count,), 0 where a switch is free."""
        signs = np.zeros(count)
        while index > 0:
            node = self.nodes[index]
            signs[node.switch] = node.sign
            index = node.parent
        return signs
