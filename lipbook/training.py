"""Full-batch gradient descent for ensembles of two-layer networks, with closed-form gradients.

One loop trains K networks of one shape on one data set, each with its own start and its own
schedule, and keeps a record of every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.descent_loop import (
    Descent,
    DescentRecord,
    DivergenceError,
    check_data,
)
from lipbook.descent_plan import Plan, log_steps
from lipbook.gradients import Buffers, risk_and_gradient
from lipbook.losses import Loss, get_loss
from lipbook.networks import Ensemble
from lipbook.rate_caps import DescentState, RateCap, StepState
from lipbook.schedules import Schedule

__all__ = ["DivergenceError", "TrainingRun", "log_steps", "train"]


@dataclass(frozen=True)
class TrainingRun(DescentRecord):
    """Hold what one call of `train` recorded; T steps, K networks, S recorded checkpoints.

    Attributes:
        ensemble: the networks at the end; a diverged one as it was when it was stopped.
        checkpoints: the networks at the recorded steps.
        product_bound: L_σ‖A‖_op‖W‖_op at the recorded steps, (S, K), rounded to nearest.
    """

    ensemble: Ensemble
    checkpoints: tuple[Ensemble, ...]
    product_bound: np.ndarray


def train(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    schedules: Schedule | Sequence[Schedule],
    n_steps: int,
    *,
    loss: str | Loss = "mse",
    huber_delta: float = 1.0,
    cap: RateCap | None = None,
    steps: Sequence[int] | np.ndarray | None = None,
    on_divergence: str = "raise",
    progress: bool | None = None,
) -> TrainingRun:
    """Run T steps of full-batch gradient descent, Θ_{t+1} = Θ_t − α_t∇R(Θ_t), for each network.

    Args:
        ensemble: K networks to start from; left unchanged.
        x: inputs, (n, d), in the ensemble's dtype and on its device.
        y: targets, (n,) or (n, k).
        schedules: one for all networks, or one per network.
        n_steps: T ≥ 1.
        loss: "mse" (half the mean squared error), "huber", or a `Loss`.
        huber_delta: δ of "huber", in the unit of the targets.
        cap: lowers the schedule's rate where it is above what the cap allows for the step.
        steps: at which steps to keep checkpoints; 0 and T are added. By default 40 of them, even in
            log(1 + t).
        on_divergence: "raise" a `DivergenceError`, or "record" the step, stop that network and go
            on.
        progress: show a progress bar on stderr; by default only in a terminal.

    Returns:
        A `TrainingRun`.

    Raises:
        ValueError: arguments that do not fit together.
        DivergenceError: a network diverged and `on_divergence` is "raise".
    """
    y = y.unsqueeze(1) if y.ndim == 1 else y
    plan = Plan.checked(schedules, ensemble.size, n_steps, steps, on_divergence, progress)
    check_data(ensemble, x, y)
    phi, buffers = get_loss(loss, huber_delta), Buffers.make(ensemble, len(x))

    def measure(networks: Ensemble) -> tuple[Tensor, dict[str, Tensor]]:
        return risk_and_gradient(networks, x, y, phi, buffers)

    def limit(state: StepState, networks: Ensemble) -> Tensor:
        assert cap is not None
        return cap(DescentState(**vars(state), ensemble=networks))

    descent = Descent(ensemble, measure, plan, None if cap is None else limit)
    descent.descend()
    recorded, kept = descent.record(phi), descent.kept()
    product = [c.activation.lipschitz * c.hidden_norm() * c.output_norm() for c in kept]
    gone = descent.stopped()[recorded["steps"]]
    return TrainingRun(
        **recorded,
        ensemble=descent.moving,
        product_bound=np.where(gone, np.nan, torch.stack(product).cpu().numpy()),
    )
