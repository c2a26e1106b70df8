"""Exact constants of piecewise-linear networks of one input, against rational arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lipschitz_oracles import (
    CASES,
    KINK,
    KINKS,
    Network,
    encloses,
    exact_square,
    network,
    random_network,
)

from lipbook.lipschitz import Ball, bracket, exact_piecewise_linear
from lipbook.lipschitz.sort import steepest_cells
from lipbook.networks import gaussian_ensemble

DOMAINS = [None, (-1.0, 1.0), (0.0, 2.5), (-3.0, -0.5)]


@pytest.mark.parametrize("activation", KINKS)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_definition_in_rational_arithmetic(name, activation):
    net = CASES[name]
    for domain in DOMAINS:
        found = bracket(*net.parts, activation, domain)
        assert encloses(found.lower, found.upper, exact_square(net, activation, domain)), domain
        assert found.exact and found.verified and found.method == "sort"
        assert found.gap <= 1e-6


@pytest.mark.parametrize(
    ("net", "domain", "expected"),
    [
        (network([2], [1], [-3]), None, 6.0),
        (network([2], [1], [-3]), (-4.0, -0.5), 0.0),
        (network([2], [1], [-3]), (-0.5, 0.0), 6.0),
        (KINK, None, 2.0),
        (KINK, (0.0, 1.0), 1.0),
        (network([1, 1], [0, 0], [1, -1]), None, 0.0),
        (network([1, 2], [0, 0], [3, -1]), None, 1.0),
        (network([1, -1], [0, 0], [1, 1]), None, 1.0),
        (network([0], [1], [1]), None, 0.0),
        (network([1], [0], [[3], [4]]), None, 5.0),
    ],
)
def test_closed_forms(net, domain, expected):
    found = bracket(*net.parts, "relu", domain)
    assert found.lower <= expected <= found.upper
    assert found.upper - found.lower <= 1e-12


def test_autograd_at_the_kink_exceeds_the_exact_constant():
    # The negative control of "a gradient is a lower bound": drop "inside a cell" and it fails.
    ensemble = gaussian_ensemble(3, 1)
    w, b, a = KINK.parts
    block = ensemble.hidden_weight.new_tensor
    net = replace(
        ensemble,
        hidden_weight=block(w[None]),
        hidden_bias=block(b[None]),
        output_weight=block(a[None]),
    )
    at_kink = abs(float(net.jacobian(block([[0.0]]))))
    assert at_kink == 3.0 > bracket(w, b, a).upper


@pytest.mark.parametrize("end", ["left", "right"])
def test_unbounded_cells_count(end):
    # The steepest cell is the last one: relu(x) + relu(x − 1), slope 2 on (1, ∞).
    sign = 1 if end == "right" else -1
    found = bracket(*network([sign, sign], [0, -1], [1, 1]).parts)
    assert found.lower == pytest.approx(2.0)
    assert found.witness.point[0] * sign > 1.0
    inside = bracket(*network([sign, sign], [0, -1], [1, 1]).parts, domain=(-1.0, 1.0))
    assert inside.upper == pytest.approx(1.0)


def test_breakpoints_on_the_ends_of_the_domain():
    net = network([1, 1, 1], [0, -1, -2], [1, 1, 1])
    for low, high, slope in [(0, 1, 1), (0, 2, 2), (1, 2, 2), (2, 3, 3), (-1, 0, 0), (-1, 1, 1)]:
        found = bracket(*net.parts, domain=(low, high))
        assert found.lower <= slope <= found.upper <= slope + 1e-12


def test_a_breakpoint_next_to_the_end_is_told_apart_exactly():
    # −b/w = 1/3 rounds to the float below or above the true 1/3: only exact arithmetic knows which.
    third = 1.0 / 3.0
    net = network([3], [-1], [1])
    assert Fraction(third) < Fraction(1, 3)
    assert bracket(*net.parts, domain=(0.0, third)).upper == 0.0
    beyond = math.nextafter(third, 1.0)
    assert bracket(*net.parts, domain=(0.0, beyond)).lower == pytest.approx(3.0)


def test_breakpoints_equal_in_floats_but_not_in_truth_open_a_cell():
    w, step = 1.0 + 2.0**-52, 2.0**-52
    pairs = [
        (3.0 * w * (1 + i * step), 1.0 * w * (1 + j * step)) for i, j in product(range(8), repeat=2)
    ]
    found = None
    for (w1, b1), (w2, b2) in product(pairs, repeat=2):
        if b1 / w1 == b2 / w2 and Fraction(b1) / Fraction(w1) < Fraction(b2) / Fraction(w2):
            found = network([w1, w2], [-b1, -b2], [1.0, -0.9])
            break
    assert found is not None
    # Steep by 1·w1 on a cell that holds no float64 number at all.
    answer = bracket(*found.parts, domain=(0.2, 0.4))
    assert encloses(answer.lower, answer.upper, exact_square(found, "relu", (0.2, 0.4)))
    assert answer.lower > 2.9
    assert answer.witness.pattern.tolist() == [True, False]


def test_ties_applied_one_by_one_would_be_wrong():
    net = network([1, 1, 2], [0, 0, 0], [1, -1, 0.25])
    one_by_one = np.abs(np.cumsum(net.output_weight[0] * net.hidden_weight[:, 0])).max()
    assert one_by_one > bracket(*net.parts).upper == pytest.approx(0.5)


def test_cancellation_is_settled_in_integers():
    net = network([1, 1, 1, 1], [3, 2, 1, 0], [1e16, 1.0, -1e16, 1e-9])
    naive = np.abs(np.cumsum(net.output_weight[0]))[-1]
    found = bracket(*net.parts, domain=(0.0, 1.0))
    assert encloses(found.lower, found.upper, exact_square(net, "relu", (0.0, 1.0)))
    assert found.gap < 1e-15
    assert not found.lower <= naive <= found.upper


@pytest.mark.parametrize("scale", [1e-140, 1e-60, 1e60, 1e140])
def test_scales_neither_overflow_nor_underflow(scale):
    w, b, a = random_network(5, 20).parts
    net = Network(w * scale, b, a * scale)
    found = bracket(*net.parts)
    assert encloses(found.lower, found.upper, exact_square(net, "relu"))
    assert found.exact


def test_breakpoints_beyond_float64_are_ordered():
    net = network(
        [1e-300, 2e-300, 1.0, 5e-324], [-1e149, -1e149, -1.0, 1e-320], [1e140, -3e140, 1e-150, 1.0]
    )
    found = bracket(*net.parts)
    assert encloses(found.lower, found.upper, exact_square(net, "relu"))
    tiny = network([1e140, 3e140, 7e140], [1e-300, -1e-310, 5e-324], [1, -2, 4])
    found = bracket(*tiny.parts)
    assert encloses(found.lower, found.upper, exact_square(tiny, "relu"))
    assert found.exact


small = st.integers(-4, 4)
numbers = st.one_of(
    small.map(float), small.map(lambda i: i / 3.0), st.floats(-4, 4, allow_nan=False, width=32)
)


@st.composite
def networks(draw, outputs=(1, 2)):
    width = draw(st.integers(1, 6))
    k = draw(st.sampled_from(outputs))
    column = st.lists(numbers, min_size=width, max_size=width)
    w, b = draw(column), draw(column)
    return network(w, b, [draw(column) for _ in range(k)])


@settings(derandomize=True, max_examples=150, deadline=None)
@given(networks(), st.sampled_from(list(KINKS)), st.sampled_from([None, (-1.0, 1.0), (0.0, 1 / 3)]))
@example(network([1, 1], [0, 0], [1, -1]), "relu", None)
def test_property_encloses_the_exact_constant(net, activation, domain):
    found = bracket(*net.parts, activation, domain)
    assert encloses(found.lower, found.upper, exact_square(net, activation, domain))
    assert found.exact


@settings(derandomize=True, max_examples=60, deadline=None)
@given(networks(), st.randoms(use_true_random=False))
def test_property_order_of_neurons_does_not_matter(net, random):
    order = list(range(len(net.hidden_bias)))
    random.shuffle(order)
    w, b, a = net.parts
    here, there = bracket(w, b, a), bracket(w[order], b[order], a[:, order])
    assert there.lower <= here.upper and here.lower <= there.upper


def test_rescaling_a_neuron_by_powers_of_two_changes_nothing():
    w, b, a = random_network(6, 30).parts
    s = 2.0 ** np.random.default_rng(0).integers(-8, 9, 30)
    here, there = bracket(w, b, a), bracket(w * s[:, None], b * s, a / s)
    assert here.lower == pytest.approx(there.lower, rel=1e-12)


def test_translation_moves_the_witness_only():
    w, b, a = random_network(7, 30).parts
    moved = b + w[:, 0] * 4.0
    here = bracket(w, b, a, domain=(-3.0, 3.0))
    there = bracket(w, moved, a, domain=(-7.0, -1.0))
    assert here.lower == pytest.approx(there.lower, rel=1e-9)
    assert here.witness.point[0] - 4.0 == pytest.approx(there.witness.point[0], abs=1e-6)


def test_a_larger_domain_has_a_larger_constant():
    parts = random_network(8, 40).parts
    sizes = [bracket(*parts, domain=(-r, r)).lower for r in (0.1, 0.5, 1.0, 3.0)]
    assert sizes == sorted(sizes) and sizes[-1] <= bracket(*parts).upper
    # Negative control: on disjoint domains there is no such order.
    left, right = (bracket(*KINK.parts, domain=d).lower for d in [(-3, -1), (0, 9)])
    assert left > right


def test_dense_sampling_never_exceeds_it():
    net = random_network(9, 100)
    w, b, a = net.parts
    x = np.linspace(-5, 5, 20001)
    s = (x[:, None] * w[:, 0] + b > 0).astype(float)
    slopes = np.abs(s @ (a[0] * w[:, 0]))
    found = bracket(w, b, a, domain=(-5, 5))
    assert slopes.max() <= found.upper * (1 + 1e-12)
    assert slopes.max() >= 0.99 * found.lower


def test_the_witness_reproduces_the_bound():
    for name, net in CASES.items():
        found = bracket(*net.parts)
        w, b, a = net.parts
        x = found.witness.point[0]
        clear = (w[:, 0] != 0.0) | (b != 0.0)
        pattern = w[:, 0] * x + b > 0.0
        assert (pattern == found.witness.pattern)[clear].all(), name
        slope = np.linalg.norm(a @ (pattern * w[:, 0]))
        assert slope == pytest.approx(found.lower, rel=1e-9, abs=1e-12)


def test_many_networks_at_once_equal_one_by_one():
    ensemble = gaussian_ensemble(40, 1, 2, seeds=range(6))
    parts = (ensemble.hidden_weight, ensemble.hidden_bias, ensemble.output_weight)
    together = exact_piecewise_linear(*parts, "leaky relu", (-2.0, 2.0))
    for i in range(6):
        alone = bracket(*(p[i] for p in parts), "leaky relu", (-2.0, 2.0))
        assert together.lower[i] == alone.lower and together.upper[i] == alone.upper
        assert together.location[i] == alone.witness.point[0]


def test_stacks_without_singleton_axes_are_understood():
    w, b, a = random_network(10, 5).parts
    full = exact_piecewise_linear(w[None], b[None], a[None])
    short = exact_piecewise_linear(w[None, :, 0], b[None], a)
    assert full.lower == short.lower


def test_a_million_neurons_close_to_tolerance():
    w, b, a = random_network(11, 300_000).parts
    found = bracket(w, b, a)
    assert found.exact and found.gap < 1e-7
    assert bracket(w, 0.0 * b, a).exact
    whole = [np.round(1000 * p) for p in (w, b, a)]
    assert bracket(*whole).exact


def test_a_ball_whose_ends_are_no_floats():
    net = network([3, 1], [-1, 0.2], [1, 1])
    found = bracket(*net.parts, domain=Ball(0.1, 0.3))
    ends = Fraction(0.1) - Fraction(0.3), Fraction(0.1) + Fraction(0.3)
    assert encloses(found.lower, found.upper, exact_square(net, "relu", ends))
    assert found.domain == Ball(0.1, 0.3)


def test_integer_sums_are_used_only_where_needed():
    w, b, a = random_network(12, 10).parts
    kinks = (0.0, 1.0)
    loose = steepest_cells(w[None, :, 0], b[None], a[None], kinks, None, 1e-6).constants
    tight = steepest_cells(w[None, :, 0], b[None], a[None], kinks, None, 1e-15).constants
    assert loose.lower <= tight.lower <= tight.upper <= loose.upper
    assert tight.upper <= np.nextafter(tight.lower, np.inf)
