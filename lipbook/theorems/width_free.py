"""The width-free form of the decay condition: exact constant in, exact constant out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.after_path import checkpoint, norms
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.energy import Energy
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import named, smooth_activation
from lipbook.theorems.smooth_modulus import slope_lever
from lipbook.theorems.verdict import Verdict
from lipbook.training import TrainingRun

FORMS = ("energy", "budget")


def rise_after(start: Ensemble, path: np.ndarray, radius: float) -> np.ndarray:
    """Return L_σ(e√(x² + (y + ν)²) + e²/2), what the exact constant can rise by over a path e.

    x = ‖W‖_op, y = ‖a‖ and L_σν = L_σ'√(1 + B²)‖a‖_∞x.

    Args:
        start: the networks before the path.
        path: e, (..., K).
        radius: B; the domain lies in the ball of this radius.

    Returns:
        Shaped like `path`, rounded to nearest.

    Raises:
        HypothesisError: σ has no Lipschitz slope, or there are several outputs.

    References:
        The book's theorem `thm-width-free`.
    """
    _, x, y = norms(start)
    slope = start.activation.lipschitz
    lever = np.hypot(x, y + slope_lever(start, radius, WidthFree.label) / slope)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(slope * (path * lever + 0.5 * path * path))


def stable_rank(start: Ensemble) -> np.ndarray:
    """Return srank(W) = ‖W‖_F²/‖W‖_op², (K,), between 1 and the rank of W."""
    frobenius = start.hidden_weight.flatten(1).square().sum(1)
    return np.asarray((frobenius / start.hidden_norm().square()).cpu().numpy())


@dataclass(frozen=True)
class WidthFree:
    """Bound the exact constant on a ball by the exact constant at T₀ and the path since.

    Lip(f_t) ≤ Lip(f_{T₀}) + L_σ(e√(x² + (y + ν)²) + e²/2), with e from the fall of the risk
    ("energy") or from the budget of the mass ("budget"); σ smooth. At a Gaussian start and a fixed
    number of safe steps, J₀²S, the rise has a limit as the width grows.

    Attributes:
        setting: gives σ, the data and the loss.
        radius: B; the domain lies in the ball of this radius.
        form: "energy" or "budget".
        start: T₀, a recorded step of the run.

    Raises:
        ValueError: an unknown form.

    References:
        The book's theorem `thm-width-free`; attained in the limit: `prop-width-free-attained`.
    """

    setting: Setting
    radius: float
    form: str = "energy"
    start: int = 0

    label = "thm-width-free"
    title = "A condition without the width"

    def __post_init__(self) -> None:
        """Refuse a form that there is not."""
        if self.form not in FORMS:
            raise ValueError(
                f"`form` must be 'energy' or 'budget'. Got {self.form!r}. "
                "Use 'energy' for runs that descend."
            )

    @property
    def source(self) -> Energy | MseBudget:
        """The theorem that bounds the path."""
        if self.form == "energy":
            return Energy(self.start)
        return MseBudget(self.setting, start=self.start)

    def safe_steps(self, run: TrainingRun) -> np.ndarray:
        """Return θ = J₀²(S_t − S_{T₀}) at every step, (T+1, K): the mass in safe steps.

        Args:
            run: a training run.
        """
        growth = self.setting.growth(norms(checkpoint(run, self.start))[0])
        return np.asarray(growth**2 * np.maximum(run.mass - run.mass[self.start], 0.0))

    def bounds(self, run: TrainingRun, first: np.ndarray) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.
            first: upper bounds of Lip(f_{T₀}) on the domain, (K,).

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
            HypothesisError: σ has no Lipschitz slope.
        """
        path = self.source.path_bounds(run)
        return first + rise_after(checkpoint(run, self.start), path, self.radius)

    def bound(self, start: Ensemble, first: np.ndarray, path: np.ndarray) -> np.ndarray:
        """Return Lip(f_{T₀}) + L_σ(e√(x² + (y + ν)²) + e²/2) for a path e that is known.

        Args:
            start: the networks at T₀.
            first: upper bounds of Lip(f_{T₀}) on the domain, (K,).
            path: e, (..., K).

        Raises:
            HypothesisError: σ has no Lipschitz slope, or e is not finite.
        """
        if not np.isfinite(path).all():
            refuse(
                "path", "be finite", self.label, "H3", "an infinite bound of the path",
                "Spend less mass than the budget, or use the energy form.",
            )  # fmt: skip
        return np.asarray(first + rise_after(start, path, self.radius))

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        first: float,
        lipschitz: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network at the end of the run.

        Args:
            run: a training run.
            network: which of its networks.
            first: an upper bound of Lip(f_{T₀}) on the domain.
            lipschitz: the largest Lipschitz constant on the domain at the recorded steps from T₀
                on, measured from below or exactly.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        source = self.source.verdict(run, network, 0.0)
        smooth = named(smooth_activation(self.setting), "H2")
        rest = [named(h, f"H{i}") for i, h in enumerate(source.hypotheses[1:], 3)]
        known = np.full(run.ensemble.size, first)
        bound = float(self.bounds(run, known)[-1, network]) if smooth.holds else np.inf
        return Verdict(
            theorem=self.label,
            title=f"{self.title} ({self.form})",
            quantity=f"largest Lipschitz constant at the recorded steps from {self.start} on",
            hypotheses=(source.hypotheses[0], smooth, *rest),
            bound=bound if np.isfinite(bound) else None,
            measured=lipschitz,
            subject=subject,
        )


def limit_rise(
    setting: Setting, bias_scale: float, pull: float, theta: float, form: str = "energy"
) -> float:
    """Return the limit of the rise at a Gaussian start as m → ∞, θ safe steps being spent.

    L_σqψ(θ)/(√d(κ√(1 + s²) + |σ(0)|)), with ψ = √θ and q = √(2R) ("energy") or ψ = e^θ − 1 and
    q = λ(R) ("budget"); W, b and a have the deviations 1/√d, s and at most 1/√m.

    Args:
        setting: gives L_σ, κ, σ(0) and d; its width is not used.
        bias_scale: s.
        pull: q.
        theta: θ.
        form: "energy" or "budget".

    References:
        The book's corollary `cor-width-free`.
    """
    psi = np.sqrt(theta) if form == "energy" else np.expm1(theta)
    growth = setting.kappa * np.hypot(1.0, bias_scale) + setting.activation.at_zero
    return float(setting.activation.lipschitz * pull * psi / (np.sqrt(setting.input_dim) * growth))
