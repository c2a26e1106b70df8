"""Descent with rescaling: what it guarantees, and where it comes to rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.caps.rescaled_descent import RescaledRun
from lipbook.networks import BLOCKS, Ensemble
from lipbook.theorems.verdict import Hypothesis, Verdict


@dataclass(frozen=True)
class RescaledDescent:
    """Bound the Lipschitz constant at every step of a rescaled run by its limit.

    It says nothing of the risk, which the scaling may raise.

    Attributes:
        limit: L*.

    References:
        The book's proposition `prop-rescaled`, part (a).
    """

    limit: float

    label = "prop-rescaled"
    title = "Scaled back, never over"

    def bound(self, run: RescaledRun) -> float:
        """Return L*, for every network of the run.

        Args:
            run: a rescaled run.
        """
        return self.limit

    def verdict(self, run: RescaledRun, network: int, subject: str = "") -> Verdict:
        """Return what the proposition says of one network.

        Args:
            run: a rescaled run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest certificate of all steps.
        """
        lost = np.flatnonzero(~np.isfinite(run.certificate[:, network]))
        first = int(lost[0]) if len(lost) else None
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest certificate of all steps",
            hypotheses=(Hypothesis("H1", "every step is finite", first is None, first),),
            bound=self.bound(run),
            measured=float(run.certificate[:first, network].max()) if first != 0 else None,
            subject=subject,
        )


def decay_multiplier(
    ensemble: Ensemble, gradient: Mapping[str, Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ν that comes closest to ∇R = −ν(W, 0, a, 0), and how close.

    At a point of rest of the rescaled descent on {C = L*}, the distance is 0 and ν ≥ 0. This is so
    for the ∇R of the chain rule, also at a kink, where R need not be differentiable.

    Args:
        ensemble: Θ, K networks.
        gradient: ∇R(Θ) by block.

    Returns:
        ν, (K,), and ‖∇R + ν(W, 0, a, 0)‖/‖∇R‖, (K,), 0 where ∇R is.

    References:
        The book's proposition `prop-rescaled`, part (b).
    """
    still = {"hidden_bias", "output_bias"}
    point = torch.cat(
        [getattr(ensemble, n).flatten(1) * (0.0 if n in still else 1.0) for n in BLOCKS], 1
    )
    slope = torch.cat([gradient[n].flatten(1) for n in BLOCKS], 1)
    size = point.square().sum(1)
    nu = torch.where(size > 0, -(slope * point).sum(1) / size, torch.zeros_like(size))
    rest, total = (slope + nu[:, None] * point).norm(dim=1), slope.norm(dim=1)
    share = torch.where(total > 0, rest / total, torch.zeros_like(total))
    return nu.cpu().numpy(), share.cpu().numpy()
