"""Small training runs of every kind, on which a-priori bounds must hold at every step.

Sizes, data, activations, losses, scales, schedules and rates are drawn from fixed seeds. A run is
*divergent* if training stopped it, *oscillating* if its risk rose at some step, else *descending*.
Every step is a checkpoint.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch

from lipbook.activations import ACTIVATIONS
from lipbook.networks import INITIAL_SCALES, Ensemble, gaussian_ensemble
from lipbook.schedules import SCHEDULES, make_schedule
from lipbook.theorems import Setting
from lipbook.training import TrainingRun, train

N_BATCHES, PER_BATCH, N_STEPS = 32, 8, 40
KINDS = ("divergent", "oscillating", "descending")


@dataclass(frozen=True)
class Batch:
    """Hold one ensemble's run: networks of one shape on one data set, one rate each."""

    setting: Setting
    run: TrainingRun
    x: torch.Tensor
    y: torch.Tensor

    def network(self, index: int, step: int) -> Ensemble:
        """Return one network at one step, as an ensemble of size one."""
        return self.run.checkpoints[step].select([index])

    def last_step(self, index: int) -> int:
        """Return the last step before a divergence, or T."""
        stopped = int(self.run.diverged_at[index])
        return self.run.n_steps if stopped < 0 else max(stopped - 1, 0)


def kind_of(run: TrainingRun, network: int) -> str:
    """Return "divergent", "oscillating" or "descending"."""
    if run.diverged[network]:
        return "divergent"
    risk = run.risk[:, network]
    return "oscillating" if (risk[1:] > risk[:-1] * (1.0 + 1e-9)).any() else "descending"


@functools.cache
def batch(seed: int) -> Batch:
    """Return one batch, drawn from its seed alone."""
    g = np.random.default_rng([seed, 7])
    names = sorted(ACTIVATIONS)
    activation = names[seed % len(names)]
    scale = sorted(INITIAL_SCALES)[(seed // len(names)) % len(INITIAL_SCALES)]
    loss = ("mse", "huber")[seed % 3 == 0]
    m, d, n = (int(g.integers(*ends)) for ends in ((1, 13), (1, 5), (1, 12)))
    x = torch.from_numpy(g.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(g.normal(size=(n, 1)) * 10.0 ** g.uniform(-1, 1))
    ensemble = gaussian_ensemble(
        m, d, seeds=range(seed * 100, seed * 100 + PER_BATCH), activation=activation, scale=scale
    )
    rates = 10.0 ** g.uniform(-2.5, 2.2, PER_BATCH)
    schedules = [
        make_schedule(SCHEDULES[i % len(SCHEDULES)], rate, n_steps=N_STEPS, start=N_STEPS // 3)
        for i, rate in enumerate(rates)
    ]
    run = train(
        ensemble, x, y, schedules, N_STEPS, loss=loss, huber_delta=0.7, on_divergence="record",
        steps=range(N_STEPS + 1),
    )  # fmt: skip
    return Batch(Setting.of(ensemble, x, y, run.loss), run, x, y)


def batches() -> list[Batch]:
    """Return all batches, 256 networks in all."""
    return [batch(seed) for seed in range(N_BATCHES)]
