"""Descent at any depth: how fast the gradient turns, and the mass of self-consistent rates."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from torch import Tensor

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun, deep_risk_and_gradient
from lipbook.implicit_rates import ImplicitRate, implicit_rates
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.refusal import refuse
from lipbook.theorems.smallest_gradient import (
    SmallestGradient,
    first_norm,
    small_products,
    smooth_activation,
)
from lipbook.theorems.smoothness import Turn
from lipbook.theorems.verdict import Hypothesis, Verdict


def deep_turning(setting: DeepSetting, norm: float) -> float:
    """Return χ_L(U) = λ_max(H) ≥ ‖∇²_Θ f(x)‖ for ‖Θ‖ ≤ U and ‖x‖ ≤ B_x; for L = 2 it is χ(U).

    With a_0 = k_0, a_l = k_l + L_σUa_{l−1}, c_0 = 0, Q_0 = 0 and, for l < L,
    c_l = L_σUc_{l−1} + a_{l−1}e_l and
    Q_l = L_σ'c_lc_lᵀ + L_σ²(e_lc_{l−1}ᵀ + c_{l−1}e_lᵀ) + L_σUQ_{l−1}, H is
    L_σ(e_Lc_{L−1}ᵀ + c_{L−1}e_Lᵀ) + UQ_{L−1}.

    Args:
        setting: gives σ, the widths and B_x.
        norm: U ≥ 0, finite.

    Raises:
        HypothesisError: σ has no Lipschitz slope.

    References:
        The book's lemma `lem-deep-smoothness`.
    """
    bend = setting.activation.slope_lipschitz
    if bend is None:
        refuse(
            "activation", "have a Lipschitz slope", "lem-deep-smoothness", "H1",
            repr(setting.activation.name), "Use tanh, sigmoid, softplus, gelu or silu.",
        )  # fmt: skip
    slope, depth, factors = setting.activation.lipschitz, setting.depth, setting.factors
    first, form, reached = np.zeros(depth), np.zeros((depth, depth)), np.float64(factors[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in range(1, depth):
            unit = np.eye(depth)[layer - 1]
            crossed = np.outer(unit, first) + np.outer(first, unit)
            first = slope * norm * first + reached * unit
            form = bend * np.outer(first, first) + slope**2 * crossed + slope * norm * form
            reached = factors[layer] + slope * norm * reached
        unit = np.eye(depth)[depth - 1]
        whole = slope * (np.outer(unit, first) + np.outer(first, unit)) + norm * form
    if not np.isfinite(whole).all():
        return math.inf
    return max(float(np.linalg.eigvalsh(whole)[-1]), 0.0)


def deep_smoothness(setting: DeepSetting, norm: float, risk: float) -> float:
    """Return β_L(U, R) = q'(U)² + λ(R)·χ_L(U).

    Args:
        setting: gives σ, the widths, the data's radius and the loss.
        norm: U, a bound of ‖Θ‖.
        risk: R at one of the two points that are compared.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    if not math.isfinite(norm):
        return math.inf
    with np.errstate(over="ignore"):
        steepness = float(np.float64(setting.growth(norm)) ** 2)
    return steepness + setting.pull(risk) * deep_turning(setting, norm)


