"""Rates divided by the gradient for a plain PyTorch loop, by `lipbook.torch_tools.hook`."""

from __future__ import annotations

import math

import numpy as np
from torch import nn
from torch.optim import Optimizer

from lipbook.caps.normalised import NormalisedRate


class ModuleNormalisedRate:
    """Cap the rate so that step t ≥ T₀ is at most C·ρ(t − T₀) long; any module, loss and data.

    Each call is one step: t counts them from 0. All parameters that the optimiser holds move by at
    most C·Σρ together from T₀ on, up to the rounding of the stored parameters.

        cap = ModuleNormalisedRate(NormalisedRate.with_total(1.0, ExponentialRate(100.0)))
        hook(optimizer, model, cap)

    References:
        The book's theorems `thm-adaptive` and `cor-deep-adaptive`.
    """

    def __init__(self, rate: NormalisedRate) -> None:
        """Start at the step 0.

        Args:
            rate: gives C, ρ and T₀.
        """
        self.rate, self.step = rate, 0

    def __call__(self, module: nn.Module, optimizer: Optimizer) -> float:
        """Return C·ρ(t − T₀)/‖∇R‖ and count the step; infinite before T₀ or without a gradient.

        Args:
            module: not looked at.
            optimizer: what moves the parameters, with their gradients.
        """
        step, self.step = self.step, self.step + 1
        held = [p for group in optimizer.param_groups for p in group["params"]]
        squares = [float(p.grad.double().square().sum()) for p in held if p.grad is not None]
        norm = math.sqrt(sum(squares))
        if step < self.rate.start or norm == 0.0:
            return math.inf
        allowed = self.rate.rate_function(np.array(step - self.rate.start))
        return self.rate.length * float(allowed) / norm
