"""Enclosures for smooth networks of one input: closed forms, 50-digit arithmetic, sampling."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import (
    CASES,
    SMOOTH,
    Network,
    network,
    precise_curvature,
    precise_norm,
    precise_slope,
    random_network,
)

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball, bracket
from lipbook.lipschitz import enclosure as enclosure_module
from lipbook.lipschitz.cells import CellBounds
from lipbook.lipschitz.enclosure import _split, enclosure_bracket
from lipbook.lipschitz.jacobians import SLOPE_ERROR
from lipbook.lipschitz.problem import Options, checked_problem
from lipbook.lipschitz.slope_sums import slope_sum


def points_of_interest() -> np.ndarray:
    generator = np.random.default_rng(0)
    near = generator.normal(size=150) * 2.0
    far = generator.uniform(-60, 60, size=60)
    special = [0.0, 1e-300, -1e-9, 1e-9, 2.0**0.5, -(2.0**0.5), 2.399357280515468, 700.0, -745.0]
    return np.concatenate([near, far, special, [-1e8, 1e8]])


@pytest.mark.parametrize("activation", SMOOTH)
def test_slopes_and_curvatures_are_as_accurate_as_the_proof_assumes(activation):
    sigma = ACTIVATIONS[activation]
    z = points_of_interest()
    with mpmath.workdps(50):
        for point, slope, curvature in zip(z, sigma.slope(z), sigma.curvature(z), strict=True):
            # A quarter of what is assumed: other processors' libraries may be a little worse.
            assert abs(precise_slope(activation, point) - slope) <= SLOPE_ERROR / 4
            assert abs(precise_curvature(activation, point) - curvature) <= SLOPE_ERROR / 4


@pytest.mark.parametrize("activation", SMOOTH)
def test_slopes_are_monotone_between_the_turns_that_the_proof_uses(activation):
    sigma = ACTIVATIONS[activation]
    edges = [-40.0, *sigma.slope_turns, 40.0]
    for left, right in pairwise(edges):
        slopes = sigma.slope(np.linspace(left, right, 4001))
        steps = np.diff(slopes)
        assert (steps >= -SLOPE_ERROR).all() or (steps <= SLOPE_ERROR).all()
    for z, limit in zip((-40.0, 40.0), sigma.slope_limits, strict=True):
        assert abs(float(sigma.slope(np.float64(z))) - limit) < 1e-14


def sampled_norms(net: Network, activation: str, x: np.ndarray) -> np.ndarray:
    """‖f'(x)‖ in plain floating point."""
    w, b, a = net.parts
    slopes = ACTIVATIONS[activation].slope(x[:, None] * w[:, 0] + b)
    return np.linalg.norm(slopes @ (a * w[:, 0]).T, axis=1)


CLOSED = [
    ("tanh", network([1], [0], [1]), None, 1.0),
    ("tanh", network([2], [1], [-3]), None, 6.0),
    ("tanh", network([1], [0], [1]), (1.0, 2.0), 1.0 / math.cosh(1.0) ** 2),
    ("sigmoid", network([1], [3], [1]), None, 0.25),
    ("sigmoid", network([1, 1], [0, 0], [1, 2]), None, 0.75),
    ("softplus", network([1], [0], [1]), None, 1.0),
    ("softplus", network([1], [0], [1]), (-1.0, 0.0), 0.5),
    ("softplus", network([1, -1], [0, 0], [1, 1]), None, 1.0),
    ("gelu", network([1], [0], [1]), None, 1.1289041451851549),
    ("gelu", network([1], [0], [1]), (-1.0, 0.0), 0.5),
    ("silu", network([1], [0], [1]), None, 1.0998393201288669),
    ("silu", network([1, -1], [0.5, -0.5], [2, -2]), None, 2.0),
    ("tanh", network([1], [0], [[3], [4]]), None, 5.0),
]


@pytest.mark.parametrize(("activation", "net", "domain", "expected"), CLOSED)
def test_closed_forms(activation, net, domain, expected):
    found = bracket(*net.parts, activation, domain)
    assert found.lower <= expected * (1 + 1e-14) and expected <= found.upper * (1 + 1e-14)
    assert found.exact and found.verified and found.method == "enclosure"


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("name", CASES)
def test_closes_to_tolerance_and_contains_dense_samples(name, activation):
    net = CASES[name]
    for domain in [None, (-3.0, 3.0), (0.5, 0.75)]:
        found = bracket(*net.parts, activation, domain)
        assert found.exact, found
        low, high = (-8.0, 8.0) if domain is None else domain
        norms = sampled_norms(net, activation, np.linspace(low, high, 3001))
        assert norms.max() <= found.upper * (1 + 1e-9) + 1e-300
        if domain is not None:
            # Slopes change by at most sup|f''|·step between samples.
            assert norms.max() >= found.lower * (1 - 1e-3)
            assert low <= found.witness.point[0] <= high


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("name", ["random 1", "two outputs", "badly scaled", "opposite slopes"])
def test_the_lower_bound_holds_in_fifty_digits(name, activation):
    net = CASES[name]
    found = bracket(*net.parts, activation)
    with mpmath.workdps(50):
        at_witness = precise_norm(net, activation, found.witness.point[0])
    assert found.lower <= at_witness <= found.upper
    assert at_witness <= found.lower * (1 + 1e-9)


