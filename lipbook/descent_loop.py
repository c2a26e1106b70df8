"""The loop of full-batch gradient descent, whatever shape the networks have, and its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lipbook.descent_plan import Plan
from lipbook.losses import Loss
from lipbook.rate_caps import StepState
from lipbook.schedules import Schedule

# A network counts as diverged once its risk is not a number or has grown by this factor.
DIVERGENCE_FACTOR = 1e12


class DivergenceError(ValueError):
    """Training left the range in which its numbers mean anything."""


class Networks(Protocol):
    """Describe K networks of one shape, held as stacked blocks of parameters."""

    @property
    def size(self) -> int:
        """K."""

    @property
    def input_dim(self) -> int:
        """d."""

    @property
    def output_dim(self) -> int:
        """k."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the blocks, in the order of `blocks`."""

    def blocks(self) -> Iterator[Tensor]:
        """Yield the blocks, K along the first axis of each."""

    def parameter_norm(self) -> Tensor:
        """Return ‖Θ‖, (K,)."""

    def clone(self) -> Self:
        """Return a copy that shares no memory."""


N = TypeVar("N", bound=Networks)
Measure = Callable[[N], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class DescentRecord:
    """Hold what descent leaves behind whatever the networks are; T steps, K networks, S recorded.

    Attributes:
        learning_rates: α_t, (T, K), as they were used.
        risk: R(Θ_t), (T+1, K); NaN once a network has diverged.
        gradient_norm: ‖∇R(Θ_t)‖, (T+1, K).
        mass: S_t = Σ_{s<t} α_s, (T+1, K); nothing is added after a divergence.
        path: ℓ_t = Σ_{s<t} α_s‖∇R(Θ_s)‖, (T+1, K).
        block_path: the same for the gradient in each block, {name: (T+1, K)}.
        steps: the recorded steps, (S,), from 0 to T.
        displacement: ‖Θ_t − Θ_0‖ at the recorded steps, (S, K).
        block_displacement: the same for each block, Frobenius norms, {name: (S, K)}.
        diverged_at: the first step with no usable risk, (K,); −1 where training stayed finite.
        loss: φ.
        schedules: one per network; where a cap was set, its rates are upper bounds of α_t.
        checkpoints: the networks at the recorded steps.
    """

    learning_rates: np.ndarray
    risk: np.ndarray
    gradient_norm: np.ndarray
    mass: np.ndarray
    path: np.ndarray
    block_path: dict[str, np.ndarray]
    steps: np.ndarray
    displacement: np.ndarray
    block_displacement: dict[str, np.ndarray]
    diverged_at: np.ndarray
    loss: Loss
    schedules: tuple[Schedule, ...]
    checkpoints: tuple[Networks, ...]

    @property
    def n_steps(self) -> int:
        """T, the number of steps."""
        return len(self.learning_rates)

    @property
    def diverged(self) -> np.ndarray:
        """Tell which networks diverged, (K,)."""
        return self.diverged_at >= 0

    def recorded(self, step: int) -> int:
        """Return the place of a step among the recorded ones.

        Args:
            step: t.

        Raises:
            ValueError: the run has no checkpoint there.
        """
        found = np.flatnonzero(self.steps == step)
        if len(found) == 0:
            raise ValueError(
                f"`start` must be a recorded step of the run. Got {step}. "
                f"Train with steps=[..., {step}]."
            )
        return int(found[0])


def check_data(networks: Networks, x: Tensor, y: Tensor) -> None:
    """Refuse data that do not fit the networks.

    Args:
        networks: give d and k.
        x: inputs, (n, d).
        y: targets, (n, k).

    Raises:
        ValueError: shapes or values that cannot be trained on.
    """
    if x.ndim != 2 or x.shape[1] != networks.input_dim or len(x) == 0:
        raise ValueError(
            f"`x` must have shape (n, {networks.input_dim}) with n ≥ 1. Got {tuple(x.shape)}. "
            "Use x[:, None] for one input."
        )
    if tuple(y.shape) != (len(x), networks.output_dim):
        raise ValueError(
            f"`y` must have shape ({len(x)}, {networks.output_dim}), or ({len(x)},) for one "
            f"output. Got {tuple(y.shape)}. Give one row of targets per row of x."
        )
    for name, data in (("x", x), ("y", y)):
        if not torch.isfinite(data).all():
            raise ValueError(f"`{name}` must be finite. Got NaN or infinity. Drop those samples.")


def _divergence(step: int, schedule: Schedule, network: int) -> DivergenceError:
    rate = schedule.learning_rate
    return DivergenceError(
        f"`learning_rate` must be small enough for descent. Got {rate:g}: network {network} "
        f"diverged at step {step}. Try {rate / 4:g}, or on_divergence='record' to keep the run."
    )


class Descent(Generic[N]):
    """The state of one training loop: the moving weights and what has been recorded of them."""

    def __init__(
        self,
        start: N,
        measure: Measure[N],
        plan: Plan,
        cap: Callable[[StepState, N], Tensor] | None = None,
    ) -> None:
        """Prepare the loop; nothing moves yet.

        Args:
            start: left unchanged.
            measure: networks ↦ R, (K,), and the gradient by block.
            plan: how long and with which rates.
            cap: lowers the rates of a step.
        """
        self.start, self.measure, self.plan, self.cap = start, measure, plan, cap
        self.moving = start.clone()
        like = next(iter(start.blocks()))
        rates = np.stack([schedule.rates(plan.n_steps) for schedule in plan.schedules], axis=1)
        self.rates = torch.as_tensor(rates, dtype=like.dtype, device=like.device)
        n_records = plan.n_steps + 1
        self.risk = like.new_full((n_records, start.size), torch.nan)
        self.block_norms = like.new_full((n_records, start.size, len(start.names)), torch.nan)
        self.diverged_at = torch.full((start.size,), -1, device=like.device)
        self.checkpoints: dict[int, N] = {}
        self.mass = like.new_zeros(start.size)
        self.first_norm = start.parameter_norm()

    def descend(self) -> None:
        """Run all steps.

        Raises:
            DivergenceError: a network diverged and the plan says to raise.
        """
        count = range(self.plan.n_steps + 1)
        for step in tqdm(count, disable=not self.plan.progress, desc="training", leave=False):
            if step in self.plan.kept:
                self.checkpoints[step] = self.moving.clone()
            stopped = self._advance(step)
            if stopped is not None and self.plan.raises:
                raise _divergence(step, self.plan.schedules[stopped], stopped)

    def _advance(self, step: int) -> int | None:
        """Record Θ_step and move on; return a network that diverged just now, if any."""
        risk, gradient = self.measure(self.moving)
        norms = torch.stack([gradient[n].flatten(1).norm(dim=1) for n in self.start.names], dim=1)
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
        state = StepState(
            step=step,
            gradient=gradient,
            block_norms=self.block_norms[step],
            risk=self.risk[step],
            first_risk=self.risk[0],
            first_norm=self.first_norm,
            mass=self.mass,
        )
        allowed = torch.minimum(self.rates[step], self.cap(state, self.moving))
        # A stopped network keeps its rate 0, whatever its gradient is.
        running = self.diverged_at < 0
        if not bool((allowed[running] >= 0).all()):
            raise ValueError(
                "`cap` must return rates that are at least 0. "
                f"Got {allowed[running].min().item():g} at step {step}. Return 0 to stop."
            )
        self.rates[step] = torch.where(running, allowed, torch.zeros_like(allowed))

    def _move(self, gradient: dict[str, Tensor], rates: Tensor) -> None:
        for name, block in zip(self.start.names, self.moving.blocks(), strict=True):
            scale = rates.view(-1, *[1] * (block.ndim - 1))
            # 0·inf is NaN: a stopped network must not be touched, whatever its gradient.
            change = torch.where(scale > 0, scale * gradient[name], torch.zeros_like(block))
            block.sub_(change)

    def kept(self) -> tuple[N, ...]:
        """Return the checkpoints in the order of their steps."""
        return tuple(self.checkpoints[step] for step in sorted(self.checkpoints))

    def stopped(self) -> np.ndarray:
        """Tell at every step which networks had diverged by then, (T+1, K)."""
        diverged_at = self.diverged_at.cpu().numpy()
        return (diverged_at >= 0) & (np.arange(len(self.risk))[:, None] >= diverged_at)

    def record(self, loss: Loss) -> dict[str, Any]:
        """Return the fields of a `DescentRecord`.

        Args:
            loss: φ, which the record names.
        """
        steps = np.array(sorted(self.checkpoints))
        rates, stopped = self.rates.cpu().numpy(), self.stopped()
        # From the step of divergence on, nothing recorded means anything.
        norms = np.where(stopped[..., None], np.nan, self.block_norms.cpu().numpy())
        total = np.linalg.norm(norms, axis=2)
        moved = {n: np.where(stopped[steps], np.nan, v) for n, v in self._displacements().items()}
        paths = {n: _running_sum(rates * norms[:-1, :, i]) for i, n in enumerate(self.start.names)}
        return {
            "learning_rates": rates,
            "risk": np.where(stopped, np.nan, self.risk.cpu().numpy()),
            "gradient_norm": total,
            "mass": _running_sum(rates),
            "path": _running_sum(rates * total[:-1]),
            "block_path": paths,
            "steps": steps,
            "displacement": np.sqrt(sum(v**2 for v in moved.values())),
            "block_displacement": moved,
            "diverged_at": self.diverged_at.cpu().numpy(),
            "loss": loss,
            "schedules": self.plan.schedules,
            "checkpoints": self.kept(),
        }

    def _displacements(self) -> dict[str, np.ndarray]:
        moved: dict[str, list[Tensor]] = {name: [] for name in self.start.names}
        for networks in self.kept():
            both = zip(self.start.names, networks.blocks(), self.start.blocks(), strict=True)
            for name, block, origin in both:
                moved[name].append((block - origin).flatten(1).norm(dim=1))
        return {name: torch.stack(found).cpu().numpy() for name, found in moved.items()}


def _running_sum(increments: np.ndarray) -> np.ndarray:
    """Return (0, v_0, v_0 + v_1, …) along the first axis, NaN counting as 0."""
    sums = np.cumsum(np.nan_to_num(increments, nan=0.0), axis=0)
    return np.concatenate([np.zeros_like(sums[:1]), sums])
