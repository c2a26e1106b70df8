"""Rescaling of neurons: what leaves a ReLU network alone and moves its product bound."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lipbook.networks import Ensemble


def rescaled(ensemble: Ensemble, factors: Tensor) -> Ensemble:
    """Rescale every neuron, (w_j, b_j, A_j) → (s_j·w_j, s_j·b_j, A_j/s_j).

    For a positively homogeneous σ, such as ReLU, this leaves every f alone; for others it does not.

    Args:
        ensemble: K networks of width m.
        factors: s > 0, (K, m).

    Returns:
        The rescaled networks.

    Raises:
        ValueError: factors of another shape, or not all positive.
    """
    shape = (ensemble.size, ensemble.width)
    if tuple(factors.shape) != shape or not bool((factors > 0).all()):
        raise ValueError(
            f"`factors` must be positive numbers of shape {shape}. Got shape "
            f"{tuple(factors.shape)}. Use torch.ones to leave a neuron alone."
        )
    return replace(
        ensemble,
        hidden_weight=ensemble.hidden_weight * factors[:, :, None],
        hidden_bias=ensemble.hidden_bias * factors,
        output_weight=ensemble.output_weight / factors[:, None, :],
    )


def balancing_factors(ensemble: Ensemble) -> Tensor:
    """Return the s with s_j‖w_j‖ = ‖A_j‖/s_j, or 1 where a neuron has no such factor.

    With one input and one output the product bound of the rescaled network is the path norm, the
    least that rescaling can reach.

    Args:
        ensemble: K networks of width m.

    Returns:
        (K, m), positive.
    """
    inner, outer = ensemble.hidden_weight.norm(dim=2), ensemble.output_weight.norm(dim=1)
    alive = (inner > 0) & (outer > 0)
    ones = torch.ones_like(inner)
    return torch.where(
        alive, (torch.where(alive, outer, ones) / torch.where(alive, inner, ones)), ones
    ).sqrt()