@pytest.mark.parametrize("activation", SMOOTH)
def test_every_cell_bound_holds_in_fifty_digits(activation):
    net = random_network(3, 8, k=2)
    problem = checked_problem(*net.parts, activation, None)
    terms = slope_sum(problem, None)
    generator = np.random.default_rng(1)
    low = generator.uniform(-5, 5, 24)
    high = low + 10.0 ** generator.uniform(-9, 1, 24)
    low, high = np.append(low, [3.0, -np.inf]), np.append(high, [np.inf, -3.0])
    found = CellBounds(terms).evaluate(low, high)
    scale = mpmath.mpf(2) ** terms.value_exponent
    with mpmath.workdps(50):
        for i in range(low.size):
            left, right = max(low[i], -50.0), min(high[i], 50.0)
            inside = [left, right, *np.linspace(left, right, 9)[1:-1]]
            back = 2.0**-terms.input_exponent
            norms = [precise_norm(net, activation, mpmath.mpf(x) * back) / scale for x in inside]
            assert max(norms) <= found.upper[i]
            center = precise_norm(net, activation, mpmath.mpf(found.center[i]) * back) / scale
            assert found.lower[i] <= center


def test_a_wrong_constant_of_the_activation_is_seen():
    # The negative control of the Taylor bound: without its hypothesis on σ''' it loses the maximum.
    low, high = np.array([0.5]), np.array([3.5])
    truth = 1.0 / math.cosh(0.5) ** 2

    def bound(sigma):
        terms = slope_sum(checked_problem([[1.0]], [0.0], [1.0], sigma), None)
        scale = 2.0**-terms.input_exponent
        found = CellBounds(terms).evaluate(low / scale, high / scale)
        return math.ldexp(found.upper[0], terms.value_exponent)

    assert bound(ACTIVATIONS["tanh"]) >= truth
    liar = replace(ACTIVATIONS["tanh"], name="liar", curvature_lipschitz=1e-3)
    assert bound(liar) < truth


def test_a_supremum_only_approached_at_infinity():
    # softplus(x) + softplus(x/8): slopes 1 + 1/8 as x → ∞, attained nowhere.
    found = bracket(*network([1, 0.125], [0, 0], [1, 1]).parts, "softplus")
    assert found.exact and found.lower < 1.125 <= found.upper
    assert found.witness.point[0] > 50.0
    left = bracket(*network([-1], [7], [2]).parts, "gelu", (-np.float64(50), 2.0))
    assert left.upper >= 2.0


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(
    "net",
    [
        network([0, 0], [1, -1], [1, 2]),
        network([1, 2], [1, -1], [0, 0]),
        network([1, 1, 1], [0.1, 0.1, 0.1], [0.5, 0.25, -0.75]),
    ],
)
def test_a_constant_network_is_exactly_constant(net, activation):
    found = bracket(*net.parts, activation)
    assert (found.lower, found.upper, found.exact) == (0.0, 0.0, True)


@pytest.mark.parametrize("activation", SMOOTH)
def test_mirrored_neurons_are_merged(activation):
    # tanh(x) + tanh(−x) = 0 and silu(x) − silu(−x) = x: no cell could close on a gap of 0.
    even = activation in ("tanh", "sigmoid")
    net = network([2, -2], [0.3, -0.3], [1, 1 if even else -1])
    found = bracket(*net.parts, activation)
    slope = 0.0 if even else 2.0
    assert found.lower <= slope <= found.upper <= found.lower * (1 + 1e-12)
    assert "no neuron changes the slope" in found.basis


@pytest.mark.parametrize("activation", SMOOTH)
def test_merging_leaves_the_function_alone(activation):
    net = network([1, -1, 2, 1, -1], [0.5, -0.5, 0, 0.5, 0.7], [1, 0.3, -1, 0.25, 0.6])
    found = bracket(*net.parts, activation)
    with mpmath.workdps(50):
        at_witness = precise_norm(net, activation, found.witness.point[0])
        others = [precise_norm(net, activation, x) for x in np.linspace(-6, 6, 121)]
    assert found.lower <= at_witness and max(others) <= found.upper
    assert found.exact


def test_nearly_constant_networks_end_with_an_honest_bracket():
    net = network([1, 1 + 1e-9], [0, 0], [1, -1])
    found = bracket(*net.parts, "tanh", (-2.0, 2.0), time_limit=5.0)
    assert found.lower <= 1e-9 * (1 + 1e-6) and found.upper >= 1e-9 * (1 - 1e-6)
    assert not found.exact and "rounding errors" in found.basis
    # All neurons saturated: slopes below the accuracy of σ'.
    saturated = bracket(*network([1], [0], [1]).parts, "tanh", (20.0, 30.0))
    assert saturated.lower <= 4.0 * math.exp(-40.0) <= saturated.upper < 1e-13
    assert "rounding errors" in saturated.basis


