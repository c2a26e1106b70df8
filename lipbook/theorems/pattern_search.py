"""Branch and bound over activation patterns, naively: every node of the search can be looked at.

One multiplier for all nodes, one linear program per node, plain floating point (10⁻⁹ counts as 0).
`lipbook.lipschitz` does the same with better bounds, and with roundings and certificates proved.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog

from lipbook.lipschitz import LipschitzBracket
from lipbook.networks import Ensemble
from lipbook.theorems.arrangement import gradient_norms
from lipbook.theorems.ladder_sdp import multiplier_matrix, weights_of
from lipbook.theorems.verdict import Hypothesis, Verdict

# Distances and certificates below this count as zero.
_ZERO = 1e-9
# Eigenvectors whose eigenvalue is lower by a share 1/_SHARPNESS count a third.
_SHARPNESS = 60.0


@dataclass(frozen=True)
class Node:
    """Hold a partial pattern.

    Attributes:
        signs: ε_j of the fixed neurons, 0 of the free ones, (m,).
        bound: of ‖J‖ over its cell.
        point: x in the cell, away from its walls, (d,).
    """

    signs: np.ndarray
    bound: float
    point: np.ndarray

    @property
    def depth(self) -> int:
        """Return the number of fixed neurons."""
        return int(np.count_nonzero(self.signs))


@dataclass
class PatternSearch:
    """Hold a search as it went.

    Attributes:
        lower: lower end after each step, the start included, (steps + 1,).
        upper: upper end, (steps + 1,).
        n_nodes: nodes made so far, (steps + 1,).
        depths: of every node, {"branched" | "empty" | "closed" | "open": list}.
        bounds: of every node; of an empty one, its parent's.
        n_certificates: how many cells were shown to be empty.
    """

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    n_nodes: list[int] = field(default_factory=list)
    depths: dict[str, list[int]] = field(default_factory=dict)
    bounds: dict[str, list[float]] = field(default_factory=dict)
    n_certificates: int = 0

    def note(self, fate: str, depth: int, bound: float) -> None:
        """Enter what became of a node."""
        self.depths.setdefault(fate, []).append(depth)
        self.bounds.setdefault(fate, []).append(bound)


@dataclass(frozen=True)
class Patterns:
    """Hold a network with one kink, a box or the whole space, and one multiplier.

    Attributes:
        hidden_weight: W without a zero row, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m).
        kink_slopes: slopes of σ left and right of 0.
        multiplier: t > 0, (m,).
        half_width: B of the box (−B, B)^d, or None for ℝ^d.
    """

    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray
    kink_slopes: tuple[float, float]
    multiplier: np.ndarray
    half_width: float | None = None

    def matrix(self, signs: np.ndarray) -> np.ndarray:
        """Return M(t) with the slopes of the fixed neurons pinned."""
        left, right = self.kink_slopes
        centre = np.where(signs == 0, 0.5 * (left + right), np.where(signs > 0, right, left))
        half = np.where(signs == 0, 0.5 * abs(right - left), 0.0)
        return multiplier_matrix(
            self.hidden_weight, self.output_weight, centre, half, self.multiplier
        )

    def bound(self, signs: np.ndarray) -> float:
        """Return λ_max(M(t)) ≥ ‖J(x)‖ at every x of the cell."""
        return float(np.linalg.eigvalsh(self.matrix(signs))[-1])

    def next_neuron(self, signs: np.ndarray) -> int:
        """Return the free neuron that weighs most at the top of the spectrum of M(t).

        The largest √(⟨w_j, Xw_j⟩⟨A_j, ZA_j⟩), X and Z the diagonal blocks of the exponential of a
        multiple of M(t): a mean over the eigenvectors near the top, which is stable where the top
        eigenvalue is multiple.
        """
        values, vectors = np.linalg.eigh(self.matrix(signs))
        shares = np.exp(_SHARPNESS * (values / max(values[-1], 1e-300) - 1.0))
        density = (vectors * shares) @ vectors.T
        d = self.hidden_weight.shape[1]
        x = np.einsum("md,de,me->m", self.hidden_weight, density[:d, :d], self.hidden_weight)
        z = np.einsum("km,kl,lm->m", self.output_weight, density[d:, d:], self.output_weight)
        score = np.sqrt(np.maximum(x * z, 0.0))
        # Rounded, so that ties go to the first neuron on every machine.
        return int(np.argmax(np.where(signs == 0, np.round(score / score.max(), 9), -1.0)))

    def distances(self, point: np.ndarray) -> np.ndarray:
        """Return the signed distance of a point from every hyperplane, (m,)."""
        size = np.linalg.norm(self.hidden_weight, axis=1)
        return np.asarray((self.hidden_weight @ point + self.hidden_bias) / size)

    def gradient(self, point: np.ndarray) -> float:
        """Return ‖J(x)‖, or 0 at a point on a kink."""
        if np.abs(self.distances(point)).min() <= _ZERO:
            return 0.0
        network = (self.hidden_weight, self.hidden_bias, self.output_weight)
        return float(gradient_norms(*network, self.kink_slopes, point[None])[0])

    def inner_point(self, signs: np.ndarray) -> tuple[np.ndarray, bool]:
        """Return a point as far inside the cell as can be, and whether the cell has a point.

        Maximises τ ≤ 1 subject to ε_j(⟨w_j, x⟩ + b_j) ≥ τ‖w_j‖ for the fixed neurons. A cell
        without a point is certified by the multipliers of this linear program.
        """
        fixed = np.flatnonzero(signs)
        size = np.linalg.norm(self.hidden_weight[fixed], axis=1)
        rows = (signs[fixed] / size)[:, None] * self.hidden_weight[fixed]
        offset = signs[fixed] / size * self.hidden_bias[fixed]
        d, reach = rows.shape[1], self.half_width
        found = linprog(
            np.append(np.zeros(d), -1.0),
            A_ub=np.column_stack([-rows, np.ones(len(fixed))]),
            b_ub=offset,
            bounds=[(None if reach is None else -reach, reach)] * d + [(None, 1.0)],
        )
        if -found.fun > _ZERO:
            return found.x[:d], True
        weights = np.maximum(-found.ineqlin.marginals, 0.0)
        return found.x[:d], not self.is_certificate(weights, rows, offset)

    def is_certificate(self, weights: np.ndarray, rows: np.ndarray, offset: np.ndarray) -> bool:
        """Tell whether Σω_j(⟨r_j, x⟩ + o_j) ≤ 0 on the whole domain for weights ω ≥ 0, ω ≠ 0."""
        slope = np.abs(weights @ rows).sum()
        reach = self.half_width
        swing = (np.inf if slope > _ZERO else 0.0) if reach is None else reach * slope
        return bool(
            weights.sum() > 0.5 and weights @ offset + swing <= _ZERO * (1.0 + (reach or 0))
        )


def patterns_of(
    ensemble: Ensemble,
    network: int,
    kink_slopes: tuple[float, float],
    multiplier: np.ndarray,
    half_width: float | None,
) -> Patterns:
    """Return one network without its dead neurons, ready to be searched.

    Args:
        ensemble: the networks.
        network: which of them.
        kink_slopes: slopes of σ left and right of 0.
        multiplier: t, (m,), positive where a neuron is not dead.
        half_width: B of the box (−B, B)^d, or None for ℝ^d.

    Returns:
        The `Patterns`.
    """
    hidden, bias, output = weights_of(ensemble, network)
    alive = np.any(hidden, axis=1) & np.any(output, axis=0)
    kept = hidden[alive], bias[alive], output[:, alive]
    return Patterns(*kept, kink_slopes, multiplier[alive], half_width)


def search_patterns(
    patterns: Patterns, rel_gap: float = 1e-6, max_steps: int = 300
) -> PatternSearch:
    """Search best-first for the steepest cell, and keep what became of every node.

    Args:
        patterns: the network, the domain and the multiplier.
        rel_gap: stop once upper ≤ (1 + rel_gap)·lower.
        max_steps: stop after so many branchings.

    Returns:
        The `PatternSearch`; its last ends are a bracket however it ended.
    """
    width, d = patterns.hidden_weight.shape
    start = np.zeros(d) + 1e-3
    root = Node(np.zeros(width, dtype=int), patterns.bound(np.zeros(width, dtype=int)), start)
    trace = PatternSearch([patterns.gradient(start)], [root.bound], [1])
    queue = [(-1.0, 0, root)]
    while queue and len(trace.lower) <= max_steps:
        node = queue[0][2]
        if node.bound <= (1.0 + rel_gap) * trace.lower[-1] or node.depth == width:
            break
        heapq.heappop(queue)
        trace.note("branched", node.depth, node.bound)
        children, lower = _branch(patterns, node, trace)
        for age, child in enumerate(children, start=trace.n_nodes[-1]):
            # Ties, up to roundings, are broken by age.
            heapq.heappush(queue, (-round(child.bound / root.bound, 9), age, child))
        trace.lower.append(max(lower, trace.lower[-1]))
        trace.n_nodes.append(trace.n_nodes[-1] + 2)
        highest = max((entry[2].bound for entry in queue), default=0.0)
        trace.upper.append(max(highest, trace.lower[-1]))
    target = (1.0 + rel_gap) * trace.lower[-1]
    for _, _, node in queue:
        trace.note("closed" if node.bound <= target else "open", node.depth, node.bound)
    return trace


def _branch(patterns: Patterns, node: Node, trace: PatternSearch) -> tuple[list[Node], float]:
    """Return the children that have a point, and the steepest gradient seen at their points."""
    neuron = patterns.next_neuron(node.signs)
    distance = patterns.distances(node.point)[neuron]
    children, lower = [], 0.0
    for sign in (-1, 1):
        signs = node.signs.copy()
        signs[neuron] = sign
        point, occupied = node.point, sign * distance > _ZERO
        if not occupied:
            point, occupied = patterns.inner_point(signs)
        if not occupied:
            trace.note("empty", node.depth + 1, node.bound)
            trace.n_certificates += 1
            continue
        # A part of a cell is never steeper than the cell.
        children.append(Node(signs, min(node.bound, patterns.bound(signs)), point))
        lower = max(lower, patterns.gradient(point))
    return children, lower


@dataclass(frozen=True)
class BracketAtEveryMoment:
    """At every moment of the search the constant lies between its two ends.

    lower ≤ Lip_D(f) ≤ max over open and closed nodes of their bounds.

    References:
        The book's theorem `thm-search`.
    """

    label = "thm-search"
    title = "A bracket at every moment"

    def verdict(
        self, ensemble: Ensemble, search: PatternSearch, known: LipschitzBracket
    ) -> Verdict:
        """Return what the theorem says of one search, against an independent bracket.

        Args:
            ensemble: the networks, one of which was searched.
            search: how the search went.
            known: a bracket of the same constant by another method.

        Returns:
            The `Verdict`; the bound is the least upper end, measured is the constant.
        """
        dropped = len(search.depths.get("empty", []))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant",
            hypotheses=(
                Hypothesis(
                    "H1",
                    "the activation is linear on either side of 0",
                    ensemble.activation.is_piecewise_linear,
                ),
                Hypothesis(
                    "H2",
                    "every dropped cell has a certificate",
                    search.n_certificates == dropped,
                ),
            ),
            bound=min(search.upper),
            measured=known.lower,
        )
