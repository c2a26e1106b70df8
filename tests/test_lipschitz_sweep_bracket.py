"""What the sweep answers: cancellation, witnesses, certificates, interruption, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lipschitz_oracles import KINKS, Network, random_network
from lipschitz_planes import (
    DOMAINS,
    NETS,
    encloses_largest,
    grams,
    is_right,
    problem_of,
    swept,
    through,
)

import lipbook.lipschitz.sweeping.sweep as sweep
from lipbook.lipschitz import Ball
from lipbook.lipschitz.jacobians import witness_at
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.semidefinite.sdp_proof import Multipliers
from lipbook.lipschitz.sweeping.recount import LARGEST_RECOUNT, Recount, has_gradient
from lipbook.lipschitz.sweeping.sweep import exact_two_inputs, sweep_bracket, why_not_sweep


@pytest.mark.parametrize("k", [1, 2, 3])
def test_cancellation_is_settled_in_whole_numbers(k):
    base = random_network(10, 6, 2, k=k)
    w, b, a = base.parts
    # 1e16·(relu(z) − relu(z)) hides the rest from floating point.
    hidden = Network(
        np.concatenate([w, w[:2], w[:2]]),
        np.concatenate([b, b[:2], b[:2]]),
        np.concatenate([a, 1e16 * a[:, 2:4], -1e16 * a[:, 2:4]], axis=1),
    )
    for domain in (None, (-1.0, 1.0), Ball(0.0, 1.0)):
        plain, found = swept(base, domain=domain), swept(hidden, domain=domain)
        assert found.exact
        assert found.lower <= plain.upper and plain.lower <= found.upper
        close = swept(base, domain=domain, rel_gap=1e-15)
        assert close.upper <= close.lower * (1 + 1e-15) and close.lower >= plain.lower
        assert is_right(problem_of(base, domain=domain), close)


def test_constant_networks_have_the_constant_zero():
    w, b, a = random_network(11, 30, 2).parts
    for sign in (1.0, -1.0):
        net = Network(np.tile(w, (2, 1)), np.tile(b, 2), np.concatenate([a, -a], axis=1))
        assert swept(net).upper == 0.0 and swept(net).exact
        # |z| = |−z|: opposite orientation.
        net = replace(net, hidden_weight=np.concatenate([w, sign * w]))
        net = replace(net, hidden_bias=np.concatenate([b, sign * b]))
        assert swept(net, "abs").upper == 0.0


def test_affine_networks_keep_their_slope():
    w, b, a = random_network(12, 30, 2).parts
    net = Network(np.concatenate([w, -w]), np.concatenate([b, -b]), np.concatenate([a, -a], axis=1))
    found = swept(net)  # Σ a_j z_j
    assert found.exact and found.lower == pytest.approx(np.linalg.norm(a @ w), rel=1e-9)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_witness_attains_the_constant(domain):
    for seed in range(8):
        problem = problem_of(random_network(seed, 25, 2, k=1 + seed % 2), "relu", domain)
        found = sweep_bracket(problem, Options())
        seen = witness_at(problem, np.array(found.witness.point))
        assert seen is not None and seen.gradient_norm >= found.lower * (1 - 1e-9)
        assert (seen.pattern == found.witness.pattern).all()
        assert found.witness.gradient_norm == found.lower
        point = np.array(found.witness.point)
        if isinstance(domain, Ball):
            assert np.linalg.norm(point - np.broadcast_to(domain.center, 2)) < domain.radius
        elif domain is not None:
            low, high = (np.broadcast_to(end, 2) for end in domain)
            assert (low < point).all() and (point < high).all()


def test_the_pattern_of_a_cell_without_floats_is_its_own():
    for name in ("one point", "almost one point", "nearly parallel"):
        net = NETS[name]
        found = swept(net, "abs")
        slopes = np.where(found.witness.pattern, 1.0, -1.0)
        norm = np.linalg.norm((net.output_weight * slopes) @ net.hidden_weight)
        assert norm == pytest.approx(found.lower, rel=1e-9), name
        assert np.isfinite(found.witness.point).all()


@pytest.mark.parametrize("activation", KINKS)
@pytest.mark.parametrize("name", NETS)
def test_the_certificate_proves_the_bound_and_nothing_lower(name, activation):
    for domain in DOMAINS:
        found = swept(NETS[name], activation, domain)
        problem, proof = found.certificate.problem, found.certificate.proof
        assert problem.domain == domain
        assert proof.fault(problem, found.upper) is None
        assert has_gradient(problem, found.lower)
        if found.lower > 0.0:
            assert "gradient above" in proof.fault(problem, found.lower * (1 - 1e-9))
            assert not has_gradient(problem, found.upper * (1 + 1e-9))


def test_the_certificate_agrees_with_a_naive_count():
    for seed in range(6):
        problem = problem_of(random_network(seed, 6, 2, k=1 + seed % 3), "abs", DOMAINS[seed % 5])
        cells = grams(problem)
        for factor in (0.3, 0.9, 1.0, 1.1):
            bound = factor * float(max(a + c for a, _, c in cells)) ** 0.5
            proved = Recount().fault(problem, bound) is None
            assert proved == encloses_largest(cells, 0.0, bound)
            assert has_gradient(problem, bound) == encloses_largest(cells, bound, 1e300)


def test_the_certificate_says_what_it_cannot_check():
    large = problem_of(random_network(0, LARGEST_RECOUNT + 1, 2))
    assert "takes too long" in Recount().fault(large, 1e9)
    assert "two inputs only" in Recount().fault(problem_of(random_network(0, 4, 3)), 1e9)
    smooth = problem_of(random_network(0, 4, 2), "tanh")
    assert "two inputs only" in Recount().fault(smooth, 1e9)


@pytest.fixture
def small_steps(monkeypatch):
    monkeypatch.setattr(sweep, "_AT_ONCE", 1)
    monkeypatch.setattr(sweep, "_SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.mark.parametrize("domain", [None, (-1.0, 1.0), Ball(0.0, 1.0)])
def test_a_bracket_is_valid_at_any_interruption(domain, small_steps, monkeypatch):
    net = random_network(15, 12, 2, k=2)
    full = swept(net, domain=domain)
    bounds = []
    for stop in range(0, 25, 4):
        calls = iter(range(1000))
        late = property(lambda _, calls=calls, stop=stop: next(calls) >= stop)
        with monkeypatch.context() as patch:
            patch.setattr(Options, "out_of_time", late)
            found = swept(net, domain=domain)
        assert found.lower <= full.upper and full.lower <= found.upper
        assert found.verified and (found.exact or "interrupted" in found.basis)
        problem, proof = found.certificate.problem, found.certificate.proof
        assert isinstance(proof, Recount if found.exact else Multipliers)
        assert proof.fault(problem, found.upper) is None
        assert (found.witness is None) == (found.lower == 0.0)
        bounds.append((found.exact, found.lower))
    assert not bounds[0][0] and bounds[-1][0] and bounds == sorted(bounds)


def test_an_interruption_among_whole_numbers_keeps_the_bracket(monkeypatch):
    w, b, a = random_network(16, 6, 2).parts
    net = Network(np.tile(w, (2, 1)), np.tile(b, 2), np.concatenate([a, 1e-14 - a], axis=1))
    full = swept(net)
    for stop in range(1, 8):
        calls = iter(range(1000))
        late = property(lambda _, calls=calls, stop=stop: next(calls) >= stop)
        with monkeypatch.context() as patch:
            patch.setattr(Options, "out_of_time", late)
            found = swept(net)
        assert found.lower <= full.upper and full.lower <= found.upper
    assert full.exact


def test_ctrl_c_keeps_the_bracket(small_steps):
    net = random_network(17, 12, 2)
    full, seen = swept(net), []

    def watch(lower, upper):
        seen.append((lower, upper))
        if len(seen) == 5:
            raise KeyboardInterrupt

    found = swept(net, watch=watch)
    assert len(seen) == 5 and found.lower == seen[-1][0] and found.upper == seen[-1][1]
    assert all(low <= full.upper and full.lower <= high for low, high in seen)
    assert not found.exact and found.witness is not None


def test_wide_networks_close_to_tolerance():
    w, b, a = random_network(18, 300, 2).parts
    nets = {
        "random": Network(w, b, a),
        "zero biases": Network(w, 0 * b, a),
        "one point": through([0.3, 0.7], Network(w[:60], b[:60], a[:, :60])),
        "whole": Network(np.round(9 * w), np.round(9 * b), np.round(100 * a)),
        "halves": Network(
            np.concatenate([w[:150], -w[:150]]), np.concatenate([b[:150], -b[:150]]), a
        ),
        "float32": Network(*(x.astype(np.float32).astype(float) for x in (w, b, a))),
    }
    for name, net in nets.items():
        for domain in (None, (-1.0, 1.0), Ball(0.0, 1.0)):
            found = swept(net, "relu", domain)
            assert found.exact and found.gap < 1e-9, name


def test_the_wrapper_answers_like_the_solver():
    w, b, a = random_network(19, 10, 2).parts
    found = exact_two_inputs(w.tolist(), b.tolist(), a[0].tolist(), "abs", ([-1, -1], [1, 2]))
    expected = swept(Network(w, b, a), "abs", ((-1.0, -1.0), (1.0, 2.0)))
    assert (found.lower, found.upper) == (expected.lower, expected.upper)
    assert found.domain == ((-1.0, -1.0), (1.0, 2.0)) and found.basis


@pytest.mark.parametrize(
    ("net", "activation", "message"),
    [
        (random_network(0, 4, 2), "tanh", "piecewise-linear activation. Got 'tanh'"),
        (random_network(0, 4, 1), "relu", "two inputs. Got 1 input"),
        (random_network(0, 4, 3), "relu", "at most two inputs in use. Got 3"),
    ],
)
def test_networks_that_do_not_fit(net, activation, message):
    assert message in why_not_sweep(problem_of(net, activation))
    with pytest.raises(ValueError, match="`hidden_weight` and `activation` must fit"):
        exact_two_inputs(*net.parts, activation)
    assert why_not_sweep(problem_of(random_network(0, 4, 2))) is None
