"""How steep a smooth network of one input can be on an interval, from one point of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lipbook.networks import Ensemble
from lipbook.theorems.box_search import smooth_network
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Two sums of the same slopes may differ by this share of the sum of their sizes.
_ROUNDING = 1e-13


@dataclass(frozen=True)
class SlopeOnInterval:
    """Bound the slope of a smooth network of one input on an interval from its middle.

    ‖f'(ξ + t)‖ ≤ max± ‖f'(ξ) ± ϱf''(ξ)‖ + ½ϱ²L_σ''Σ‖A_j‖|w_j|³ for |t| ≤ ϱ. The excess is of
    second order in ϱ.

    Attributes:
        middle: ξ.
        radius: ϱ > 0.

    Raises:
        HypothesisError: ξ is not finite, or ϱ not positive and finite.

    References:
        The book's theorem `thm-enclosure`.
    """

    middle: float
    radius: float

    label = "thm-enclosure"
    title = "The slope of a smooth network on an interval"

    def __post_init__(self) -> None:
        """Refuse what is no interval."""
        if not (math.isfinite(self.middle) and 0.0 < self.radius < math.inf):
            refuse(
                "radius", "be positive, and the interval bounded", self.label, "ϱ > 0",
                f"{self.middle} ± {self.radius}", "Use `bracket` for the whole line.",
            )  # fmt: skip

    def bound(self, ensemble: Ensemble, network: int) -> float:
        """Return the bound, rounded to nearest.

        Args:
            ensemble: networks with one input.
            network: which of them.

        Raises:
            HypothesisError: several inputs, or no Lipschitz σ''.
        """
        one, smooth = self.hypotheses(ensemble)
        if not (one.holds and smooth.holds):
            refuse(
                "ensemble", "have one input and a smooth activation", self.label,
                "H2" if one.holds else "H1",
                f"{ensemble.input_dim} inputs, {ensemble.activation.name!r}",
                "Use boxes for several inputs, sorting for one kink.",
            )  # fmt: skip
        ends = np.array([self.middle]), np.array([self.radius])
        return smooth_network(ensemble, network).taylor_bound(*ends)

    def hypotheses(self, ensemble: Ensemble) -> tuple[Hypothesis, Hypothesis]:
        """Check the hypotheses.

        Args:
            ensemble: the networks.
        """
        smooth = ensemble.activation.curvature_lipschitz is not None
        statement = "the second derivative of the activation is Lipschitz"
        return (
            Hypothesis("H1", "the network has one input", ensemble.input_dim == 1),
            Hypothesis("H2", statement, smooth),
        )

    def verdict(self, ensemble: Ensemble, network: int, n_points: int = 401) -> Verdict:
        """Return what the theorem says of one network, against slopes sampled on the interval.

        Args:
            ensemble: the networks.
            network: which of them.
            n_points: at how many points, the ends included.

        Returns:
            The `Verdict`; its bound allows for the rounding of the two sums that are compared.
        """
        hypotheses = self.hypotheses(ensemble)
        bound = measured = None
        if all(each.holds for each in hypotheses):
            x = self.middle + self.radius * torch.linspace(-1.0, 1.0, n_points, dtype=torch.float64)
            slopes = ensemble.jacobian(x[:, None].to(ensemble.hidden_weight.dtype))[network]
            sizes = ensemble.output_weight[network].norm(dim=0) * ensemble.hidden_weight[
                network
            ].norm(dim=1)
            room = _ROUNDING * ensemble.activation.lipschitz * float(sizes.sum())
            bound = self.bound(ensemble, network) + room
            measured = float(torch.linalg.matrix_norm(slopes, ord=2).max())
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="steepest sampled slope on the interval",
            hypotheses=hypotheses,
            bound=bound,
            measured=measured,
        )
