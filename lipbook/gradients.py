"""The empirical risk of every network of an ensemble and its gradient, in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lipbook.losses import Loss
from lipbook.networks import BLOCKS, Ensemble


@dataclass(frozen=True)
class Buffers:
    """Hold the large arrays of one step, so that a loop does not ask for memory at every step.

    Attributes:
        hidden: (K, n, m).
        slopes: (K, n, m).
        inner: (K, n, m).
        residual: (K, n, k).
    """

    hidden: Tensor
    slopes: Tensor
    inner: Tensor
    residual: Tensor

    @classmethod
    def make(cls, ensemble: Ensemble, n_samples: int) -> Buffers:
        """Return buffers for an ensemble and n samples."""
        new = ensemble.hidden_weight.new_empty
        shape = (ensemble.size, n_samples, ensemble.width)
        residual = new(ensemble.size, n_samples, ensemble.output_dim)
        return cls(new(shape), new(shape), new(shape), residual)


def risk_and_gradient(
    ensemble: Ensemble, x: Tensor, y: Tensor, loss: Loss, buffers: Buffers | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the empirical risk of each network and its gradient in closed form.

    With residuals r_i, G = φ'(r)/n (n×k), H = σ(Z), B = (GA) ∘ σ'(Z) (n×m):
    ∂R/∂c = Gᵀ1, ∂R/∂A = GᵀH, ∂R/∂b = Bᵀ1, ∂R/∂W = BᵀX.

    Args:
        ensemble: K networks.
        x: inputs, (n, d).
        y: targets, (n, k).
        loss: φ.
        buffers: memory to work in; made anew if None.

    Returns:
        R of shape (K,) and a dict from the names of `BLOCKS` to gradients shaped like the blocks.
    """
    use = Buffers.make(ensemble, len(x)) if buffers is None else buffers
    weight, output = ensemble.hidden_weight, ensemble.output_weight
    inputs = x.expand(ensemble.size, *x.shape)
    _product(inputs, weight.transpose(1, 2), use.hidden)
    use.hidden.add_(ensemble.hidden_bias.unsqueeze(1))
    ensemble.activation.value_and_slope_(use.hidden, use.slopes)
    torch.bmm(use.hidden, output.transpose(1, 2), out=use.residual)
    use.residual.add_(ensemble.output_bias.unsqueeze(1)).sub_(y)
    outer = loss.derivative(use.residual) / x.shape[0]
    _product(outer, output, use.inner)
    use.inner.mul_(use.slopes)
    gradient = {
        "hidden_weight": torch.bmm(use.inner.transpose(1, 2), inputs),
        "hidden_bias": use.inner.sum(1),
        "output_weight": torch.bmm(outer.transpose(1, 2), use.hidden),
        "output_bias": outer.sum(1),
    }
    return loss.risk(use.residual), gradient


def descended(ensemble: Ensemble, gradient: Mapping[str, Tensor], length: float) -> Ensemble:
    """Return new networks, Θ − length·gradient.

    Args:
        ensemble: K networks; left unchanged.
        gradient: as `risk_and_gradient` returns it.
        length: by which the gradient is multiplied.
    """
    return replace(ensemble, **{n: getattr(ensemble, n) - length * gradient[n] for n in BLOCKS})


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Write the matrix products left·right, (K, n, r)·(K, r, m), to `out`."""
    if left.shape[2] == 1:  # a third of the time of a matrix product
        torch.mul(left, right, out=out)
    else:
        torch.bmm(left, right, out=out)
