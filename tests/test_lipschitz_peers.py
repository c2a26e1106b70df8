"""The SDP bound against values of LipSDP that other people's solvers found (a stored fixture).

`python -m benchmarks.lipsdp_fixture` makes the fixture: cvxpy with CVXOPT and CLARABEL at tight
tolerances, on the published forms of LipSDP and on the short one behind `sdp_bracket`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FIXTURE = Path(__file__).parent / "fixtures" / "lipsdp.json"
NETWORKS: list[dict[str, Any]] = json.loads(FIXTURE.read_text(encoding="utf-8"))["networks"]
each_network = pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["name"])

ABOVE, BELOW = 1e-4, 1e-6


def agrees(value: float, peer: float) -> bool:
    """Whether a bound is the peer's value, up to 1e-4 above it and 1e-6 below it."""
    return bool(peer * (1.0 - BELOW) <= value <= peer * (1.0 + ABOVE))


def layers(network: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(network["hidden_weight"]), np.array(network["output_weight"])


@each_network
def test_the_sdp_bound_is_the_peers_value(network: dict[str, Any]) -> None:
    from lipbook.lipschitz import sdp_bracket

    found = sdp_bracket(*layers(network))
    assert agrees(found.upper, network["value"])
    # The value lies in the bracket, up to the accuracy of the peers.
    assert found.lower <= network["value"] * (1.0 + BELOW)


@each_network
def test_it_does_not_depend_on_order_scale_or_rotation(network: dict[str, Any]) -> None:
    from lipbook.lipschitz import sdp_bracket

    hidden, output = layers(network)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(hidden))
    factor = 2.0 ** generator.integers(-3, 4, len(hidden))
    rotation, _ = np.linalg.qr(generator.normal(size=(hidden.shape[1],) * 2))
    moved = (hidden * factor[:, None])[order] @ rotation, (output / factor)[:, order]
    assert agrees(sdp_bracket(*moved).upper, network["value"])


def test_the_fixture_covers_what_it_should() -> None:
    assert len(NETWORKS) >= 12
    assert {len(network["output_weight"]) for network in NETWORKS} == {1, 2, 3}
    assert max(len(network["hidden_weight"]) for network in NETWORKS) == 50
    changes = {network["recipe"]["change"] for network in NETWORKS}
    assert changes == {"", "duplicate", "opposite", "zero", "scale", "rank"}
    for network in NETWORKS:
        peers = network["values"]
        assert {"lmi CVXOPT", "lmi CLARABEL"} <= peers.keys()
        assert np.ptp(list(peers.values())) <= BELOW * network["value"]


@each_network
def test_a_worse_multiplier_and_a_wrong_formula_would_be_seen(network: dict[str, Any]) -> None:
    """Uniform multipliers are a bound too, and lie above the value; half the matrix lies below."""
    hidden, output = layers(network)
    norms = [np.linalg.norm(matrix, 2) for matrix in (output @ hidden, output, hidden)]
    uniform = (norms[0] + norms[1] * norms[2]) / 2.0
    if network["name"] != "one neuron":
        assert not agrees(uniform, network["value"]) and uniform > network["value"]
    assert not agrees(norms[0] / 2.0, network["value"])
