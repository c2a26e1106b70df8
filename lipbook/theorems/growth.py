"""How steep the risk can be where the weights are small: the lemma under every a-priori bound.

With κ = L_σ√(1 + B_x²), κ₀ = √(1 + m·σ(0)²) and u = ‖Θ‖, for ‖x‖ ≤ B_x: ‖∇_Θ f(x)‖ ≤ κ₀ + κu,
|f(x)| ≤ κ₀u + κu²/2, and ‖∇R‖ ≤ λ(R)(κ₀ + κu).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

import numpy as np

from lipbook.descent_loop import DescentRecord
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.setting import Number, Setting
from lipbook.theorems.verdict import Verdict


class Growing(Protocol):
    """Describe a setting as far as it bounds gradients: ‖∇R‖ ≤ λ(R)·growth(‖Θ‖)."""

    def pull(self, risk: float) -> float:
        """Return λ(R)."""

    def growth(self, norm: float, /) -> float:
        """Return a bound of ‖∇_Θ f(x)‖."""


S = TypeVar("S", bound=Growing)


@dataclass(frozen=True)
class GrowthVerdict(Generic[S]):
    """Say which share of its bound the gradient of a run has reached.

    Attributes:
        setting: bounds gradients.
        label: of the statement in the book.
        title: its name.
    """

    setting: S

    label: ClassVar[str]
    title: ClassVar[str]

    def verdict(self, run: DescentRecord, network: int, subject: str = "") -> Verdict:
        """Return what the lemma says of the gradients of one network at the recorded steps.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest ‖∇R_t‖/(λ(R_t)(κ₀ + κu_t)).
        """
        shares = [0.0]
        for step, networks in zip(run.steps, run.checkpoints, strict=True):
            gradient, risk = run.gradient_norm[step, network], run.risk[step, network]
            if np.isfinite(gradient) and gradient > 0.0:
                norm = float(networks.parameter_norm()[network])
                allowed = self.setting.pull(float(risk)) * self.setting.growth(norm)
                shares.append(float(gradient / allowed))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest share of the bound that a gradient has reached",
            hypotheses=(finite_steps(run, network),),
            bound=1.0,
            measured=max(shares),
            subject=subject,
        )


@dataclass(frozen=True)
class GradientGrowth(GrowthVerdict[Setting]):
    """Bound gradient and output of a network by the norm of its weights.

    ‖∇R‖ ≤ λ(R)(κ₀ + κu), |f(x)| ≤ κ₀u + κu²/2 and, after a path of length e from weights of norm
    u, |f'(x) − f(x)| ≤ (κ₀ + κu)e + κe²/2; ‖x‖ ≤ B_x. It knows nothing of signs.

    Attributes:
        setting: gives κ, κ₀ and λ.

    References:
        The book's lemma `lem-growth`.
    """

    label = "lem-growth"
    title = "The gradient grows no faster than the weights"

    def gradient_bound(self, norm: Number) -> Number:
        """Return κ₀ + κu ≥ ‖∇_Θ f(x)‖.

        Args:
            norm: u ≥ ‖Θ‖.
        """
        return self.setting.growth(norm)

    def change_bound(self, norm: Number, path: Number) -> Number:
        """Return (κ₀ + κu)e + κe²/2 ≥ |f'(x) − f(x)|; with u = 0 a bound of |f(x)| for ‖Θ‖ = e.

        Args:
            norm: u ≥ ‖Θ‖.
            path: e, the length of a path from Θ to Θ'.
        """
        return self.gradient_bound(norm) * path + 0.5 * self.setting.kappa * path * path
