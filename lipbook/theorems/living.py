"""What the page on the ladder assumes of every network, and when two enclosures agree."""

from __future__ import annotations

import math

import numpy as np

from lipbook.activations import Activation
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.verdict import Hypothesis


def living(ensemble: Ensemble, network: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W (m', d), A (k, m') of the neurons that are not dead, and which they are, (m,).

    Args:
        ensemble: the networks.
        network: which of them.
    """
    hidden, _, output = (np.asarray(each, np.float64) for each in weights_of(ensemble, network))
    alive = np.any(hidden, axis=1) & np.any(output, axis=0)
    return hidden[alive], output[:, alive], alive


def nothing_trivial(alive: np.ndarray, activation: Activation) -> Hypothesis:
    """Check what the page assumes throughout: some neuron is not dead, and σ is not affine.

    Args:
        alive: which neurons are not dead, (m,).
        activation: σ.
    """
    low, high = activation.slope_range
    statement = "some neuron is not dead, and the slopes of the activation differ"
    return Hypothesis("H1", statement, bool(alive.any()) and low < high)


def miss(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return by which factor two enclosures of one number miss each other; at most 1 if they meet.

    The larger of lower end by other upper end, for the two of them.

    Args:
        one: (lower, upper), not negative.
        other: the same.
    """
    return max(_quotient(one[0], other[1]), _quotient(other[0], one[1]))


def _quotient(low: float, high: float) -> float:
    if high > 0.0:
        return low / high
    return 0.0 if low == 0.0 else math.inf
