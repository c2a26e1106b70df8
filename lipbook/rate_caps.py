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
class StepState:
    """Hold what is known just before step t, of K networks at once, whatever their shape.

    Attributes:
        step: t.
        gradient: ∇R(Θ_t) by block, each shaped like the block.
        block_norms: Frobenius norms of the gradient in each block, (K, number of blocks).
        risk: R(Θ_t), (K,).
        first_risk: R(Θ_0), (K,).
        first_norm: ‖Θ_0‖, (K,).
        mass: S_t = Σ_{s<t} α_s, (K,).
    """

    step: int
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


@dataclass(frozen=True)
class DescentState(StepState):
    """Add the two-layer networks themselves; their blocks are W, b, A, c.

    Attributes:
        ensemble: Θ_t; not to be changed.
    """

    ensemble: Ensemble


class RateCap(Protocol):
    """Limit the learning rate of the coming step."""

    def __call__(self, state: DescentState) -> Tensor:
        """Return the largest rate allowed for each network, (K,), ≥ 0, possibly infinite."""
