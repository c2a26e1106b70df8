"""Upper bounds of perceptrons of any depth: exact constants, patterns, and the proof."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from deep_oracles import (
    NAMES,
    UPPER,
    Layers,
    exact_constant,
    net,
    steepest_pattern,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import CASES, KINKS
from scipy.optimize import minimize

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import bracket
from lipbook.lipschitz.deep import (
    climbing,
    deep_ascent_lower_bound,
    deep_bracket,
    deep_chain_upper_bound,
    deep_product_upper_bound,
    deep_sampled_lower_bound,
    deep_sdp_upper_bound,
    interior_point,
)
from lipbook.lipschitz.deep.relaxation import Sector, balanced, is_proved, quadratic_form
from lipbook.lipschitz.product import product_upper_bound
from lipbook.lipschitz.rounding import spectral_norm_upper
from lipbook.lipschitz.semidefinite.sdp import sdp_upper_bound


@pytest.fixture(autouse=True)
def short_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rounds say as much about the bounds as many."""
    monkeypatch.setattr(climbing, "SAMPLES", 256)
    monkeypatch.setattr(climbing, "ROUNDS", 20)


# ---- exact constants, patterns, and the order of the bounds


@pytest.mark.parametrize("activation", KINKS)
@pytest.mark.parametrize("seed", range(4))
def test_exact_constants_of_one_variable_lie_in_the_bracket(activation, seed):
    layers = net(seed, 1, 4, 3, 1)
    exact = exact_constant(layers, KINKS[activation])
    x = np.random.default_rng(seed).normal(size=(500, 1)) * 3.0
    assert Fraction(deep_sampled_lower_bound(layers, x, activation)) <= exact
    if seed == 0:
        found = deep_bracket(layers, activation)
        assert Fraction(found.lower) <= exact <= Fraction(found.upper)
        assert found.lower >= 0.7 * exact
    assert all(exact <= Fraction(bound(layers, activation)) for bound in UPPER)


def test_the_exact_oracle_agrees_with_the_sorting_method():
    for seed in range(5):
        layers = net(seed, 1, 6, 1)
        (weight, bias), (output, _) = layers
        found = bracket(weight, bias, output)
        assert found.lower <= float(exact_constant(layers, (0.0, 1.0))) * (1 + 1e-12)
        assert found.upper >= float(exact_constant(layers, (0.0, 1.0))) * (1 - 1e-12)


@pytest.mark.parametrize("activation", ["relu", "leaky relu", "abs", "tanh", "gelu"])
@pytest.mark.parametrize("sizes", [(2, 3, 4, 1), (3, 2, 2, 3, 2), (4, 5, 3, 2)])
def test_upper_bounds_are_above_every_slope_pattern_and_in_order(activation, sizes):
    layers = net(len(sizes), *sizes)
    patterns = steepest_pattern(layers, ACTIVATIONS[activation].slope_range)
    sdp, chain, product = (bound(layers, activation) for bound in UPPER)
    assert patterns <= sdp <= chain <= product
    assert chain == pytest.approx(best_cut(layers, activation), rel=1e-12)


def best_cut(layers: Layers, activation: str) -> float:
    """The least product over all ways to cut, tried one by one."""
    matrices, steepness = [w for w, _ in layers], ACTIVATIONS[activation].lipschitz
    best = math.inf
    for lengths in itertools.product((1, 2), repeat=len(matrices)):
        for used in range(1, len(lengths) + 1):
            if sum(lengths[:used]) != len(matrices):
                continue
            bound, start = steepness ** (used - 1), 0
            for length in lengths[:used]:
                block = matrices[start : start + length]
                alone = float(spectral_norm_upper(block[0]))
                bound *= alone if length == 1 else sdp_upper_bound(*block, activation)
                start += length
            best = min(best, bound)
    return best


