"""How fast the gradient of the risk can turn, and the descent that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.descent_loop import Measure, N
from lipbook.gradients import risk_and_gradient
from lipbook.networks import Ensemble
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import (
    SmallestGradient,
    energy_share,
    risk_fall,
    small_products,
    smooth_activation,
)
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

Number = float | np.ndarray

# A risk that stays where it is may come out larger by a few roundings, and with it the pull.
PULL_ROUNDING = 1e-12


def pulls(setting: Setting, risk: Number) -> np.ndarray:
    """Return λ(R) = `Setting.pull` of every risk, shaped like `risk`.

    Args:
        setting: gives the loss.
        risk: R ≥ 0.
    """
    values = np.asarray(risk, dtype=np.float64)
    return np.array([setting.pull(float(each)) for each in values.ravel()]).reshape(values.shape)


def turning(setting: Setting, norm: Number) -> Number:
    """Return χ(U) = ½(q + √(q² + 4κ²)), q = L_σ'(1 + B_x²)U: Lipschitz constant of Θ ↦ ∇_Θ f(x).

    Args:
        setting: gives σ and B_x.
        norm: U, a bound of ‖Θ‖.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    q = slope_change(setting) * norm
    return 0.5 * (q + np.sqrt(q * q + 4.0 * setting.kappa**2))


def slope_change(setting: Setting) -> float:
    """Return L_σ'(1 + B_x²).

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    slope_lipschitz = setting.activation.slope_lipschitz
    if slope_lipschitz is None:
        refuse(
            "activation", "have a Lipschitz slope", "lem-smoothness", "H1",
            repr(setting.activation.name), "Use tanh, sigmoid, softplus, gelu or silu.",
        )  # fmt: skip
    return slope_lipschitz * (1.0 + setting.input_radius**2)


def smoothness(setting: Setting, norm: Number, risk: Number) -> np.ndarray:
    """Return β(U, R) = (κ₀ + κU)² + λ(R)·χ(U).

    Args:
        setting: gives σ, m, the data's radius and the loss.
        norm: U, a bound of ‖Θ‖.
        risk: R at one of the two points that are compared.

    Returns:
        Shaped like the arguments.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        growth = setting.growth(np.asarray(norm, dtype=np.float64))
        return np.asarray(growth**2 + pulls(setting, risk) * turning(setting, norm))


