"""Upper and lower bounds against exact constants: one table, the ladder, invariances."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import CASES, KINK, KINKS, SMOOTH, Network, network, random_network

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import (
    Ball,
    ascent_lower_bound,
    bracket,
    centred_upper_bound,
    formal_upper_bound,
    path_norm_upper_bound,
    pattern_upper_bound,
    product_upper_bound,
    product_upper_bounds,
    sampled_lower_bound,
    sampled_witness,
)
from lipbook.lipschitz import ascent as ascent_module
from lipbook.lipschitz.rounding import spectral_norm_lower, spectral_norm_upper
from lipbook.networks import gaussian_ensemble

UPPER = {
    "product": product_upper_bound,
    "path norm": path_norm_upper_bound,
    "centred": centred_upper_bound,
    "patterns": pattern_upper_bound,
}
ACTIVATION_NAMES = (*KINKS, *SMOOTH)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("name", CASES)
def test_every_upper_bound_is_above_the_exact_constant(name, activation):
    net = CASES[name]
    lower = bracket(*net.parts, activation).lower
    upper = {label: bound(*net.layers, activation) for label, bound in UPPER.items()}
    assert lower <= min(upper.values()), upper


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("name", CASES)
def test_every_lower_bound_is_below_the_exact_constant(name, activation):
    net = CASES[name]
    exact = bracket(*net.parts, activation, (-2.0, 2.0))
    x = np.linspace(-2, 2, 12)[:, None]
    sampled = sampled_lower_bound(*net.parts, x, activation, (-2.0, 2.0))
    climbed = ascent_lower_bound(*net.parts, activation, (-2.0, 2.0), starts=x)
    assert 0.0 <= sampled <= climbed <= exact.upper
    if activation in KINKS:
        # In one dimension a sweep sees the whole domain.
        assert climbed >= exact.lower * (1 - 1e-9) - 1e-12


@pytest.mark.parametrize("name", CASES)
def test_the_ladder_is_in_order(name):
    for activation in ACTIVATION_NAMES:
        check_order(CASES[name], activation)


def check_order(net: Network, activation: str) -> None:
    slack = 1 + 1e-9
    patterns = pattern_upper_bound(*net.layers, activation)
    centred = centred_upper_bound(*net.layers, activation)
    assert patterns <= centred * slack
    assert patterns <= path_norm_upper_bound(*net.layers, activation) * slack
    if net.output_weight.shape[0] == 1:
        formal = formal_upper_bound(*net.layers, activation)
        assert formal == pytest.approx(patterns, rel=1e-9)
    if ACTIVATIONS[activation].slope_range[0] >= 0.0:
        assert centred <= product_upper_bound(*net.layers, activation) * slack


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("activation", ["relu", "abs", "tanh", "gelu"])
@pytest.mark.parametrize(("d", "k"), [(2, 1), (3, 2), (5, 4)])
def test_the_ladder_in_higher_dimensions(d, k, activation, seed):
    net = random_network(seed, 8, d, k)
    patterns = pattern_upper_bound(*net.layers, activation)
    lower = [
        ascent_lower_bound(*net.parts, activation, domain)
        for domain in [(-1.0, 1.0), Ball(0.0, 3.0), None]
    ]
    assert max(lower) <= patterns
    assert patterns <= min(bound(*net.layers, activation) for bound in UPPER.values()) * (1 + 1e-9)


def test_the_bounds_by_hand():
    assert product_upper_bound(*KINK.layers) == pytest.approx(math.sqrt(17 * 3))
    assert path_norm_upper_bound(*KINK.layers) == pytest.approx(7.0)
    assert formal_upper_bound(*KINK.layers) == pytest.approx(4.0)
    assert pattern_upper_bound(*KINK.layers) == pytest.approx(4.0)
    assert centred_upper_bound(*KINK.layers) == pytest.approx(0.5 * (1 + math.sqrt(51)))
    assert centred_upper_bound(*KINK.layers, "abs") == pytest.approx(math.sqrt(51))
    assert formal_upper_bound(*KINK.layers, "abs") == pytest.approx(7.0)
    dead = CASES["constant"].layers
    assert [bound(*dead) for bound in UPPER.values()] == [0.0] * 4
    assert formal_upper_bound(*dead) == 0.0


def test_patterns_equal_enumeration_by_hand():
    net = random_network(1, 5, 3, 2)
    low, high = ACTIVATIONS["gelu"].slope_range
    w, a = net.layers
    largest = max(np.linalg.norm(a @ np.diag(s) @ w, 2) for s in product((low, high), repeat=5))
    assert pattern_upper_bound(w, a, "gelu") == pytest.approx(largest, rel=1e-12)


@pytest.mark.parametrize("bound", [*UPPER.values(), formal_upper_bound])
def test_a_wrong_slope_range_is_seen(bound):
    # The negative control of every upper bound: GELU has slopes above 1, ReLU's range misses them.
    net = network([1], [0], [1])
    truth = bracket(*net.parts, "gelu").lower
    assert bound(*net.layers, "gelu") >= truth > bound(*net.layers, "relu")


def test_rescaling_moves_the_product_and_not_the_function():
    w, b, a = random_network(11, 30).parts
    s = np.exp(np.random.default_rng(0).normal(size=30))
    moved = Network(w * s[:, None], b * s, a / s)
    here, there = bracket(w, b, a), bracket(*moved.parts)
    assert here.lower == pytest.approx(there.lower, rel=1e-9)
    assert path_norm_upper_bound(w, a) == pytest.approx(path_norm_upper_bound(*moved.layers))
    assert formal_upper_bound(w, a) == pytest.approx(formal_upper_bound(*moved.layers))
    assert product_upper_bound(*moved.layers) > 1.1 * product_upper_bound(w, a)


@pytest.mark.parametrize("scale", [1e-140, 1e140])
@pytest.mark.parametrize("bound", [*UPPER.values(), formal_upper_bound])
def test_bounds_scale_without_overflow_or_underflow(bound, scale):
    w, a = random_network(2, 6).layers
    assert bound(w * scale, a) == pytest.approx(bound(w, a) * scale, rel=1e-12)
    assert bound(w * scale, a * scale) == pytest.approx(bound(w, a) * scale * scale, rel=1e-12)


def test_bounds_that_underflow_stay_above_zero():
    tiny = np.full((2, 1), 1e-200)
    for bound in [*UPPER.values(), formal_upper_bound]:
        assert bound(tiny, tiny[:, 0]) > 0.0
    spread = np.array([[1.0], [1e-320]]), np.array([1e-320, 1.0])
    assert path_norm_upper_bound(*spread) > 0.0 and formal_upper_bound(*spread) > 0.0


def test_product_bounds_of_an_ensemble():
    ensemble = gaussian_ensemble(20, 3, 2, seeds=range(5))
    found = product_upper_bounds(ensemble.hidden_weight, ensemble.output_weight, "tanh")
    norms = ensemble.hidden_norm() * ensemble.output_norm()
    np.testing.assert_allclose(found, norms.numpy(), rtol=1e-12)
    alone = product_upper_bound(ensemble.hidden_weight[3], ensemble.output_weight[3], "tanh")
    assert found[3] == pytest.approx(alone, rel=1e-14)
    dead = product_upper_bounds(np.zeros((2, 3, 1)), np.ones((2, 1, 3)))
    assert (dead == 0.0).all()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 7),
    st.integers(1, 5),
    st.sampled_from(("plain", "integer", "low rank", "graded", "zero column")),
)
def test_property_spectral_norms_enclose_fifty_digits(seed, p, q, kind):
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(p, q))
    if kind == "integer":
        matrix = np.round(2 * matrix)
    elif kind == "low rank":
        matrix = matrix[:, :1] @ generator.normal(size=(1, q))
    elif kind == "graded":
        matrix *= 10.0 ** generator.uniform(-12, 12, (p, 1))
    elif kind == "zero column":
        matrix[:, 0] = 0.0
    upper, lower = float(spectral_norm_upper(matrix)), float(spectral_norm_lower(matrix))
    with mpmath.workdps(60):
        precise = mpmath.matrix(matrix.tolist())
        square = mpmath.eigsy(precise.T * precise, eigvals_only=True)
        norm = mpmath.sqrt(max(max(square), 0))
        assert lower <= norm + mpmath.mpf(10) ** -40 and norm <= upper + mpmath.mpf(10) ** -40
    assert upper <= lower * (1 + 1e-11) + 1e-300


def test_a_plain_singular_value_may_err_low():
    # Negative control: the computed norm itself lies below the true one for about half of all
    # matrices.
    generator = np.random.default_rng(0)
    below = 0
    with mpmath.workdps(50):
        for _ in range(20):
            matrix = generator.normal(size=(3, 2))
            precise = mpmath.matrix(matrix.tolist())
            norm = mpmath.sqrt(max(mpmath.eigsy(precise.T * precise, eigvals_only=True)))
            below += mpmath.mpf(float(np.linalg.norm(matrix, 2))) < norm
            assert float(spectral_norm_upper(matrix)) >= norm
    assert below > 0


def test_points_at_a_kink_are_dropped():
    assert sampled_lower_bound(*KINK.parts, [[0.0]]) == 0.0
    assert sampled_witness(*KINK.parts, [[0.0], [-1.0]]) is None
    # ẑ = fl(3·fl(1/3) − 1) = 0 though the point is not on the kink: too close to tell.
    assert sampled_lower_bound(*network([3], [-1], [1]).parts, [[1 / 3]]) == 0.0
    assert sampled_lower_bound(*KINK.parts, [[0.0], [-3.0], [2.0]]) == pytest.approx(2.0)


def test_a_kink_of_a_neuron_without_effect_does_not_matter():
    net = network([1, 1, 0], [0, 2, 0], [0, 1, 1])
    assert sampled_lower_bound(*net.parts, [[0.0]]) == pytest.approx(1.0)


def test_more_starts_never_give_less():
    for activation, d, k in [("relu", 2, 1), ("abs", 6, 3), ("tanh", 3, 2), ("gelu", 8, 1)]:
        net = random_network(3, 40, d, k)
        x = np.random.default_rng(4).normal(size=(12, d))
        values = [ascent_lower_bound(*net.parts, activation, starts=x[:n]) for n in (1, 4, 12)]
        assert values == sorted(values)
        assert values[-1] >= sampled_lower_bound(*net.parts, x, activation)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "domain", [(-1.0, 0.5), ([-1.0, 0.0, 2.0], [1.0, 0.5, 3.0]), Ball((1.0, 2.0, -1.0), 0.3)]
)
def test_the_witness_stays_inside(domain, activation):
    net = random_network(5, 30, 3)
    found = bracket(*net.parts, activation, domain)
    x = np.array(found.witness.point)
    if isinstance(domain, Ball):
        assert math.dist(x, domain.center) <= domain.radius
    else:
        assert (x >= domain[0]).all() and (x <= domain[1]).all()
    w, b, a = net.parts
    jacobian = a @ np.diag(ACTIVATIONS[activation].slope(w @ x + b)) @ w
    assert np.linalg.norm(jacobian, 2) == pytest.approx(found.lower, rel=1e-9)
    assert found.lower <= np.linalg.norm(jacobian, 2)


def test_ascent_beats_sampling_where_it_should():
    for d, m in [(2, 60), (5, 60), (10, 60)]:
        net = random_network(6, m, d)
        x = np.random.default_rng(0).uniform(-1, 1, (2000, d))
        for activation in ("relu", "tanh"):
            climbed = ascent_lower_bound(*net.parts, activation, (-1.0, 1.0))
            assert climbed > sampled_lower_bound(*net.parts, x, activation, (-1.0, 1.0))


def test_ascent_finds_the_constant_of_small_networks():
    # All 2^m patterns occur when the rows of W are independent, so the pattern bound is exact.
    for seed in range(5):
        w, b, a = random_network(seed, 4, 6).parts
        assert ascent_lower_bound(w, b, a) == pytest.approx(pattern_upper_bound(w, a), rel=1e-9)


def test_smooth_ascent_finds_the_constant_in_one_dimension():
    for seed in range(4):
        net = random_network(seed, 20)
        truth = bracket(*net.parts, "tanh", (-3.0, 3.0))
        climbed = ascent_lower_bound(*net.parts, "tanh", (-3.0, 3.0))
        assert truth.lower * (1 - 1e-5) <= climbed <= truth.upper


def test_same_seed_same_bits_and_the_global_generator_untouched():
    net = random_network(7, 30, 4)
    before = np.random.get_state()[1].tolist()
    values = [ascent_lower_bound(*net.parts, domain=(-1, 1), seed=s) for s in (3, 3, 4)]
    assert values[0] == values[1]
    assert np.random.get_state()[1].tolist() == before


def test_ascent_interrupted_or_out_of_time_is_still_a_lower_bound(monkeypatch):
    net = random_network(8, 30, 3)
    full = bracket(*net.parts, method="product")
    short = bracket(*net.parts, method="product", time_limit=1e-9)
    assert 0.0 < short.lower <= full.upper and short.upper == full.upper

    def interrupted(self, points, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(ascent_module.LineSweeps, "propose", interrupted)
    assert 0.0 < bracket(*net.parts, method="product").lower <= full.lower


def test_a_constant_network_has_no_witness():
    found = bracket(*random_network(1, 3, 2).parts[:2], np.zeros(3), method="product")
    assert (found.lower, found.upper, found.exact, found.witness) == (0.0, 0.0, True, None)
    assert found.gap == 0.0


def test_a_slope_off_by_more_than_its_error_is_seen():
    # Negative control of the smooth lower bound: an activation that reports slopes too large.
    net = network([1], [0], [1])
    liar = replace(ACTIVATIONS["tanh"], name="liar", slope=lambda z: 1.1 + 0.0 * z)
    assert sampled_lower_bound(*net.parts, [[0.0]], liar) > bracket(*net.parts, "tanh").upper
