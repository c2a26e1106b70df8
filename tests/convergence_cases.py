"""Small problems and runs for the tests of the theorems on convergence."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.caps.self_consistent import (
    SelfConsistent,
    largest_rate,
)
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, INITIAL_SCALES, Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import Setting
from lipbook.theorems.smoothness import (
    mass_smoothness,
)
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
SMOOTH = [name for name in NAMES if ACTIVATIONS[name].slope_lipschitz is not None]
HUGE = make_schedule("constant", 1e9, n_steps=1)
CASE = {
    "seed": st.integers(0, 10_000),
    "width": st.integers(1, 12),
    "loss": st.sampled_from(["mse", "huber"]),
    "scale": st.sampled_from(sorted(INITIAL_SCALES)),
    "target": st.sampled_from([0.01, 1.0, 30.0]),
}


def draw(seed, width, loss, scale, target, activation, n=5, d=2, size=1):
    """A problem: starts, data and setting."""
    g = np.random.default_rng([seed, 3])
    x = torch.from_numpy(g.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(target * g.normal(size=(n, 1)))
    seeds = range(seed, seed + size)
    start = gaussian_ensemble(width, d, seeds=seeds, activation=activation, scale=scale)
    return start, x, y, Setting.of(start, x, y, get_loss(loss, 0.7))


def constant_network(c, activation="tanh"):
    """f = c: every weight 0 but the output bias."""
    zero = torch.zeros
    weights = (zero(1, 1, 1), zero(1, 1), zero(1, 1, 1), torch.full((1, 1), c))
    return Ensemble(*(w.double() for w in weights), ACTIVATIONS[activation])


def origin(n=1):
    return torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, 1, dtype=torch.float64)


def exact_run(c, schedule, n_steps, loss="mse"):
    """Descent of f = c towards y = 0 at x = 0: c_{t+1} = (1 − α_t)c_t as long as |c| ≤ δ."""
    x, y = origin()
    start = constant_network(c)
    run = train(start, x, y, schedule, n_steps, loss=loss, steps=range(n_steps + 1))
    return run, Setting.of(start, x, y, run.loss)


def moved(ensemble, seed, distance):
    """The same networks, displaced by a random direction of this length."""
    g = np.random.default_rng([seed, 11])
    steps = {n: torch.from_numpy(g.normal(size=getattr(ensemble, n).shape)) for n in BLOCKS}
    norm = math.sqrt(sum(float(s.square().sum()) for s in steps.values()))
    blocks = [getattr(ensemble, n) + steps[n] * (distance / norm) for n in BLOCKS]
    return Ensemble(*blocks, ensemble.activation)


def trained(
    seed, activation, loss, n_steps=60, schedule=HUGE, factor=1.0, measured=None, every=5, **how
):
    """One small run, with a cap if `measured` is a bool; `factor` breaks the cap's promise."""
    how = {"width": 5, "scale": "zero-bias", "target": 1.0} | how
    start, x, y, setting = draw(seed, loss=loss, activation=activation, **how)
    cap = None if measured is None else SelfConsistent(setting, measured)
    scaled = None if cap is None else (lambda state: factor * cap(state))
    run = train(
        start, x, y, schedule, n_steps, loss=setting.loss, cap=scaled,
        steps=range(0, n_steps + 1, every), on_divergence="record",
    )  # fmt: skip
    return run, setting, (x, y)


RUN = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(SMOOTH),
    "loss": st.sampled_from(["mse", "huber"]),
    "target": st.sampled_from([0.1, 1.0, 20.0]),
}


def affordable(setting: Setting, norm: float, risk: float, mass_per_rate: float) -> float:
    """The largest α with α·β̄(α·mass_per_rate) ≤ 1, less a little."""
    known = largest_rate(
        lambda a: mass_smoothness(setting, norm, risk, a * mass_per_rate), np.zeros(())
    )
    return float(known) * (1.0 - 1e-9)
