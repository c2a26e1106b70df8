"""What a finished tree proves: an upper bound, checked node by node.

Every point of the domain off the hyperplanes lies in exactly one leaf, for the two children of a
split node differ in the sign of one switch. So

    Lip(f, D) ≤ max over the leaves that are not proved empty of max_{σ in the leaf} ‖J(σ)‖,

and each leaf has multipliers t for `relaxation_upper`, whatever they are and wherever they come
from. The constant part of J enters it as k more neurons with slope 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.emptiness import Claim, claims_are_proved
from lipbook.lipschitz.branching.feasibility import Multipliers
from lipbook.lipschitz.branching.switches import Switches, switches_of
from lipbook.lipschitz.branching.tree import CLOSED, EMPTY, OPEN, SPLIT, Tree
from lipbook.lipschitz.domains import Domain
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import up
from lipbook.lipschitz.semidefinite.relaxation import relaxation_upper

# Entries of (leaves, switches) arrays evaluated at once.
_CHUNK = 500_000


@dataclass(frozen=True)
class BranchProof:
    """Hold a tree of cells that covers the domain.

    Attributes:
        tree: its leaves are bounded by multipliers or empty by multipliers.
    """

    tree: Tree

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why the tree does not prove Lip(f, domain) ≤ upper, or None if it does."""
        switches = switches_of(problem)
        reason = structural_fault(self.tree, switches.count)
        if reason is not None:
            return reason
        missing = unproved(switches, problem.domain, self.tree)
        if missing:
            return f"node {missing[0]} of the tree is not proved empty"
        largest = unscaled(leaf_bound(switches, self.tree), switches)
        if largest > upper:
            return f"the leaves of the tree reach {largest!r}, above the upper bound {upper!r}"
        return None


def structural_fault(tree: Tree, count: int) -> str | None:
    """Return what is wrong with the tree as a tree, or None."""
    children: list[list[int]] = [[] for _ in tree.nodes]
    for index, node in enumerate(tree.nodes[1:], start=1):
        if not 0 <= node.parent < index:
            return f"node {index} of the tree has no parent before it"
        children[node.parent].append(index)
    for index, node in enumerate(tree.nodes):
        below = [(tree.nodes[i].switch, tree.nodes[i].sign) for i in children[index]]
        if node.state != SPLIT:
            if below:
                return f"node {index} of the tree is a leaf with children"
            continue
        switch = below[0][0] if below else -1
        if sorted(below) != [(switch, -1), (switch, 1)] or not 0 <= switch < count:
            return f"node {index} of the tree is not split in two"
    return None


def unproved(switches: Switches, domain: Domain, tree: Tree) -> list[int]:
    """Return the EMPTY nodes whose multipliers prove nothing."""
    indices = [i for i, node in enumerate(tree.nodes) if node.state == EMPTY]
    claims = [_claim(tree, index, switches.count) for index in indices]
    proved = claims_are_proved(switches, domain, claims)
    return [index for index, sure in zip(indices, proved, strict=True) if not sure]


def _claim(tree: Tree, index: int, count: int) -> Claim:
    """Return what an EMPTY node claims, about switches that its path sets."""
    emptiness = tree.nodes[index].emptiness
    assert emptiness is not None
    chosen, multipliers = emptiness
    signs = tree.signs(index, count)[chosen]
    known = signs != 0.0
    kept = Multipliers(multipliers.switches[known], multipliers.faces)
    return Claim(chosen[known], signs[known], kept)


def leaf_bound(switches: Switches, tree: Tree) -> float:
    """Return a proved upper bound of ‖J‖ over all leaves but EMPTY ones, in scaled units."""
    leaves = [i for i, node in enumerate(tree.nodes) if node.state in (OPEN, CLOSED)]
    step = max(1, _CHUNK // (switches.count + 1))
    largest = 0.0
    for start in range(0, len(leaves), step):
        chunk = leaves[start : start + step]
        signs = np.array([tree.signs(i, switches.count) for i in chunk])
        multipliers = np.array([tree.nodes[i].multiplier for i in chunk], dtype=np.float64)
        largest = max(largest, float(bounds_of(switches, signs, multipliers).max()))
    return float(up(largest + switches.spread, 1))


def bounds_of(switches: Switches, signs: FloatArray, multipliers: FloatArray) -> FloatArray:
    """Bound ‖J‖ from above where these signs (B, n) are set, 0 standing for either: (B,)."""
    k = len(switches.base)
    ones, zeros = np.ones((len(signs), k)), np.zeros((len(signs), k))
    return relaxation_upper(
        *switches.rows,
        np.concatenate([signs, ones], axis=1),
        np.concatenate([(signs == 0.0).astype(np.float64), zeros], axis=1),
        np.concatenate([multipliers, ones], axis=1),
    )


def unscaled(bound: float, switches: Switches) -> float:
    """Return an upper bound of bound·2^e, 0 only if `bound` is."""
    if bound == 0.0:
        return 0.0
    return float(np.nextafter(np.ldexp(bound, switches.exponent), np.inf))
