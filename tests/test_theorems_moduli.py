"""Certificates change little with the weights; the exact constant only where σ is smooth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from promise_cases import (
    DRAWN,
    NAMES,
    SDP_GAP,
    SMOOTH,
    UP,
    constant,
    moved,
    network,
)

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball, sampled_lower_bound, sdp_bracket
from lipbook.networks import gaussian_ensemble
from lipbook.theorems.after_path import path_growth
from lipbook.theorems.moduli import CERTIFICATES, Modulus, certificates, growth
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.smooth_modulus import SmoothModulus

# The moduli ----------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=150, deadline=None)
@given(d=st.integers(1, 4), **DRAWN)
def test_certificates_obey_their_modulus(seed, m, d, activation, log_size):
    before = gaussian_ensemble(m, d, seeds=(seed,), activation=activation)
    after = moved(before, seed, 10.0**log_size)
    for kind in CERTIFICATES[:2] if d == 1 else CERTIFICATES[:1]:
        found = Modulus(kind).verdict(before, after)
        assert found.applies and not found.contradicted, (kind, found)
    if seed % 4 == 0:
        bound = Modulus("sdp").bound(before, after)[0]
        layers = after.hidden_weight[0], after.output_weight[0]
        assert sdp_bracket(*layers, activation).lower <= bound * UP
        assert certificates(after, "sdp")[0] <= bound * (1 + SDP_GAP)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 8), d=st.integers(1, 3),
       activation=st.sampled_from(NAMES))  # fmt: skip
def test_the_semidefinite_certificate_is_a_norm_of_the_products(seed, m, d, activation):
    g = np.random.default_rng(seed)
    ones = np.ones((1, m))
    one, two = g.normal(size=(2, m, d))
    cases = {"1": one, "2": two, "sum": one + two, "minus": -one, "three": 3 * one}
    value = {name: sdp_bracket(v, ones, activation) for name, v in cases.items()}
    assert value["sum"].lower <= (value["1"].upper + value["2"].upper) * UP
    assert value["minus"].lower <= value["1"].upper * UP
    assert value["1"].lower <= value["minus"].upper * UP
    assert value["three"].lower <= 3 * value["1"].upper * UP and value["1"].lower > 0
    # It sees W and a through diag(a)W alone.
    a = g.uniform(0.1, 3.0, m) * g.choice([-1.0, 1.0], m)
    split = sdp_bracket(one / a[:, None], a[None], activation)
    assert split.lower <= value["1"].upper * UP and value["1"].lower <= split.upper * UP


def test_the_modulus_is_attained():
    # One ReLU neuron with positive weights: N = L_sdp = aw, and (a + η)(w + ξ) is the modulus.
    before, after = network([2.0], [0.0], [3.0]), network([2.5], [0.0], [3.25])
    for kind in CERTIFICATES:
        assert Modulus(kind).bound(before, after)[0] == pytest.approx(2.5 * 3.25, rel=1e-4)
        assert certificates(after, kind)[0] == pytest.approx(2.5 * 3.25, rel=1e-4)
    # From a = 0 in many dimensions: N(diag(Δa)W) = L_σ‖W‖‖Δa‖ for Δa along the top singular vector.
    w = np.abs(np.random.default_rng(0).normal(size=6))
    before = network(w, np.zeros(6), np.zeros(6))
    after = network(w, np.zeros(6), 0.3 * w / np.linalg.norm(w))
    assert certificates(after, "formal")[0] == pytest.approx(
        Modulus("formal").bound(before, after)[0]
    )


def test_without_the_cross_term_the_modulus_fails():
    # Negative control.
    before, after = network([2.0], [0.0], [3.0]), network([4.0], [0.0], [6.0])
    short = certificates(before, "formal")[0] + 2.0 * 3.0 + 3.0 * 2.0
    assert certificates(after, "formal")[0] > short * 1.1
    assert certificates(after, "formal")[0] <= Modulus("formal").bound(before, after)[0] * UP


@pytest.mark.parametrize("shift", [1e-1, 1e-4, 1e-8])
def test_the_exact_constant_of_a_relu_network_has_no_modulus(shift):
    # Negative control: with the exact constants in place of N the modulus would be violated.
    pairs = 5
    weight, output = np.ones(2 * pairs), np.tile([1.0, -1.0], pairs)
    before = network(weight, np.zeros(2 * pairs), output)
    after = network(weight, np.tile([0.0, -shift], pairs), output)
    assert constant(before).upper == pytest.approx(0.0, abs=1e-12)
    formal = certificates(before, "formal")[0]
    assert constant(after).lower == pytest.approx(formal) == pytest.approx(pairs)
    assert Modulus("formal").bound(before, after)[0] == pytest.approx(formal)
    assert certificates(before, "product")[0] == pytest.approx(2 * formal)


def test_the_path_bound_of_the_growth_is_its_maximum_where_the_layers_are_equal():
    x, y, e = (np.array([v]) for v in (3.0, 3.0, 0.7))
    sigma = ACTIVATIONS["relu"]
    angle = np.linspace(0, math.pi / 2, 2001)
    found = growth(sigma, x, y, e * np.cos(angle), e * np.sin(angle)).max()
    assert found == pytest.approx(path_growth(sigma, x, y, e)[0], rel=1e-6)
    g = np.random.default_rng(1)
    for _ in range(200):
        x, y, xi, eta = g.uniform(0, 5, 4)
        assert growth(sigma, x, y, xi, eta) <= path_growth(sigma, x, y, math.hypot(xi, eta)) * UP


def test_the_algebra_of_the_growth():
    x, y, xi, eta = sympy.symbols("x y xi eta", nonnegative=True)
    assert sympy.expand((x + xi) * (y + eta) - x * y - (x * eta + (y + eta) * xi)) == 0
    p, q, room = sympy.symbols("p q room", positive=True)
    # The α of the budget: the positive root of qα² + pα = room.
    root = 2 * room / (p + sympy.sqrt(p**2 + 4 * q * room))
    assert sympy.simplify(q * root**2 + p * root - room) == 0


# Smooth activations --------------------------------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(radius=st.sampled_from([0.3, 1.0, 3.0]), **{**DRAWN, "activation": st.sampled_from(SMOOTH)})
def test_a_smooth_network_obeys_its_modulus(seed, m, activation, log_size, radius):
    before = gaussian_ensemble(m, 1, seeds=(seed,), activation=activation)
    after = moved(before, seed, 10.0**log_size)
    ends = [constant(e, (-radius, radius)) for e in (before, after)]
    found = SmoothModulus(radius).verdict(before, after, (ends[0].upper, ends[1].lower), radius)
    assert found.applies and not found.contradicted, found


@pytest.mark.parametrize("seed", range(12))
def test_a_smooth_network_of_two_inputs_obeys_its_modulus(seed):
    before = gaussian_ensemble(4, 2, seeds=(seed,), activation=SMOOTH[seed % len(SMOOTH)])
    after = moved(before, seed, 10.0 ** (seed / 4 - 2))
    # Any number that is at least Lip on the ball serves as `known`; any sampled gradient is below.
    known = constant(before, Ball([0.0, 0.0], 1.0), rel_gap=0.05).upper
    g = np.random.default_rng(seed)
    points = g.normal(size=(3000, 2))
    points *= (np.sqrt(g.random(3000)) / np.linalg.norm(points, axis=1))[:, None]
    layers = after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0]
    steep = sampled_lower_bound(*layers, points, after.activation)
    assert steep <= SmoothModulus(1.0).bound(before, after, np.array([known]))[0] * UP


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_the_smooth_modulus_is_attained_to_first_order(activation):
    # One neuron at its point of greatest curvature, a tiny domain, a small change of the bias.
    sigma = ACTIVATIONS[activation]
    z = np.linspace(-3, 3, 60001)
    at = float(z[np.argmax(sigma.curvature(z))])
    before, after = (network([1.0], [at + s], [1.0], activation) for s in (0.0, 1e-3))
    ends = [constant(e, (-1e-7, 1e-7), rel_gap=1e-9) for e in (before, after)]
    found = SmoothModulus(1e-7).verdict(before, after, (ends[0].upper, ends[1].lower), 1e-7)
    assert not found.contradicted
    assert (ends[1].lower - ends[0].upper) / (found.bound - ends[0].upper) >= 0.99


def test_on_the_whole_plane_a_smooth_network_has_no_modulus():
    # Negative control: the bound with any fixed B is broken far out.
    for shift in (1e-2, 1e-4):
        before = network([[1.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, -1.0], "tanh")
        after = network([[1.0, 0.0], [1.0, shift]], [0.0, 0.0], [1.0, -1.0], "tanh")
        far = np.array([[0.0, 10 / shift]])
        layers = after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0]
        steep = sampled_lower_bound(*layers, far, "tanh")
        assert steep > 0.999
        assert SmoothModulus(1.0).bound(before, after, np.zeros(1))[0] < 10 * shift


def test_smooth_verdicts_take_both_values_and_refuse():
    before = gaussian_ensemble(3, 1)
    found = SmoothModulus(1.0).verdict(before, before, (1.0, 1.0), 1.0)
    assert not found.applies and found.failed.name == "H2" and found.bound is None
    with pytest.raises(
        HypothesisError, match=r"`activation` must have a Lipschitz slope for thm-s"
    ):
        SmoothModulus(1.0).bound(before, before, np.ones(1))
    two = gaussian_ensemble(3, 1, 2, activation="tanh")
    assert SmoothModulus(1.0).verdict(two, two, (1.0, 1.0), 1.0).failed.name == "H1"
    tanh = gaussian_ensemble(3, 1, activation="tanh")
    assert SmoothModulus(1.0).verdict(tanh, tanh, (1.0, 1.0), 1.0).applies
    wide = SmoothModulus(1.0).verdict(tanh, tanh, (1.0, 1.0), 1.5)
    assert wide.failed.name == "H3" and "ball of radius 1" in wide.failed.statement
    with pytest.raises(
        HypothesisError, match=r"`ensemble` must have one output for thm-smooth-mod"
    ):
        SmoothModulus(1.0).bound(two, two, np.ones(1))
    with pytest.raises(
        HypothesisError, match=r"`before` must have one output for thm-modulus \(H1"
    ):
        Modulus("formal").bound(two, two)
    assert Modulus("formal").verdict(two, two).failed.name == "H1"
    broken = network([math.nan], [0.0], [1.0])
    assert Modulus().verdict(broken, broken).failed.name == "H2"
    assert certificates(broken)[0] == math.inf
    with pytest.raises(
        ValueError, match=r"`certificate` must be one of product, formal, sdp. Got 'x"
    ):
        certificates(before, "x")
    with pytest.raises(
        ValueError, match=r"`certificate` must be 'product' or 'sdp' for several inp"
    ):
        certificates(gaussian_ensemble(3, 2), "formal")
    with pytest.raises(ValueError, match=r"`certificate` must be 'product' for several outputs"):
        certificates(two, "sdp")
