"""Small networks and runs on which the decay condition is tested."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from lipbook.activations import ACTIVATIONS
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import Setting
from lipbook.training import train

# What a bound may fall short of by rounding.
UP = 1.0 + 1e-9


def network(w, b, a, c=0.0, activation="relu"):
    """One network with one output, W of shape (m, d) given by rows."""
    w = torch.tensor(w, dtype=torch.float64)[None]
    b, a = (torch.tensor(each, dtype=torch.float64)[None] for each in (b, a))
    c = torch.tensor([[c]], dtype=torch.float64)
    return Ensemble(w, b, a[:, None], c, ACTIVATIONS[activation])


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def drawn_problem(seed, activation, loss, size, scale):
    """A random network and random data, sizes and scales from the seed."""
    g = np.random.default_rng(seed)
    d, n = int(g.integers(1, 5)), int(g.integers(1, 9))
    ensemble = gaussian_ensemble(size, d, seeds=(seed,), activation=activation)
    blocks = {b: getattr(ensemble, b) * 10.0**scale for b in BLOCKS}
    x = torch.from_numpy(g.normal(size=(n, d)))
    y = torch.from_numpy(g.normal(size=(n, 1)) * 10.0 ** g.uniform(-1, 1))
    return replace(ensemble, **blocks), x, y, get_loss(loss, 0.3)


def one(schedule="exponential", rate=0.1, n_steps=60, start=None, **options):
    """One run of the kind of a chapter's."""
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x)
    activation = options.pop("activation", "tanh")
    ensemble = gaussian_ensemble(7, 1, seeds=(options.pop("seed", 0),), activation=activation)
    chosen = make_schedule(schedule, rate, n_steps=n_steps, timescale=8.0, start=start)
    steps = range(n_steps + 1)
    run = train(ensemble, x, y, chosen, n_steps, steps=steps, on_divergence="record", **options)
    return run, Setting.of(ensemble, x, y, run.loss)
