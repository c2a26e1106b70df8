"""What is known of a network's losses on a whole box, and of the gap between two risks."""

from __future__ import annotations

import math

import numpy as np
import torch

from lipbook.data import Dataset
from lipbook.generalization.laws import Law
from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis

# So many samples at once stay near the processor, which is faster than all at once.
BLOCK = 4000


def largest_residual(law: Law, network: Ensemble, lipschitz: float) -> float:
    """Bound |f(x) − y| on the box of the law: |f(0)| + ½(LΔ_x + Δ_y).

    Args:
        law: gives the box, with centre 0.
        network: one network with one output.
        lipschitz: L, an upper bound of its Lipschitz constant on the box of the inputs.

    Returns:
        The bound, infinite for an unbounded law.
    """
    origin = torch.zeros(1, law.input_dim, dtype=network.hidden_weight.dtype)
    centre = abs(float(network(origin)[0, 0, 0]))
    return centre + 0.5 * (lipschitz * law.input_diagonal + law.target_span)


def loss_at(loss: Loss, residual: float) -> float:
    """Return φ(r) of one number; infinite where r is.

    Args:
        loss: φ.
        residual: r.
    """
    if not math.isfinite(residual):
        return math.inf
    return float(loss.value(torch.tensor(residual, dtype=torch.float64)))


def gaps(
    networks: Ensemble, sample: Dataset, fresh: Dataset, loss: Loss
) -> tuple[np.ndarray, np.ndarray]:
    """Return the risk on a fresh sample minus that on the sample trained on, with its error.

    Args:
        networks: K networks with one output.
        sample: what they were trained on.
        fresh: a large independent sample of the same law.
        loss: φ, in which both risks are measured.

    Returns:
        The gaps, (K,), NaN for a network with weights that are not finite; and the standard errors
        of the risks on the fresh sample, (K,).
    """
    outputs = torch.cat([networks(part) for part in fresh.x.split(BLOCK)], dim=1)
    losses = loss.value(outputs - fresh.y)[..., 0]
    difference = losses.mean(1) - loss.risk(networks(sample.x) - sample.y)
    found = difference.cpu().numpy()
    errors = (losses.std(1) / math.sqrt(fresh.n_samples)).cpu().numpy()
    return np.where(np.isfinite(found), found, np.nan), errors


def slope_of(loss: Loss, theorem: str) -> float:
    """Return δ, the Lipschitz constant of the loss.

    Args:
        loss: φ.
        theorem: the label of the statement that asks.

    Raises:
        HypothesisError: φ is not Huber's.
    """
    if not isinstance(loss, Huber):
        refuse(
            "loss", "be Huber's", theorem, "H3", repr(loss.name),
            "Measure the risks with loss='huber': half the squared error is not Lipschitz.",
        )  # fmt: skip
    return loss.delta


def in_a_box(law: Law, theorem: str) -> None:
    """Refuse a law that no box holds.

    Args:
        law: P.
        theorem: the label of the statement that asks.

    Raises:
        HypothesisError: the noise is unbounded.
    """
    if not law.is_bounded:
        refuse(
            "law", "live in a box", theorem, "H2", "unbounded noise",
            "Use noise_kind='uniform', or clip the targets.",
        )  # fmt: skip


def common_hypotheses(law: Law, loss: Loss) -> tuple[Hypothesis, Hypothesis, Hypothesis]:
    """Check H1 to H3, which all bounds of the gap share.

    Args:
        law: P.
        loss: φ in which the risks are measured.
    """
    return (
        Hypothesis("H1", "the samples are independent draws of one law", True),
        Hypothesis("H2", "a box holds every pair (x, y): the noise is bounded", law.is_bounded),
        Hypothesis("H3", "the risks are measured with Huber's loss", isinstance(loss, Huber)),
    )
