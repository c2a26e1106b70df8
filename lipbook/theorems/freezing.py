"""A finite mass freezes the gradient: by how much it can still fall."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.theorems.descent import finite_steps
from lipbook.theorems.hindrance import log_ratio, stretch
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import named, smooth_activation
from lipbook.theorems.smoothness import norm_bounds, smoothness
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class FrozenGradient:
    """Bound how far the gradient's norm can still fall from step s on, in logarithms.

    With S' the mass from s on, β = β(‖Θ_s‖ + √(2R_sS'), R_s) and ᾱ the largest rate from s on:
    ln(‖∇R_s‖/‖∇R_t‖) ≤ h(ᾱβ)·βS' for all t ≥ s and in the limit.

    Attributes:
        start: s, between 0 and T.

    References:
        The book's theorem `thm-frozen`.
    """

    start: int

    label = "thm-frozen"
    title = "With a finite mass the gradient freezes"

    def bound(self, run: TrainingRun, network: int, setting: Setting) -> float:
        """Return h(ᾱβ)·βS', infinite where it says nothing.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        rate, beta, mass = self.tail(run, network, setting)
        return stretch(rate * beta) * beta * mass if mass > 0 else 0.0

    def floor(self, run: TrainingRun, network: int, setting: Setting) -> float:
        """Return ‖∇R_s‖·exp(−h(ᾱβ)βS') ≤ ‖∇R(Θ_∞)‖, rounded to nearest.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        exponent = self.bound(run, network, setting)
        return float(run.gradient_norm[self.start, network]) * math.exp(-exponent)

    def tail(self, run: TrainingRun, network: int, setting: Setting) -> tuple[float, float, float]:
        """Return ᾱ, β and S' from s on, the schedule continued for ever.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.

        Raises:
            ValueError: s is not between 0 and T.
            HypothesisError: σ has no Lipschitz slope.
        """
        if not 0 <= self.start <= run.n_steps:
            raise ValueError(
                f"`start` must be a step of the run, 0 to {run.n_steps}. Got {self.start}. "
                "Train longer, or start earlier."
            )
        schedule = run.schedules[network]
        mass = schedule.tail_mass(self.start)
        norm, risk = norm_bounds(run, network)[self.start], run.risk[self.start, network]
        with np.errstate(invalid="ignore"):
            reached = norm + np.sqrt(2.0 * risk * mass)
        beta = float(smoothness(setting, reached, risk))
        return float(schedule.rates(self.start + 1)[-1]), beta, mass

    def verdict(
        self, run: TrainingRun, network: int, setting: Setting, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run without a cap.
            network: which of its networks.
            setting: in which it was trained.
            subject: which run this is about.

        Returns:
            The `Verdict`; the hypotheses on the rates are about all steps, also those to come.
        """
        smooth, finite = smooth_activation(setting), named(finite_steps(run, network), "H2")
        hypotheses, bound = [smooth, finite], None
        if smooth.holds:
            rate, beta, mass = self.tail(run, network, setting)
            words = "the rates from step s on, continued for ever, have a finite sum"
            hypotheses.append(Hypothesis("H3", words, mass < math.inf))
            product, words = rate * beta, "each of them times β is below 1"
            hypotheses.append(Hypothesis("H4", words, product < 1.0, margin=1.0 - product))
            bound = self.bound(run, network, setting)
        norms = run.gradient_norm[self.start :, network]
        least = float(np.nanmin(norms, initial=math.inf))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"logarithm of the gradient's fall from step {self.start} on",
            hypotheses=tuple(hypotheses),
            bound=bound,
            measured=log_ratio(float(norms[0]), least) if np.isfinite(norms[0]) else None,
            subject=subject,
        )


def gradient_floors(run: TrainingRun, setting: Setting) -> np.ndarray:
    """Return the floor that `FrozenGradient` puts under later gradients, asked at every record.

    Args:
        run: a training run without a cap, σ smooth.
        setting: in which it was trained.

    Returns:
        (S, K), NaN where the theorem does not apply.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    norms = np.stack([each.parameter_norm().cpu().numpy() for each in run.checkpoints])
    masses, rates = (
        np.array([[of(schedule, int(t)) for schedule in run.schedules] for t in run.steps])
        for of in (lambda s, t: s.tail_mass(t), lambda s, t: s.rates(t + 1)[-1])
    )
    risk = run.risk[run.steps]
    with np.errstate(invalid="ignore", over="ignore"):
        beta = smoothness(setting, norms + np.sqrt(2.0 * risk * masses), risk)
        products = np.where(masses > 0, rates * beta, 0.0)
        factor = np.array([stretch(float(x)) for x in products.ravel()]).reshape(products.shape)
        floors = run.gradient_norm[run.steps] * np.exp(-factor * beta * masses)
    finite = np.isfinite(masses) & (run.diverged_at < 0)
    return np.where(finite & (products < 1.0), floors, np.nan)
