"""Networks and constants for the tests of certificates and promises."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import bracket
from lipbook.networks import Ensemble

NAMES = sorted(ACTIVATIONS)
SMOOTH = [n for n in NAMES if ACTIVATIONS[n].slope_lipschitz is not None]
UP = 1 + 1e-9
# What a search for multipliers may leave of the infimum L_sdp.
SDP_GAP = 1e-3


def network(weight, bias, output, activation="relu", c=0.0):
    """One network with one output from nested lists."""
    w = torch.tensor(weight, dtype=torch.float64)
    w = w[:, None] if w.ndim == 1 else w
    return Ensemble(
        w[None],
        torch.tensor(bias, dtype=torch.float64)[None],
        torch.tensor(output, dtype=torch.float64)[None, None],
        torch.full((1, 1), c, dtype=torch.float64),
        ACTIVATIONS[activation],
    )


def moved(ensemble, seed, size, along=None):
    """Another network at a distance of about `size`, in random directions of random kinds."""
    g = np.random.default_rng([seed, 3])
    blocks = {}
    for name in ("hidden_weight", "hidden_bias", "output_weight"):
        block = getattr(ensemble, name)
        change = g.normal(size=tuple(block.shape))
        if g.random() < 0.3:  # one direction for all neurons: the steepest kind of change
            change = np.broadcast_to(change[..., :1], change.shape)
        if g.random() < 0.3:
            change = block.numpy() * g.choice([-1.0, 1.0])
        blocks[name] = block + size * g.choice([0.0, 1.0, 1.0]) * torch.from_numpy(change.copy())
    return Ensemble(**blocks, output_bias=ensemble.output_bias, activation=ensemble.activation)


def constant(ensemble, domain=(-1.0, 1.0), rel_gap=1e-5):
    layers = ensemble.hidden_weight[0], ensemble.hidden_bias[0], ensemble.output_weight[0]
    return bracket(*layers, ensemble.activation, domain=domain, rel_gap=rel_gap)


DRAWN = {
    "seed": st.integers(0, 10_000),
    "m": st.integers(1, 9),
    "activation": st.sampled_from(NAMES),
    "log_size": st.floats(-6, 2),
}