def deep_mass_smoothness(
    setting: DeepSetting, first_norm: float, first_risk: float, mass: float
) -> float:
    """Return β̄_L(S) = β_L(u₀ + √(2R₀S), R₀).

    Args:
        setting: in which the network is trained.
        first_norm: u₀ = ‖Θ₀‖.
        first_risk: R₀.
        mass: S ≥ 0.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    return deep_smoothness(setting, first_norm + math.sqrt(2.0 * first_risk * mass), first_risk)


@functools.lru_cache(maxsize=64)
def deep_rates(
    setting: DeepSetting, first_norm: float, first_risk: float, n_steps: int
) -> np.ndarray:
    """Return the self-consistent rates (α_0, …, α_{T−1}), α_t·β̄_L(S_t + α_t) = 1.

    Args:
        setting: in which the network is trained.
        first_norm: u₀ = ‖Θ₀‖.
        first_risk: R₀, finite.
        n_steps: T.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """

    def reciprocal(mass: float) -> float:
        return 1.0 / deep_mass_smoothness(setting, first_norm, first_risk, mass)

    return implicit_rates(reciprocal, n_steps)


@dataclass(frozen=True)
class DeepSelfConsistentRate(ImplicitRate):
    """ρ(t) = α_t/α_0 of the self-consistent rates at any depth.

    Attributes:
        setting: in which the network is trained.
        first_norm: ‖Θ₀‖.
        first_risk: R₀.
    """

    setting: DeepSetting
    first_norm: float
    first_risk: float

    def known(self, n_steps: int) -> np.ndarray:
        """Return (α_0, …, α_{T−1}).

        Args:
            n_steps: T.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        return deep_rates(self.setting, self.first_norm, self.first_risk, n_steps)


@dataclass(frozen=True)
class DeepSmoothness:
    """Bound by how much the gradient of the risk differs between two points of a ball.

    ‖∇R(Θ) − ∇R(Θ')‖ ≤ β_L(U, R(Θ'))·‖Θ − Θ'‖ for ‖Θ‖, ‖Θ'‖ ≤ U; σ' Lipschitz.

    References:
        The book's lemma `lem-deep-smoothness`.
    """

    label = "lem-deep-smoothness"
    title = "The gradient of a deep perceptron turns slowly"

    def verdict(
        self,
        setting: DeepSetting,
        here: DeepEnsemble,
        there: DeepEnsemble,
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
        turn = Turn.between(here, there, lambda n: deep_risk_and_gradient(n, *data, setting.loss))
        bound = deep_smoothness(setting, turn.norm, turn.risk) if holds.holds else None
        return turn.verdict(DeepSmoothness, holds, bound, subject)


@dataclass(frozen=True)
class DeepDescent(SmallestGradient[DeepRun, DeepSetting]):
    """Bound the smallest squared gradient by 2R₀/S_T where every rate keeps its own promise.

    If α_t·β̄_L(S_t + α_t) ≤ 1 at every step, each lowers the risk by ½α_t‖∇R_t‖², at any depth.
    Under equality T steps have a mass between the solutions S of ∫_0^S β̄_L(s + α_0)ds = T and
    ∫_0^S β̄_L(s)ds = T, of order T^{1/L}.

    References:
        The book's theorem `thm-deep-descent`.
    """

    label = "thm-deep-descent"
    title = "Descent at any depth"

    def rates(self, run: DeepRun, network: int, setting: DeepSetting) -> tuple[Hypothesis, ...]:
        """Check H3, which speaks of a smoothness that only a Lipschitz slope has."""
        if not smooth_activation(setting).holds:
            return ()
        norm, risk = first_norm(run, network), float(run.risk[0, network])
        beta = [deep_mass_smoothness(setting, norm, risk, s) for s in run.mass[1:, network]]
        statement = "every rate times β̄ at the mass past its step is at most 1"
        return (small_products("H3", statement, run.learning_rates[:, network], np.array(beta)),)

    def steps_between(
        self, setting: DeepSetting, first_norm: float, first_risk: float, mass: float
    ) -> tuple[float, float]:
        """Return ∫_0^S β̄_L(s)ds and ∫_0^S β̄_L(s + α_0)ds, between which T lies.

        Args:
            setting: in which the network is trained.
            first_norm: u₀ = ‖Θ₀‖.
            first_risk: R₀.
            mass: S, spent by T self-consistent steps.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        first = deep_rates(setting, first_norm, first_risk, 1)[0]

        def integral(shift: float) -> float:
            # s = w² takes the root of the mass out of the integrand.
            def value(w: float) -> float:
                at = w * w + shift
                return 2.0 * w * deep_mass_smoothness(setting, first_norm, first_risk, at)

            return float(quad(value, 0.0, math.sqrt(mass), epsrel=1e-10)[0])

        return integral(0.0), integral(float(first))
