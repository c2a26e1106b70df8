"""The largest learning rate that keeps its own promise: descent at every step, for ever.

The rate α_t is the one solution of α·β̄(S_t + α) = 1 with β̄(S) = β(u₀ + √(2R₀S), R₀): it counts on
no more room for the weights than the descent itself can use up. Nothing about the run enters but
‖Θ₀‖ and R₀, so these are the rates of a schedule; the *measured* variant looks at each step.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.implicit_rates import GAP, ImplicitRate, implicit_rates
from lipbook.rate_caps import DescentState
from lipbook.theorems.setting import Setting
from lipbook.theorems.smoothness import mass_smoothness, slope_change, smoothness

# Rounds after which the lower end of the bracket is taken, if the gap has not ended it before.
ROUNDS = 200


def largest_rate(beta: Callable[[np.ndarray], np.ndarray], like: np.ndarray) -> np.ndarray:
    """Return the solution α of α·β(α) = 1 for a nondecreasing β > 0, from below.

    α ↦ 1/β(α) does not increase, so 1/β of an upper bound of α is a lower bound, and the reverse.

    Args:
        beta: α ↦ β(α), elementwise.
        like: an array of the shape of α.

    Returns:
        A lower bound of α, by at most a share `GAP`, shaped like `like`: α·β(α) ≤ 1 up to rounding.
    """
    high = 1.0 / beta(np.zeros_like(like))
    low = np.zeros_like(like)
    for _ in range(ROUNDS):
        low = np.maximum(low, 1.0 / beta(high))
        high = np.minimum(high, 1.0 / beta(low))
        # Where β is steep these two go round in circles; halving the interval does not.
        middle = np.sqrt(low) * np.sqrt(high)
        fits = middle <= 1.0 / beta(middle)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
        # Put so that a NaN, of a network that has diverged, does not keep the others waiting.
        if not np.any(high > low * (1.0 + GAP)):
            break
    return low


@functools.lru_cache(maxsize=64)
def self_consistent_rates(
    setting: Setting, first_norm: float, first_risk: float, n_steps: int
) -> np.ndarray:
    """Return (α_0, …, α_{T−1}) with α_t·β̄(S_t + α_t) = 1.

    Args:
        setting: gives σ, m, the data's radius and the loss.
        first_norm: ‖Θ₀‖.
        first_risk: R₀, finite.
        n_steps: T.

    Returns:
        (T,), nonincreasing.

    Raises:
        HypothesisError: σ has no Lipschitz slope.
    """
    kappa_0, kappa, pull = setting.kappa_0, setting.kappa, setting.pull(first_risk)
    change = slope_change(setting)

    def reciprocal(mass: float) -> float:
        """Return 1/β̄(S), in plain floats: this is called some ten times a step."""
        norm = first_norm + math.sqrt(2.0 * first_risk * mass)
        q = change * norm
        return 1.0 / ((kappa_0 + kappa * norm) ** 2 + pull * 0.5 * (q + math.hypot(q, 2 * kappa)))

    return implicit_rates(reciprocal, n_steps)


@dataclass(frozen=True)
class SelfConsistentRate(ImplicitRate):
    """ρ(t) = α_t/α_0 of the self-consistent rates, not summable.

    Attributes:
        setting: in which the network is trained.
        first_norm: ‖Θ₀‖.
        first_risk: R₀.
    """

    setting: Setting
    first_norm: float
    first_risk: float

    def known(self, n_steps: int) -> np.ndarray:
        """Return (α_0, …, α_{T−1}).

        Args:
            n_steps: T.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        return self_consistent_rates(self.setting, self.first_norm, self.first_risk, n_steps)


@dataclass(frozen=True)
class SelfConsistent:
    """Cap the rate so that descent is promised at every step, for ever; σ must be smooth.

    From the mass: α·β̄(S_t + α) ≤ 1. Measured: α·β(‖Θ_t‖ + α‖∇R_t‖, R_t) ≤ 1, never less mass.

    Attributes:
        setting: in which the networks are trained.
        measured: look at the weights, gradient and risk of each step, not at the mass alone.

    References:
        The book's theorem `thm-self-consistent`.
    """

    setting: Setting
    measured: bool = False

    def __call__(self, state: DescentState) -> Tensor:
        """Return the largest rate allowed for each network, (K,).

        Args:
            state: just before the step.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        here = self._measured(state) if self.measured else self._from_mass(state)
        rates = largest_rate(here, np.zeros(state.risk.shape))
        return torch.as_tensor(rates, dtype=state.risk.dtype, device=state.risk.device)

    def _from_mass(self, state: DescentState) -> Callable[[np.ndarray], np.ndarray]:
        norm, risk, mass = (
            each.cpu().double().numpy() for each in (state.first_norm, state.first_risk, state.mass)
        )
        return lambda rate: mass_smoothness(self.setting, norm, risk, mass + rate)

    def _measured(self, state: DescentState) -> Callable[[np.ndarray], np.ndarray]:
        numbers = (state.ensemble.parameter_norm(), state.gradient_norm, state.risk)
        norm, slope, risk = (each.cpu().double().numpy() for each in numbers)
        return lambda rate: smoothness(self.setting, norm + rate * slope, risk)
