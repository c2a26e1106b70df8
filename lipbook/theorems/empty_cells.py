"""Cells without a point: certificates, proved exactly, against points, checked exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from lipbook.lipschitz.branching.emptiness import Claim, claims_are_proved
from lipbook.lipschitz.branching.feasibility import Finding, Multipliers, finder_for
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem, checked_problem
from lipbook.lipschitz.regions import ball_arrays
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.pattern_search import Patterns
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# A weighted sum of rows below this share of its terms counts as 0, where it is shown to a reader.
_ZERO = 1e-12


@dataclass(frozen=True)
class EmptyCell:
    """A cell has no point if and only if a weighted sum of its inequalities is nowhere positive.

    Numbers ω_j ≥ 0, not all 0, with Σω_jε_j(⟨w_j, x⟩ + b_j) ≤ 0 on the whole domain prove it; no
    program that found them has to be trusted.

    Attributes:
        signs: ε_j = ±1 of the fixed neurons, 0 of the others, m of them.
        domain: None for ℝ^d, (low, high) for a box, or a `Ball`.

    Raises:
        HypothesisError: no neuron is fixed, or a sign is not −1, 0 or 1.

    References:
        The book's theorem `thm-farkas`.
    """

    signs: tuple[int, ...]
    domain: Any = None

    label = "thm-farkas"
    title = "A certificate of emptiness"

    def __post_init__(self) -> None:
        """Refuse what fixes no neuron."""
        if not any(self.signs) or not set(self.signs) <= {-1, 0, 1}:
            refuse(
                "signs", "be −1, 0 or 1, and fix a neuron", self.label, "I not empty", self.signs,
                "Use 1 or −1 for the neurons whose side is fixed, 0 for the others.",
            )  # fmt: skip

    def _problem(self, ensemble: Ensemble, network: int) -> Problem:
        if len(self.signs) != ensemble.width:
            refuse(
                "signs", f"be {ensemble.width}, one for each neuron", self.label, "ε",
                f"{len(self.signs)}", "Use 0 for a neuron that is not fixed.",
            )  # fmt: skip
        weights = weights_of(ensemble, network)
        return checked_problem(*weights, ensemble.activation, self.domain)

    @property
    def _fixed(self) -> np.ndarray:
        return np.flatnonzero(self.signs)

    def _rows(self, problem: Problem) -> tuple[np.ndarray, np.ndarray]:
        """Return ε_jw_j, (f, d), and ε_jb_j, (f,), of the fixed neurons."""
        sign = np.asarray(self.signs, np.float64)[self._fixed]
        hidden, bias = problem.hidden_weight[self._fixed], problem.hidden_bias[self._fixed]
        return sign[:, None] * hidden, sign * bias

    def search(self, ensemble: Ensemble, network: int) -> Finding:
        """Return a point of the cell, or ω of the fixed neurons, by nonnegative least squares.

        Args:
            ensemble: the networks.
            network: which of them, all fixed neurons with w_j ≠ 0.

        Raises:
            HypothesisError: another number of neurons.
        """
        problem = self._problem(ensemble, network)
        sign = np.asarray(self.signs, np.float64)[self._fixed]
        return finder_for(_switches(problem), problem.domain).find(self._fixed, sign)

    def largest_sum(self, ensemble: Ensemble, network: int, omega: np.ndarray) -> float:
        """Return the supremum over the domain of Σω_jε_j(⟨w_j, x⟩ + b_j), rounded to nearest.

        b̂ if ŵ = 0 and ∞ if not on ℝ^d; ⟨ŵ, ξ⟩ + b̂ + Σϱ_i|ŵ_i| on a box; ⟨ŵ, ξ⟩ + b̂ + ϱ‖ŵ‖ on a
        ball.

        Args:
            ensemble: the networks.
            network: which of them.
            omega: ω, (f,).
        """
        problem = self._problem(ensemble, network)
        rows, offsets = self._rows(problem)
        slope, height, d = omega @ rows, float(omega @ offsets), problem.input_dim
        if isinstance(problem.domain, Ball):
            centre, radius = ball_arrays(problem.domain, d)
            return float(slope @ centre) + height + radius * float(np.linalg.norm(slope))
        box = box_arrays(problem.domain, d)
        if box is None:
            level = np.abs(slope).max() > _ZERO * np.abs(omega[:, None] * rows).sum()
            return np.inf if level else height
        middle, reach = 0.5 * (box[0] + box[1]), 0.5 * (box[1] - box[0])
        return float(slope @ middle) + height + float(reach @ np.abs(slope))

    def is_proved(self, ensemble: Ensemble, network: int, omega: np.ndarray) -> bool:
        """Tell whether there are multipliers, close to these, that prove the cell empty exactly.

        Args:
            ensemble: the networks.
            network: which of them.
            omega: ω ≥ 0, (f,).
        """
        problem = self._problem(ensemble, network)
        box, faces = box_arrays(problem.domain, problem.input_dim), np.zeros(0)
        if box is not None:
            # The supremum over the box is at the faces that stop the slope.
            slope = omega @ self._rows(problem)[0]
            faces = np.concatenate([np.maximum(-slope, 0.0), np.maximum(slope, 0.0)])
        sign = np.asarray(self.signs, np.float64)[self._fixed]
        claim = Claim(self._fixed, sign, Multipliers(omega, faces))
        return bool(claims_are_proved(_switches(problem), problem.domain, [claim])[0])

    def depth(self, ensemble: Ensemble, network: int, point: Sequence[float] | np.ndarray) -> float:
        """Return min_j ε_j(⟨w_j, x⟩ + b_j) at a point of the cell, 0 if it is not in the cell.

        Whether it is, is decided in rational arithmetic. A point on the edge of the domain counts:
        near it there are points of the cell inside.

        Args:
            ensemble: the networks.
            network: which of them.
            point: x, d coordinates.
        """
        problem = self._problem(ensemble, network)
        x = [Fraction(float(value)) for value in point]
        rows, offsets = self._rows(problem)
        heights = [
            sum((Fraction(w) * c for w, c in zip(row, x, strict=True)), Fraction(offset))
            for row, offset in zip(rows.tolist(), offsets.tolist(), strict=True)
        ]
        inside = min(heights) > 0 and _is_inside(problem, x)
        return float(min(heights)) if inside else 0.0

    def deepest(self, ensemble: Ensemble, network: int) -> np.ndarray:
        """Return a point as far inside the cell as can be, by a linear programme, (d,).

        On a ball that of the box around it, which may lie outside; without a point of the cell some
        other point.

        Args:
            ensemble: the networks.
            network: which of them, all fixed neurons with w_j ≠ 0.
        """
        problem = self._problem(ensemble, network)
        d = problem.input_dim
        middle, reach = np.zeros(d), np.ones(d)
        if isinstance(problem.domain, Ball):
            middle, radius = ball_arrays(problem.domain, d)
            reach = np.full(d, radius)
        elif (box := box_arrays(problem.domain, d)) is not None:
            middle, reach = 0.5 * (box[0] + box[1]), 0.5 * (box[1] - box[0])
        rows, offsets = self._rows(problem)
        # In the coordinates (x − ξ)/ϱ the domain is the box (−1, 1)^d.
        count = len(rows)
        patterns = Patterns(
            rows * reach, offsets + rows @ middle, np.ones((1, count)), (0.0, 1.0), np.ones(count),
            None if problem.domain is None else 1.0,
        )  # fmt: skip
        return np.asarray(middle + reach * patterns.inner_point(np.ones(count, dtype=int))[0])

    def verdict(
        self,
        ensemble: Ensemble,
        network: int,
        omega: np.ndarray | None = None,
        points: Sequence[Sequence[float]] = (),
    ) -> Verdict:
        """Return what the theorem says of the cell of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            omega: ω of the fixed neurons, (f,); None searches for one.
            points: where to look for a point of the cell, besides the `deepest`.

        Returns:
            The `Verdict`; measured is the depth of the deepest point of the cell that was found,
            0 without any.

        Raises:
            HypothesisError: another number of neurons.
        """
        problem, tried = self._problem(ensemble, network), [np.asarray(each) for each in points]
        cutting = bool(np.any(problem.hidden_weight[self._fixed], axis=1).all())
        if cutting:
            found = self.search(ensemble, network)
            tried.append(self.deepest(ensemble, network))
            tried += [] if found.point is None else [found.point]
            if omega is None and found.multipliers is not None:
                omega = found.multipliers.switches
        proved, margin = False, None
        usable = omega is not None and bool((omega >= 0.0).all() and 0.0 < omega.sum() < np.inf)
        if cutting and usable and omega is not None:
            proved = self.is_proved(ensemble, network, omega)
            margin = -self.largest_sum(ensemble, network, omega)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="depth of the deepest point of the cell",
            hypotheses=(
                Hypothesis("H1", "no fixed neuron is dead", cutting),
                Hypothesis("H2", "the multipliers are not negative, and not all zero", usable),
                Hypothesis("H3", "their sum is nowhere positive", proved, margin=margin),
            ),
            bound=0.0 if proved else None,
            measured=max((self.depth(ensemble, network, x) for x in tried), default=None),
        )


def _switches(problem: Problem) -> Switches:
    """Return one switch for each neuron, as they are: only rows and biases matter here."""
    return Switches(
        weight=problem.hidden_weight,
        raw_weight=problem.hidden_weight,
        bias=problem.hidden_bias,
        jump=problem.output_weight,
        base=np.zeros((problem.output_dim, problem.input_dim)),
        spread=0.0,
        exponent=0,
    )


def _is_inside(problem: Problem, point: Sequence[Fraction]) -> bool:
    """Tell whether a point lies in the closed domain, exactly."""
    if isinstance(problem.domain, Ball):
        centre, radius = ball_arrays(problem.domain, problem.input_dim)
        square = sum((x - Fraction(c)) ** 2 for x, c in zip(point, centre.tolist(), strict=True))
        return square <= Fraction(radius) ** 2
    box = box_arrays(problem.domain, problem.input_dim)
    if box is None:
        return True
    ends = zip(box[0].tolist(), point, box[1].tolist(), strict=True)
    return all(low <= x <= high for low, x, high in ends)
