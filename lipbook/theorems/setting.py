"""The constants that theorems on gradient descent share: of σ, the width, the data and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from lipbook.activations import Activation
from lipbook.losses import Loss
from lipbook.networks import Ensemble

Number = TypeVar("Number", float, np.ndarray)


def check_one_output(argument: str, output_dim: int) -> None:
    """Raise ValueError unless there is one output.

    Args:
        argument: the networks' name, as an argument.
        output_dim: k.
    """
    if output_dim != 1:
        raise ValueError(
            f"`{argument}` must have one output for the theorems on descent. "
            f"Got {output_dim}. Look at one output at a time."
        )


@dataclass(frozen=True)
class Setting:
    """Hold what is known of a training problem before its first step; one output.

    Attributes:
        activation: σ.
        width: m.
        input_dim: d.
        n_samples: n.
        input_radius: B_x = max ‖x_i‖.
        target_radius: B_y = max |y_i|.
        target_rms: (Σy_i²/n)^½ ≤ B_y.
        loss: φ.

    References:
        The book's lemma `lem-growth`.
    """

    activation: Activation
    width: int
    input_dim: int
    n_samples: int
    input_radius: float
    target_radius: float
    target_rms: float
    loss: Loss

    @classmethod
    def of(cls, ensemble: Ensemble, x: Tensor, y: Tensor, loss: Loss) -> Setting:
        """Return the setting in which these networks are trained on these data.

        Args:
            ensemble: gives σ, m and d.
            x: inputs, (n, d).
            y: targets, (n,) or (n, 1).
            loss: φ.

        Raises:
            ValueError: the networks have several outputs.
        """
        check_one_output("ensemble", ensemble.output_dim)
        targets = y.reshape(-1).double()
        return cls(
            activation=ensemble.activation,
            width=ensemble.width,
            input_dim=ensemble.input_dim,
            n_samples=len(x),
            input_radius=float(x.double().norm(dim=1).max()),
            target_radius=float(targets.abs().max()),
            target_rms=float(targets.square().mean().sqrt()),
            loss=loss,
        )

    @property
    def kappa(self) -> float:
        """κ = L_σ√(1 + B_x²)."""
        return self.activation.lipschitz * math.hypot(1.0, self.input_radius)

    @property
    def kappa_0(self) -> float:
        """κ₀ = √(1 + m·σ(0)²)."""
        return math.hypot(1.0, math.sqrt(self.width) * self.activation.at_zero)

    def growth(self, parameter_norm: Number) -> Number:
        """Return κ₀ + κu, a bound of ‖∇_Θ f(x)‖ for ‖Θ‖ ≤ u and ‖x‖ ≤ B_x.

        Args:
            parameter_norm: u, a number or an array.
        """
        return self.kappa_0 + self.kappa * parameter_norm

    def pull(self, risk: float) -> float:
        """Return λ(R), a bound of (1/n)Σ|φ'(r_i)|: √(2R) for MSE, min(δ, √(2R)) for Huber.

        Args:
            risk: R.
        """
        return self.loss.mean_derivative_bound(risk)
