"""One step of gradient descent along which the gradient turns slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lipbook.gradients import descended, risk_and_gradient
from lipbook.losses import Loss
from lipbook.networks import BLOCKS, Ensemble
from lipbook.theorems.descent import RISK_ROUNDING
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# β and α·β may exceed what is allowed by this share, for they are rounded.
_ROUNDING = 1e-9


def turning_on_segment(
    ensemble: Ensemble, rate: float, data: tuple[Tensor, Tensor], loss: Loss, n_points: int = 33
) -> float:
    """Return how much the gradient turns per length along one step, at most, between its points.

    Infinite if a neuron with a kink changes sides at a sample: the gradient may jump there. Else it
    is a lower bound of the Lipschitz constant of ∇R on the segment, and for many points near it.

    Args:
        ensemble: Θ_t, of size one.
        rate: α_t.
        data: inputs (n, d) and targets (n, k).
        loss: φ.
        n_points: of the segment, evenly spaced, the ends included.
    """
    x, y = data
    _, gradient = risk_and_gradient(ensemble, x, y, loss)
    length = rate * math.sqrt(sum(float(gradient[n].square().sum()) for n in BLOCKS))
    if length == 0.0:
        return 0.0
    if not math.isfinite(length):
        return math.inf
    if ensemble.activation.is_piecewise_linear:
        ends = (ensemble, descended(ensemble, gradient, rate))
        sides = [each.preactivation(x) > 0 for each in ends]
        if bool((sides[0] != sides[1]).any()):
            return math.inf
    shares = torch.linspace(0.0, rate, n_points, dtype=x.dtype, device=x.device)
    along = {
        name: getattr(ensemble, name)
        - shares.view(-1, *[1] * (gradient[name].ndim - 1)) * gradient[name]
        for name in BLOCKS
    }
    found = risk_and_gradient(replace(ensemble, **along), x, y, loss)[1]
    flat = torch.cat([found[name].flatten(1) for name in BLOCKS], dim=1)
    turned = float(flat.diff(dim=0).norm(dim=1).max()) * (n_points - 1) / length
    return turned if math.isfinite(turned) else math.inf


@dataclass(frozen=True)
class DescentStep:
    """A step lowers the risk by ½α‖∇R‖² if ∇R is β-Lipschitz along it and αβ ≤ 1.

    R(Θ_{t+1}) ≤ R(Θ_t) − ½α_t‖∇R(Θ_t)‖². It knows nothing of how β is to be had.

    Attributes:
        rate: α_t ≥ 0.
        beta: β; None takes what `turning_on_segment` sees, which may be a little too small.

    Raises:
        HypothesisError: the rate is negative or not finite.

    References:
        The book's lemma `lem-descent`.
    """

    rate: float
    beta: float | None = None

    label = "lem-descent"
    title = "Descent"

    def __post_init__(self) -> None:
        """Refuse a rate with which descent is not defined."""
        if not 0.0 <= self.rate < math.inf:
            refuse(
                "rate", "be finite and not negative", self.label, "α_t ≥ 0", self.rate,
                "Use a rate of the schedule.",
            )  # fmt: skip

    def verdict(
        self,
        ensemble: Ensemble,
        network: int,
        data: tuple[Tensor, Tensor],
        loss: Loss,
        subject: str = "",
    ) -> Verdict:
        """Return what the lemma says of one step of one network.

        Args:
            ensemble: networks at Θ_t.
            network: which of them.
            data: inputs (n, d) and targets (n, k).
            loss: φ.
            subject: which step this is about.

        Returns:
            The `Verdict`; measured is the risk after the step, and (H1) is checked between points
            of the segment.
        """
        here = ensemble.select([network])
        risk, gradient = risk_and_gradient(here, *data, loss)
        after, _ = risk_and_gradient(descended(here, gradient, self.rate), *data, loss)
        turned = turning_on_segment(here, self.rate, data, loss)
        beta = turned if self.beta is None else self.beta
        square = sum(float(gradient[n].square().sum()) for n in BLOCKS)
        bound = float(risk[0]) * (1.0 + RISK_ROUNDING) - 0.5 * self.rate * square
        # A rate 0 asks nothing of β.
        product = self.rate * beta if self.rate > 0.0 else 0.0
        gentle = turned <= beta * (1.0 + _ROUNDING) and turned < math.inf
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="risk after the step",
            hypotheses=(
                Hypothesis(
                    "H1",
                    "the gradient is Lipschitz with constant β along the step",
                    gentle,
                    margin=beta - turned if gentle else None,
                ),
                Hypothesis(
                    "H2",
                    "the rate times β is at most 1",
                    product <= 1.0 + _ROUNDING,
                    margin=1.0 - product,
                ),
            ),
            bound=bound,
            measured=float(after[0]),
            subject=subject,
        )
