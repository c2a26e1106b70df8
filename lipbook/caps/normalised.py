"""A rate that divides by the gradient, so that no step is longer than it was said to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.rate_caps import StepState
from lipbook.schedules import RateFunction
from lipbook.theorems.refusal import refuse


@dataclass(frozen=True)
class NormalisedRate:
    """Allow at step t ≥ T₀ the rate C·ρ(t − T₀)/‖∇R_t‖, and before T₀ any rate.

    Each step from T₀ on is then at most C·ρ(t − T₀) long, and all of them together at most
    C·Σρ, whatever the data, the loss, the activation and the gradients are. The rates themselves
    may sum to anything.

    Attributes:
        length: C ≥ 0, in the unit of the weights.
        rate_function: ρ, with a finite sum.
        start: T₀.

    Raises:
        HypothesisError: C is no finite number ≥ 0, or ρ has no finite sum.

    References:
        The book's theorem `thm-adaptive`.
    """

    length: float
    rate_function: RateFunction
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse what bounds no path."""
        if not 0.0 <= self.length < np.inf:
            refuse(
                "length", "be a finite number ≥ 0", "thm-adaptive", "H2", repr(self.length),
                "Say how far the weights may go, such as 1.0.",
            )  # fmt: skip
        if not self.rate_function.tail(0) < np.inf:
            refuse(
                "rate_function", "have a finite sum", "thm-adaptive", "H2",
                repr(self.rate_function), "Use ExponentialRate, or PowerRate above exponent 1.",
            )  # fmt: skip

    @classmethod
    def with_total(
        cls, total: float, rate_function: RateFunction, start: int = 0
    ) -> NormalisedRate:
        """Return the cap under which the weights move no further than `total` from T₀ on.

        Args:
            total: G = C·Σρ, in the unit of the weights.
            rate_function: ρ.
            start: T₀.

        Raises:
            HypothesisError: as for the class.
        """
        whole = rate_function.tail(0)
        return cls(total / whole if whole < np.inf else total, rate_function, start)

    @property
    def total(self) -> float:
        """G = C·Σρ, the length of the path from T₀ on, for ever."""
        return self.length * self.rate_function.tail(0)

    def __call__(self, state: StepState) -> Tensor:
        """Return C·ρ(t − T₀)/‖∇R_t‖, infinite before T₀ and where the gradient is zero, (K,)."""
        norm = state.gradient_norm
        anything = torch.full_like(norm, torch.inf)
        if state.step < self.start:
            return anything
        step = float(self.rate_function(np.array(state.step - self.start)))
        return torch.where(norm == 0.0, anything, self.length * step / norm)
