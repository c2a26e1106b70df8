"""Rates given by an equation: each is the largest α with α·β̄(S + α) ≤ 1, S the mass so far."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from lipbook.schedules import Schedule

# The gap between a lower and an upper bound of a rate at which the lower one is taken.
GAP = 1e-12


def implicit_rates(reciprocal: Callable[[float], float], n_steps: int) -> np.ndarray:
    """Return (α_0, …, α_{T−1}) with α_t·β̄(S_t + α_t) = 1, from below.

    Args:
        reciprocal: S ↦ 1/β̄(S), positive and nonincreasing; it is asked some ten times a step.
        n_steps: T.

    Returns:
        (T,), nonincreasing, read-only.
    """
    rates, mass, high = np.empty(n_steps), 0.0, reciprocal(0.0)
    for step in range(n_steps):
        low = reciprocal(mass + high)  # the rates fall, so the last one bounds the next from above
        while high > low * (1.0 + GAP):
            wide = high / low
            high = min(high, reciprocal(mass + low))
            low = max(low, reciprocal(mass + high))
            if high / low > math.sqrt(wide):  # too steep for that: halve the interval instead
                low, high = _halved(reciprocal, mass, low, high)
        rates[step] = high = low
        mass += low
        high *= 1.0 + GAP
    rates.flags.writeable = False
    return rates


def _halved(
    reciprocal: Callable[[float], float], mass: float, low: float, high: float
) -> tuple[float, float]:
    """Return the half of an interval, on a logarithmic scale, that holds the rate."""
    middle = math.sqrt(low) * math.sqrt(high)
    if not low < middle < high:
        return low, low
    return (middle, high) if middle <= reciprocal(mass + middle) else (low, middle)


class ImplicitRate(ABC):
    """ρ(t) = α_t/α_0 of rates that are known as far as they are asked for; not summable."""

    @abstractmethod
    def known(self, n_steps: int) -> np.ndarray:
        """Return (α_0, …, α_{T−1}); asking twice costs once.

        Args:
            n_steps: T.
        """

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return α_step/α_0, elementwise."""
        steps = np.asarray(step, dtype=int)
        # Powers of two, so that asking for one step after the other costs no more than all at once.
        n_steps = 1 << max(int(steps.max(initial=0)), 255).bit_length()
        rates = self.known(n_steps)
        return np.asarray(rates[steps] / rates[0])

    def tail(self, step: int) -> float:
        """Return infinity: the mass grows without end."""
        return float("inf")

    def schedule(self) -> Schedule:
        """Return the rates as a schedule.

        Raises:
            HypothesisError: σ has no Lipschitz slope.
        """
        return Schedule("self-consistent", float(self.known(1)[0]), self)
