"""Losses of a residual r = f(x) − y, and the risk R = mean over samples of the sum over outputs.

`"mse"` is *half* the mean squared error, so that its derivative is the residual itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


class Loss(ABC):
    """A convex, even loss φ: ℝ → [0, ∞) with φ(0) = 0, applied to each output's residual."""

    name: str

    @abstractmethod
    def value(self, residual: Tensor) -> Tensor:
        """Return φ(r), elementwise."""

    @abstractmethod
    def derivative(self, residual: Tensor) -> Tensor:
        """Return φ'(r), elementwise."""

    @abstractmethod
    def mean_derivative_bound(self, risk: float, output_dim: int = 1) -> float:
        """Return λ(R) with (1/n)·Σᵢ‖φ'(rᵢ)‖ ≤ λ(R) for all residuals of risk R.

        Args:
            risk: R ≥ 0.
            output_dim: k, the number of outputs.

        Returns:
            √(2R) for MSE; min(δ√k, √(2R)) for Huber.
        """

    def risk(self, residual: Tensor) -> Tensor:
        """Return R = (1/n)·Σᵢ Σⱼ φ(rᵢⱼ).

        Args:
            residual: (..., n, k).

        Returns:
            (...,), the squared unit of the targets.
        """
        return self.value(residual).sum(-1).mean(-1)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Half the mean squared error: φ(r) = r²/2."""

    name: str = "mse"

    def value(self, residual: Tensor) -> Tensor:
        """Return r²/2."""
        return 0.5 * residual.square()

    def derivative(self, residual: Tensor) -> Tensor:
        """Return r."""
        return residual

    def mean_derivative_bound(self, risk: float, output_dim: int = 1) -> float:
        """Return √(2R): Jensen's inequality for the mean of ‖rᵢ‖ (see `Loss`)."""
        return math.sqrt(2.0 * risk)


@dataclass(frozen=True)
class Huber(Loss):
    """The Huber loss: r²/2 where |r| ≤ δ, else δ(|r| − δ/2).

    Attributes:
        delta: δ > 0, in the unit of the targets.
    """

    delta: float = 1.0
    name: str = "huber"

    def __post_init__(self) -> None:
        """Refuse a threshold that defines no loss."""
        if not (math.isfinite(self.delta) and self.delta > 0):
            raise ValueError(
                f"`delta` must be a positive number. Got {self.delta!r}. "
                "Use loss='mse' for a loss without a threshold."
            )

    def value(self, residual: Tensor) -> Tensor:
        """Return r²/2 where |r| ≤ δ, else δ(|r| − δ/2)."""
        clipped = residual.clamp(-self.delta, self.delta)
        return clipped * (residual - 0.5 * clipped)

    def derivative(self, residual: Tensor) -> Tensor:
        """Return r, clipped to [−δ, δ]."""
        return residual.clamp(-self.delta, self.delta)

    def mean_derivative_bound(self, risk: float, output_dim: int = 1) -> float:
        """Return min(δ√k, √(2R)), as φ'(r)² ≤ 2φ(r) and |φ'| ≤ δ (see `Loss`)."""
        return min(self.delta * math.sqrt(output_dim), math.sqrt(2.0 * risk))


def get_loss(loss: str | Loss, huber_delta: float = 1.0) -> Loss:
    """Return the loss of that name, or the loss itself.

    Args:
        loss: "mse" (half the mean squared error), "huber", or a `Loss`.
        huber_delta: δ of the Huber loss, in the unit of the targets.

    Returns:
        The `Loss`.

    Raises:
        ValueError: no loss has that name.
    """
    if isinstance(loss, Loss):
        return loss
    if loss == "mse":
        return MeanSquaredError()
    if loss == "huber":
        return Huber(huber_delta)
    raise ValueError(f"`loss` must be 'mse' or 'huber'. Got {loss!r}. Pass a Loss for another.")
