"""A network that training ended with, and what happens to starts near by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lipbook.gradients import risk_and_gradient
from lipbook.kernels import Curvature, lanczos_pair
from lipbook.losses import Huber, Loss
from lipbook.networks import BLOCKS, Ensemble
from lipbook.theorems.verdict import Hypothesis

# How far a start is moved off the minimum, relative to 1 + ‖Θ*‖, and how many steps it is followed.
NUDGE, FOLLOWED = 1e-6, 40
# Residuals below this share of 1 + max|y_i| count as 0.
INTERPOLATES = 1e-6


@dataclass(frozen=True)
class Minimum:
    """Hold one network that training ended with, and the problem that it was trained on.

    Attributes:
        network: an ensemble of size one, one output.
        x: inputs, (n, d).
        y: targets, (n, 1).
        loss: φ.
        rate: α, the constant rate whose stability is in question.
    """

    network: Ensemble
    x: Tensor
    y: Tensor
    loss: Loss
    rate: float

    @property
    def residual(self) -> Tensor:
        """r_i, (n,)."""
        return (self.network(self.x)[0] - self.y.reshape(-1, 1))[:, 0]

    @property
    def is_finite(self) -> bool:
        """Tell whether no weight has overflowed."""
        return all(bool(torch.isfinite(block).all()) for block in self.network.blocks())

    def interpolates(self) -> Hypothesis:
        """Check that all residuals are zero, up to `INTERPOLATES`."""
        allowed = INTERPOLATES * (1.0 + float(self.y.abs().max()))
        margin = allowed - float(self.residual.abs().max()) if self.is_finite else -math.inf
        return Hypothesis("H1", "the network meets every target", margin >= 0, margin=margin)

    @property
    def kink_distance(self) -> float:
        """The least |z_j(x_i)|, or ∞ if σ has no kink."""
        if self.network.activation.kink_slopes is None:
            return math.inf
        return float(self.network.preactivation(self.x).abs().min())

    def off_kinks(self, name: str = "H2") -> Hypothesis:
        """Check that ∇R is differentiable here: no pre-activation on a kink, no residual at ±δ.

        Args:
            name: of the hypothesis.
        """
        nearest = self.kink_distance
        if isinstance(self.loss, Huber):
            nearest = min(nearest, float((self.residual.abs() - self.loss.delta).abs().min()))
        away = nearest > NUDGE
        statement = "no sample sits on a kink of a neuron or of the loss"
        return Hypothesis(name, statement, self.is_finite and away, margin=nearest - NUDGE)

    def sharpness(self) -> tuple[float, Tensor]:
        """Return a lower bound of λ_max(∇²R), nearly attained, and a unit vector that gives it."""
        curvature = Curvature.of(self.network, self.x, self.y, self.loss)
        value, vector, _ = lanczos_pair(curvature)
        return float(value[0]), vector[0]

    def moved(self, directions: Tensor, length: float) -> Ensemble:
        """Return copies of the network, each moved along a unit vector of all parameters.

        Args:
            directions: (K, p), in the order W, b, a, c.
            length: how far.

        Returns:
            An ensemble of size K.
        """
        blocks: dict[str, Any] = {}
        at = 0
        for name, block in zip(BLOCKS, self.network.blocks(), strict=True):
            part = directions[:, at : at + block.numel()].reshape(-1, *block.shape[1:])
            blocks[name], at = block + length * part, at + block.numel()
        return replace(self.network, **blocks)

    def follow(self, start: Ensemble, n_steps: int) -> Ensemble:
        """Return where descent with the constant rate gets in so many steps.

        Args:
            start: an ensemble of any size, left unchanged.
            n_steps: how many steps.
        """
        now = start.clone()
        for _ in range(n_steps):
            _, gradient = risk_and_gradient(now, self.x, self.y, self.loss)
            for name, block in zip(BLOCKS, now.blocks(), strict=True):
                block.sub_(self.rate * gradient[name])
        return now

    def offset(self, other: Ensemble) -> Tensor:
        """Return the differences of all parameters to those of other networks, (K, p)."""
        pairs = zip(other.blocks(), self.network.blocks(), strict=True)
        return torch.cat([(theirs - ours).flatten(1) for theirs, ours in pairs], dim=1)
