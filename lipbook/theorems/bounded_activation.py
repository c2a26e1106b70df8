"""Bounded activations: every finite mass bounds the weights, whatever data and rates are."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.after_path import (
    FromStart,
    R,
    checkpoint,
    lipschitz_after_blocks,
    mass_since,
)
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import Activated
from lipbook.theorems.verdict import Hypothesis
from lipbook.training import TrainingRun


class Bounding(FromStart[R]):
    """Ask for a bounded activation and finite steps, at any depth.

    Attributes:
        setting: gives σ.
        budget: the label of the theorem for other activations.
    """

    setting: Activated
    budget: ClassVar[str]

    @abstractmethod
    def bounds(self, run: R) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀."""

    def largest_value(self) -> float:
        """Return M.

        Raises:
            HypothesisError: σ is unbounded.
        """
        bound = self.setting.activation.bound
        if bound is None:
            refuse(
                "activation", "be bounded", self.label, "H2", repr(self.setting.activation.name),
                f"Use tanh or sigmoid, or look for a budget in {self.budget}.",
            )  # fmt: skip
        return bound

    def hypotheses(self, run: R, network: int) -> tuple[Hypothesis, ...]:
        """Check H1 and H2 on one network."""
        bounded = self.setting.activation.bound is not None
        return finite_steps(run, network), Hypothesis("H2", "the activation is bounded", bounded)

    def last_bound(self, run: R, network: int) -> float | None:
        """Return the bound at the end of the run, None if σ is unbounded."""
        if self.setting.activation.bound is None:
            return None
        return float(self.bounds(run)[-1, network])


@dataclass(frozen=True)
class BoundedActivation(Bounding[TrainingRun]):
    """Bound the Lipschitz constant by the mass, for |σ| ≤ M; squared and Huber loss.

    With Γ = √(1 + mM²), Y the root mean square of the targets and E = ‖(a, c)‖ + Y/Γ at T₀:
    Lip(f_t) ≤ L_σ(‖W‖_op + ξ)(‖(a, c)‖ + η), where η = E(e^{Γ²S} − 1) and
    ξ = (κE²/2Γ)(e^{2Γ²S} − 1), or, if all rates are at most 2/Γ², η = ΓYS and
    ξ = κΓ(E²S + EΓYS² + Γ²Y²S³/3).

    Attributes:
        setting: gives κ, m, M and Y.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-bounded`.
    """

    setting: Setting
    start: int = 0

    label = "thm-bounded"
    budget = "thm-mse-budget"
    title = "A bounded activation: every finite mass will do"

    @property
    def gamma(self) -> float:
        """Γ = √(1 + mM²).

        Raises:
            HypothesisError: σ is unbounded.
        """
        return float(np.hypot(1.0, np.sqrt(self.setting.width) * self.largest_value()))

    def gentle_rate(self) -> float:
        """Return 2/Γ², up to which rates let the output weights grow linearly in the mass.

        Raises:
            HypothesisError: σ is unbounded.
        """
        return 2.0 / self.gamma**2

    def block_bounds(
        self, start: Ensemble, mass: np.ndarray, gentle: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ξ, a bound of the path of V, and ‖(a, c)‖ + η, one of the output weights.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).
            gentle: whether all rates of that mass are at most 2/Γ², shaped like `mass`.

        Returns:
            Two arrays shaped like `mass`.

        Raises:
            HypothesisError: σ is unbounded.
        """
        gamma, y, kappa = self.gamma, self.setting.target_rms, self.setting.kappa
        output = (start.output_weight.flatten(1).square().sum(1)).cpu().numpy()
        last = np.sqrt(output + start.output_bias.flatten(1).square().sum(1).cpu().numpy())
        first = last + y / gamma
        with np.errstate(over="ignore", invalid="ignore"):
            wild_rise = first * np.expm1(gamma**2 * mass)
            wild_path = 0.5 * kappa / gamma * first**2 * np.expm1(2.0 * gamma**2 * mass)
            drift = gamma * y * mass
            calm_path = kappa * gamma * mass * (first**2 + first * drift + drift**2 / 3.0)
        hidden = np.where(gentle, np.minimum(calm_path, wild_path), wild_path)
        rise = np.where(gentle, np.minimum(drift, wild_rise), wild_rise)
        return hidden, last + rise

    def bound(
        self, start: Ensemble, mass: np.ndarray, gentle: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the bound of the Lipschitz constant, rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).
            gentle: whether all rates are at most 2/Γ²; by default they need not be.

        Raises:
            HypothesisError: σ is unbounded.
        """
        small = np.zeros_like(mass, dtype=bool) if gentle is None else gentle
        return lipschitz_after_blocks(start, *self.block_bounds(start, mass, small))

    def gentle(self, run: TrainingRun) -> np.ndarray:
        """Tell at every step whether all rates from T₀ to it were at most 2/Γ², (T+1, K).

        Args:
            run: a training run.

        Raises:
            HypothesisError: σ is unbounded.
        """
        small = run.learning_rates <= self.gentle_rate()
        small[: self.start] = True
        first = np.ones((1, run.ensemble.size), dtype=bool)
        return np.concatenate([first, np.logical_and.accumulate(small, axis=0)])

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
            HypothesisError: σ is unbounded.
        """
        start, mass = checkpoint(run, self.start), mass_since(run, self.start)
        return self.bound(start, mass, self.gentle(run))
