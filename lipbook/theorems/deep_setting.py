"""Growth of perceptrons of any depth: the constants that theorems on their training share.

With k_0 = √(1 + B_x²), k_l = √(1 + m_l·σ(0)²) for the hidden layers l and u = ‖Θ‖:
|f(x)| ≤ q(u) = Σ_{r=1}^{L} k_{L−r}·L_σ^{r−1}·(u/√r)^r and ‖∇_Θ f(x)‖ ≤ q'(u), for ‖x‖ ≤ B_x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from torch import Tensor

from lipbook.activations import Activation
from lipbook.deep_networks import DeepEnsemble
from lipbook.losses import Loss
from lipbook.theorems.growth import GrowthVerdict
from lipbook.theorems.setting import Number, Setting, check_one_output


@dataclass(frozen=True)
class DeepSetting:
    """Hold what is known of a training problem of any depth before its first step; one output.

    Attributes:
        activation: σ.
        hidden_widths: (m_1, …, m_{L−1}).
        input_radius: B_x = max ‖x_i‖.
        target_rms: Y = (Σy_i²/n)^½.
        loss: φ.

    References:
        The book's lemma `lem-deep-growth`.
    """

    activation: Activation
    hidden_widths: tuple[int, ...]
    input_radius: float
    target_rms: float
    loss: Loss

    @classmethod
    def of(cls, networks: DeepEnsemble, x: Tensor, y: Tensor, loss: Loss) -> DeepSetting:
        """Return the setting in which these networks are trained on these data.

        Args:
            networks: give σ and the widths.
            x: inputs, (n, d).
            y: targets, (n,) or (n, 1).
            loss: φ.

        Raises:
            ValueError: the networks have several outputs.
        """
        check_one_output("networks", networks.output_dim)
        return cls(
            activation=networks.activation,
            hidden_widths=networks.widths[1:-1],
            input_radius=float(x.double().norm(dim=1).max()),
            target_rms=float(y.reshape(-1).double().square().mean().sqrt()),
            loss=loss,
        )

    @classmethod
    def of_two_layers(cls, setting: Setting) -> DeepSetting:
        """Return the same setting, in which L = 2.

        Args:
            setting: of two-layer networks.
        """
        widths, radius = (setting.width,), setting.input_radius
        return cls(setting.activation, widths, radius, setting.target_rms, setting.loss)

    def bounded_by(self, radius: float) -> DeepSetting:
        """Return the setting with another radius of the inputs.

        Args:
            radius: B_x.
        """
        return replace(self, input_radius=radius)

    @property
    def depth(self) -> int:
        """L, the number of weight layers."""
        return len(self.hidden_widths) + 1

    @property
    def factors(self) -> tuple[float, ...]:
        """(k_0, …, k_{L−1})."""
        at_zero = abs(self.activation.at_zero)
        hidden = (math.hypot(1.0, math.sqrt(m) * at_zero) for m in self.hidden_widths)
        return (math.hypot(1.0, self.input_radius), *hidden)

    def output_bound(self, norm: Number) -> Number:
        """Return q(u) ≥ |f(x)|.

        Args:
            norm: u ≥ ‖Θ‖, a number or an array.
        """
        return self._sum(norm, 0)

    def growth(self, norm: Number) -> Number:
        """Return q'(u) ≥ ‖∇_Θ f(x)‖.

        Args:
            norm: u ≥ ‖Θ‖, a number or an array.
        """
        return self._sum(norm, 1)

    def pull(self, risk: float) -> float:
        """Return λ(R), a bound of (1/n)Σ|φ'(r_i)|: √(2R) for MSE, min(δ, √(2R)) for Huber.

        Args:
            risk: R.
        """
        return self.loss.mean_derivative_bound(risk)

    def rise(self, norm: float, path: np.ndarray) -> np.ndarray:
        """Return q(u + e) − q(u), a bound of the change of f along a path, without cancellation.

        Args:
            norm: u ≥ ‖Θ‖ at its start.
            path: e ≥ 0, its length.
        """
        slope, factors, total = self.activation.lipschitz, self.factors, np.zeros_like(path)
        with np.errstate(over="ignore", invalid="ignore"):
            for r in range(1, self.depth + 1):
                here, there = norm / math.sqrt(r), (norm + path) / math.sqrt(r)
                # aʳ − bʳ = (a − b)·Σaʲbʳ⁻¹⁻ʲ, and (a − b)√r is the path.
                powers = sum(there**j * np.float64(here) ** (r - 1 - j) for j in range(r))
                scale = factors[self.depth - r] * slope ** (r - 1) / math.sqrt(r)
                total = total + scale * path * powers
        return np.asarray(total)

    def _sum(self, norm: Number, derivative: int) -> Number:
        base = np.asarray(norm, dtype=np.float64)
        slope, factors, total = self.activation.lipschitz, self.factors, np.zeros_like(base)
        with np.errstate(over="ignore"):
            for r in range(1, self.depth + 1):
                # r(u/√r)^r/u = √r(u/√r)^(r−1): the derivative of the term.
                term = (base / math.sqrt(r)) ** (r - derivative) * math.sqrt(r) ** derivative
                total = total + factors[self.depth - r] * slope ** (r - 1) * term
        # A number for a number, an array for an array.
        return cast(Number, total[()])


@dataclass(frozen=True)
class DeepGrowth(GrowthVerdict[DeepSetting]):
    """Bound gradient and output of a perceptron of any depth by the norm of its weights.

    ‖∇R‖ ≤ λ(R)·q'(u) and |f(x)| ≤ q(u), ‖x‖ ≤ B_x; for L = 2 this is `lem-growth`.

    Attributes:
        setting: gives q and λ.

    References:
        The book's lemma `lem-deep-growth`.
    """

    label = "lem-deep-growth"
    title = "The gradient of a deep perceptron"
