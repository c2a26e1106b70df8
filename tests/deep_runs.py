"""Small training runs of perceptrons with one to five weight layers, on which bounds must hold.

Depths, widths, data, activations, losses, schedules and rates are drawn from fixed seeds. A run is
*divergent* if training stopped it, *oscillating* if its risk rose at some step, else *descending*.
Every step is a checkpoint.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import DeepRun, deep_train
from lipbook.losses import Loss, get_loss
from lipbook.schedules import SCHEDULES, make_schedule
from lipbook.theorems.deep_path import layer_slopes
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.dichotomy import IDENTITY

N_BATCHES, PER_BATCH, N_STEPS = 40, 4, 40
DEPTHS = (1, 2, 3, 4, 5)
NAMES = sorted(ACTIVATIONS)
SMOOTH = [name for name in NAMES if ACTIVATIONS[name].slope_lipschitz is not None]
# What a bound may fall short of by rounding.
UP = 1.0 + 1e-9


@dataclass(frozen=True)
class DeepBatch:
    """Hold one ensemble's run: networks of one shape on one data set, one rate each."""

    setting: DeepSetting
    run: DeepRun
    x: torch.Tensor
    y: torch.Tensor

    def last_step(self, index: int) -> int:
        """Return the last step before a divergence, or T."""
        stopped = int(self.run.diverged_at[index])
        return self.run.n_steps if stopped < 0 else max(stopped - 1, 0)

    @functools.cached_property
    def products(self) -> np.ndarray:
        """L_σ^{L−1}·Π‖W_l‖_op at every step, (T+1, K), NaN once a network has diverged."""
        found = np.full(self.run.risk.shape, np.nan)
        for step, networks in enumerate(self.run.checkpoints):
            alive = [i for i in range(networks.size) if step <= self.last_step(i)]
            for index in alive:
                norms = [np.linalg.norm(w[index].numpy(), 2) for w in networks.weights]
                found[step, index] = layer_slopes(networks) * np.prod(norms)
        return found


@functools.cache
def batch(seed: int) -> DeepBatch:
    """Return one batch, drawn from its seed alone."""
    g = np.random.default_rng([seed, 11])
    depth, activation = 1 + seed % 5, NAMES[(seed // 5) % len(NAMES)]
    loss = ("mse", "huber")[(seed // 3) % 2]
    d, n = int(g.integers(1, 4)), int(g.integers(1, 11))
    widths = (d, *(int(m) for m in g.integers(1, 9, depth - 1)), 1)
    x = torch.from_numpy(g.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(g.normal(size=(n, 1)) * 10.0 ** g.uniform(-1, 1))
    seeds = range(seed * 100, seed * 100 + PER_BATCH)
    networks = gaussian_deep_ensemble(widths, seeds=seeds, activation=activation)
    rates = 10.0 ** g.uniform(-2.3, 1.7, PER_BATCH)
    schedules = [
        make_schedule(SCHEDULES[(seed + i) % 5], rate, n_steps=N_STEPS, start=N_STEPS // 3)
        for i, rate in enumerate(rates)
    ]
    run = deep_train(
        networks, x, y, schedules, N_STEPS, loss=loss, huber_delta=0.7, on_divergence="record",
        steps=range(N_STEPS + 1),
    )  # fmt: skip
    return DeepBatch(DeepSetting.of(networks, x, y, run.loss), run, x, y)


def batches() -> list[DeepBatch]:
    """Return all batches, 160 networks in all."""
    return [batch(seed) for seed in range(N_BATCHES)]


def each_run() -> Iterator[tuple[DeepBatch, int]]:
    """Yield every network with its batch."""
    for found in batches():
        for index in range(found.run.ensemble.size):
            yield found, index


def drawn_problem(
    seed: int, depth: int, activation: str, loss: str, scale: float
) -> tuple[DeepEnsemble, torch.Tensor, torch.Tensor, Loss]:
    """Return a random network, all its weights times 10^scale, random data and the loss."""
    g = np.random.default_rng([seed, depth])
    d, n = int(g.integers(1, 4)), int(g.integers(1, 9))
    widths = (d, *(int(m) for m in g.integers(1, 7, depth - 1)), 1)
    networks = gaussian_deep_ensemble(widths, seeds=(seed,), activation=activation)
    networks = replace(
        networks,
        weights=tuple(w * 10.0**scale for w in networks.weights),
        biases=tuple(b * 10.0**scale for b in networks.biases),
    )
    x = torch.from_numpy(g.normal(size=(n, d)))
    y = torch.from_numpy(g.normal(size=(n, 1)) * 10.0 ** g.uniform(-1, 1))
    return networks, x, y, get_loss(loss, 0.3)


def odd_chain(
    depth: int, v: float, target: float, radius: float = 1.0
) -> tuple[DeepEnsemble, torch.Tensor, torch.Tensor]:
    """Return f(x) = v^L·x, one neuron a layer and σ = id, and the samples (±radius, ±target).

    Data and network are odd, so that no bias ever moves.
    """
    weight = torch.full((1, 1, 1), v, dtype=torch.float64)
    bias = torch.zeros(1, 1, dtype=torch.float64)
    sign = torch.tensor([[1.0], [-1.0]]).double()
    networks = DeepEnsemble((weight,) * depth, (bias,) * depth, IDENTITY)
    return networks, radius * sign, target * sign
