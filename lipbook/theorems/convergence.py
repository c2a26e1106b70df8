"""How fast the gradient falls: schedules that descend for ever, decaying or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.schedules import PowerRate
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import (
    RATE_ROUNDING,
    SmallestGradient,
    first_norm,
    small_products,
    smooth_activation,
)
from lipbook.theorems.smoothness import mass_smoothness, slope_change
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class SelfConsistentDescent(SmallestGradient[TrainingRun, Setting]):
    """Bound the smallest squared gradient under rates with α_t·β̄(S_{t+1}) ≤ 1, by 2R₀/S_T.

    Nothing is assumed of the weights: that they stay in reach is part of the conclusion.

    References:
        The book's theorem `thm-self-consistent`.
    """

    label = "thm-self-consistent"
    title = "A rate that keeps its own promise"

    def mass_bounds(
        self, setting: Setting, norm: float, risk: float, horizon: int
    ) -> tuple[float, float]:
        """Return T/β̄(√(T/R₀)/κ) ≤ S_T ≤ √(T/R₀)/κ for the self-consistent rates.

        Args:
            setting: gives σ, m, the data's radius and the loss.
            norm: ‖Θ₀‖.
            risk: R₀ > 0.
            horizon: T.

        Raises:
            HypothesisError: R₀ is 0, or σ has no Lipschitz slope.
        """
        if not risk > 0:
            refuse(
                "risk", "be positive", self.label, "R₀ > 0", risk,
                "At zero risk nothing moves and every rate will do.",
            )  # fmt: skip
        upper = math.sqrt(horizon / risk) / setting.kappa
        return horizon / float(mass_smoothness(setting, norm, risk, upper)), upper

    def rates(self, run: TrainingRun, network: int, setting: Setting) -> tuple[Hypothesis, ...]:
        """Check H3, which speaks of a smoothness that only a Lipschitz slope has."""
        if not smooth_activation(setting).holds:
            return ()
        norm, risk = first_norm(run, network), float(run.risk[0, network])
        beta = mass_smoothness(setting, norm, risk, run.mass[1:, network])
        statement = "every rate, times what the gradient can turn by within the mass, is at most 1"
        return (small_products("H3", statement, run.learning_rates[:, network], beta),)


@dataclass(frozen=True)
class NotHindered(SmallestGradient[TrainingRun, Setting]):
    """Bound the smallest squared gradient of a decaying schedule by that of a constant rate, times
    what is left of the mass.

    If α_t ≤ α, S = Σα_t < ∞ and α·β̄(S) ≤ 1: descent for ever, and min_{t<T}‖∇R_t‖² ≤ 2R₀/S_T =
    (1/θ_T)·2R₀/(αT) with θ_T = S_T/(αT).

    References:
        The book's theorem `thm-not-hindered`.
    """

    label = "thm-not-hindered"
    title = "Eventual decay is no hindrance, for a while"

    def share(self, run: TrainingRun) -> np.ndarray:
        """Return θ_T = S_T/(αT) of each network, (K,): the share of the mass that decay leaves.

        Args:
            run: a training run.
        """
        full = np.array([s.learning_rate for s in run.schedules]) * run.n_steps
        return np.divide(run.mass[-1], full, out=np.ones_like(full), where=full > 0)

    def rates(self, run: TrainingRun, network: int, setting: Setting) -> tuple[Hypothesis, ...]:
        """Check H3, and H4 where the mass is finite and the slope of σ Lipschitz."""
        schedule = run.schedules[network]
        total = schedule.tail_mass(0)
        words = "the rates are at most α and have a finite sum S, continued for ever"
        finite_sum = Hypothesis("H3", words, bool(total < math.inf))
        if not (smooth_activation(setting).holds and finite_sum.holds):
            return (finite_sum,)
        norm, risk = first_norm(run, network), float(run.risk[0, network])
        product = schedule.learning_rate * float(mass_smoothness(setting, norm, risk, total))
        return finite_sum, fits("H4", "α times β̄(S) is at most 1", product)


def fits(name: str, statement: str, product: float) -> Hypothesis:
    """Check that a product is at most 1, up to rounding."""
    return Hypothesis(name, statement, product <= 1.0 + RATE_ROUNDING, margin=1.0 - product)


@dataclass(frozen=True)
class PowerRates:
    """Give a power rate α(1 + t/τ)^(−γ), γ ≥ ½, that descends for ever, its mass finite or not.

    α·(b₀ + αb₁(1 + 2τ)) = 1 with b₀ = 2(κ₀ + κu₀)² + λ₀(κ + ω(u₀ + ½)), b₁ = 4κ²R₀ + λ₀ωR₀ and
    ω = L_σ'(1 + B_x²); ignores that most of β̄ is spent late.

    References:
        The book's proposition `prop-power-rates`.
    """

    label = "prop-power-rates"
    title = "Power rates that descend for ever"

    def bound(
        self, setting: Setting, norm: float, risk: float, timescale: float, exponent: float
    ) -> float:
        """Return the largest α that the proposition allows.

        Args:
            setting: gives σ, m, the data's radius and the loss.
            norm: ‖Θ₀‖.
            risk: R₀.
            timescale: τ > 0.
            exponent: γ ≥ ½.

        Raises:
            HypothesisError: γ < ½, or σ has no Lipschitz slope.
        """
        if not exponent >= 0.5:
            refuse(
                "exponent", "be at least 1/2", self.label, "γ ≥ ½", exponent,
                "Below 1/2 the mass outgrows every smoothness bound of this kind.",
            )  # fmt: skip
        omega, pull = slope_change(setting), setting.pull(risk)
        b_0 = 2.0 * setting.growth(norm) ** 2 + pull * (setting.kappa + omega * (norm + 0.5))
        b_1 = (4.0 * setting.kappa**2 + pull * omega) * risk * (1.0 + 2.0 * timescale)
        return 2.0 / (b_0 + math.sqrt(b_0 * b_0 + 4.0 * b_1))

    def verdict(
        self, run: TrainingRun, network: int, setting: Setting, subject: str = ""
    ) -> Verdict:
        """Return what the proposition says of one network trained with a power rate.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest α_t·β̄(S_{t+1}).
        """
        smooth, schedule = smooth_activation(setting), run.schedules[network]
        power, rate = schedule.rate_function, schedule.learning_rate
        words = "the rates are positive, a power law from step 0 on, with exponent at least ½"
        right = isinstance(power, PowerRate) and power.exponent >= 0.5 and schedule.start == 0
        right = right and rate > 0
        hypotheses, measured = [smooth, Hypothesis("H2", words, right)], None
        if smooth.holds:
            norm, risk = first_norm(run, network), float(run.risk[0, network])
            beta = mass_smoothness(setting, norm, risk, run.mass[1:, network])
            with np.errstate(over="ignore", invalid="ignore"):
                measured = float(np.max(run.learning_rates[:, network] * beta))
        if smooth.holds and isinstance(power, PowerRate) and right:
            most = self.bound(setting, norm, risk, power.timescale, power.exponent)
            words = "the first rate is at most what the proposition allows"
            hypotheses.append(fits("H3", words, rate / most))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest rate times β̄",
            hypotheses=tuple(hypotheses),
            bound=1.0,
            measured=measured,
            subject=subject,
        )
