"""A Gaussian start is flat and looks steep: both theorems on many seeds, and the limit law."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import brackets, formal_upper_bound, product_upper_bounds, sdp_bracket
from lipbook.networks import INITIAL_SCALES, Ensemble, gaussian_ensemble
from lipbook.theorems.flat_start import (
    FlatStart,
    SteepFormal,
    log_patterns,
    pattern_size,
    slope_variation,
)
from lipbook.theorems.gaussian_start import GaussianStart
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.rungs import formal_constant
from lipbook.theorems.slepian import SlepianLimit, stays_in_strip

NAMES = sorted(ACTIVATIONS)
KINKED = [name for name in NAMES if ACTIVATIONS[name].is_piecewise_linear]
SMOOTH = [name for name in NAMES if name not in KINKED]
SCALES = sorted(INITIAL_SCALES)


def starts_of(width, input_dim, scale="standard", n=400, activation="relu"):
    return gaussian_ensemble(width, input_dim, seeds=range(n), scale=scale, activation=activation)


def flat(starts: Ensemble, scale: str, failure: float) -> FlatStart:
    return FlatStart(GaussianStart.of(starts, scale, failure), starts.activation)


def steep(starts: Ensemble, scale: str, failure: float) -> SteepFormal:
    return SteepFormal(GaussianStart.of(starts, scale, failure), starts.activation)


def formal_constants(starts: Ensemble) -> np.ndarray:
    if starts.input_dim == 1:
        pairs = zip(starts.hidden_weight, starts.output_weight, strict=True)
        return np.array([formal_upper_bound(w, a, starts.activation) for w, a in pairs])
    found = [formal_constant(starts, i) for i in range(starts.size)]
    return np.array([value for value in found if value is not None])


def aligned(starts: Ensemble) -> Ensemble:
    """Output weights that know the hidden ones: a_j has the sign of w_j1. H1 is dropped."""
    signs = starts.hidden_weight[:, :, 0].sign()[:, None]
    return replace(starts, output_weight=starts.output_weight.abs() * signs)


# Patterns of slopes --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMOOTH)
def test_the_variation_of_the_slope_is_the_integral_of_the_curvature(name):
    sigma = ACTIVATIONS[name]
    turns = sorted({-30.0, *sigma.slope_turns, 30.0})
    pieces = [
        abs(integrate.quad(lambda z: float(sigma.curvature(np.array(z))), a, b, limit=200)[0])
        for a, b in itertools.pairwise(turns)
    ]
    assert slope_variation(sigma) == pytest.approx(sum(pieces), rel=1e-6)
    assert pattern_size(sigma) >= sigma.lipschitz * (1 - 1e-12)


def test_the_sizes_of_patterns_in_numbers():
    sizes = {name: round(pattern_size(ACTIVATIONS[name]), 4) for name in NAMES}
    assert sizes == {
        "abs": 1.0, "gelu": 1.5156, "leaky relu": 1.0, "relu": 1.0, "sigmoid": 0.5,
        "silu": 1.3994, "softplus": 1.0, "tanh": 2.0,
    }  # fmt: skip


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    width=st.integers(1, 20),
    input_dim=st.integers(1, 4),
    name=st.sampled_from(NAMES),
    size=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_every_gradient_is_a_mixture_of_upper_sets(seed, width, input_dim, name, size):
    # The step of the proof: ‖J(x)‖ ≤ Λ_σ·max over upper sets of z_1(x), …, z_m(x).
    sigma = ACTIVATIONS[name]
    network = gaussian_ensemble(width, input_dim, seeds=(seed,), activation=name)
    network = replace(network, hidden_weight=size * network.hidden_weight)
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(5, input_dim)))
    gradients = network.jacobian(x)[0, :, 0].norm(dim=1).numpy()
    order = network.preactivation(x)[0].argsort(dim=1, descending=True)
    terms = network.output_weight[0, 0][:, None] * network.hidden_weight[0]
    upper = torch.cumsum(terms[order], dim=1).norm(dim=2).amax(dim=1).numpy()
    allowed = upper * (abs(sigma.slope_limits[0]) + slope_variation(sigma))
    assert (gradients <= allowed * (1.0 + 1e-9) + 1e-12).all()


def test_mixtures_of_upper_sets_are_attained_by_steep_neurons():
    # Softplus of a steep pre-activation is ReLU: one upper set, and Λ_σ = 1.
    network = gaussian_ensemble(6, 1, seeds=(3,), activation="softplus")
    network = replace(
        network,
        hidden_weight=1e4 * network.hidden_weight,
        hidden_bias=1e4 * network.hidden_bias,
    )
    kinked = replace(network, activation=ACTIVATIONS["relu"])
    assert brackets(network, domain=(-9.0, 9.0), rel_gap=1e-4).lower[0] == pytest.approx(
        brackets(kinked, domain=(-9.0, 9.0)).lower[0], rel=0.01
    )


@pytest.mark.parametrize(("width", "input_dim"), [(1, 1), (5, 3), (64, 1), (300, 7), (3, 9)])
def test_the_logarithm_of_the_number_of_patterns(width, input_dim):
    found = log_patterns(width, input_dim, ACTIVATIONS["relu"])
    assert found <= width * math.log(2.0) + 1e-12
    assert found <= input_dim * math.log(math.e * max(1.0, width / input_dim)) + 1e-12
    assert log_patterns(width, input_dim, ACTIVATIONS["tanh"]) >= found


# Flat ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_constants_of_one_input_stay_below_the_bounds(name, scale):
    n = 150 if name in KINKED else 40
    starts = starts_of(30, 1, scale, n, name)
    constants = brackets(starts, rel_gap=1e-2, time_limit=0.5).lower
    for failure in (0.9, 0.3, 0.05):
        found = flat(starts, scale, failure).verdicts_over_seeds(starts, constants)
        assert found["line"].applies == (name in KINKED)
        assert found["given"].applies and found["before"].applies
        assert not any(each.contradicted for each in found.values())


@pytest.mark.parametrize(("width", "input_dim"), [(24, 2), (8, 5), (3, 6)])
def test_the_constants_of_several_inputs_stay_below_the_bounds(width, input_dim):
    starts = starts_of(width, input_dim, n=40)
    constants = brackets(starts, time_limit=2.0).lower
    for failure in (0.9, 0.05):
        found = flat(starts, "standard", failure).verdicts_over_seeds(starts, constants)
        assert found["line"].failed.name == "H4"
        assert not found["given"].contradicted and not found["before"].contradicted


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    width=st.integers(1, 5000),
    input_dim=st.integers(1, 60),
    scale=st.sampled_from(SCALES),
    name=st.sampled_from(KINKED),
    failure=st.floats(1e-9, 1.0),
)
def test_the_plain_form_is_above_the_sharp_one(width, input_dim, scale, name, failure):
    theorem = FlatStart(
        GaussianStart(width, input_dim, INITIAL_SCALES[scale](width, input_dim), failure),
        ACTIVATIONS[name],
    )
    assert theorem.before <= theorem.in_the_ratio * (1.0 + 1e-12)


def test_how_close_the_flat_bounds_come():
    # One neuron of one input: two patterns.
    starts = starts_of(1, 1, n=400)
    constants = brackets(starts).upper
    # At η = 1 nothing is promised, and some seeds do exceed the bound.
    assert (constants / flat(starts, "standard", 1.0).given(starts)).max() > 1.0
    rare = flat(starts, "standard", 1e-3)
    assert 0.5 < (constants / rare.given(starts)).max() <= 1.0
    assert 0.3 < (constants / rare.on_a_line(starts)).max() <= 1.0


def test_negative_control_a_start_whose_layers_know_each_other_is_steep():
    starts = starts_of(2000, 1, n=30)
    crowded = aligned(starts)
    constants = brackets(crowded).lower
    found = flat(starts, "standard", 0.05).verdicts_over_seeds(crowded, constants)
    assert all(found[key].contradicted for key in ("given", "before", "line"))


def test_flatness_needs_one_output_and_refusals_name_the_hypothesis():
    double = gaussian_ensemble(5, 2, 2, seeds=range(5))
    found = flat(double, "standard", 0.05).verdicts_over_seeds(double, np.zeros(5))
    assert all(each.failed.name == "H2" for each in found.values())
    smooth = starts_of(5, 1, n=5, activation="tanh")
    with pytest.raises(HypothesisError, match=r"`activation` must have one kink .*H3.*tanh"):
        flat(smooth, "standard", 0.05).on_a_line(smooth)
    with pytest.raises(HypothesisError, match=r"`activation` must have one kink"):
        _ = flat(smooth, "standard", 0.05).in_the_ratio
    plane = starts_of(5, 2, n=5)
    with pytest.raises(HypothesisError, match=r"`starts` must have one input .*H4.*Got 2"):
        flat(plane, "standard", 0.05).on_a_line(plane)


# Steep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_formal_constant_is_as_steep_as_the_theorem_says(name, scale):
    starts = starts_of(60, 1, scale, 300, name)
    formal = formal_constants(starts)
    for failure in (0.9, 0.3, 0.05):
        found = steep(starts, scale, failure).verdict_over_seeds(starts, formal)
        assert found.applies and not found.contradicted, found.line()


def test_the_formal_constant_of_two_inputs_and_the_bounds_above_it():
    starts = starts_of(80, 2, n=40)
    formal = formal_constants(starts)
    theorem = steep(starts, "standard", 0.3)
    assert not theorem.verdict_over_seeds(starts, formal).contradicted
    product = product_upper_bounds(starts.hidden_weight, starts.output_weight, "relu")
    assert (formal <= product * (1 + 1e-9)).all()
    pairs = zip(starts.hidden_weight[:5], starts.output_weight[:5], strict=True)
    relaxed = [sdp_bracket(w, a, "relu").upper for w, a in pairs]
    assert (formal[:5] <= np.array(relaxed) * (1 + 1e-9)).all()


def test_at_the_standard_scale_the_formula_is_the_one_of_the_page():
    starts = starts_of(100, 3, n=1)
    theorem = steep(starts, "standard", 0.05)
    plain = (10.0 / math.pi - 0.5 * theorem.start.deviation) / math.sqrt(3.0)
    assert theorem.bound == pytest.approx(plain)
    # With s = ϑ/2 the probability of failure is exp(−2s²).
    s = 0.5 * theorem.start.deviation
    assert math.exp(-2.0 * s * s) == pytest.approx(0.05)


def test_the_leading_term_is_attained_by_wide_networks():
    starts = starts_of(200_000, 1, n=8)
    lower = steep(starts, "standard", 1.0).bound
    assert np.median(formal_constants(starts)) / lower == pytest.approx(1.0, abs=0.01)


def test_a_narrow_network_or_a_rare_failure_voids_the_bound():
    starts = starts_of(4, 1, n=5)
    found = steep(starts, "standard", 1e-3).verdict_over_seeds(starts, np.zeros(5))
    assert found.failed.name == "H3" and found.failed.margin < 0.0
    double = gaussian_ensemble(90, 2, 2, seeds=range(5))
    assert steep(double, "standard", 0.5).verdict_over_seeds(double, np.ones(5)).failed.name == "H2"


def test_negative_control_one_live_neuron_does_not_look_steep():
    starts = starts_of(100, 1, n=100)
    alone = torch.zeros_like(starts.output_weight)
    alone[..., 0] = starts.output_weight[..., 0]
    lonely = replace(starts, output_weight=alone)
    theorem = steep(starts, "standard", 0.05)
    assert theorem.verdict_over_seeds(lonely, formal_constants(lonely)).contradicted


# The law -------------------------------------------------------------------------------------


@pytest.mark.parametrize("height", [0.3, 0.6, 0.828, 1.0, 2.0, 4.0])
def test_a_bridge_from_0_to_0_has_the_law_of_kolmogorov(height):
    found = stays_in_strip(np.zeros(1), np.zeros(1), height)
    assert found[0] == pytest.approx(1.0 - special.kolmogorov(height), abs=1e-12)


def test_a_bridge_that_begins_on_the_edge_leaves_and_a_wide_strip_holds_it():
    assert stays_in_strip(np.array([1.0]), np.array([0.3]), 1.0)[0] < 1e-12
    assert stays_in_strip(np.array([0.2]), np.array([0.3]), 9.0)[0] == 1.0
    assert stays_in_strip(np.array([0.0]), np.array([0.0]), 0.1)[0] == 0.0


def simulated(name: str, n: int, points: int) -> np.ndarray:
    """Draw the limit by its covariance (1 − |u − v|)/2, on a grid: independent of the module."""
    left, right = ACTIVATIONS[name].kink_slopes
    grid = np.linspace(0.0, 1.0, points)
    covariance = 0.5 * (1.0 - np.abs(grid[:, None] - grid))
    root = np.linalg.cholesky(covariance + 1e-12 * np.eye(points))
    paths = np.random.default_rng(5).normal(size=(n, points)) @ root.T
    ends = paths[:, :1] + paths[:, -1:]
    return np.abs((right - left) * paths + left * ends).max(axis=1)


@pytest.mark.parametrize("name", KINKED)
def test_the_limit_agrees_with_a_simulation_of_the_process(name):
    limit = SlepianLimit(ACTIVATIONS[name])
    drawn = simulated(name, 4000, 400)
    # A grid misses the peaks: by about 0.58·√(1/400) of the local size of the process.
    size = abs(np.diff(ACTIVATIONS[name].kink_slopes)[0])
    missed = 0.5826 * size / math.sqrt(400)
    assert drawn.mean() + missed == pytest.approx(limit.mean(), abs=0.03)
    heights = np.array([0.5, 1.0, 1.5, 2.5])
    shares = [(drawn + missed <= z).mean() for z in heights]
    assert shares == pytest.approx([limit.probability(z) for z in heights], abs=0.03)


def test_the_mean_of_the_limit_for_relu():
    assert SlepianLimit(ACTIVATIONS["relu"]).mean() == pytest.approx(1.23970, abs=1e-5)


@pytest.mark.parametrize("scale", ["standard", "mean-field", "tangent-kernel"])
def test_wide_networks_have_the_law_of_the_limit(scale):
    starts = starts_of(4000, 1, scale, 400)
    limit = SlepianLimit(starts.activation)
    theorem = GaussianStart.of(starts, scale, 0.05)
    found = limit.verdict(starts, theorem, brackets(starts).upper)
    assert found.applies and found.bound is None
    # Kolmogorov's test at one in a million, with room for the width being finite.
    assert found.measured < 2.7 / math.sqrt(400)


def test_negative_control_other_starts_have_another_law():
    starts = starts_of(1000, 1, "zero-bias", 400)
    limit = SlepianLimit(starts.activation)
    found = limit.verdict(starts, GaussianStart.of(starts, "zero-bias", 0.05), np.ones(400))
    assert found.failed.name == "H5" and found.measured is None
    assert limit.distance(brackets(starts).upper) > 0.25


def test_the_law_needs_one_input_and_one_kink():
    smooth, plane = starts_of(9, 1, n=3, activation="tanh"), starts_of(9, 2, n=3)
    for starts, name in ((smooth, "H4"), (plane, "H3")):
        theorem = GaussianStart.of(starts, "standard", 0.05)
        limit = SlepianLimit(starts.activation)
        assert limit.verdict(starts, theorem, np.ones(3)).failed.name == name
    for ask in (SlepianLimit(smooth.activation).mean, lambda: limit_of_tanh(1.0)):
        with pytest.raises(HypothesisError, match=r"must have one kink for thm-slepian-limit"):
            ask()


def limit_of_tanh(height: float) -> float:
    return SlepianLimit(ACTIVATIONS["tanh"]).probability(height)
