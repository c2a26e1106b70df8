"""Every rung of the ladder of bounds for one network, in any number of inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz import (
    LipschitzBracket,
    ascent_lower_bound,
    bracket,
    centred_upper_bound,
    formal_upper_bound,
    path_norm_upper_bound,
    product_upper_bound,
    sampled_witness,
    sdp_bracket,
)
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import formal_network, weights_of

# Climbs start at the steepest sample and at so many more points.
_STARTS = 15


@dataclass(frozen=True)
class Rungs:
    """Hold the rungs of one network, the lowest first.

    Attributes:
        sampled: steepest gradient among the sample points off the kinks.
        climbed: what climbing from there reaches; never less.
        bracket: of the constant on the domain.
        formal: N(f), rounded up; None if there are several outputs, or it was not found in time.
        sdp: L_sdp, rounded up.
        sdp_lower: a lower bound of L_sdp.
        centred: |s̄|‖AW‖ + h‖A‖‖W‖.
        path: L_σΣ‖A_j‖‖w_j‖.
        product: L_σ‖A‖‖W‖.
    """

    sampled: float
    climbed: float
    bracket: LipschitzBracket
    formal: float | None
    sdp: float
    sdp_lower: float
    centred: float
    path: float
    product: float

    @property
    def loss(self) -> float | None:
        """Return L_sdp/N(f), or None where N(f) is not known or 0."""
        return self.sdp / self.formal if self.formal else None

    @property
    def exact(self) -> bool:
        """Tell whether the bracket of the constant is closed."""
        return self.bracket.exact

    def named(self) -> dict[str, float]:
        """Return {name of a rung: number}; the upper end of the bracket stands for the constant."""
        rungs = {
            "sampled": self.sampled,
            "climbed": self.climbed,
            "exact": self.bracket.upper,
            "formal": self.formal,
            "SDP": self.sdp,
            "centred": self.centred,
            "path norm": self.path,
            "product": self.product,
        }
        return {name: value for name, value in rungs.items() if value is not None}


def rungs_of(
    ensemble: Ensemble, network: int, domain: Any, points: np.ndarray, time_limit: float = 60.0
) -> Rungs:
    """Return every rung of one network.

    Args:
        ensemble: the networks.
        network: which of them.
        domain: None, (low, high) or a `Ball`.
        points: sample points in the domain, (n, d).
        time_limit: of the search for the constant, s; as much again for the formal constant.

    Returns:
        The `Rungs`.
    """
    hidden, bias, output = weights_of(ensemble, network)
    activation = ensemble.activation
    witness = sampled_witness(hidden, bias, output, points, activation, domain)
    sampled, starts = 0.0, points[:_STARTS]
    if witness is not None:
        sampled, starts = witness.gradient_norm, np.vstack([witness.point, starts])
    climbed = ascent_lower_bound(hidden, bias, output, activation, domain, starts)
    relaxed = sdp_bracket(hidden, output, activation)
    return Rungs(
        sampled=sampled,
        climbed=climbed,
        bracket=bracket(hidden, bias, output, activation, domain, time_limit=time_limit),
        formal=formal_constant(ensemble, network, time_limit),
        sdp=relaxed.upper,
        sdp_lower=relaxed.lower,
        centred=centred_upper_bound(hidden, output, activation),
        path=path_norm_upper_bound(hidden, output, activation),
        product=product_upper_bound(hidden, output, activation),
    )


def formal_constant(ensemble: Ensemble, network: int, time_limit: float = 60.0) -> float | None:
    """Return N(f) of a network with one output, rounded up, or None if it is not found.

    Args:
        ensemble: the networks.
        network: which of them.
        time_limit: of the search, s.

    Returns:
        The formal constant to a relative 10⁻⁶; None with several outputs or out of time.

    References:
        The book's proposition `prop-formal`.
    """
    hidden, _, output = weights_of(ensemble, network)
    if ensemble.output_dim != 1:
        return None
    if ensemble.input_dim == 1:
        return formal_upper_bound(hidden, output, ensemble.activation)
    twin = formal_network(hidden, output, ensemble.activation)
    found = bracket(*twin, domain=None, time_limit=time_limit)
    return found.upper if found.exact else None


def ratios_to_exact(found: Sequence[Rungs]) -> dict[str, np.ndarray]:
    """Return each rung of several networks, divided by the network's own constant.

    Args:
        found: the rungs of the networks.

    Returns:
        {name of a rung: (networks,)}, without networks that are flat on the domain or, for the
        formal constant, those for which it was not found.
    """
    steep = [each.named() for each in found if each.bracket.upper > 0.0]
    names = dict.fromkeys(name for each in found for name in each.named())
    return {
        name: np.array([rungs[name] / rungs["exact"] for rungs in steep if name in rungs])
        for name in names
    }


def with_activation(ensemble: Ensemble, network: int, activation: str | Activation) -> Ensemble:
    """Return one network as an ensemble of its own, with another activation.

    Args:
        ensemble: the networks.
        network: which of them.
        activation: σ, by name or as an `Activation`.

    Returns:
        An `Ensemble` of one network.
    """
    return replace(ensemble.select([network]), activation=get_activation(activation))
