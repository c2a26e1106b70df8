"""Upper limits of the learning rate that depend on the state of the descent, step by step.

A schedule fixes its rates before training. A *rate cap* looks at the weights and gradients of each
step and may only lower the schedule's rate: α_t = min(schedule's rate, cap). So a cap keeps every
promise that rests on the rates being at most the schedule's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lipbook.networks import Ensemble


@dataclass(frozen=True)
class DescentState:
    """Hold what is known just before step t, of K networks at once.

    Attributes:
        step: t.
        ensemble: Θ_t; not to be changed.
        gradient: ∇R(Θ_t) by block, each shaped like the block.
        block_norms: ‖∂R/∂W‖_F, ‖∂R/∂b‖, ‖∂R/∂A‖_F, ‖∂R/∂c‖, (K, 4).
        risk: R(Θ_t), (K,).
        first_risk: R(Θ_0), (K,).
        first_norm: ‖Θ_0‖, (K,).
        mass: S_t = Σ_{s<t} α_s, (K,).
    """

    step: int
    ensemble: Ensemble
    gradient: Mapping[str, Tensor]
    block_norms: Tensor
    risk: Tensor
    first_risk: Tensor
    first_norm: Tensor
    mass: Tensor

    @property
    def gradient_norm(self) -> Tensor:
        """‖∇R(Θ_t)‖, (K,)."""
        return self.block_norms.norm(dim=1)


class RateCap(Protocol):
    """Limit the learning rate of the coming step."""

    def __call__(self, state: DescentState) -> Tensor:
        """Return the largest rate allowed for each network, (K,), ≥ 0, possibly infinite."""
