"""What a finite mass cannot reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.theorems.descent import finite_steps, sufficient_decrease
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import named, small_products
from lipbook.theorems.smoothness import norm_bounds
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun

# Below this share of the squares of risk and targets a risk may be rounding.
RISK_FLOOR = 1e-18


def stretch(x: float) -> float:
    """Return h(x) = −ln(1 − x)/x, between 1 and 1/(1 − x); 1 at 0, infinite from 1 on.

    Args:
        x: ≥ 0.
    """
    if x <= 0.0:
        return 1.0
    return -math.log1p(-x) / x if x < 1.0 else math.inf


def log_ratio(above: float, below: float) -> float:
    """Return ln(above/below): infinite where only `below` is 0, 0 where both are."""
    if above == 0.0 or below == 0.0:
        return 0.0 if above == below else math.copysign(math.inf, above - below)
    return math.log(above) - math.log(below)


def steepest(setting: Setting, run: TrainingRun, network: int) -> float:
    """Return Λ = (κ₀ + κU)² with U = max ‖Θ_t‖ over the run, or an upper bound of it.

    Args:
        setting: gives σ, m and the data's radius.
        run: a training run.
        network: which of its networks.
    """
    return setting.growth(float(norm_bounds(run, network).max())) ** 2


@dataclass(frozen=True)
class RiskFloor:
    """Bound ln(R₀/R_T) by the mass, whatever the activation: no risk falls faster than this.

    ln(R₀/R_T) ≤ −2Σln(1 − α_tΛ), Λ = (κ₀ + κU)², U ≥ ‖Θ_t‖; attained by f = c.

    References:
        The book's theorem `thm-hindered`.
    """

    label = "thm-hindered"
    title = "No risk falls faster than the mass allows"

    def bound(self, rates: np.ndarray, steep: float) -> float:
        """Return −2Σln(1 − α_tΛ).

        Args:
            rates: α_t, (T,).
            steep: Λ.

        Raises:
            HypothesisError: some α_tΛ is 1 or more.
        """
        products = np.asarray(rates) * steep
        if not np.all(products < 1.0):
            refuse(
                "rates", "stay below 1/Λ", self.label, "H2", f"a product {products.max():g}",
                "Lower the rates; past 1/Λ one step may land on zero risk.",
            )  # fmt: skip
        return float(-2.0 * np.log1p(-products).sum())

    def verdict(
        self, run: TrainingRun, network: int, setting: Setting, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        rates, steep = run.learning_rates[:, network], steepest(setting, run, network)
        words = "every rate is below 1/Λ, Λ the square of κ₀ + κ·(largest norm of the weights)"
        small = small_products("H2", words, rates, np.full(len(rates), steep), strict=True)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="logarithm of first by last risk",
            hypotheses=(finite_steps(run, network), small, self._visible(run, network, setting)),
            bound=self.bound(rates, steep) if small.holds else None,
            measured=log_ratio(float(run.risk[0, network]), float(run.risk[-1, network])),
            subject=subject,
        )

    def _visible(self, run: TrainingRun, network: int, setting: Setting) -> Hypothesis:
        risk = run.risk[:, network]
        least = RISK_FLOOR * (float(risk[0]) + setting.target_rms**2)
        # Zero from the start on is no rounding.
        allowed = np.where(risk[0] == 0.0, 0.0, risk)
        return hypothesis_over_steps(
            "H3", "no risk is so small that it may be rounding",
            allowed.tolist(), [least if risk[0] > 0 else 0.0] * len(risk),
        )  # fmt: skip


@dataclass(frozen=True)
class RiskFall:
    """Bound μS_T by ln(R₀/R_T): under ‖∇R_t‖² ≥ 2μR_t and descent the mass is put to use.

    Attributes:
        mu: μ; None takes the largest one of the run, min_{t<T}‖∇R_t‖²/(2R_t).

    References:
        The book's theorem `thm-hindered`.
    """

    mu: float | None = None

    label = "thm-hindered"
    title = "The mass is put to use"

    def constant(self, run: TrainingRun, network: int) -> float:
        """Return μ: the one given, or the largest for which H4 holds on this run.

        Args:
            run: a training run.
            network: which of its networks.
        """
        if self.mu is not None:
            return self.mu
        risk, norms = run.risk[:-1, network], run.gradient_norm[:-1, network]
        at = (risk > 0) & np.isfinite(norms)
        return float((norms[at] ** 2 / (2.0 * risk[at])).min()) if at.any() else 0.0

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        mu = self.constant(run, network)
        words = "each step lowers the risk by half the rate times the squared gradient"
        risk, norms = run.risk[:-1, network], run.gradient_norm[:-1, network]
        steep = hypothesis_over_steps(
            "H5", "the squared gradient is at least 2μ times the risk at every step",
            (norms**2 * (1.0 + 1e-12)).tolist(), (2.0 * mu * risk).tolist(),
        )  # fmt: skip
        # The fall in the logarithm that the rounding allowed to H4 may hide.
        hidden = 2.0 * run.n_steps * 1e-12
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="μ times the mass",
            hypotheses=(
                finite_steps(run, network),
                named(sufficient_decrease(run, network, 0), "H4", words),
                steep,
            ),
            bound=log_ratio(float(run.risk[0, network]), float(run.risk[-1, network])) + hidden,
            measured=mu * float(run.mass[-1, network]),
            subject=subject,
        )
