"""The adaptive form of the decay condition: rates divided by the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.schedules import RateFunction
from lipbook.theorems.after_path import AlongPath, checkpoint, lipschitz_after
from lipbook.theorems.descent import finite_steps, short_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class Adaptive(AlongPath):
    """Bound path and Lipschitz constant where each step is at most C·ρ(t − T₀) long.

    ℓ_t − ℓ_{T₀} ≤ G = C·Σρ and Lip(f_t) ≤ L_σ(xy + G√(x² + y²) + G²/2) with x = ‖W_{T₀}‖_op and
    y = ‖a_{T₀}‖, for every t ≥ T₀, any data, loss and activation.

    Attributes:
        length: C, in the unit of the weights.
        rate_function: ρ.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-adaptive`.
    """

    length: float
    rate_function: RateFunction
    start: int = 0

    label = "thm-adaptive"
    title = "A rate divided by the gradient"

    def bound(self, start: Ensemble) -> np.ndarray:
        """Return the bound for ever, (K,), rounded to nearest.

        Args:
            start: the networks at T₀.

        Raises:
            HypothesisError: ρ has no finite sum.
        """
        total = self.length * self.rate_function.tail(0)
        if not total < np.inf:
            refuse(
                "rate_function", "have a finite sum", self.label, "H2", repr(self.rate_function),
                "Use ExponentialRate, or PowerRate above exponent 1.",
            )  # fmt: skip
        return lipschitz_after(start, np.full(start.size, total))

    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return C·Σ_{k < t − T₀} ρ(k), (T+1, K), NaN before T₀.

        Args:
            run: a training run.
        """
        later = self.length * self.rate_function(np.arange(run.n_steps - self.start))
        sums = np.concatenate([np.full(self.start, np.nan), [0.0], np.cumsum(later)])
        return np.repeat(sums[:, None], run.ensemble.size, axis=1)

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        finite_sum = bool(self.rate_function.tail(0) < np.inf)
        return (
            finite_steps(run, network),
            Hypothesis("H2", "the rate function has a finite sum", finite_sum),
            short_steps(run, network, self.length, self.rate_function, self.start),
        )

    def last_bound(self, run: TrainingRun, network: int) -> float:
        """Return the bound for ever."""
        total = np.full(run.ensemble.size, self.length * self.rate_function.tail(0))
        return float(lipschitz_after(checkpoint(run, self.start), total)[network])