def test_neurons_on_very_different_scales():
    net = network([1, 1e-10, 1e-5], [0, 0, 3], [1, 3e10, 1e5])
    found = bracket(*net.parts, "tanh")
    with mpmath.workdps(50):
        norms = [precise_norm(net, "tanh", x) for x in (0, 1e-4, 1e3, -3e5, 1e9, -1e10)]
    assert found.exact and found.lower <= found.upper and max(norms) <= found.upper


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_scales_neither_overflow_nor_underflow(scale):
    w, b, a = random_network(5, 20).parts
    plain = bracket(w, b, a, "tanh")
    both = bracket(w * scale, b, a, "tanh")
    outer = bracket(w, b, a * scale, "tanh")
    assert both.exact and both.lower == pytest.approx(plain.lower * scale, rel=2e-6)
    assert outer.exact and outer.lower == pytest.approx(plain.lower * scale, rel=2e-6)


def test_narrow_and_distant_domains():
    net = random_network(6, 20)
    for low, high in [(0.1, np.nextafter(0.1, 1)), (1e-160, 2e-160), (1e140, 2e140), (-1e-3, 1e12)]:
        found = bracket(*net.parts, "silu", (low, high))
        assert found.exact
        assert low <= found.witness.point[0] <= high


def test_a_ball_is_an_interval():
    net = random_network(7, 20)
    ball = bracket(*net.parts, "gelu", Ball(0.1, 0.7))
    box = bracket(*net.parts, "gelu", (-0.6, 0.8))
    assert ball.lower <= box.upper and box.lower <= ball.upper
    assert ball.exact and ball.domain == Ball(0.1, 0.7)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(SMOOTH), st.integers(1, 6), st.sampled_from((1, 3)))
def test_property_brackets_agree_with_sampling(seed, activation, width, k):
    net = random_network(seed, width, k=k)
    found = bracket(*net.parts, activation, (-2.0, 2.0))
    norms = sampled_norms(net, activation, np.linspace(-2, 2, 801))
    assert norms.max() <= found.upper * (1 + 1e-12)
    assert norms.max() >= found.lower * (1 - 1e-3) and found.exact


def test_translation_and_order_change_nothing_but_rounding():
    w, b, a = random_network(8, 30).parts
    here = bracket(w, b, a, "tanh")
    there = bracket(w[::-1], (b + 4.0 * w[:, 0])[::-1], a[:, ::-1], "tanh")
    assert here.lower <= there.upper and there.lower <= here.upper


def test_tolerance_is_kept():
    parts = random_network(9, 50).parts
    gaps = [bracket(*parts, "silu", rel_gap=g).gap for g in (1e-2, 1e-4, 1e-6, 1e-9)]
    assert all(gap <= g for gap, g in zip(gaps, (1e-2, 1e-4, 1e-6, 1e-9), strict=True))


def test_out_of_time_the_bracket_is_open_and_valid():
    net = random_network(10, 50)
    truth = bracket(*net.parts, "tanh", (-3.0, 3.0))
    found = bracket(*net.parts, "tanh", (-3.0, 3.0), time_limit=1e-9)
    assert found.lower <= truth.lower and truth.upper <= found.upper < math.inf
    assert not found.exact and "time limit" in found.basis


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5])
def test_interrupted_the_bracket_is_open_and_valid(calls, monkeypatch):
    net = random_network(10, 50)
    truth = bracket(*net.parts, "tanh", (-3.0, 3.0))
    plain, count = CellBounds.evaluate, iter(range(100))

    def interrupted(self, low, high):
        if next(count) == calls:
            raise KeyboardInterrupt
        return plain(self, low, high)

    monkeypatch.setattr(CellBounds, "evaluate", interrupted)
    found = bracket(*net.parts, "tanh", (-3.0, 3.0), rel_gap=1e-9)
    assert found.lower <= truth.upper and truth.lower <= found.upper < math.inf
    assert "interrupted" in found.basis


def test_a_full_memory_budget_ends_the_search(monkeypatch):
    monkeypatch.setattr(enclosure_module, "_MAX_CELLS", 10)
    net = random_network(10, 50)
    found = bracket(*net.parts, "tanh", (-3.0, 3.0))
    assert "memory" in found.basis and found.lower <= found.upper


def test_cells_are_split_without_gaps():
    low, high = np.array([-np.inf, 0.1, 3.0]), np.array([-2.0, 0.7, np.inf])
    for pieces in (2, 3, 4):
        left, right = _split(low, high, pieces)
        assert (left.reshape(3, pieces)[:, 0] == low).all()
        assert (right.reshape(3, pieces)[:, -1] == high).all()
        rows = left.reshape(3, pieces)[:, 1:] == right.reshape(3, pieces)[:, :-1]
        assert rows.all()


def test_wide_networks_are_quick_enough_to_use():
    w, b, a = random_network(11, 3000).parts
    found = enclosure_bracket(checked_problem(w, b, a, "tanh", (-3.0, 3.0)), Options())
    assert found.exact