def mass_smoothness(
    setting: Setting, first_norm: Number, first_risk: Number, mass: Number
) -> np.ndarray:
    """Return β̄(S) = β(u₀ + √(2R₀S), R₀), what the gradient can turn by within the mass S.

    Args:
        setting: gives σ, m, the data's radius and the loss.
        first_norm: u₀ = ‖Θ₀‖.
        first_risk: R₀.
        mass: S ≥ 0.

    Returns:
        Shaped like the arguments.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        reached = first_norm + np.sqrt(2.0 * np.asarray(first_risk) * mass)
        return smoothness(setting, reached, first_risk)


def norm_bounds(run: TrainingRun, network: int) -> np.ndarray:
    """Return upper bounds of ‖Θ_t‖: exact at the recorded steps, plus the path walked in between.

    Args:
        run: a training run.
        network: which of its networks.

    Returns:
        (T+1,), in the unit of the weights; exact everywhere if every step was recorded.
    """
    exact = np.array([float(c.parameter_norm()[network]) for c in run.checkpoints])
    last = np.searchsorted(run.steps, np.arange(run.n_steps + 1), side="right") - 1
    path = run.path[:, network]
    return np.asarray(exact[last] + path - path[run.steps[last]])


@dataclass(frozen=True)
class Turn:
    """Hold by how much the gradient differs between two networks.

    Attributes:
        turned: ‖∇R(Θ) − ∇R(Θ')‖/‖Θ − Θ'‖, 0 where the two are one.
        norm: the larger of ‖Θ‖ and ‖Θ'‖.
        risk: the smaller of the two risks.
    """

    turned: float
    norm: float
    risk: float

    @classmethod
    def between(cls, here: N, there: N, measure: Measure[N]) -> Turn:
        """Measure two networks.

        Args:
            here: Θ, of size one.
            there: Θ', of the same shape.
            measure: networks ↦ R and the gradient by block.
        """
        (one_risk, one), (other_risk, other) = measure(here), measure(there)
        turned = sum(float((one[n] - other[n]).square().sum()) for n in here.names)
        both = zip(here.blocks(), there.blocks(), strict=True)
        moved = sum(float((a - b).square().sum()) for a, b in both)
        return cls(
            turned=(turned / moved) ** 0.5 if moved > 0 else 0.0,
            norm=max(float(each.parameter_norm()[0]) for each in (here, there)),
            risk=min(float(one_risk[0]), float(other_risk[0])),
        )

    def verdict(
        self, statement: type, smooth: Hypothesis, bound: float | None, subject: str
    ) -> Verdict:
        """Return what a statement on smoothness says of the two.

        Args:
            statement: has the `label` and the `title`.
            smooth: its hypothesis on σ.
            bound: of `turned`, None where σ is not smooth.
            subject: which pair this is about.
        """
        return Verdict(
            theorem=statement.label,  # type: ignore[attr-defined]
            title=statement.title,  # type: ignore[attr-defined]
            quantity="change of the gradient per length of the step",
            hypotheses=(smooth,),
            bound=bound,
            measured=self.turned,
            subject=subject,
        )


@dataclass(frozen=True)
class LocalSmoothness:
    """Bound by how much the gradient of the risk differs between two points of a ball.

    ‖∇R(Θ) − ∇R(Θ')‖ ≤ β(U, R(Θ'))·‖Θ − Θ'‖ for ‖Θ‖, ‖Θ'‖ ≤ U; MSE and Huber alike.

    References:
        The book's lemma `lem-smoothness`.
    """

    label = "lem-smoothness"
    title = "The gradient turns slowly"

    def bound(self, setting: Setting, norm: float, risk: float) -> float:
        """Return β(U, R).

        Args:
            setting: gives σ, m, the data's radius and the loss.
            norm: U.
            risk: R at one of the two points.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        return float(smoothness(setting, norm, risk))

    def verdict(
        self,
        setting: Setting,
        here: Ensemble,
        there: Ensemble,
        data: tuple[Tensor, Tensor],
        subject: str = "",
    ) -> Verdict:
        """Return what the lemma says of two networks.

        Args:
            setting: in which both are looked at.
            here: Θ, an ensemble of size one.
            there: Θ', another; the bound takes the smaller of the two risks.
            data: inputs (n, d) and targets (n, 1).
            subject: which pair this is about.

        Returns:
            The `Verdict`; measured is ‖∇R(Θ) − ∇R(Θ')‖/‖Θ − Θ'‖.
        """
        holds = smooth_activation(setting)
        turn = Turn.between(here, there, lambda n: risk_and_gradient(n, *data, setting.loss))
        bound = self.bound(setting, turn.norm, turn.risk) if holds.holds else None
        return turn.verdict(LocalSmoothness, holds, bound, subject)


@dataclass(frozen=True)
class Descent(SmallestGradient[TrainingRun, Setting]):
    """Bound the smallest squared gradient by the fall of the risk over the mass.

    If α_t·β(U_t, R_t) ≤ 1 with U_t ≥ max(‖Θ_t‖, ‖Θ_{t+1}‖) at every step, each step lowers the risk
    by ½α_t‖∇R_t‖², and min_{t<T}‖∇R_t‖² ≤ 2(R₀ − R_T)/S_T. It knows nothing of which step is best.

    References:
        The book's theorem `thm-descent`.
    """

    label = "thm-descent"
    title = "Descent, step by step"

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return 2(R₀ − R_T)/S_T at the end of the run, (K,), rounding of the risks allowed for.

        Args:
            run: a training run.
        """
        return energy_share(risk_fall(run), run.mass[-1])

    def rates(self, run: TrainingRun, network: int, setting: Setting) -> tuple[Hypothesis, ...]:
        """Check H3, which speaks of a smoothness that only a Lipschitz slope has."""
        if not smooth_activation(setting).holds:
            return ()
        return (self._small_rates(run, network, setting),)

    def _small_rates(self, run: TrainingRun, network: int, setting: Setting) -> Hypothesis:
        norms, rates = norm_bounds(run, network), run.learning_rates[:, network]
        reached = norms[:-1] + rates * run.gradient_norm[:-1, network]
        beta = smoothness(setting, np.maximum(norms[:-1], reached), run.risk[:-1, network])
        statement = "every rate times β(U, R), U past both ends of its step, is at most 1"
        return small_products("H3", statement, rates, beta)
