"""A trained network whose constant is of the order of its width: the exact law of one datum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.activations import Activation, get_activation
from lipbook.losses import Huber
from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

# c_T and δS_T are sums of the same numbers, and agree up to roundings.
DRIFT_ROUNDING = 1e-9


def equal_start(
    width: int, weight: float = 1.0, bias: float = 0.0, activation: str | Activation = "relu"
) -> Ensemble:
    """Return m equal neurons with w_j = w, b_j = b, a_j = 0, and c = 0: the function 0.

    Args:
        width: m.
        weight: w.
        bias: b.
        activation: σ.

    References:
        The book's propositions `prop-order-m` (ReLU, w = 1, b = 0) and `prop-width-free-attained`.
    """
    one = torch.ones(1, width, 1, dtype=torch.float64)
    zero = torch.zeros(1, 1, width, dtype=torch.float64)
    c = torch.zeros(1, 1, dtype=torch.float64)
    return Ensemble(weight * one, bias * one[..., 0], zero, c, get_activation(activation))


def far_datum(target: float) -> tuple[Tensor, Tensor]:
    """Return the one sample (1, y) as inputs (1, 1) and targets (1, 1).

    Args:
        target: y.
    """
    return torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), target, dtype=torch.float64)


def growth_factors(delta: float, rates: np.ndarray) -> tuple[float, float]:
    """Return K⁺ = (P₊ + P₋)/2 and K⁻ = (P₊ − P₋)/2 with P± = Π(1 ± √2·δα_t).

    Args:
        delta: δ.
        rates: α_t, (T,), with √2·δα_t ≤ 1.

    Raises:
        HypothesisError: a rate above 1/(√2·δ).
    """
    h = np.sqrt(2.0) * delta * np.asarray(rates, dtype=np.float64)
    if len(h) and h.max() > 1.0 + DRIFT_ROUNDING:
        refuse(
            "rates", f"be at most 1/(√2·δ) = {1 / (np.sqrt(2.0) * delta):g}", "prop-order-m", "H3",
            f"{np.max(rates):g}", "Take more and smaller steps of the same mass.",
        )  # fmt: skip
    plus, minus = np.prod(1.0 + h), np.prod(1.0 - h)
    return float(0.5 * (plus + minus)), float(0.5 * (plus - minus))


def gaussian_limit(delta: float, rates: np.ndarray) -> float:
    """Return K⁺K⁻/(2√2), the limit of f_T'(1+)/m at the book's standard Gaussian start.

    For rates that depend on m, with a bounded mass, f_T'(1+) is m times this number, up to
    O(1 + √m·K⁻) in probability.

    Args:
        delta: δ.
        rates: α_t, (T,), with √2·δα_t ≤ 1.

    Raises:
        HypothesisError: a rate above 1/(√2·δ).
    """
    c, d = growth_factors(delta, rates)
    return c * d / (2.0 * np.sqrt(2.0))


@dataclass(frozen=True)
class OrderOfWidth:
    """Give the constant Lip(f_T) = m·K⁻(1 + K⁺)/(2√2) of m equal neurons pulled by one far datum.

    The Huber loss, ReLU, the start `equal_start`, the datum x = 1 with y so large that the residual
    stays below −δ. It is exact.

    Attributes:
        delta: δ.

    References:
        The book's proposition `prop-order-m`.
    """

    delta: float

    label = "prop-order-m"
    title = "The order of the width is attained"

    def bound(self, width: int, rates: np.ndarray) -> float:
        """Return m·K⁻(1 + K⁺)/(2√2).

        Args:
            width: m.
            rates: α_t, (T,), with √2·δα_t ≤ 1.

        Raises:
            HypothesisError: a rate above 1/(√2·δ).
        """
        c, d = growth_factors(self.delta, rates)
        return width * d * (1.0 + c) / (2.0 * np.sqrt(2.0))

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float, subject: str = ""
    ) -> Verdict:
        """Return what the proposition says of one network.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: Lip(f_T) on a domain that contains 1 in its interior.
            subject: which run this is about.

        Returns:
            The `Verdict`; where it applies, bound and measured agree.
        """
        rates = run.learning_rates[:, network]
        largest = 1.0 / (np.sqrt(2.0) * self.delta)
        small = bool((rates <= largest * (1.0 + DRIFT_ROUNDING)).all())
        first, last = (each.select([network]) for each in (run.checkpoints[0], run.ensemble))
        drift = self.delta * run.mass[-1, network]
        moved = float((last.output_bias - first.output_bias).reshape(-1)[0])
        far = abs(moved - drift) <= DRIFT_ROUNDING * abs(drift)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant at the last step",
            hypotheses=(
                finite_steps(run, network),
                Hypothesis("H2", "w = 1, b = 0, a = 0, σ = relu, Huber", self._starts(run, first)),
                Hypothesis("H3", "every rate is at most 1/(√2·δ)", small),
                Hypothesis("H4", "every residual is −δ or less", bool(far)),
            ),
            bound=self.bound(first.width, rates) if small else None,
            measured=lipschitz,
            subject=subject,
        )

    def _starts(self, run: TrainingRun, first: Ensemble) -> bool:
        if not (first.input_dim == first.output_dim == 1 and first.activation.name == "relu"):
            return False
        loss = run.loss
        fits = isinstance(loss, Huber) and loss.delta == self.delta
        ones = bool((first.hidden_weight == 1.0).all())
        rest = (first.hidden_bias, first.output_weight, first.output_bias)
        return bool(fits and ones and not any(bool(block.any()) for block in rest))
