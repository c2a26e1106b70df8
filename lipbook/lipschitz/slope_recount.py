"""The proof that sorting gives: the slopes of all cells of a line, counted again in rationals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.domains import Ball
from lipbook.lipschitz.problem import Problem

# Some microseconds for each neuron and output: about ten seconds.
LARGEST_RECOUNT = 10**6


@dataclass(frozen=True)
class SlopeRecount:
    """Stand for the claim that the largest slope of a network of one input was found by sorting.

    Nothing needs to be stored: `fault` takes the breakpoints −b_j/w_j as fractions, sorts them, and
    adds up the jumps of the slope from cell to cell, all in exact arithmetic.
    """

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why Lip(f, domain) ≤ upper is not confirmed, or None if it is."""
        work = problem.width * problem.output_dim
        if work > LARGEST_RECOUNT:
            return f"{work} weights are more than are counted again, {LARGEST_RECOUNT}"
        largest = max(sum(v * v for v in slope) for slope in exact_slopes(problem))
        if largest > Fraction(upper) ** 2:
            return f"a cell has a slope of about {float(largest) ** 0.5!r}, above {upper!r}"
        return None


def exact_slopes(problem: Problem) -> list[list[Fraction]]:
    """Return the slopes, k fractions each, of the cells that meet the domain, left to right."""
    assert problem.activation.kink_slopes is not None
    left, right = (Fraction(s) for s in problem.activation.kink_slopes)
    low, high = exact_ends(problem)
    weights = _fractions(problem.hidden_weight[:, 0])
    columns = [_fractions(column) for column in problem.output_weight.T]
    slope = [Fraction(0)] * problem.output_dim
    jumps: dict[Fraction, list[Fraction]] = {}
    for w, b, column in zip(weights, _fractions(problem.hidden_bias), columns, strict=True):
        if w == 0:
            continue
        kink = -b / w
        before = (low is not None and kink <= low) == (w > 0)
        inside = (low is None or kink > low) and (high is None or kink < high)
        # Left of the kink a rising neuron has slope s₋; a kink left of the domain is behind us.
        first = right if before else left
        slope = [s + a * w * first for s, a in zip(slope, column, strict=True)]
        if inside:
            old = jumps.get(kink, [Fraction(0)] * problem.output_dim)
            step = (right - left) * abs(w)
            jumps[kink] = [j + a * step for j, a in zip(old, column, strict=True)]
    slopes = [slope]
    for kink in sorted(jumps):
        slope = [s + j for s, j in zip(slope, jumps[kink], strict=True)]
        slopes.append(slope)
    return slopes


def exact_ends(problem: Problem) -> tuple[Fraction | None, Fraction | None]:
    """Return the ends of a one-dimensional domain, None for −∞ and ∞."""
    domain = problem.domain
    if domain is None:
        return None, None
    if isinstance(domain, Ball):
        center = Fraction(domain.center[0] if isinstance(domain.center, tuple) else domain.center)
        return center - Fraction(domain.radius), center + Fraction(domain.radius)
    low, high = (Fraction(end[0] if isinstance(end, tuple) else end) for end in domain)
    return low, high


def _fractions(values: FloatArray) -> list[Fraction]:
    return [Fraction(v) for v in values.tolist()]
