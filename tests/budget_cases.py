"""Hostile gradients and budgeted runs for the tests of the Lipschitz budget."""

from __future__ import annotations

from dataclasses import replace

import torch

from lipbook.activations import ACTIVATIONS
from lipbook.caps.lipschitz_budget import LipschitzBudget
from lipbook.lipschitz.rounding import spectral_norm_lower
from lipbook.networks import BLOCKS
from lipbook.rate_caps import DescentState
from lipbook.theorems.moduli import certificates
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
STEPS = 40
# Certificates are rounded up by about this much: the stored weights obey the limit itself.
UP = 1 + 1e-10


def lowest_product(ensemble, index=0):
    """A proved lower bound of L_σ‖W‖‖a‖ of the stored weights."""
    w, a = (b[index].double().numpy() for b in (ensemble.hidden_weight, ensemble.output_weight))
    norms = spectral_norm_lower(w) * spectral_norm_lower(a)
    return float(norms) * ensemble.activation.lipschitz * (1 - 1e-14)


def state_of(ensemble, gradient):
    norms = torch.stack([gradient[n].flatten(1).norm(dim=1) for n in BLOCKS], 1)
    zero = ensemble.hidden_bias.new_zeros(ensemble.size)
    return DescentState(
        0, gradient, norms, zero + 1.0, zero + 1.0, zero + 1.0, zero, ensemble=ensemble
    )


def step_of(ensemble, gradient, rate):
    """One step as `train` makes it, in the ensemble's own precision."""
    changed = {}
    for name in BLOCKS:
        block = getattr(ensemble, name)
        scale = rate.view(-1, *[1] * (block.ndim - 1))
        changed[name] = block - torch.where(scale > 0, scale * gradient[name], 0.0 * block)
    return replace(ensemble, **changed)


def hostile(ensemble, g, size):
    """A gradient whose step raises ‖W‖ and ‖a‖ as fast as its norm allows."""
    w, a = ensemble.hidden_weight.double(), ensemble.output_weight.double()
    u, _, v = torch.linalg.svd(w, full_matrices=False)
    up_w = u[:, :, :1] @ v[:, :1, :]
    u, _, v = torch.linalg.svd(a, full_matrices=False)
    up_a = u[:, :, :1] @ v[:, :1, :]
    noise = [torch.from_numpy(g.normal(size=tuple(t.shape))) for t in (w, a)]
    mix = g.choice([0.0, 0.0, 0.3])
    blocks = {
        "hidden_weight": -size * g.uniform(0, 2) * (up_w + mix * noise[0]),
        "output_weight": -size * g.uniform(0, 2) * (up_a + mix * noise[1]),
        "hidden_bias": torch.zeros_like(ensemble.hidden_bias).double(),
        "output_bias": torch.zeros_like(ensemble.output_bias).double(),
    }
    return {n: b.to(ensemble.hidden_bias.dtype) for n, b in blocks.items()}


def budgeted(b, kind):
    """Train a batch again under budgets of its own, all at rates up to 150."""
    start = b.run.checkpoints[0]
    limit = 1.2 * float(certificates(start, kind).max())
    run = train(
        start, b.x, b.y, b.run.schedules, STEPS, loss=b.run.loss, on_divergence="record",
        steps=range(STEPS + 1), cap=LipschitzBudget(limit, 0.5, kind),
    )  # fmt: skip
    return run, limit
