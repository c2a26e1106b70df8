"""The cells of an arrangement, listed one by one with linear programmes, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.arrangement import cell_count_bound
from lipbook.theorems.pattern_search import Patterns, patterns_of
from lipbook.theorems.verdict import Hypothesis, Verdict

# A point nearer to a hyperplane than this is in none of the cells beside it.
_ZERO = 1e-9
# So many linear programmes take some seconds.
MOST_PROGRAMMES = 4000


def arrangement_of(ensemble: Ensemble, network: int, half_width: float | None) -> Patterns:
    """Return the hyperplanes of a network's neurons, dead ones left out, on a box or on ℝ^d.

    Args:
        ensemble: the networks.
        network: which of them.
        half_width: B of the box (−B, B)^d, or None for ℝ^d.
    """
    ones = np.ones(ensemble.width)
    return patterns_of(ensemble, network, (0.0, 1.0), ones, half_width)


def cells_of(patterns: Patterns) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells of an arrangement, found by fixing the sign of one neuron after another.

    A cell counts once a point of it is known, away from all hyperplanes; a partial pattern without
    one is not followed.

    Args:
        patterns: the hyperplanes and the domain.

    Returns:
        The signs ±1 of the neurons, (cells, m), and a point of each cell, (cells, d).
    """
    width, d = patterns.hidden_weight.shape
    cells = [(np.zeros(width, dtype=int), np.zeros(d))]
    for neuron in range(width):
        found = []
        for signs, point in cells:
            distance = patterns.distances(point)[neuron]
            for sign in (-1, 1):
                child = np.where(np.arange(width) == neuron, sign, signs)
                inner = point if sign * distance > _ZERO else patterns.inner_point(child)[0]
                heights = (child * patterns.distances(inner))[: neuron + 1]
                if heights.min() > _ZERO:
                    found.append((child, inner))
        cells = found
    return np.array([signs for signs, _ in cells]), np.array([point for _, point in cells])


@dataclass(frozen=True)
class CellCount:
    """Bound the number of cells into which m hyperplanes cut an open convex set by Σ_{i≤d} C(m, i).

    It ignores where the hyperplanes are; those in general position reach it on ℝ^d.

    Attributes:
        half_width: B of the box (−B, B)^d, or None for ℝ^d.

    References:
        The book's theorem `thm-cells`.
    """

    half_width: float | None = None

    label = "thm-cells"
    title = "The number of cells"

    def verdict(self, ensemble: Ensemble, network: int) -> Verdict:
        """Return what the theorem says of the neurons of one network that are not dead.

        Args:
            ensemble: the networks; their activation does not matter.
            network: which of them.

        Returns:
            The `Verdict`; measured is the number of cells in which a point was found, None where
            that would take too many linear programmes.
        """
        occupied = self.half_width is None or self.half_width > 0.0
        patterns = arrangement_of(ensemble, network, self.half_width)
        width, d = patterns.hidden_weight.shape
        programmes = sum(cell_count_bound(i, d) for i in range(width))
        measured = None
        if occupied and programmes <= MOST_PROGRAMMES:
            measured = float(len(cells_of(patterns)[0]))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="number of cells",
            hypotheses=(
                Hypothesis("H1", "the domain is open, convex and not empty", occupied),
            ),
            bound=float(cell_count_bound(width, d)),
            measured=measured,
        )  # fmt: skip
