"""The budget of the squared loss: what a mass allows when nothing is known but start and risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.losses import Huber, Loss, MeanSquaredError
from lipbook.networks import Ensemble
from lipbook.theorems.after_path import (
    AlongPath,
    checkpoint,
    lipschitz_after,
    mass_since,
    norms,
)
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smoothness import PULL_ROUNDING, pulls
from lipbook.theorems.verdict import Hypothesis
from lipbook.training import TrainingRun


def given(residual: float | None, label: str, what: str) -> float:
    """Return Λ₀ where it must be known before there is a run.

    Args:
        residual: Λ₀, or None.
        label: of the theorem that asks.
        what: to give in its place.

    Raises:
        HypothesisError: it is None.
    """
    if residual is None:
        refuse(
            "residual", "be given before there is a run", label, "H2", None, f"Give {what}."
        )  # fmt: skip
    return residual


def enough(loss: Loss, residual: float, pull: float) -> Hypothesis:
    """Check that the loss is one of the book's and Λ₀ ≥ λ(R) at T₀, up to rounding.

    Args:
        loss: φ.
        residual: Λ₀.
        pull: λ(R).
    """
    known = isinstance(loss, MeanSquaredError | Huber)
    fits = residual * (1.0 + PULL_ROUNDING) >= pull
    return Hypothesis("H2", "Λ₀ is at least λ(R) at T₀", bool(known and fits))


@dataclass(frozen=True)
class MseBudget(AlongPath):
    """Bound path and Lipschitz constant by the mass alone, up to a budget of mass.

    Let J₀ = κ₀ + κ‖Θ_{T₀}‖, Λ₀ ≥ λ(R_{T₀}), ζ = 2κΛ₀/J₀² and θ = J₀²S. If θ < θ* =
    ln(1/ζ)/(1 − ζ), the path is at most e = (J₀/κ)((1 − ζX)^(−1/2) − 1) with
    X = (e^{(1−ζ)θ} − 1)/(1 − ζ), and Lip(f_t) ≤ L_σ(xy + e√(x² + y²) + e²/2).

    Attributes:
        setting: gives κ and κ₀.
        residual: Λ₀; by default λ(R_{T₀}), read off the run.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-mse-budget`.
    """

    setting: Setting
    residual: float | None = None
    start: int = 0

    label = "thm-mse-budget"
    title = "The squared loss has a budget"

    def residual_of(self, run: TrainingRun) -> np.ndarray:
        """Return Λ₀ of each network, (K,).

        Args:
            run: a training run.
        """
        if self.residual is None:
            return pulls(self.setting, run.risk[self.start])
        return np.full(run.ensemble.size, self.residual)

    def blind_residual(self, norm: float) -> float:
        """Return Λ₀ = (Σy_i²/n)^½ + κ₀u + κu²/2, known before the network has seen any data.

        Args:
            norm: u = ‖Θ_{T₀}‖.
        """
        s = self.setting
        return s.target_rms + s.kappa_0 * norm + 0.5 * s.kappa * norm**2

    def share(self, norm: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Return ζ = 2κΛ₀/J₀².

        Args:
            norm: ‖Θ_{T₀}‖, (K,).
            residual: Λ₀, (K,).
        """
        growth = self.setting.growth(norm)
        return np.asarray(2.0 * self.setting.kappa * residual / growth**2)

    def safe_steps(self, norm: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """Return θ* = ln(1/ζ)/(1 − ζ): how many steps of rate 1/J₀² the budget is.

        Args:
            norm: ‖Θ_{T₀}‖, (K,).
            residual: Λ₀, (K,).

        Returns:
            (K,); 1 where ζ = 1, infinite where ζ = 0.
        """
        x = 1.0 - self.share(norm, residual)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(x == 0.0, 1.0, -np.log1p(-x) / np.where(x == 0.0, 1.0, x))

    def path(self, norm: np.ndarray, residual: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """Return e, infinite from the budget on; rounded to nearest.

        Args:
            norm: ‖Θ_{T₀}‖, (K,).
            residual: Λ₀, (K,).
            mass: S, (..., K).
        """
        growth = self.setting.growth(norm)
        zeta = self.share(norm, residual)
        x, theta = 1.0 - zeta, growth**2 * mass
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            spent = np.where(x == 0.0, theta, np.expm1(x * theta) / np.where(x == 0.0, 1.0, x))
            left = np.where(zeta == 0.0, 1.0, 1.0 - zeta * spent)
            # (1 − v)^(−½) − 1 by logarithms: v may be tiny.
            rise = np.expm1(-0.5 * np.log1p(-np.where(zeta == 0.0, 0.0, zeta * spent)))
        inside = np.where(np.isnan(theta), np.nan, np.where(left > 0.0, rise, np.inf))
        return np.asarray(growth / self.setting.kappa * inside)

    def bound(self, start: Ensemble, mass: float) -> np.ndarray:
        """Return the bound of the Lipschitz constant after a mass S, (K,), rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S.

        Raises:
            HypothesisError: Λ₀ is not given, or S is beyond the budget of some network.
        """
        norm = norms(start)[0]
        q = np.full(start.size, given(self.residual, self.label, "λ(R₀), or `blind_residual`"))
        e = self.path(norm, q, np.full(start.size, mass))
        if not np.isfinite(e).all():
            growth = self.setting.growth(norm)
            budget = self.safe_steps(norm, q) / growth**2
            refuse(
                "mass", f"be below the budget {budget.min():g}", self.label, "H3", f"{mass:g}",
                "Use the Huber loss, a bounded activation, or rates that lower the risk.",
            )  # fmt: skip
        return lipschitz_after(start, e)

    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return e at every step, (T+1, K), NaN before T₀ and infinite beyond the budget.

        Args:
            run: a training run.
        """
        norm = norms(checkpoint(run, self.start))[0]
        return self.path(norm, self.residual_of(run), mass_since(run, self.start))

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        residual = float(self.residual_of(run)[network])
        pull = float(pulls(self.setting, run.risk[self.start])[network])
        return (
            finite_steps(run, network),
            enough(self.setting.loss, residual, pull),
            self._within_budget(run, network),
        )

    def _within_budget(self, run: TrainingRun, network: int) -> Hypothesis:
        statement = "the mass from T₀ on is below the budget"
        beyond = np.flatnonzero(np.isinf(self.path_bounds(run)[:, network]))
        if len(beyond) == 0:
            return Hypothesis("H3", statement, True)
        return Hypothesis("H3", statement, False, step=int(beyond[0]) - 1)