@pytest.mark.parametrize("activation", ["relu", "abs", "tanh", "gelu"])
@pytest.mark.parametrize("name", CASES)
def test_one_hidden_layer_agrees_with_the_two_layer_methods(name, activation):
    case = CASES[name]
    layers = [(case.hidden_weight, case.hidden_bias), (case.output_weight, None)]
    reference = sdp_upper_bound(*case.layers, activation)
    found = deep_sdp_upper_bound(layers, activation)
    assert found == pytest.approx(reference, rel=1e-3, abs=1e-300)
    assert bracket(*case.parts, activation).lower <= found
    product = product_upper_bound(*case.layers, activation)
    assert deep_product_upper_bound(layers, activation) == pytest.approx(product, rel=1e-12)
    x = np.linspace(-3, 3, 30)[:, None]
    exact = bracket(*case.parts, activation, (-3.0, 3.0))
    assert deep_sampled_lower_bound(layers, x, activation, (-3.0, 3.0)) <= exact.upper
    if activation in ("relu", "tanh"):
        climbed = deep_ascent_lower_bound(layers, activation, (-3.0, 3.0))
        assert 0.5 * exact.lower <= climbed <= exact.upper


def test_the_joint_bound_is_far_below_the_product_of_blocks():
    layers = net(0, 10, 40, 40, 1)
    assert deep_sdp_upper_bound(layers) < 0.65 * deep_chain_upper_bound(layers)


def test_the_joint_bound_is_the_value_of_an_interior_point_solver():
    """LipSDP of these networks, posed in cvxpy and solved by CLARABEL to 1e-8."""
    for sizes, value in (((5, 20, 20, 2), 1.6579062874), ((10, 50, 50, 1), 2.2564850170)):
        found = deep_sdp_upper_bound(net(0, *sizes))
        assert value * (1 - 1e-7) <= found <= value * (1 + 1e-5)


def layerwise_bound(layers: Layers, multipliers: np.ndarray) -> float:
    """√λ_max(W_n P⁻¹ W_nᵀ), P_i = Λ_i − ¼Λ_i W_i P_(i−1)⁻¹ W_iᵀ Λ_i: LipSDP for ReLU, unproved."""
    p, rest = np.eye(layers[0][0].shape[1]), multipliers
    for weight, _ in layers[:-1]:
        scale, rest = np.diag(rest[: len(weight)]), rest[len(weight) :]
        p = scale - 0.25 * scale @ weight @ np.linalg.inv(p) @ weight.T @ scale
        if np.linalg.eigvalsh(p)[0] <= 1e-12:
            return math.inf
    last = layers[-1][0]
    return math.sqrt(np.linalg.eigvalsh(last @ np.linalg.inv(p) @ last.T)[-1])


@pytest.mark.parametrize("seed", range(3))
def test_the_joint_bound_is_the_least_that_a_direct_search_finds(seed):
    layers = net(seed, 2, 2, 2, 1)
    found = deep_sdp_upper_bound(layers)
    generator = np.random.default_rng(seed)
    best = math.inf
    for _ in range(6):
        start = generator.normal(size=4) - 1.0
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-12}
        run = minimize(
            lambda v: min(layerwise_bound(layers, np.exp(v)), 1e9),
            start,
            method="Nelder-Mead",
            options=options,
        )
        best = min(best, run.fun)
    assert found <= best * (1 + 1e-4)
    assert found >= best * (1 - 1e-2)


# ---- the proof of the joint bound


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["relu", "leaky relu", "abs", "tanh", "gelu"]))
def test_nothing_below_the_steepest_pattern_is_ever_proved(seed, activation):
    """Negative control: whatever the multipliers, a bound that is wrong is not accepted."""
    layers = net(seed, 2, 3, 2, 2)
    weights = balanced([w for w, _ in layers])
    assert weights is not None
    chosen = ACTIVATIONS[activation]
    wrong = steepest_pattern(layers, chosen.slope_range) * (1 - 1e-6) * 2.0**-weights.exponent
    sector = Sector.of(chosen)
    generator = np.random.default_rng(seed)
    for multiplier, _ in itertools.islice(interior_point.multipliers(weights, sector), 5, None, 4):
        for noise in (1.0, np.exp(0.1 * generator.normal(size=len(multiplier)))):
            assert not is_proved(weights, sector, multiplier * noise, wrong**-2.0)


