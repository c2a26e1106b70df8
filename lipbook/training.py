"""Full-batch gradient descent for ensembles, with closed-form gradients and a record of every step.

One loop trains K networks of one shape on one data set, each with its own start and its own
schedule.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lipbook.gradients import Buffers, risk_and_gradient
from lipbook.losses import Loss, get_loss
from lipbook.networks import BLOCKS, Ensemble
from lipbook.rate_caps import DescentState, RateCap
from lipbook.schedules import Schedule

# A network counts as diverged once its risk is not a number or has grown by this factor.
DIVERGENCE_FACTOR = 1e12


class DivergenceError(ValueError):
    """Training left the range in which its numbers mean anything."""


@dataclass(frozen=True)
class TrainingRun:
    """Hold what one call of `train` recorded; T steps, K networks, S recorded checkpoints.

    Attributes:
        ensemble: the networks at the end; a diverged one as it was when it was stopped.
        learning_rates: α_t, (T, K), as they were used.
        risk: R(Θ_t), (T+1, K); NaN once a network has diverged.
        gradient_norm: ‖∇R(Θ_t)‖, (T+1, K).
        mass: S_t = Σ_{s<t} α_s, (T+1, K); nothing is added after a divergence.
        path: ℓ_t = Σ_{s<t} α_s‖∇R(Θ_s)‖, (T+1, K).
        block_path: the same for the gradient in each block, {name: (T+1, K)}.
        steps: the recorded steps, (S,), from 0 to T.
        checkpoints: the networks at the recorded steps.
        displacement: ‖Θ_t − Θ_0‖ at the recorded steps, (S, K).
        block_displacement: the same for each block, Frobenius norms, {name: (S, K)}.
        product_bound: L_σ‖A‖_op‖W‖_op at the recorded steps, (S, K), rounded to nearest.
        diverged_at: the first step with no usable risk, (K,); −1 where training stayed finite.
        loss: φ.
        schedules: one per network; where a cap was set, its rates are upper bounds of α_t.
    """

    ensemble: Ensemble
    learning_rates: np.ndarray
    risk: np.ndarray
    gradient_norm: np.ndarray
    mass: np.ndarray
    path: np.ndarray
    block_path: dict[str, np.ndarray]
    steps: np.ndarray
    checkpoints: tuple[Ensemble, ...]
    displacement: np.ndarray
    block_displacement: dict[str, np.ndarray]
    product_bound: np.ndarray
    diverged_at: np.ndarray
    loss: Loss
    schedules: tuple[Schedule, ...]

    @property
    def n_steps(self) -> int:
        """T, the number of steps."""
        return len(self.learning_rates)

    @property
    def diverged(self) -> np.ndarray:
        """Tell which networks diverged, (K,)."""
        return self.diverged_at >= 0


def log_steps(n_steps: int, count: int) -> np.ndarray:
    """Return at most `count` steps from 0 to `n_steps`, both included, evenly spaced in log(1 +
    step).

    Args:
        n_steps: T ≥ 1.
        count: how many at most, ≥ 2.

    Returns:
        Increasing integers, at most (count,).
    """
    grid = np.expm1(np.linspace(0.0, np.log1p(n_steps), count))
    return np.unique(np.rint(grid).astype(int))


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
    listed = _one_schedule_each(schedules, ensemble.size)
    _check_data(ensemble, x, y)
    if n_steps < 1:
        raise ValueError(f"`n_steps` must be at least 1. Got {n_steps}. Use 1000, say.")
    if on_divergence not in ("raise", "record"):
        raise ValueError(
            f"`on_divergence` must be 'raise' or 'record'. Got {on_divergence!r}. "
            "Use 'record' to go on with the other networks."
        )
    kept = _steps_to_keep(steps, n_steps)
    rates = np.stack([schedule.rates(n_steps) for schedule in listed], axis=1)
    descent = _Descent(ensemble, x, y, get_loss(loss, huber_delta), rates, cap)
    shown = sys.stderr.isatty() if progress is None else progress
    for step in tqdm(range(n_steps + 1), disable=not shown, desc="training", leave=False):
        if step in kept:
            descent.keep_checkpoint(step)
        stopped = descent.advance(step)
        if stopped is not None and on_divergence == "raise":
            raise _divergence(step, listed[stopped], stopped)
    return descent.run(listed)


def _one_schedule_each(schedules: Schedule | Sequence[Schedule], size: int) -> tuple[Schedule, ...]:
    listed = (schedules,) * size if isinstance(schedules, Schedule) else tuple(schedules)
    if len(listed) != size:
        raise ValueError(
            f"`schedules` must be one schedule or one per network, {size} of them. "
            f"Got {len(listed)}. Repeat the one that several networks share."
        )
    return listed


def _check_data(ensemble: Ensemble, x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or x.shape[1] != ensemble.input_dim or len(x) == 0:
        raise ValueError(
            f"`x` must have shape (n, {ensemble.input_dim}) with n ≥ 1. Got {tuple(x.shape)}. "
            "Use x[:, None] for one input."
        )
    if tuple(y.shape) != (len(x), ensemble.output_dim):
        raise ValueError(
            f"`y` must have shape ({len(x)}, {ensemble.output_dim}), or ({len(x)},) for one "
            f"output. Got {tuple(y.shape)}. Give one row of targets per row of x."
        )
    for name, data in (("x", x), ("y", y)):
        if not torch.isfinite(data).all():
            raise ValueError(f"`{name}` must be finite. Got NaN or infinity. Drop those samples.")


def _steps_to_keep(steps: Sequence[int] | np.ndarray | None, n_steps: int) -> frozenset[int]:
    wanted = {int(step) for step in (log_steps(n_steps, 40) if steps is None else steps)}
    outside = sorted(step for step in wanted if not 0 <= step <= n_steps)
    if outside:
        raise ValueError(
            f"`steps` must lie between 0 and n_steps={n_steps}. Got {outside[0]}. Leave it out."
        )
    return frozenset(wanted | {0, n_steps})


def _divergence(step: int, schedule: Schedule, network: int) -> DivergenceError:
    rate = schedule.learning_rate
    return DivergenceError(
        f"`learning_rate` must be small enough for descent. Got {rate:g}: network {network} "
        f"diverged at step {step}. Try {rate / 4:g}, or on_divergence='record' to keep the run."
    )


class _Descent:
    """The state of one training loop: the moving weights and what has been recorded of them."""

    def __init__(
        self,
        start: Ensemble,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        rates: np.ndarray,
        cap: RateCap | None,
    ) -> None:
        self.start, self.x, self.y, self.loss, self.cap = start, x, y, loss, cap
        self.moving = start.clone()
        self.buffers = Buffers.make(start, len(x))
        like = start.hidden_bias
        self.rates = torch.as_tensor(rates, dtype=like.dtype, device=like.device)
        n_records = len(rates) + 1
        self.risk = like.new_full((n_records, start.size), torch.nan)
        self.block_norms = like.new_full((n_records, start.size, len(BLOCKS)), torch.nan)
        self.diverged_at = torch.full((start.size,), -1, device=like.device)
        self.checkpoints: dict[int, Ensemble] = {}
        self.mass = like.new_zeros(start.size)
        self.first_norm = start.parameter_norm()

    def keep_checkpoint(self, step: int) -> None:
        self.checkpoints[step] = self.moving.clone()

    def advance(self, step: int) -> int | None:
        """Record Θ_step and move on; return a network that diverged just now, if any."""
        risk, gradient = risk_and_gradient(self.moving, self.x, self.y, self.loss, self.buffers)
        norms = torch.stack([gradient[n].flatten(1).norm(dim=1) for n in BLOCKS], dim=1)
        self.risk[step], self.block_norms[step] = risk, norms
        running = self.diverged_at < 0
        limit = DIVERGENCE_FACTOR * (1.0 + self.risk[0])
        # A NaN fails the comparison, so it counts as diverged.
        stopped = running & ~((risk <= limit) & torch.isfinite(norms).all(1))
        newly = None
        if stopped.any():
            self.diverged_at[stopped] = step
            self.rates[step:, stopped] = 0.0
            newly = int(stopped.nonzero()[0])
        if step < len(self.rates):
            if self.cap is not None:
                self._lower_rates(step, gradient)
            self.mass += self.rates[step]
            self._move(gradient, self.rates[step])
        return newly

    def _lower_rates(self, step: int, gradient: dict[str, Tensor]) -> None:
        assert self.cap is not None
        state = DescentState(
            step=step,
            ensemble=self.moving,
            gradient=gradient,
            block_norms=self.block_norms[step],
            risk=self.risk[step],
            first_risk=self.risk[0],
            first_norm=self.first_norm,
            mass=self.mass,
        )
        allowed = torch.minimum(self.rates[step], self.cap(state))
        # A stopped network keeps its rate 0, whatever its gradient is.
        running = self.diverged_at < 0
        if not bool((allowed[running] >= 0).all()):
            raise ValueError(
                "`cap` must return rates that are at least 0. "
                f"Got {allowed[running].min().item():g} at step {step}. Return 0 to stop."
            )
        self.rates[step] = torch.where(running, allowed, torch.zeros_like(allowed))

    def _move(self, gradient: dict[str, Tensor], rates: Tensor) -> None:
        for name, block in zip(BLOCKS, self.moving.blocks(), strict=True):
            scale = rates.view(-1, *[1] * (block.ndim - 1))
            # 0·inf is NaN: a stopped network must not be touched, whatever its gradient.
            change = torch.where(scale > 0, scale * gradient[name], torch.zeros_like(block))
            block.sub_(change)

    def run(self, schedules: tuple[Schedule, ...]) -> TrainingRun:
        steps = np.array(sorted(self.checkpoints))
        checkpoints = tuple(self.checkpoints[step] for step in steps)
        rates = self.rates.cpu().numpy()
        diverged_at = self.diverged_at.cpu().numpy()
        # From the step of divergence on, nothing recorded means anything.
        stopped = (diverged_at >= 0) & (np.arange(len(self.risk))[:, None] >= diverged_at)
        norms = np.where(stopped[..., None], np.nan, self.block_norms.cpu().numpy())
        total = np.linalg.norm(norms, axis=2)
        moved = self._displacements(checkpoints)
        gone = stopped[steps]
        product = [c.activation.lipschitz * c.hidden_norm() * c.output_norm() for c in checkpoints]
        return TrainingRun(
            ensemble=self.moving,
            learning_rates=rates,
            risk=np.where(stopped, np.nan, self.risk.cpu().numpy()),
            gradient_norm=total,
            mass=_running_sum(rates),
            path=_running_sum(rates * total[:-1]),
            block_path={n: _running_sum(rates * norms[:-1, :, i]) for i, n in enumerate(BLOCKS)},
            steps=steps,
            checkpoints=checkpoints,
            displacement=np.where(gone, np.nan, np.sqrt(sum(v**2 for v in moved.values()))),
            block_displacement={n: np.where(gone, np.nan, v) for n, v in moved.items()},
            product_bound=np.where(gone, np.nan, torch.stack(product).cpu().numpy()),
            diverged_at=diverged_at,
            loss=self.loss,
            schedules=schedules,
        )

    def _displacements(self, checkpoints: Sequence[Ensemble]) -> dict[str, np.ndarray]:
        moved = {}
        for name in BLOCKS:
            origin = getattr(self.start, name)
            distances = [(getattr(c, name) - origin).flatten(1).norm(dim=1) for c in checkpoints]
            moved[name] = torch.stack(distances).cpu().numpy()
        return moved


def _running_sum(increments: np.ndarray) -> np.ndarray:
    """Return (0, v_0, v_0 + v_1, …) along the first axis, NaN counting as 0."""
    sums = np.cumsum(np.nan_to_num(increments, nan=0.0), axis=0)
    return np.concatenate([np.zeros_like(sums[:1]), sums])
