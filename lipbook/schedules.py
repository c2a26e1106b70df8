"""Learning-rate schedules as rate functions.

A *rate function* ρ: {0, 1, 2, …} → [0, 1] is nonincreasing with ρ(0) = 1. A schedule is a learning
rate α, a step T₀ and a rate function: α_t = α for t < T₀, and α_t = α·ρ(t − T₀) from T₀ on. With T₀
> 0 and a summable ρ this is *eventual decay*: nothing is asked of the steps before T₀.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import special

SCHEDULES = ("constant", "exponential", "power", "cosine", "eventual")


class RateFunction(Protocol):
    """A nonincreasing ρ ≥ 0 on the integers with ρ(0) = 1."""

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return ρ(step), elementwise."""

    def tail(self, step: int) -> float:
        """Return Σ_{k ≥ step} ρ(k), or infinity."""


def _require_positive(name: str, value: float, remedy: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive number. Got {value!r}. {remedy}")


@dataclass(frozen=True)
class ConstantRate:
    """ρ(k) = 1."""

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return 1, elementwise."""
        return np.ones_like(step, dtype=np.float64)

    def tail(self, step: int) -> float:
        """Return infinity: a constant rate is not summable."""
        return math.inf


@dataclass(frozen=True)
class ExponentialRate:
    """ρ(k) = exp(−k/τ), summable.

    Attributes:
        timescale: τ, in steps.
    """

    timescale: float

    def __post_init__(self) -> None:
        """Refuse a time scale that defines no decay."""
        _require_positive("timescale", self.timescale, "Use ConstantRate for no decay.")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return exp(−k/τ), elementwise."""
        return np.exp(-np.asarray(step, dtype=np.float64) / self.timescale)

    def tail(self, step: int) -> float:
        """Return exp(−step/τ)/(1 − exp(−1/τ))."""
        return math.exp(-step / self.timescale) / -math.expm1(-1.0 / self.timescale)


@dataclass(frozen=True)
class PowerRate:
    """ρ(k) = (1 + k/τ)^(−γ), summable exactly for γ > 1.

    Attributes:
        timescale: τ, in steps.
        exponent: γ.
    """

    timescale: float
    exponent: float

    def __post_init__(self) -> None:
        """Refuse values that define no decay."""
        _require_positive("timescale", self.timescale, "Use ConstantRate for no decay.")
        _require_positive("exponent", self.exponent, "Use ConstantRate for no decay.")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return (1 + k/τ)^(−γ), elementwise."""
        return (1.0 + np.asarray(step, dtype=np.float64) / self.timescale) ** -self.exponent

    def tail(self, step: int) -> float:
        """Return τ^γ·ζ(γ, τ + step), with Hurwitz's zeta function, or infinity for γ ≤ 1."""
        if self.exponent <= 1:
            return math.inf
        gamma, first = self.exponent, self.timescale + step
        if first < 1e3:
            return float(self.timescale**gamma * special.zeta(gamma, first))
        # Far out τ^γ overflows while ζ underflows. Euler–Maclaurin avoids both: the first term left
        # out is γ(γ+1)(γ+2)/(720·first³) of ρ(step), below 1e-10 of the sum for γ ≤ 10.
        return float(self(np.array(step)) * (first / (gamma - 1) + 0.5 + gamma / (12 * first)))


@dataclass(frozen=True)
class CosineRate:
    """ρ(k) = ½(1 + cos(πk/H)) for k < H, 0 from H on.

    Attributes:
        horizon: H, in steps.
    """

    horizon: int

    def __post_init__(self) -> None:
        """Refuse a horizon that defines no decay."""
        _require_positive("horizon", self.horizon, "Use ConstantRate for no decay.")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return ½(1 + cos(πk/H)) before H and 0 after, elementwise."""
        fraction = np.minimum(np.asarray(step, dtype=np.float64) / self.horizon, 1.0)
        return 0.5 * (1.0 + np.cos(np.pi * fraction))

    def tail(self, step: int) -> float:
        """Return the finite sum of what is left before the horizon."""
        return float(self(np.arange(step, max(step, self.horizon))).sum())


@dataclass(frozen=True)
class Schedule:
    """Give the learning rate of every step: α before T₀, α·ρ(t − T₀) from T₀ on.

    Attributes:
        name: one of `SCHEDULES`.
        learning_rate: α ≥ 0.
        rate_function: ρ.
        start: T₀, the step from which the rate function counts.
    """

    name: str
    learning_rate: float
    rate_function: RateFunction
    start: int = 0

    def rates(self, n_steps: int) -> np.ndarray:
        """Return (α_0, …, α_{n_steps−1}), shape (n_steps,)."""
        decaying = self.rate_function(np.maximum(np.arange(n_steps) - self.start, 0))
        return self.learning_rate * decaying

    def tail_mass(self, step: int) -> float:
        """Return Σ_{t ≥ step} α_t, infinite where the rate function is not summable."""
        if self.learning_rate == 0:
            return 0.0
        before = max(self.start - step, 0)
        return self.learning_rate * (before + self.rate_function.tail(max(step - self.start, 0)))


def make_schedule(
    name: str,
    learning_rate: float,
    *,
    n_steps: int,
    timescale: float | None = None,
    exponent: float = 2.0,
    start: int | None = None,
) -> Schedule:
    """Build a schedule by name.

    Args:
        name: "constant"; "exponential", α·exp(−t/τ); "power", α·(1 + t/τ)^(−γ); "cosine", to 0 at
            `n_steps`; "eventual", α before T₀ and α·exp(−(t − T₀)/τ) from T₀ on.
        learning_rate: α ≥ 0.
        n_steps: the number of steps planned; sets the defaults below and the horizon of "cosine".
        timescale: τ, in steps; a tenth of `n_steps` by default.
        exponent: γ of "power".
        start: T₀ of "eventual"; half of `n_steps` by default.

    Returns:
        The `Schedule`.

    Raises:
        ValueError: an unknown name, or a value out of its range.
    """
    if not (math.isfinite(learning_rate) and learning_rate >= 0):
        raise ValueError(
            f"`learning_rate` must be a finite number ≥ 0. Got {learning_rate!r}. Try 0.1."
        )
    if n_steps < 1:
        raise ValueError(f"`n_steps` must be at least 1. Got {n_steps!r}. Try 1000.")
    if start is not None and start < 0:
        raise ValueError(f"`start` must be a step ≥ 0. Got {start!r}. Leave it out for n_steps/2.")
    tau = max(n_steps / 10, 1.0) if timescale is None else timescale
    rate_function = _rate_function(name, tau, exponent, n_steps)
    if name != "eventual":
        start = 0
    elif start is None:
        start = n_steps // 2
    return Schedule(name, float(learning_rate), rate_function, start)


def _rate_function(name: str, timescale: float, exponent: float, horizon: int) -> RateFunction:
    if name == "constant":
        return ConstantRate()
    if name in ("exponential", "eventual"):
        return ExponentialRate(timescale)
    if name == "power":
        return PowerRate(timescale, exponent)
    if name == "cosine":
        return CosineRate(horizon)
    raise ValueError(
        f"`name` must be one of {', '.join(SCHEDULES)}. Got {name!r}. "
        "Build a Schedule with a rate function of your own for another."
    )