def test_what_is_no_proof_is_none():
    layers = net(3, 3, 4, 4, 2)
    weights, sector = balanced([w for w, _ in layers]), Sector.of(ACTIVATIONS["relu"])
    assert weights is not None
    for found in interior_point.multipliers(weights, sector):
        last = found
    multiplier, inverse = last
    good = multiplier * (1 - 1e-7) ** np.repeat([1, 2], 4), inverse * (1 - 1e-7) ** 3
    assert is_proved(weights, sector, *good)
    assert not is_proved(weights, sector, good[0], good[1] * 1.001)
    assert not is_proved(weights, sector, good[0], -good[1])
    assert not is_proved(weights, sector, good[0], math.nan)
    assert not is_proved(weights, sector, good[0], math.inf)
    for index in range(8):
        for bad in (-1.0, math.nan, math.inf, 0.0, 1e200):
            changed = good[0].copy()
            changed[index] = bad
            assert not is_proved(weights, sector, changed, good[1])
    assert not is_proved(weights, sector, good[0] * 1.5, good[1])


def test_the_quadratic_form_is_the_one_of_the_theorem():
    layers = net(5, 3, 4, 2, 2)
    weights = balanced([w for w, _ in layers])
    assert weights is not None and weights.exact
    g = np.random.default_rng(0)
    multiplier, inverse, sector = g.random(6), 0.3, Sector(0.25, 0.125)
    form = quadratic_form(weights, sector, multiplier, inverse)
    x = [g.normal(size=3), g.normal(size=4), g.normal(size=2)]
    w = weights.matrices
    v, z = np.concatenate(x[1:]), np.concatenate([w[0] @ x[0], w[1] @ x[1]])
    by_hand = x[0] @ x[0] - inverse * np.sum((w[2] @ x[2]) ** 2)
    by_hand += multiplier @ (v**2 - 0.5 * v * z - 0.125 * z**2)
    assert np.concatenate(x) @ form @ np.concatenate(x) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("activation", NAMES)
def test_the_sector_holds_every_slope(activation):
    chosen = ACTIVATIONS[activation]
    sector = Sector.of(chosen)
    slopes = [*chosen.slope_range, *chosen.slope(np.linspace(-6, 6, 500))]
    for s in map(Fraction, slopes):
        centre, kappa = Fraction(sector.centre), Fraction(sector.kappa)
        assert 2 * centre * s - s * s + kappa >= 0
    if activation in ("relu", "tanh", "softplus"):
        assert sector.kappa == 0.0


def test_balancing_is_exact_and_drops_dead_neurons():
    layers = net(1, 3, 4, 5, 2)
    matrices = [w.copy() for w, _ in layers]
    matrices[0][1] = 0.0  # its neuron is constant, and with it …
    matrices[1][2] = [0.0, 7.0, 0.0, 0.0]  # … this one
    matrices[2][:, 4] = 0.0
    matrices[0][2] *= 2.0**300
    weights = balanced(matrices)
    assert weights is not None and weights.exact and weights.hidden == (3, 3)
    alive = [
        matrices[0][[0, 2, 3]],
        matrices[1][[0, 1, 3]][:, [0, 2, 3]],
        matrices[2][:, [0, 1, 3]],
    ]
    product = weights.matrices[2] @ weights.matrices[1] @ weights.matrices[0]
    expected = alive[2] @ alive[1] @ alive[0]
    np.testing.assert_allclose(np.ldexp(product, weights.exponent), expected, rtol=1e-12)
    assert balanced([np.zeros((2, 2)), np.ones((1, 2))]) is None


def test_entries_too_far_apart_are_left_to_the_other_bounds():
    layers = [
        (np.array([[1e150, 1e-170], [1e-170, 1e150]]), None),
        (np.array([[1e-150, 1.0], [1.0, 1e-150]]), None),
        (np.ones((1, 2)), None),
    ]
    weights = balanced([w for w, _ in layers])
    assert weights is not None and not weights.exact
    assert deep_sdp_upper_bound(layers) == deep_chain_upper_bound(layers)
