"""Branch and bound over patterns: against brute force, sorting and itself; its proofs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import CASES, KINKS, Network, network, random_network
from scipy.optimize import linprog

from lipbook.lipschitz import Ball, exact_piecewise_linear, pattern_upper_bound
from lipbook.lipschitz.branching import search as search_module
from lipbook.lipschitz.branching.solver import branch_bracket, exact_by_branching
from lipbook.lipschitz.branching.tree import Tree
from lipbook.lipschitz.problem import Options, checked_problem


def brute_force(net: Network, activation: str, domain=None) -> float:
    """The largest gradient over all patterns whose open cell has a point, one LP for each."""
    w, b, a = net.parts
    d, largest = w.shape[1], 0.0
    left, right = KINKS[activation]
    for signs in itertools.product((-1.0, 1.0), repeat=len(b)):
        s = np.array(signs)
        gradient = np.linalg.norm((a * np.where(s > 0, right, left)) @ w, 2)
        if gradient <= largest:
            continue
        # max t with s(wx + b) ≥ t‖w‖, t ≤ 1; rows of zeros ask for nothing of x
        size = np.linalg.norm(w, axis=1)
        live = size > 0
        if (s[~live] * b[~live] < 0).any():
            continue
        rows = np.concatenate([-(s[:, None] * w), size[:, None]], axis=1)[live]
        limits = (s * b)[live]
        bounds = [(None, None)] * d if domain is None else [domain] * d
        found = linprog([0.0] * d + [-1.0], rows, limits, bounds=[*bounds, (None, 1.0)])
        if found.status == 0 and -found.fun > 1e-9:
            largest = float(gradient)
    return largest


def assert_proved(found) -> None:
    assert found.verified and found.certificate.proof.fault(
        found.certificate.problem, found.upper
    ) is None  # fmt: skip


PLANE = {
    "random": random_network(0, 7, 2),
    "zero biases": replace(random_network(1, 7, 2), hidden_bias=np.zeros(7)),
    "three inputs": random_network(2, 7, 3),
    "two outputs": random_network(3, 6, 3, 2),
    "duplicates": Network(
        np.array([[1.0, 2], [1, 2], [-1, -2], [2, 4], [0, 1], [1, -1]]),
        np.array([0.5, 0.5, -0.5, 1.0, 0, 0.25]),
        np.array([[1.0, -2, 0.5, 1, 1, -1]]),
    ),
    "integers": Network(
        np.array([[1.0, 0], [0, 1], [1, 1], [1, -1], [1, 0], [0, 0], [2, 1]]),
        np.array([0.0, 0, 0, 0, -1, 1, 0]),
        np.array([[1.0, -1, 2, 1, -2, 5, 1]]),
    ),
    "rank one": Network(
        np.outer([1.0, -2, 3, 1], [1, 2]), np.array([0.1, 0.2, -1, 0]), np.ones((1, 4))
    ),
    "badly scaled": Network(
        random_network(4, 6, 2).hidden_weight * 10.0 ** np.array([-8, -4, 0, 3, 6, 8])[:, None],
        random_network(4, 6, 2).hidden_bias * 10.0 ** np.array([-8, -4, 0, 3, 6, 8]),
        random_network(4, 6, 2).output_weight * 10.0 ** np.array([8, 4, 0, -3, -6, -8]),
    ),
    "one neuron": Network(np.array([[3.0, 4]]), np.array([1.0]), np.array([[-2.0]])),
}


@pytest.mark.parametrize("domain", [None, (-0.7, 0.9)])
@pytest.mark.parametrize("activation", sorted(KINKS))
@pytest.mark.parametrize("case", sorted(PLANE))
def test_brute_force_agrees(case, activation, domain):
    net = PLANE[case]
    found = exact_by_branching(*net.parts, activation, domain)
    assert found.exact, found.basis
    assert_proved(found)
    truth = brute_force(net, activation, domain)
    assert found.lower * (1 - 1e-9) <= truth <= found.upper * (1 + 1e-9)


@pytest.mark.parametrize("domain", [None, (-1.0, 0.5), Ball(0.25, 1.0)])
@pytest.mark.parametrize("activation", sorted(KINKS))
@pytest.mark.parametrize("case", sorted(CASES))
def test_sorting_agrees(case, activation, domain):
    net = CASES[case]
    found = exact_by_branching(*net.parts, activation, domain)
    known = exact_piecewise_linear(*(part[None] for part in net.parts), activation, domain)
    assert found.exact
    assert_proved(found)
    assert found.lower <= known.upper[0] and known.lower[0] <= found.upper


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9), st.integers(1, 2))
def test_integer_weights_agree_with_brute_force(seed, d, width, k):
    generator = np.random.default_rng(seed)
    net = Network(
        generator.integers(-2, 3, (width, d)).astype(float),
        generator.integers(-1, 2, width).astype(float),
        generator.integers(-2, 3, (k, width)).astype(float),
    )
    found = exact_by_branching(*net.parts)
    assert found.exact
    assert_proved(found)
    truth = brute_force(net, "relu")
    assert found.lower * (1 - 1e-9) <= truth <= found.upper * (1 + 1e-9)


def test_a_wrong_constant_would_be_seen():
    """The bound that ignores biases is too large here: brute force tells the two apart."""
    net = PLANE["random"]
    assert brute_force(net, "relu") < 0.99 * pattern_upper_bound(*net.layers)


@pytest.mark.parametrize("seed", range(3))
def test_invariances(seed):
    net = random_network(seed, 14, 3)
    w, b, a = net.parts
    base = exact_by_branching(w, b, a)
    generator = np.random.default_rng(seed)
    order = generator.permutation(14)
    scale = 10.0 ** generator.uniform(-3, 3, 14)
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    for other in (
        (w[order], b[order], a[:, order]),
        (w * scale[:, None], b * scale, a / scale),
        (w @ rotation, b, a),
        (w, b + w @ np.array([1.0, -2.0, 0.5]), a),
        (np.concatenate([w, -w[:2]]), np.append(b, -b[:2]), np.append(a, [[0, 0]], axis=1)),
    ):
        found = exact_by_branching(*other)
        assert found.exact and found.lower == pytest.approx(base.lower, rel=3e-6)


@pytest.mark.parametrize("seed", range(4))
def test_domains_are_nested(seed):
    net = random_network(seed, 16, 3)
    radius = 0.8
    inner = exact_by_branching(*net.parts, domain=Ball(0.0, radius))
    box = exact_by_branching(*net.parts, domain=(-radius, radius))
    outer = exact_by_branching(*net.parts, domain=Ball(0.0, radius * np.sqrt(3) * (1 + 1e-9)))
    whole = exact_by_branching(*net.parts)
    for small, large in itertools.pairwise([inner, box, outer, whole]):
        assert small.exact and small.lower <= large.upper
        assert_proved(small)
        assert np.all(np.abs(small.witness.point) <= radius * np.sqrt(3) * (1 + 1e-8))


@pytest.mark.parametrize("seed", range(6))
def test_with_more_inputs_than_neurons_every_pattern_occurs(seed):
    net = random_network(seed, 9, 12)
    found = exact_by_branching(*net.parts)
    assert found.exact, found.basis
    formal = pattern_upper_bound(*net.layers)
    assert found.lower <= formal and formal == pytest.approx(found.upper, rel=3e-6)
    assert_proved(found)


def test_a_domain_with_no_kink_inside_is_affine():
    net = network([1, -1, 2], [10, 10, -20], [1, 2, 3])
    for domain in ((-1.0, 1.0), Ball(0.0, 1.0)):
        found = exact_by_branching(*net.parts, domain=domain)
        assert found.exact and found.lower == pytest.approx(1.0)
    assert exact_by_branching(np.zeros((2, 3)), [1, -1], [1.0, 1.0]).upper == 0.0


def test_far_and_large_numbers():
    net = random_network(5, 8, 2)
    w, b, a = net.parts
    base = exact_by_branching(w, b, a)
    for factor in (1e100, 1e-100):
        found = exact_by_branching(w * factor, b * factor, a)
        assert found.exact and found.lower == pytest.approx(base.lower * factor, rel=3e-6)
        assert exact_by_branching(w, b * factor, a).exact
    shifted = exact_by_branching(w, b - w @ np.full(2, 1e6), a, domain=(1e6 - 1, 1e6 + 1))
    near = exact_by_branching(w, b, a, domain=(-1, 1))
    assert shifted.exact and shifted.lower == pytest.approx(near.lower, rel=1e-5)


# --- interruption


def stopped(monkeypatch, after: int, error: type[BaseException] | None):
    """Let the search expand so many batches, then run out of time or be interrupted."""
    calls = itertools.count()
    original = search_module.Search._expand

    def expand(self, cells):
        original(self, cells)
        if next(calls) + 1 >= after:
            if error is not None:
                raise error
            object.__setattr__(self.options, "time_limit", 1e-9)

    monkeypatch.setattr(search_module.Search, "_expand", expand)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_an_interrupted_search_returns_a_proved_bracket(monkeypatch, after, error):
    net = random_network(3, 30, 5)
    truth = exact_by_branching(*net.parts)
    assert truth.exact
    stopped(monkeypatch, after, error)
    found = exact_by_branching(*net.parts)
    assert not found.exact and found.gap > 1e-3
    assert ("time limit" if error is None else "interrupted") in found.basis
    assert_proved(found)
    assert found.lower <= truth.upper and truth.lower <= found.upper


@pytest.mark.parametrize("after", [4, 40])
@pytest.mark.parametrize("method", ["add", "_forget", "_keep", "_bound"])
def test_an_interrupt_may_strike_anywhere(monkeypatch, method, after):
    net = random_network(3, 24, 4)
    truth = exact_by_branching(*net.parts)
    owner = Tree if method == "add" else search_module.Search
    calls, original = itertools.count(), getattr(owner, method)

    def struck(self, *args, **kwargs):
        if next(calls) + 1 == after:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, method, struck)
    found = exact_by_branching(*net.parts)
    assert_proved(found)
    assert found.lower <= truth.upper and truth.lower <= found.upper


def test_the_memory_budget_ends_the_search(monkeypatch):
    monkeypatch.setattr(search_module, "_MEMORY", 1e4)
    found = exact_by_branching(*random_network(3, 30, 5).parts)
    assert not found.exact and "budget" in found.basis
    assert_proved(found)


def test_a_search_can_be_watched(monkeypatch):
    seen = []
    monkeypatch.setattr(search_module, "_PAUSE", 0.0)
    problem = checked_problem(*random_network(3, 24, 5).parts)
    found = branch_bracket(problem, Options(watch=lambda *pair: seen.append(pair)))
    assert len(seen) > 1 and found.exact
    for (low, high), (later_low, later_high) in itertools.pairwise(seen):
        assert low <= later_low <= later_high * (1 + 1e-9) and later_high <= high * (1 + 1e-9)


def test_smooth_activations_are_refused():
    with pytest.raises(ValueError, match=r"`activation` must be piecewise linear.*Got 'tanh'"):
        exact_by_branching([[1.0]], [0.0], [1.0], "tanh")
