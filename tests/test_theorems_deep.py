"""Lemmas at any depth, as code: how steep a risk can be, and the largest product after a path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch
from deep_runs import NAMES, UP, drawn_problem, odd_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import deep_risk_and_gradient
from lipbook.losses import get_loss
from lipbook.theorems import Setting
from lipbook.theorems.deep_path import (
    largest_product,
)
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.growth import GradientGrowth

DEPTHS = st.integers(1, 5)
DRAWN = {
    "seed": st.integers(0, 10_000),
    "depth": DEPTHS,
    "activation": st.sampled_from(NAMES),
    "loss": st.sampled_from(["mse", "huber"]),
    "scale": st.floats(-2.0, 1.0),
}


def length(gradient):
    return float(torch.cat([g.flatten() for g in gradient.values()]).norm())


# The lemma -----------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=150, deadline=None)
@given(**DRAWN)
def test_output_and_gradient_grow_no_faster_than_q(**drawn):
    networks, x, y, loss = drawn_problem(**drawn)
    setting, u = DeepSetting.of(networks, x, y, loss), float(networks.parameter_norm())
    assert float(networks(x).abs().max()) <= setting.output_bound(u) * UP
    risk, gradient = deep_risk_and_gradient(networks, x, y, loss)
    assert length(gradient) <= setting.pull(float(risk)) * setting.growth(u) * UP
    # ‖∇_Θ f(x)‖ itself: the gradient of ½(f − y)² at one sample with f − y = 1.
    one = x[:1], networks(x[:1])[0] - 1.0
    assert length(deep_risk_and_gradient(networks, *one, get_loss("mse"))[1]) <= (
        setting.growth(u) * UP
    )
    # How far a move of length D takes the output: q(u + D) − q(u), up to rounding of both.
    g = np.random.default_rng(drawn["seed"])
    there = DeepEnsemble(
        tuple(w + torch.from_numpy(g.normal(size=tuple(w.shape))) for w in networks.weights),
        tuple(b + torch.from_numpy(g.normal(size=tuple(b.shape))) for b in networks.biases),
        networks.activation,
    )
    both = zip(there.blocks(), networks.blocks(), strict=True)
    moved = float(sum((a - b).square().sum() for a, b in both)) ** 0.5
    reach = setting.output_bound(u + moved) - setting.output_bound(u)
    assert float((there(x) - networks(x)).abs().max()) <= reach * UP


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_growth_is_attained_by_a_chain_and_needs_radius_and_slope(depth):
    networks, x, y = odd_chain(depth, 3.0, 0.0, 200.0)
    setting, u = DeepSetting.of(networks, x, y, get_loss("mse")), depth**0.5 * 3.0
    f, (risk, gradient) = (
        float(networks(x).abs().max()),
        deep_risk_and_gradient(networks, x, y, get_loss("mse")),
    )
    pull = setting.pull(float(risk))
    assert 0.99 < f / setting.output_bound(u) <= 1.0
    assert 0.99 < length(gradient) / (pull * setting.growth(u)) <= 1.0
    # Controls: a radius that leaves the samples out, and a slope that σ exceeds.
    flat = replace(networks.activation, lipschitz=0.9)
    for less in (setting.bounded_by(190.0), replace(setting, activation=flat)):
        assert f > less.output_bound(u) and length(gradient) > pull * less.growth(u)
    # From the zero network, q(D) is also how far a move of length D takes the output.
    assert f > 0.99 * (setting.output_bound(u) - setting.output_bound(0.0))


def test_growth_needs_the_value_of_the_activation_at_zero():
    # Zero weights, biases 0, σ(0) = ½: the last weights see a hidden layer of ones half as large.
    networks = gaussian_deep_ensemble((1, 9, 9, 1), activation="sigmoid")
    weights = tuple(0.0 * w for w in networks.weights[:2])
    networks = replace(networks, weights=(*weights, 0.0 * networks.weights[2] + 1.0))
    networks = replace(networks, biases=tuple(0.0 * b for b in networks.biases))
    x, y = torch.zeros(1, 1).double(), torch.zeros(1, 1).double()
    setting, u = DeepSetting.of(networks, x, y, get_loss("mse")), float(networks.parameter_norm())
    assert setting.factors == pytest.approx((1.0, 3.25**0.5, 3.25**0.5))
    assert float(networks(x)) == pytest.approx(4.5) and setting.output_bound(u) >= 4.5
    without = replace(setting, activation=replace(setting.activation, at_zero=0.0))
    assert without.output_bound(u) < 4.5


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu"])
@pytest.mark.parametrize("depth", range(1, 7))
def test_growth_is_the_derivative_of_the_output_bound_and_both_are_the_page_s(name, depth):
    u, slope, *k = sp.symbols(["u", "L_sigma", *(f"k_{layer}" for layer in range(depth))])
    terms = (k[depth - r] * slope ** (r - 1) * (u / sp.sqrt(r)) ** r for r in range(1, depth + 1))
    q = sum(terms)
    widths, activation = tuple(range(2, depth + 1)), ACTIVATIONS[name]
    setting = DeepSetting(activation, widths, 1.5, 1.0, get_loss("mse"))
    factors = [3.25**0.5, *((1 + m * activation.at_zero**2) ** 0.5 for m in widths)]
    assert setting.factors == pytest.approx(factors, rel=1e-14, abs=0.0)
    page, slope_of_page = (sp.lambdify((u, slope, *k), each) for each in (q, sp.diff(q, u)))
    for at in (0.0, 0.3, 7.0):
        known = (at, activation.lipschitz, *factors)
        assert setting.output_bound(at) == pytest.approx(page(*known), rel=1e-13, abs=0.0)
        assert setting.growth(at) == pytest.approx(slope_of_page(*known), rel=1e-13, abs=0.0)
    grid = np.array([0.5, 2.0])
    assert setting.growth(grid).tolist() == [setting.growth(0.5), setting.growth(2.0)]


def test_with_two_layers_growth_is_the_older_lemma():
    g = np.random.default_rng(0)
    for name in NAMES:
        width, radius = int(g.integers(1, 30)), g.uniform(0, 4)
        old = Setting(ACTIVATIONS[name], width, 2, 5, radius, 1.0, 0.7, get_loss("mse"))
        new = DeepSetting.of_two_layers(old)
        assert (new.depth, new.target_rms, new.loss) == (2, 0.7, old.loss)
        for u in (0.0, 0.3, 20.0):
            assert new.growth(u) == pytest.approx(old.growth(u), rel=1e-13, abs=0.0)
            expected = GradientGrowth(old).change_bound(0.0, u)
            assert new.output_bound(u) == pytest.approx(expected, rel=1e-13, abs=0.0)


def test_settings_speak_of_one_output():
    networks = gaussian_deep_ensemble((2, 3, 2))
    message = r"`networks` must have one output .* Got 2\. Look at one output at a time"
    with pytest.raises(ValueError, match=message):
        DeepSetting.of(networks, torch.ones(1, 2), torch.ones(1, 2), get_loss("mse"))


# The largest product -------------------------------------------------------------------------


def largest(x, e):
    return float(largest_product(np.array(x)[:, None], np.array([e]))[0])


def searched(x, e, seed):
    """The best value of Π(x + v), ‖v‖ = e, that SLSQP finds, and the same after polishing v."""
    g, best = np.random.default_rng(seed), (0.0, None)
    x = np.array(x)
    ball = {"type": "ineq", "fun": lambda v: 1.0 - v @ v, "jac": lambda v: -2.0 * v}
    for _ in range(3):
        start = np.abs(g.normal(size=len(x))) + 0.1
        found = minimize(
            lambda v: -np.log(x / e + v).sum(), start / np.linalg.norm(start),
            jac=lambda v: -1.0 / (x / e + v), method="SLSQP", bounds=[(1e-12, None)] * len(x),
            constraints=ball, options={"ftol": 1e-15, "maxiter": 200},
        )  # fmt: skip
        v = np.maximum(found.x, 1e-12)
        v *= e / np.linalg.norm(v)
        best = max(best, (float(np.prod(x + v)), v), key=lambda each: each[0])
    value, v = best
    for _ in range(60):  # towards v(x + v) = constant, with ‖v‖ = e all the time
        v = np.sqrt(v / (x + v))
        v *= e / np.linalg.norm(v)
    return value, float(np.prod(x + v))


SIZES = st.one_of(st.just(0.0), st.floats(-3, 3).map(lambda v: 10.0**v))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(SIZES, min_size=1, max_size=6), st.floats(-3, 3), st.integers(0, 1000))
def test_the_largest_product_is_above_every_feasible_one_and_tight(x, log_path, seed):
    e = 10.0**log_path
    bound, g = largest(x, e), np.random.default_rng(seed)
    moves = np.abs(g.normal(size=(400, len(x)))) ** g.choice([1.0, 4.0])
    moves *= e / np.linalg.norm(moves, axis=1, keepdims=True)
    tried = np.prod(np.array(x) + moves, axis=1)
    assert (tried <= bound * UP).all()
    found, polished = searched(x, e, seed)
    assert max(found, polished) * (1 - 1e-12) <= bound <= polished * UP
    # Control: a bound by one part in ten thousand smaller is not above what SLSQP finds.
    assert found > bound * (1 - 1e-4)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(SIZES, min_size=2, max_size=6), st.floats(-3, 3))
def test_the_closed_forms_are_above_the_largest_product(x, log_path):
    e, depth = 10.0**log_path, len(x)
    assert largest(x, e) <= ((sum(x) + depth**0.5 * e) / depth) ** depth * UP
    a, b = x[:2]
    assert largest([a, b], e) <= (a * b + e * np.hypot(a, b) + 0.5 * e * e) * UP
    same = [a] * depth
    assert largest(same, e) == pytest.approx((a + e / depth**0.5) ** depth, rel=1e-12, abs=0.0)


def test_the_largest_product_at_its_edges():
    assert largest([2.0, 3.0], 0.0) == 6.0 and largest([0.0, 3.0], 0.0) == 0.0
    assert largest([2.0, 3.0], np.inf) == np.inf == largest([0.0], np.inf)
    assert np.isnan(largest([2.0, 3.0], np.nan))
    assert largest([0.0] * 4, 2.0) == pytest.approx(1.0, rel=1e-12, abs=0.0)
    assert largest([0.0], 1e-9) == pytest.approx(1e-9, rel=1e-12, abs=0.0)
    assert largest([1e120, 1e-120], 1e-3) == pytest.approx(1e117, rel=1e-9, abs=0.0)
    # Shapes: (L, K) norms against (T, K) paths.
    norms, paths = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [2.0, np.inf]])
    found = largest_product(norms, paths)
    assert found.shape == (2, 2) and found[0].tolist() == [3.0, largest([2.0, 4.0], 1.0)]
    assert found[1, 0] == largest([1.0, 3.0], 2.0) and found[1, 1] == np.inf


@pytest.mark.parametrize("e", [1e-200, 1e155])
def test_the_largest_product_of_tiny_and_huge_paths(e):
    assert largest([1.0, 0.0, 2.0], e) == pytest.approx(2.0 * e if e < 1 else np.inf)
