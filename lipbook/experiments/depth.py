"""Networks of several depths, trained side by side with a constant and a decaying rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import DeepRun, deep_train
from lipbook.lipschitz.deep import deep_bracket, deep_chain_upper_bound
from lipbook.losses import Loss
from lipbook.schedules import Schedule
from lipbook.theorems.deep_path import chain
from lipbook.theorems.deep_setting import DeepSetting

# The most seconds that one bracket may take; in the book's own runs none comes near.
PATIENCE = 10.0


@dataclass(frozen=True)
class DepthProblem:
    """Hold what the networks of all depths share.

    Attributes:
        width: m of every hidden layer.
        activation: σ, by name.
        x: inputs, (n, d).
        y: targets, (n,).
        loss: φ.
        seeds: one per network.
    """

    width: int
    activation: str
    x: Tensor
    y: Tensor
    loss: Loss
    seeds: tuple[int, ...]

    def starts(self, depth: int) -> DeepEnsemble:
        """Return the Gaussian starts with L weight layers.

        Args:
            depth: L.
        """
        widths = (self.x.shape[1], *[self.width] * (depth - 1), 1)
        return gaussian_deep_ensemble(widths, seeds=self.seeds, activation=self.activation)

    def setting(self, depth: int) -> DeepSetting:
        """Return what the theorems know of networks with L weight layers here.

        Args:
            depth: L.
        """
        return DeepSetting.of(self.starts(depth), self.x, self.y, self.loss)

    def run(self, depth: int, schedule: Schedule, n_steps: int, **options: object) -> DeepRun:
        """Train the networks with L weight layers; a divergence is recorded.

        Args:
            depth: L.
            schedule: of all of them.
            n_steps: T.
            options: of `deep_train`.
        """
        return deep_train(
            self.starts(depth), self.x, self.y, schedule, n_steps, loss=self.loss,
            on_divergence="record", **options,  # type: ignore[arg-type]
        )  # fmt: skip


def final_brackets(run: DeepRun) -> tuple[np.ndarray, np.ndarray]:
    """Return a lower and an upper bound of the Lipschitz constant of each last network, (K,) each.

    Args:
        run: of any depth; NaN for networks that diverged.
    """
    lower, upper = np.full((2, run.ensemble.size), np.nan)
    for network in np.flatnonzero(~run.diverged):
        layers = run.ensemble.layers(int(network))
        found = deep_bracket(layers, run.ensemble.activation, time_limit=PATIENCE)
        lower[network], upper[network] = found.lower, found.upper
    return lower, upper


def certificates(run: DeepRun) -> np.ndarray:
    """Return a certified upper bound of each network at the recorded steps, (S, K).

    Products of certified blocks; NaN once a network has diverged.

    Args:
        run: of any depth.
    """
    found = np.full((len(run.steps), run.ensemble.size), np.nan)
    gone = run.diverged & (run.steps[:, None] >= run.diverged_at)
    for place, network in np.argwhere(~gone):
        there = run.checkpoints[place]
        found[place, network] = deep_chain_upper_bound(there.layers(network), there.activation)
    return found


def products(run: DeepRun) -> np.ndarray:
    """Return L_σ^{L−1}Π‖W_l‖ of each last network, (K,), NaN where it has diverged."""
    return np.where(run.diverged, np.nan, chain(run.ensemble))
