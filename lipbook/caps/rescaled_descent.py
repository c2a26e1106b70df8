"""Gradient descent that may not leave {C ≤ L*}: W and a are scaled back whenever a step does.

A certificate is positively homogeneous of degree 2 in (W, a): scaling both by √(L*/C) makes it L*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lipbook.gradients import Buffers, descended, risk_and_gradient
from lipbook.losses import Loss, get_loss
from lipbook.networks import Ensemble
from lipbook.theorems.moduli import certificates

# More rounds than rounding could ask for: each shrinks by a little more than the last.
_ROUNDS = 60


@dataclass(frozen=True)
class RescaledRun:
    """Hold what one call of `train_rescaled` recorded; T steps, K networks.

    Attributes:
        ensemble: the networks at the end.
        risk: R(Θ_t), (T+1, K), after the scaling; NaN where it left the range of floats.
        certificate: C(Θ_t), (T+1, K), after the scaling, rounded up.
        factor: √(L*/C) or 1, by which W and a were multiplied after step t, (T, K).
    """

    ensemble: Ensemble
    risk: np.ndarray
    certificate: np.ndarray
    factor: np.ndarray

    @property
    def diverged(self) -> np.ndarray:
        """Tell which networks ended without a finite risk, (K,)."""
        return ~np.isfinite(self.risk[-1])


def rescaled_to(
    ensemble: Ensemble, limit: float, certificate: str = "product"
) -> tuple[Ensemble, np.ndarray, np.ndarray]:
    """Scale W and a of those networks whose certificate exceeds the limit back to it.

    The stored weights obey the limit, not only the exact ones: what is returned was checked with
    a certificate that is rounded up, and scaled a little more until it passed.

    Args:
        ensemble: K networks; left unchanged.
        limit: L* > 0.
        certificate: "product", "formal" or "sdp".

    Returns:
        The networks, their certificates (K,), and the factors (K,), 1 where nothing was scaled; a
        network whose weights are not finite stays as it is, with an infinite certificate.
    """
    seen = certificates(ensemble, certificate)
    factor, moved = np.ones(ensemble.size), ensemble
    shrink = 1.0 - 4.0 * torch.finfo(ensemble.hidden_bias.dtype).eps
    for _ in range(_ROUNDS):
        over = np.isfinite(seen) & (seen > limit)
        if not over.any():
            break
        factor[over] *= np.sqrt(limit / seen[over]) * shrink
        moved = scaled_weights(ensemble, factor)
        seen = certificates(moved, certificate)
    return moved, seen, factor


def scaled_weights(ensemble: Ensemble, factor: np.ndarray) -> Ensemble:
    """Return the networks with W and a multiplied by the factors, (K,); biases stay."""
    like = ensemble.hidden_bias
    scale = torch.as_tensor(factor, dtype=like.dtype, device=like.device)[:, None, None]
    return replace(
        ensemble,
        hidden_weight=ensemble.hidden_weight * scale,
        output_weight=ensemble.output_weight * scale,
    )


def train_rescaled(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    learning_rate: float,
    n_steps: int,
    limit: float,
    *,
    certificate: str = "product",
    loss: str | Loss = "mse",
    huber_delta: float = 1.0,
) -> RescaledRun:
    """Run T plain steps, each followed by a scaling of W and a where the certificate exceeds L*.

    A start above the limit is scaled back first. Descent is not promised: the scaling may raise the
    risk.

    Args:
        ensemble: K networks to start from; left unchanged.
        x: inputs, (n, d).
        y: targets, (n, k).
        learning_rate: α, of every step.
        n_steps: T ≥ 1.
        limit: L*.
        certificate: C: "product", "formal" or "sdp".
        loss: "mse", "huber", or a `Loss`.
        huber_delta: δ of "huber".

    Returns:
        A `RescaledRun`.
    """
    objective, buffers = get_loss(loss, huber_delta), Buffers.make(ensemble, len(x))
    moving, seen, _ = rescaled_to(ensemble, limit, certificate)
    shape = (n_steps + 1, ensemble.size)
    risk, history, factors = np.full(shape, np.nan), np.full(shape, np.nan), np.ones(shape)
    for step in range(n_steps + 1):
        value, gradient = risk_and_gradient(moving, x, y, objective, buffers)
        risk[step], history[step] = value.cpu().numpy(), seen
        if step < n_steps:
            stepped = descended(moving, gradient, learning_rate)
            moving, seen, factors[step] = rescaled_to(stepped, limit, certificate)
    risk[~np.isfinite(risk)] = np.nan
    return RescaledRun(moving, risk, history, factors[:-1])
