"""Runs with a constant rate: of wide networks on few samples, and of small ones at the edge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lipbook.comparison import constants_of
from lipbook.data import TARGETS
from lipbook.kernels import Curvature, lanczos_sharpness
from lipbook.losses import Loss
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems import Setting
from lipbook.theorems.minima import Minimum
from lipbook.theorems.pl_lipschitz import PLLipschitz
from lipbook.theorems.pl_measured import MeasuredPL
from lipbook.theorems.pl_path import PLPath, settled_step
from lipbook.theorems.pl_start import PLStart, StartNumbers
from lipbook.training import TrainingRun, log_steps, train


def spread_samples(target: str, n_samples: int) -> tuple[Tensor, Tensor]:
    """Return Chebyshev's points of (−1, 1), far apart from each other, and a target there.

    Args:
        target: a name in `TARGETS`.
        n_samples: n ≥ 1.

    Returns:
        x and y, (n, 1) each.
    """
    angles = (2 * torch.arange(n_samples, dtype=torch.float64) + 1) * math.pi / (2 * n_samples)
    x = torch.cos(angles)[:, None]
    return x, torch.from_numpy(TARGETS[target].function(x.numpy()))


@dataclass(frozen=True)
class WideRuns:
    """Hold wide networks that were trained on few samples, and what is promised of each.

    Attributes:
        run: the training run.
        x: inputs, (n, 1).
        y: targets, (n, 1).
        starts: what the start says, one per network.
        mu: 0.99 of the least μ from the kernel at the recorded steps, (K,); the hundredth is room
            for the steps that were not recorded.
        constants: upper ends of the Lipschitz constants on [−1, 1] at the recorded steps, (S, K).
    """

    run: TrainingRun
    x: Tensor
    y: Tensor
    starts: tuple[PLStart, ...]
    mu: np.ndarray
    constants: np.ndarray

    def paths(self, network: int) -> dict[str, float]:
        """Return the path that was walked and its two bounds for all times.

        Args:
            network: which of the networks.

        Returns:
            {"path", "measured", "start"}; a bound is infinite where its hypotheses fail.
        """
        rates = self.run.learning_rates[:, network]
        found = self.starts[network].smallest(float(rates[0]))
        risk = float(self.run.risk[0, network])
        start = math.inf if found is None else found.bound(float(rates[0]), risk)
        return {
            "path": float(self.run.path[-1, network]),
            "measured": PLPath(float(self.mu[network])).for_ever(self.run, network),
            "start": start if bool((rates == rates[0]).all()) else math.inf,
        }

    def lipschitz(self, network: int, path: float) -> float:
        """Return the better bound of the Lipschitz constant for a bounded path, for all times.

        Args:
            network: which of the networks.
            path: e, possibly infinite.
        """
        if not math.isfinite(path):
            return math.inf
        theorem, start = PLLipschitz(1.0), self.run.checkpoints[0]
        bound = theorem.product_bound(start, network, path)
        if start.activation.slope_lipschitz is None:
            return bound
        return min(bound, theorem.bound(start, network, path, float(self.constants[0, network])))

    def largest(self, network: int) -> float:
        """Return the largest Lipschitz constant at the recorded steps, NaN if there is none.

        Args:
            network: which of the networks.
        """
        column = self.constants[:, network]
        finite = column[np.isfinite(column)]
        return float(finite.max()) if len(finite) else math.nan


def train_wide(
    start: Ensemble,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    share: float,
    n_steps: int,
    schedule: str = "constant",
) -> WideRuns:
    """Train with a rate that is a share of 2n/λ_max(J_0J_0ᵀ); divergence is recorded.

    Args:
        start: K networks with one input and one output.
        x: inputs, (n, 1).
        y: targets, (n, 1).
        loss: φ.
        share: of the rate at which the first, linear, view of the risk stops being stable.
        n_steps: T.
        schedule: by name.

    Returns:
        The `WideRuns`.
    """
    setting = Setting.of(start, x, y, loss)
    numbers = [StartNumbers.of(start, k, x, y, setting) for k in range(start.size)]
    rates = [share * 2.0 * len(x) / each.largest for each in numbers]
    schedules = [make_schedule(schedule, rate, n_steps=n_steps) for rate in rates]
    kept = log_steps(n_steps, 5)
    run = train(start, x, y, schedules, n_steps, loss=loss, steps=kept, on_divergence="record")
    measured = MeasuredPL(loss)
    mu = []
    for network in range(start.size):
        early = run.steps < max(settled_step(run, network), 1)
        mu.append(0.99 * measured.along(run, network, x, y)[early].min())
    _, upper = constants_of(run, 1e-2)
    return WideRuns(run, x, y, tuple(PLStart(n) for n in numbers), np.array(mu), upper)


@dataclass(frozen=True)
class EdgeRuns:
    """Hold networks trained at several constant rates, each a share of 2/(first sharpness).

    Attributes:
        run: the training run; network s·K + i has share s and start i.
        x: inputs, (n, 1).
        y: targets, (n, 1).
        shares: of the rates.
        rates: α, (shares·K,).
    """

    run: TrainingRun
    x: Tensor
    y: Tensor
    shares: tuple[float, ...]
    rates: np.ndarray

    @cached_property
    def sharpness(self) -> np.ndarray:
        """λ_max(∇²R) at the recorded steps by Lanczos' method, (S, shares·K).

        NaN once a network has diverged. It takes longer than the training, and is not always asked.
        """
        return sharpness_along(self.run, self.x, self.y)

    @property
    def n_starts(self) -> int:
        """K, the number of starts."""
        return len(self.rates) // len(self.shares)

    def columns(self, share: int) -> slice:
        """Return where the networks of one share stand.

        Args:
            share: its index.
        """
        return slice(share * self.n_starts, (share + 1) * self.n_starts)

    @property
    def relative(self) -> np.ndarray:
        """αλ_max(∇²R)/2, which is 1 at the edge, (S, shares·K)."""
        return 0.5 * self.rates * self.sharpness

    def last_constants(self) -> np.ndarray:
        """Return upper ends of the Lipschitz constants on [−1, 1] at the last step, (shares·K,)."""
        run = self.run
        last = replace(run, checkpoints=run.checkpoints[-1:], steps=run.steps[-1:])
        return constants_of(last, 1e-3)[1][0]

    def end(self, network: int) -> Minimum:
        """Return what one network ended with, and its problem.

        Args:
            network: which of them.
        """
        rate = float(self.rates[network])
        return Minimum(self.run.ensemble.select([network]), self.x, self.y, self.run.loss, rate)


def train_edge(
    start: Ensemble,
    x: Tensor,
    y: Tensor,
    loss: Loss,
    shares: Sequence[float],
    n_steps: int,
    schedule: str = "constant",
) -> EdgeRuns:
    """Train each start at each share of the rate 2/λ_max(∇²R_0); divergence is recorded.

    Args:
        start: K networks with one input and one output.
        x: inputs, (n, 1).
        y: targets, (n, 1).
        loss: φ.
        shares: of the rate at the edge.
        n_steps: T.
        schedule: by name.

    Returns:
        The `EdgeRuns`.
    """
    first, _ = lanczos_sharpness(Curvature.of(start, x, y, loss))
    # Where Huber's loss is straight at every sample, or nearly, the first sharpness says nothing.
    first = np.maximum(first, 1e-2)
    rates = np.concatenate([2.0 * share / first for share in shares])
    many = start.select([*range(start.size)] * len(shares))
    schedules: list[Schedule] = [make_schedule(schedule, r, n_steps=n_steps) for r in rates]
    kept = np.unique(np.linspace(0, n_steps, 51).astype(int))
    run = train(many, x, y, schedules, n_steps, loss=loss, steps=kept, on_divergence="record")
    return EdgeRuns(run, x, y, tuple(shares), rates)


def sharpness_along(run: TrainingRun, x: Tensor, y: Tensor) -> np.ndarray:
    """Return λ_max(∇²R) at the recorded steps by Lanczos' method, (S, K); NaN from a divergence on.

    Args:
        run: a training run.
        x: inputs, (n, d).
        y: targets, (n, 1).
    """
    found = np.full((len(run.steps), run.ensemble.size), np.nan)
    for row, (step, ensemble) in enumerate(zip(run.steps, run.checkpoints, strict=True)):
        alive = np.flatnonzero((run.diverged_at < 0) | (run.diverged_at > step))
        if len(alive):
            part = Curvature.of(ensemble.select(alive.tolist()), x, y, run.loss)
            found[row, alive] = lanczos_sharpness(part)[0]
    return found


def draw_start(width: int, seeds: Sequence[int], activation: str) -> Ensemble:
    """Draw one network with one input per seed, at the standard scale.

    Args:
        width: m.
        seeds: of the starts.
        activation: σ by name.
    """
    return gaussian_ensemble(width, 1, seeds=seeds, activation=activation)
