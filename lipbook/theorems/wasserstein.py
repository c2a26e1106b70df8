"""The gap between two risks, bounded by a Lipschitz constant: for all networks at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lipbook.generalization.laws import Law
from lipbook.generalization.losses_known import common_hypotheses, in_a_box, slope_of
from lipbook.losses import Loss
from lipbook.theorems.tools import dyadic_w1_bound, dyadic_w1_rate, w1_deviation
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class WassersteinGap:
    """Bound the gap by δ(LΔ_x + Δ_y)·ω, for every function with Lipschitz constant L on the box.

    ω = w + √(ln(1/η)/(2n)), w the bound of E W₁ in a box of D = d + 1 sides and diagonal 1. It
    knows nothing of how the function was found; L may be any upper bound.

    Attributes:
        failure: η, the probability with which the statement may fail.

    References:
        The book's theorem `thm-wasserstein`.
    """

    failure: float = 0.05

    label = "thm-wasserstein"
    title = "Regular networks cannot see what the sample hides"

    def share(self, input_dim: int, n_samples: int, closed: bool = False) -> float:
        """Return ω, what the sample misses of its law, as a share of the box.

        Args:
            input_dim: d.
            n_samples: n.
            closed: use the closed form, which has the exponent of n, instead of the least bound.
        """
        mean = (dyadic_w1_rate if closed else dyadic_w1_bound)(n_samples, input_dim + 1, 1.0)
        return mean + w1_deviation(n_samples, 1.0, self.failure)

    def bound(
        self, law: Law, loss: Loss, n_samples: int, lipschitz: float, closed: bool = False
    ) -> float:
        """Return δ(LΔ_x + Δ_y)·ω.

        Args:
            law: gives d and the box.
            loss: Huber's, in which the risks are measured.
            n_samples: n.
            lipschitz: L, an upper bound of the Lipschitz constant on the box of the inputs.
            closed: as for `share`.

        Returns:
            The bound of |R^P − R|, in the unit of the loss; rounded to nearest.

        Raises:
            HypothesisError: the loss is not Lipschitz, or no box holds the law.
        """
        in_a_box(law, self.label)
        spread = lipschitz * law.input_diagonal + law.target_span
        return slope_of(loss, self.label) * spread * self.share(law.input_dim, n_samples, closed)

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        law: Law,
        n_samples: int,
        loss: Loss,
        lipschitz: float,
        gap: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network at the end of a run.

        Args:
            run: a training run.
            network: which of its networks.
            law: P, of which the run's sample was drawn.
            n_samples: n.
            loss: φ in which the risks are measured.
            lipschitz: L, an upper bound on the box of the inputs.
            gap: R^P − R as measured.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        stopped = int(run.diverged_at[network])
        known = math.isfinite(lipschitz) and stopped < 0
        hypotheses = (
            *common_hypotheses(law, loss),
            Hypothesis(
                "H4", "the network is finite, with the Lipschitz constant given", known,
                step=stopped if stopped >= 0 else None,
            ),
        )  # fmt: skip
        speaks = all(h.holds for h in hypotheses)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="gap between the risks",
            hypotheses=hypotheses,
            bound=self.bound(law, loss, n_samples, lipschitz) if speaks else None,
            measured=abs(gap),
            subject=subject,
        )
