"""The search on boxes: how it ends, what its certificates prove, and what it does not take."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from lipschitz_box_oracles import enclosed, fault
from lipschitz_oracles import SMOOTH, Network, random_network

from lipbook.lipschitz import Ball
from lipbook.lipschitz.problem import checked_problem
from lipbook.lipschitz.smooth import box_proofs as box_proofs_module
from lipbook.lipschitz.smooth import boxes as boxes_module
from lipbook.lipschitz.smooth.box_bounds import BoxBounds
from lipbook.lipschitz.smooth.box_proofs import BoxCover, Cancellation
from lipbook.lipschitz.smooth.boxes import why_not_boxes

CANCELLED = Network(
    np.array([[2.0, 1.0], [-2.0, -1.0], [0.0, 0.0]]), np.array([0.3, -0.3, 1.0]), np.ones((1, 3))
)


@pytest.mark.parametrize("activation", SMOOTH)
def test_networks_that_are_affine_in_disguise(activation):
    # tanh(z) + tanh(−z) = 0, silu(z) − silu(−z) = z.
    even = activation in ("tanh", "sigmoid")
    net = replace(CANCELLED, output_weight=np.array([[1.0, 1.0 if even else -1.0, 7.0]]))
    found = enclosed(net, activation)
    slope = 0.0 if even else math.sqrt(5.0)
    assert found.lower <= slope * (1 + 1e-15) and slope <= found.upper * (1 + 1e-15)
    assert found.exact and "no neuron changes the slope" in found.basis and fault(found) is None
    if not even:
        assert fault(found, slope * (1 - 1e-12)) == "the constant gradient exceeds it"
    problem = checked_problem(*random_network(1, 3, d=2).parts, activation, (-1.0, 1.0))
    assert Cancellation().fault(problem, 1e9) == "the neurons do not cancel"


@pytest.mark.parametrize("activation", SMOOTH)
def test_a_constant_network_is_exactly_constant(activation):
    for net in [
        Network(np.zeros((2, 2)), np.ones(2), np.ones((1, 2))),
        Network(np.ones((2, 2)), np.ones(2), np.zeros((1, 2))),
        Network(np.ones((3, 2)), np.ones(3), np.array([[0.5, 0.25, -0.75]])),
    ]:
        found = enclosed(net, activation)
        assert (found.lower, found.upper, found.exact) == (0.0, 0.0, True)
        assert fault(found) is None


def test_saturated_networks_end_with_an_honest_bracket():
    net = Network(np.eye(2), np.zeros(2), np.ones((1, 2)))
    found = enclosed(net, "tanh", (20.0, 30.0))
    slope = math.sqrt(2.0) / math.cosh(20.0) ** 2
    assert found.lower <= slope <= found.upper < 1e-12 and "rounding errors" in found.basis
    assert fault(found) is None


def test_a_finer_tolerance_is_kept():
    net = random_network(9, 30, d=2)
    for rel_gap in (1e-2, 1e-4, 1e-6, 1e-9):
        assert enclosed(net, "silu", rel_gap=rel_gap).gap <= rel_gap


def test_the_same_seed_gives_the_same_bits():
    net = random_network(9, 30, d=3)
    assert enclosed(net, "gelu", rel_gap=1e-3) == enclosed(net, "gelu", rel_gap=1e-3)


def test_out_of_time_the_bracket_is_open_and_valid():
    net = random_network(10, 30, d=2)
    truth = enclosed(net)
    found = enclosed(net, time_limit=1e-9)
    assert found.lower <= truth.lower and truth.upper <= found.upper < math.inf
    assert not found.exact and "time limit" in found.basis and fault(found) is None


@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_interrupted_the_bracket_is_open_and_valid(calls, monkeypatch):
    net = random_network(10, 30, d=2)
    truth = enclosed(net)
    plain, counter = BoxBounds.evaluate, count()

    def interrupted(self, low, high):
        if next(counter) == calls:
            raise KeyboardInterrupt
        return plain(self, low, high)

    monkeypatch.setattr(BoxBounds, "evaluate", interrupted)
    found = enclosed(net, rel_gap=1e-12)
    assert found.lower <= truth.upper and truth.lower <= found.upper < math.inf
    assert "interrupted" in found.basis and fault(found) is None


@pytest.mark.parametrize(("name", "value"), [("_MEMORY", 1), ("_NODES", 10)])
def test_a_full_memory_budget_ends_the_search(name, value, monkeypatch):
    monkeypatch.setattr(boxes_module, name, value)
    found = enclosed(random_network(10, 30, d=2), rel_gap=1e-9)
    assert "memory" in found.basis and found.lower <= found.upper < math.inf


def test_a_long_search_climbs_and_is_watched(monkeypatch):
    monkeypatch.setattr(boxes_module, "_LONG", 2)
    monkeypatch.setattr(boxes_module, "_PAUSE", 0.0)
    seen: list[tuple[float, float]] = []
    net = random_network(11, 30, d=3)
    found = enclosed(net, "tanh", watch=lambda lower, upper: seen.append((lower, upper)))
    lowers, uppers = zip(*seen, strict=True)
    assert list(lowers) == sorted(lowers) and list(uppers) == sorted(uppers, reverse=True)
    assert lowers[-1] == found.lower and uppers[-1] == found.upper and found.exact


def test_a_tampered_certificate_is_refused(monkeypatch):
    found = enclosed(random_network(12, 20, d=2), rel_gap=1e-3)
    problem, proof = found.certificate.problem, found.certificate.proof
    assert proof.fault(problem, found.upper) is None
    # Coarser cuts are no harm: pieces on which the bound does not hold are cut by the check.
    assert BoxCover((bytes([255]),)).fault(problem, found.upper) is None
    for levels in [(), (bytes([0]),), (bytes([7]),), (bytes([0]), bytes([255])), (b"\xff\xff",)]:
        assert BoxCover(levels).fault(problem, found.upper) == "the cuts do not fit together"
    assert "exceeds it" in proof.fault(problem, found.lower * (1 - 1e-12))
    monkeypatch.setattr(box_proofs_module, "_MOST_BOXES", 3)
    assert "did not suffice" in proof.fault(problem, found.upper)


def test_what_does_not_fit_is_named():
    def reason(d, activation, domain, width=3):
        return why_not_boxes(
            checked_problem(*random_network(0, width, d=d).parts, activation, domain)
        )

    assert reason(2, "tanh", (-1.0, 1.0)) is None and reason(8, "gelu", Ball(0.0, 1.0)) is None
    assert reason(2, "relu", (-1.0, 1.0)) == "needs a smooth activation. Got 'relu'"
    assert reason(1, "tanh", (-1.0, 1.0)) == "needs 2 to 8 inputs. Got 1"
    assert reason(9, "tanh", (-1.0, 1.0)) == "needs 2 to 8 inputs. Got 9"
    assert reason(2, "tanh", None) == "needs a box or a Ball as domain. Got the whole space"
    assert "needs width·outputs·inputs³" in reason(8, "tanh", (-1.0, 1.0), width=2**17)
