"""Enclosures on boxes and balls of several inputs: closed forms, dense grids, invariances."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_box_oracles import enclosed, fault, grid, precise_norm, sampled_norms
from lipschitz_oracles import SMOOTH, Network, random_network

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball
from lipbook.lipschitz.domains import Domain
from lipbook.lipschitz.enclosure import enclosure_bracket
from lipbook.lipschitz.problem import Options, checked_problem

DOMAINS: dict[str, tuple[int, Domain]] = {
    "square": (2, (-3.0, 3.0)),
    "oblong": (2, ((0.5, -2.0), (0.75, 9.0))),
    "disc": (2, Ball((0.5, -1.0), 1.5)),
    "cube": (3, (-1.5, 1.5)),
    "ball": (3, Ball(0.0, 1.0)),
}


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize(
    ("name", "k"), [*((name, 1) for name in DOMAINS), ("square", 2), ("disc", 3)]
)
def test_closes_and_contains_a_dense_grid(name, activation, k):
    d, domain = DOMAINS[name]
    net = random_network(d + k, 8, d=d, k=k)
    found = enclosed(net, activation, domain)
    assert found.exact and found.verified and found.method == "enclosure"
    norms = sampled_norms(net, activation, grid(domain, d, 41 if d == 2 else 17))
    # Between points of the grid ‖J‖ changes little.
    assert found.lower * (1 - 0.05) <= norms.max() <= found.upper * (1 + 1e-12)
    assert fault(found) is None
    assert fault(found, found.lower * (1 - 1e-9)) is not None  # a bound that is wrong


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("domain", [(-2.0, 2.0), Ball((1.0, 0.5), 2.0)])
def test_one_neuron_in_closed_form(activation, domain):
    # ‖a‖‖w‖·max σ' over the range of w·x + b: |w·x| ≤ 2·1.4 on the box, w·c ± 2‖w‖ on the ball.
    w, b, a = np.array([0.6, 0.8]), 0.7, np.array([3.0, -4.0])
    middle, reach = (w @ [1.0, 0.5], 2.0) if isinstance(domain, Ball) else (0.0, 2.8)
    net = Network(w[None], np.array([b]), a[:, None])
    z = np.linspace(middle - reach, middle + reach, 200_001) + b
    expected = 5.0 * np.abs(ACTIVATIONS[activation].slope(z)).max()
    found = enclosed(net, activation, domain)
    assert found.lower <= expected * (1 + 1e-9) and expected <= found.upper * (1 + 1e-12)
    assert found.exact and fault(found) is None


@pytest.mark.parametrize("activation", SMOOTH)
def test_an_input_that_does_nothing_leaves_the_constant_of_one_input(activation):
    line = random_network(3, 12, k=2)
    plane = replace(line, hidden_weight=np.column_stack([np.zeros(12), line.hidden_weight]))
    one = enclosure_bracket(checked_problem(*line.parts, activation, (-2.0, 3.0)), Options())
    two = enclosed(plane, activation, ((-7.0, -2.0), (1.0, 3.0)))
    assert one.lower <= two.upper and two.lower <= one.upper and two.exact


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("together", [True, False])
def test_separable_networks(activation, together):
    # f(x, y) = f₁(x) + f₂(y): the root of the sum of squares. (f₁(x), f₂(y)): the larger one.
    parts = [random_network(seed, 7) for seed in (5, 6)]
    weight = np.zeros((14, 2))
    weight[:7, 0], weight[7:, 1] = (p.hidden_weight[:, 0] for p in parts)
    output = np.concatenate([p.output_weight for p in parts], axis=1)
    if not together:
        output = np.stack([output[0], output[0]])
        output[0, 7:] = output[1, :7] = 0.0
    net = Network(weight, np.concatenate([p.hidden_bias for p in parts]), output)
    ones = [
        enclosure_bracket(checked_problem(*p.parts, activation, (-2.0, 2.0)), Options())
        for p in parts
    ]
    found = enclosed(net, activation, (-2.0, 2.0))
    combine = math.hypot if together else max
    assert found.exact
    assert found.lower <= combine(*(p.upper for p in ones)) * (1 + 1e-12)
    assert combine(*(p.lower for p in ones)) * (1 - 1e-12) <= found.upper


def test_equal_singular_values_at_the_maximum():
    # (tanh x, tanh y) has J = I at 0, the largest.
    net = Network(np.eye(2), np.zeros(2), np.eye(2))
    found = enclosed(net, "tanh", (-3.0, 3.0), rel_gap=1e-5)
    assert found.lower <= 1.0 <= found.upper and found.exact and fault(found) is None


def test_a_ball_may_be_turned():
    net = random_network(4, 15, d=3, k=2)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    center = np.array([1.0, -0.5, 0.25])
    turned = replace(net, hidden_weight=net.hidden_weight @ turn.T)
    here = enclosed(net, "silu", Ball(tuple(center), 0.8))
    there = enclosed(turned, "silu", Ball(tuple(turn @ center), 0.8))
    assert here.exact and there.exact
    assert here.lower <= there.upper * (1 + 1e-12) and there.lower <= here.upper * (1 + 1e-12)


def test_order_translation_and_dilation_change_nothing_but_rounding():
    net = random_network(8, 20, d=2)
    w, b, a = net.parts
    here = enclosed(net, "gelu", (-2.0, 2.0))
    moved = Network(w[::-1], (b - w @ [10.0, 3.0])[::-1], a[:, ::-1])
    there = enclosed(moved, "gelu", ((8.0, 1.0), (12.0, 5.0)))
    wide = enclosed(Network(w * [1e-3, 1e3], b, a * 10), "gelu", ((-2e3, -2e-3), (2e3, 2e-3)))
    assert here.exact and there.exact and wide.exact
    assert here.lower <= there.upper * (1 + 1e-12) and there.lower <= here.upper * (1 + 1e-12)
    norms = sampled_norms(Network(w * [1e-3, 1e3], b, a * 10), "gelu", grid(wide.domain, 2, 41))
    assert wide.lower * 0.95 <= norms.max() <= wide.upper


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("domain", [(-3.0, 3.0), Ball((0.3, 0.2), 0.7)])
def test_the_bracket_holds_in_fifty_digits(activation, domain):
    net = random_network(5, 12, d=2, k=2)
    found = enclosed(net, activation, domain, rel_gap=1e-10)
    point = np.array(found.witness.point)
    with mpmath.workdps(50):
        norm = precise_norm(net, activation, point)
    assert found.lower <= norm <= found.upper and norm <= found.lower * (1 + 1e-12)
    if isinstance(domain, Ball):
        with mpmath.workdps(50):
            away = [
                mpmath.mpf(x) - mpmath.mpf(c) for x, c in zip(point, domain.center, strict=True)
            ]
            assert mpmath.norm(away) <= mpmath.mpf(domain.radius)
    else:
        assert (point >= -3.0).all() and (point <= 3.0).all()
    assert found.exact and fault(found) is None


def test_a_maximum_on_the_sphere():
    # The slope of tanh(x₁ − 5) is largest at (1, 0), on the sphere.
    net = Network(np.array([[1.0, 0.0]]), np.array([-5.0]), np.array([[1.0]]))
    for ball, expected in [(Ball(0.0, 1.0), 1.0), (Ball((0.0, 100.0), 3.0), 3.0)]:
        found = enclosed(net, "tanh", ball, rel_gap=1e-9)
        slope = 1.0 / math.cosh(expected - 5.0) ** 2
        assert found.lower <= slope * (1 + 1e-12) and slope <= found.upper * (1 + 1e-12)
        assert found.exact and fault(found) is None
        assert sum(map(len, found.certificate.proof.levels)) < 5000


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_scales_neither_overflow_nor_underflow(scale):
    net = random_network(5, 10, d=2)
    w, b, a = net.parts
    plain = enclosed(net, "tanh", (-1.0, 1.0))
    for parts, domain, factor in [
        ((w, b, a * scale), (-1.0, 1.0), scale),
        ((w * scale, b, a), (-1.0 / scale, 1.0 / scale), scale),
        ((w * scale, b, a / scale), Ball(0.0, 1.0 / scale), 1.0),
    ]:
        found = enclosed(Network(*parts), "tanh", domain)
        assert found.exact and fault(found) is None
        if not isinstance(domain, Ball):
            assert found.lower == pytest.approx(plain.lower * factor, rel=2e-6)


def test_badly_scaled_rows():
    net = random_network(6, 8, d=2)
    w, b, a = net.parts
    size = 10.0 ** np.array([0, 0, 0, 0, -8, 8, -100, 100])
    found = enclosed(Network(w * size[:, None], b, a / size), "tanh", time_limit=2.0)
    norms = sampled_norms(Network(w * size[:, None], b, a / size), "tanh", grid((-3, 3), 2, 101))
    assert norms.max() <= found.upper * (1 + 1e-12) and found.lower <= found.upper


def test_narrow_and_distant_domains():
    net = random_network(6, 10, d=2)
    near = float(np.nextafter(0.1, 1))
    for low, high in [((0.1, 0.0), (near, 1.0)), ((1e-160, 1e-3), (2e-160, 1.0)), (-1e-3, 1e12)]:
        found = enclosed(net, "tanh", (low, high))
        assert found.exact
        point = np.array(found.witness.point)
        assert (point >= low).all() and (point <= high).all()


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(SMOOTH),
    st.integers(1, 6),
    st.sampled_from((1, 3)),
    st.sampled_from((2, 3)),
)
def test_property_brackets_agree_with_sampling(seed, activation, width, k, d):
    net = random_network(seed, width, d=d, k=k)
    found = enclosed(net, activation, (-2.0, 2.0), rel_gap=1e-4)
    points = np.random.default_rng(seed).uniform(-2, 2, size=(2000, d))
    assert sampled_norms(net, activation, points).max() <= found.upper * (1 + 1e-12)
    assert found.exact and fault(found) is None


@pytest.mark.parametrize("activation", SMOOTH)
def test_an_activation_of_ones_own(activation):
    # The same function, but nothing is known of σ''' other than a bound.
    net = random_network(2, 6, d=2)
    mine = replace(ACTIVATIONS[activation], name="mine")
    known, unknown = enclosed(net, activation), enclosed(net, mine, rel_gap=1e-4)
    assert unknown.exact and fault(unknown) is None
    assert unknown.lower <= known.upper and known.lower <= unknown.upper
