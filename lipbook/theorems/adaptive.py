"""The adaptive form of the decay condition: rates divided by the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.schedules import RateFunction
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.growth import checkpoint, lipschitz_after
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun

# A step at the edge of what is allowed may come out longer by a few roundings.
STEP_ROUNDING = 1e-12


@dataclass(frozen=True)
class Adaptive:
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

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        return lipschitz_after(checkpoint(run, self.start), self.path_bounds(run))

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: the largest Lipschitz constant (or an upper bound of it) seen from T₀ on.
            subject: which run this is about.

        Returns:
            The `Verdict`; its bound is the one for ever.
        """
        total = self.length * self.rate_function.tail(0)
        later = np.full(run.ensemble.size, total)
        bound = lipschitz_after(checkpoint(run, self.start), later)[network]
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"largest Lipschitz constant from step {self.start} on",
            hypotheses=(
                finite_steps(run, network),
                Hypothesis("H2", "the rate function has a finite sum", bool(total < np.inf)),
                self._short_steps(run, network),
            ),
            bound=float(bound),
            measured=lipschitz,
            subject=subject,
        )

    def _short_steps(self, run: TrainingRun, network: int) -> Hypothesis:
        allowed = self.length * self.rate_function(np.arange(run.n_steps - self.start))
        rates = run.learning_rates[self.start :, network]
        with np.errstate(invalid="ignore"):
            steps = rates * run.gradient_norm[self.start : -1, network]
        statement = "each step from T₀ on is at most C·ρ(t − T₀) long"
        found = hypothesis_over_steps(
            "H3", statement, (allowed * (1.0 + STEP_ROUNDING)).tolist(), steps.tolist()
        )
        if found.step is None:
            return found
        return Hypothesis(found.name, statement, False, self.start + found.step, found.margin)
