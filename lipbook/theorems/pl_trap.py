"""A ball that descent with a constant rate cannot leave."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis


@dataclass(frozen=True)
class PLTrap:
    """Keep descent with a constant rate in a ball for ever, by what is known of the ball.

    On the ball of radius e around Θ°: R ≥ R*, ∇R is β-Lipschitz, ‖∇R‖² ≥ 2μ(R − R*). With αβ < 2, η
    = 1 − αβ/2 and ‖Θ_0 − Θ°‖ + √(2(R_0 − R*)/μ)/η ≤ e no step ever leaves it.

    Attributes:
        radius: e.
        mu: μ on the ball.
        beta: β on the ball.

    References:
        The book's theorem `thm-pl-trap`.
    """

    radius: float
    mu: float
    beta: float

    label = "thm-pl-trap"
    title = "A ball that descent cannot leave"

    def decrease(self, rate: float) -> float:
        """Return η = 1 − αβ/2.

        Args:
            rate: α.
        """
        return 1.0 - 0.5 * rate * self.beta

    def bound(self, rate: float, risk: float) -> float:
        """Return √(2(R_0 − R*)/μ)/η, a bound of the path for all times.

        Args:
            rate: α.
            risk: R_0 − R*.

        Raises:
            HypothesisError: μ ≤ 0 or αβ ≥ 2.
        """
        if not self.mu > 0:
            remedy = "Take a smaller ball or a wider network."
            refuse("mu", "be positive", self.label, "H2", self.mu, remedy)
        if not self.decrease(rate) > 0:
            remedy = f"Take a rate below {2.0 / self.beta:.3g}."
            refuse("rate", "be less than 2/β", self.label, "H1", rate, remedy)
        return math.sqrt(2.0 * risk / self.mu) / self.decrease(rate)

    def hypotheses(self, rate: float, risk: float, distance: float = 0.0) -> tuple[Hypothesis, ...]:
        """Check H1 (αβ < 2), H2 (μ > 0) and H3 (the path fits into the ball).

        Args:
            rate: α.
            risk: R_0 − R*.
            distance: ‖Θ_0 − Θ°‖.
        """
        first = Hypothesis(
            "H1", "αβ < 2 on the ball", self.decrease(rate) > 0, margin=2.0 - rate * self.beta
        )
        second = Hypothesis("H2", "μ > 0 on the ball", self.mu > 0, margin=self.mu)
        fits, margin = False, None
        if first.holds and second.holds:
            margin = self.radius - distance - self.bound(rate, risk)
            fits = margin >= 0 and distance < self.radius
        third = Hypothesis("H3", "the bound of the path fits into the ball", fits, margin=margin)
        return first, second, third
