"""Full-batch gradient descent for perceptrons of any depth, with closed-form gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.deep_networks import DeepEnsemble
from lipbook.descent_loop import Descent, DescentRecord, check_data
from lipbook.descent_plan import Plan
from lipbook.losses import Loss, get_loss
from lipbook.rate_caps import StepState
from lipbook.schedules import Schedule


@dataclass(frozen=True)
class DeepRun(DescentRecord):
    """Hold what one call of `deep_train` recorded; T steps, K networks, S recorded checkpoints.

    Attributes:
        ensemble: the networks at the end; a diverged one as it was when it was stopped.
        checkpoints: the networks at the recorded steps.
    """

    ensemble: DeepEnsemble
    checkpoints: tuple[DeepEnsemble, ...]


def deep_risk_and_gradient(
    networks: DeepEnsemble, x: Tensor, y: Tensor, loss: Loss
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the empirical risk of each network and its gradient, by backpropagation.

    With H_0 = X, Z_l = H_{l−1}W_lᵀ + b_l, H_l = σ(Z_l), B_L = φ'(r)/n and
    B_l = (B_{l+1}W_{l+1}) ∘ σ'(Z_l): ∂R/∂W_l = B_lᵀH_{l−1} and ∂R/∂b_l = B_lᵀ1.

    Args:
        networks: K of them.
        x: inputs, (n, d).
        y: targets, (n, k).
        loss: φ.

    Returns:
        R of shape (K,) and a dict from the names of the blocks to gradients shaped like them.
    """
    depth, activation = networks.depth, networks.activation
    hidden, slopes = [x.expand(networks.size, *x.shape)], []
    for weight, bias in zip(networks.weights, networks.biases, strict=True):
        z = torch.baddbmm(bias.unsqueeze(1), hidden[-1], weight.transpose(1, 2))
        if len(hidden) < depth:
            slopes.append(activation.slope(z))
            z = activation.value(z)
        hidden.append(z)
    residual = hidden.pop() - y
    back = loss.derivative(residual) / x.shape[0]
    gradient = {}
    for layer in range(depth, 0, -1):
        gradient[f"weight {layer}"] = torch.bmm(back.transpose(1, 2), hidden[layer - 1])
        gradient[f"bias {layer}"] = back.sum(1)
        if layer > 1:
            back = torch.bmm(back, networks.weights[layer - 1]) * slopes[layer - 2]
    return loss.risk(residual), gradient


def deep_train(
    networks: DeepEnsemble,
    x: Tensor,
    y: Tensor,
    schedules: Schedule | Sequence[Schedule],
    n_steps: int,
    *,
    loss: str | Loss = "mse",
    huber_delta: float = 1.0,
    cap: Callable[[StepState], Tensor] | None = None,
    steps: Sequence[int] | np.ndarray | None = None,
    on_divergence: str = "raise",
    progress: bool | None = None,
) -> DeepRun:
    """Run T steps of full-batch gradient descent, Θ_{t+1} = Θ_t − α_t∇R(Θ_t), for each network.

    Args:
        networks: K networks to start from; left unchanged.
        x: inputs, (n, d).
        y: targets, (n,) or (n, k).
        schedules: one for all networks, or one per network.
        n_steps: T ≥ 1.
        loss: "mse" (half the mean squared error), "huber", or a `Loss`.
        huber_delta: δ of "huber", in the unit of the targets.
        cap: lowers the schedule's rate where it is above what the cap allows for the step; one that
            looks at gradients alone, such as `NormalisedRate`.
        steps: at which steps to keep checkpoints; 0 and T are added. By default 40 of them, even in
            log(1 + t).
        on_divergence: "raise" a `DivergenceError`, or "record" the step, stop that network and go
            on.
        progress: show a progress bar on stderr; by default only in a terminal.

    Returns:
        A `DeepRun`.

    Raises:
        ValueError: arguments that do not fit together.
        DivergenceError: a network diverged and `on_divergence` is "raise".
    """
    y = y.unsqueeze(1) if y.ndim == 1 else y
    plan = Plan.checked(schedules, networks.size, n_steps, steps, on_divergence, progress)
    check_data(networks, x, y)
    phi = get_loss(loss, huber_delta)

    def measure(moving: DeepEnsemble) -> tuple[Tensor, dict[str, Tensor]]:
        return deep_risk_and_gradient(moving, x, y, phi)

    def limit(state: StepState, _: DeepEnsemble) -> Tensor:
        assert cap is not None
        return cap(state)

    descent = Descent(networks, measure, plan, None if cap is None else limit)
    descent.descend()
    return DeepRun(**descent.record(phi), ensemble=descent.moving)
