"""The semidefinite rung of the ladder, and the whole ladder in several inputs; controls bite."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS, get_activation
from lipbook.lipschitz import bracket, formal_upper_bound, sampled_lower_bound, sdp_bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.ladder_sdp import (
    HalfSquareBound,
    RelaxationLoss,
    eigenvalue_bound,
    formal_network,
    kinked_twin,
    multiplier_matrix,
    path_multiplier,
    relaxation_constant,
    uniform_multiplier,
    weights_of,
)
from lipbook.theorems.rungs import formal_constant, ratios_to_exact, rungs_of

PROPERTY = settings(derandomize=True, max_examples=60, deadline=None)
SHAPES = {
    "seed": st.integers(0, 10_000),
    "m": st.integers(1, 9),
    "d": st.integers(1, 4),
    "k": st.integers(1, 3),
}


def layers(seed, m, d, k):
    generator = np.random.default_rng(seed)
    scales = 10.0 ** generator.uniform(-2, 2, m)
    return generator.normal(size=(m, d)) * scales[:, None], generator.normal(size=(k, m))


def brute_formal(weight, output, low, high):
    """N(f) from all corners."""
    corners = itertools.product((low, high), repeat=len(weight))
    return max(np.linalg.norm((output * np.array(s)) @ weight, 2) for s in corners)


def ensemble_of(weight, bias, output, activation):
    parts = [
        torch.as_tensor(np.asarray(each, dtype=float))[None] for each in (weight, bias, output)
    ]
    shift = torch.zeros(1, parts[2].shape[1], dtype=torch.float64)
    return Ensemble(*parts, shift, get_activation(activation))


# One eigenvalue ------------------------------------------------------------------------------


@PROPERTY
@given(**SHAPES)
def test_the_eigenvalue_bounds_every_pattern_in_any_intervals(seed, m, d, k):
    weight, output = layers(seed, m, d, k)
    generator = np.random.default_rng(seed + 1)
    centre, half = generator.normal(size=m), np.abs(generator.normal(size=m))
    half[generator.random(m) < 0.3] = 0.0
    t = np.exp(generator.normal(size=m))
    bound = np.linalg.eigvalsh(multiplier_matrix(weight, output, centre, half, t))[-1]
    for signs in itertools.islice(itertools.product((-1, 1), repeat=m), 64):
        slopes = centre + half * np.array(signs)
        assert np.linalg.norm((output * slopes) @ weight, 2) <= bound * (1 + 1e-9)


def test_with_intervals_too_short_the_eigenvalue_is_no_bound():
    # Negative control: two equal neurons, slopes up to 1 but h = ¼ around ½.
    weight, output = np.ones((2, 1)), np.ones((1, 2))
    bound = np.linalg.eigvalsh(multiplier_matrix(weight, output, 0.5, 0.25, 1.0))[-1]
    assert bound == pytest.approx(1.5) and bound < brute_formal(weight, output, 0.0, 1.0) == 2.0


@PROPERTY
@given(**SHAPES)
def test_for_slopes_from_0_the_eigenvalue_is_half_a_square(seed, m, d, k):
    weight, output = layers(seed, m, d, k)
    t = np.exp(np.random.default_rng(seed).normal(size=m))
    for name in ("relu", "sigmoid"):
        ensemble = ensemble_of(weight, np.zeros(m), output, name)
        half = HalfSquareBound().bound(ensemble, 0, t)
        slopes = ensemble.activation.slope_range
        assert half == pytest.approx(eigenvalue_bound(weight, output, slopes, t), rel=1e-9)


@PROPERTY
@given(**SHAPES, name=st.sampled_from(sorted(ACTIVATIONS)))
def test_two_choices_of_t_reach_the_centred_bound_and_the_path_norm(seed, m, d, k, name):
    weight, output = layers(seed, m, d, k)
    low, high = ACTIVATIONS[name].slope_range
    middle, h = 0.5 * (low + high), 0.5 * (high - low)
    norms = np.linalg.norm(output, 2) * np.linalg.norm(weight, 2)
    centred = abs(middle) * np.linalg.norm(output @ weight, 2) + h * norms
    sizes = np.linalg.norm(output, axis=0) * np.linalg.norm(weight, axis=1)
    path = max(abs(low), abs(high)) * sizes.sum()
    uniform = eigenvalue_bound(weight, output, (low, high), uniform_multiplier(weight, output))
    by_path = eigenvalue_bound(weight, output, (low, high), path_multiplier(weight, output))
    assert uniform <= centred * (1 + 1e-9) and by_path <= path * (1 + 1e-9)
    best = sdp_bracket(weight, output, name)
    assert best.lower <= min(uniform, by_path) * (1 + 1e-9)
    assert best.upper <= min(centred, path) * (1 + 1e-6)
    assert brute_formal(weight, output, low, high) <= best.upper * (1 + 1e-9)


@PROPERTY
@given(**SHAPES, share=st.floats(0.0, 1.0))
def test_the_eigenvalue_is_convex_in_t_and_the_best_one_ignores_rescaling(seed, m, d, k, share):
    weight, output = layers(seed, m, d, k)
    generator = np.random.default_rng(seed + 2)
    one, other, factors = np.exp(generator.normal(size=(3, m)))
    ends = [eigenvalue_bound(weight, output, (0.0, 1.0), t) for t in (one, other)]
    between = eigenvalue_bound(weight, output, (0.0, 1.0), share * one + (1 - share) * other)
    assert between <= (share * ends[0] + (1 - share) * ends[1]) * (1 + 1e-9)
    rescaled = factors[:, None] * weight, output / factors
    same = eigenvalue_bound(*rescaled, (0.0, 1.0), one)
    assert same == pytest.approx(
        eigenvalue_bound(weight, output, (0.0, 1.0), factors**2 * one), rel=1e-9
    )


def test_one_neuron_attains_the_bound():
    weight, output = np.array([[3.0, 4.0]]), np.array([[2.0]])
    t = path_multiplier(weight, output)
    assert eigenvalue_bound(weight, output, (0.0, 1.0), t) == pytest.approx(10.0)


# LipSDP --------------------------------------------------------------------------------------


def lipsdp_matrix(weight, output, slopes, level, diagonal):
    """The matrix of LipSDP for one hidden layer, as its authors write it, ρ = L²."""
    low, high = slopes
    t = np.diag(diagonal)
    corner = -2 * low * high * weight.T @ t @ weight - level**2 * np.eye(weight.shape[1])
    mixed = (low + high) * weight.T @ t
    return np.block([[corner, mixed], [mixed.T, -2 * t + output.T @ output]])


@PROPERTY
@given(**SHAPES, slopes=st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.01, 1.0), (-0.13, 1.13)]))
def test_lipsdp_is_feasible_exactly_from_the_eigenvalue_on(seed, m, d, k, slopes):
    generator = np.random.default_rng(seed)
    weight, output = generator.normal(size=(m, d)), generator.normal(size=(k, m))
    t, h = np.exp(generator.normal(size=m)), 0.5 * (slopes[1] - slopes[0])
    least = eigenvalue_bound(weight, output, slopes, t)
    for level, feasible in ((least * (1 + 1e-4), True), (least * (1 - 1e-4), False)):
        # The pair of L and T that belongs to this t at this level.
        matrix = lipsdp_matrix(weight, output, slopes, level, level * t / (2 * h))
        top = np.linalg.eigvalsh(matrix)[-1]
        assert bool(top <= 1e-9 * np.abs(matrix).max()) is feasible, top


def test_a_zero_in_t_is_infeasible_for_a_neuron_that_is_not_dead():
    matrix = lipsdp_matrix(np.eye(2), np.ones((1, 2)), (0.0, 1.0), 100.0, np.array([1e3, 0.0]))
    assert np.linalg.eigvalsh(matrix)[-1] > 0.5


@PROPERTY
@given(**SHAPES)
def test_every_gram_matrix_is_below_every_eigenvalue(seed, m, d, k):
    weight, output = layers(seed, m, d, k)
    generator = np.random.default_rng(seed + 3)
    factor = generator.normal(size=(d + k, generator.integers(1, d + k + 1)))
    gram = factor @ factor.T / np.linalg.norm(factor) ** 2
    x, y, z = gram[:d, :d], gram[:d, d:], gram[d:, d:]
    mixed = np.einsum("md,dk,km->m", weight, y, output)
    sizes = np.einsum("md,de,me->m", weight, x, weight) * np.einsum(
        "km,kl,lm->m", output, z, output
    )
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (-0.1, 1.1)):
        value = ((low + high) * mixed + (high - low) * np.sqrt(np.maximum(sizes, 0))).sum()
        t = np.exp(generator.normal(size=m))
        assert value <= eigenvalue_bound(weight, output, (low, high), t) * (1 + 1e-9)


# What the relaxation loses -------------------------------------------------------------------


def test_the_constants_of_the_relaxation():
    assert relaxation_constant(1) == pytest.approx(1.0)
    assert relaxation_constant(2) == pytest.approx(math.pi / (2 * math.sqrt(2)))
    values = [relaxation_constant(r) for r in range(1, 200)]
    assert values == sorted(values) and values[-1] < math.sqrt(math.pi / 2)
    assert relaxation_constant(10**6) == pytest.approx(math.sqrt(math.pi / 2), rel=1e-5)
    with pytest.raises(ValueError, match=r"`rank` must be at least 1. Got 0. Drop neurons"):
        relaxation_constant(0)


@PROPERTY
@given(
    seed=SHAPES["seed"],
    m=SHAPES["m"],
    d=SHAPES["d"],
    name=st.sampled_from(["relu", "abs", "leaky relu", "gelu", "tanh"]),
)
def test_the_relaxation_loses_at_most_its_constant(seed, m, d, name):
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), activation=name)
    weight, _, output = weights_of(ensemble, 0)
    formal = brute_formal(weight, output, *ensemble.activation.slope_range)
    found = RelaxationLoss().verdict(ensemble, 0, formal, sdp_bracket(weight, output, name).lower)
    assert found.applies and not found.contradicted
    assert found.bound == pytest.approx(relaxation_constant(min(m, d)) * formal)


def test_the_constant_for_two_inputs_is_nearly_attained():
    # Directions evenly spread over the circle, slopes in [−1, 1]: c₂ within 1 %, so that c₁ and
    # anything below 0.99·c₂ are seen to be too small.
    angles = 2 * np.pi * np.arange(40) / 40
    weight, output = np.column_stack([np.cos(angles), np.sin(angles)]), np.ones((1, 40))
    ensemble = ensemble_of(weight, np.zeros(40), output, "abs")
    formal, relaxed = formal_constant(ensemble, 0), sdp_bracket(weight, output, "abs")
    assert relaxed.lower >= 0.99 * relaxation_constant(2) * formal
    assert not RelaxationLoss().verdict(ensemble, 0, formal, relaxed.lower).contradicted


def test_with_two_outputs_the_theorem_does_not_speak():
    ensemble = gaussian_ensemble(5, 2, 2)
    found = RelaxationLoss().verdict(ensemble, 0, None, 1.0)
    assert (
        found.failed.name == "H1" and found.bound is None and formal_constant(ensemble, 0) is None
    )
    weight, _, output = weights_of(ensemble, 0)
    with pytest.raises(ValueError, match=r"`output_weight` must have one row.*Got 2 rows"):
        formal_network(weight, output, "relu")


@pytest.mark.parametrize("name", ["relu", "abs", "leaky relu", "gelu", "tanh", "sigmoid"])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_formal_constant_is_a_lipschitz_constant(name, d):
    for seed in range(3):
        ensemble = gaussian_ensemble(8, d, seeds=(seed,), activation=name)
        weight, _, output = weights_of(ensemble, 0)
        expected = brute_formal(weight, output, *ensemble.activation.slope_range)
        assert formal_constant(ensemble, 0) == pytest.approx(expected, rel=2e-6)
        assert bracket(*formal_network(weight, output, name)).upper == pytest.approx(
            expected, rel=2e-6
        )
        if d == 1:
            assert formal_upper_bound(weight, output, name) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["relu", "abs", "tanh", "gelu"])
def test_biases_come_as_close_to_the_formal_constant_as_one_likes(name):
    # At one point each neuron is put where its slope is, nearly, the least or the greatest.
    ensemble = gaussian_ensemble(6, 2, seeds=(3,), activation=name)
    weight, _, output = weights_of(ensemble, 0)
    z = np.linspace(-30.01, 30, 6001)
    slopes = ensemble.activation.slope(z)
    ends = z[np.argmin(slopes)], z[np.argmax(slopes)]
    point = np.array([[0.3, -0.7]])
    steepest = max(
        sampled_lower_bound(weight, np.array(signs) - weight @ point[0], output, point, name)
        for signs in itertools.product(ends, repeat=6)
    )
    formal = brute_formal(weight, output, *ensemble.activation.slope_range)
    assert formal * (1 - 1e-3) <= steepest <= formal * (1 + 1e-9)


def test_the_formal_network_has_the_matrix_of_the_network_at_other_multipliers():
    weight, output = layers(5, 6, 3, 1)
    signed, _, ones, _ = formal_network(weight, output, "gelu")
    t = np.exp(np.random.default_rng(5).normal(size=6))
    one = multiplier_matrix(signed, ones, 0.5, 0.6, t)
    other = multiplier_matrix(weight, output, 0.5, 0.6, output[0] ** 2 * t)
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_the_kinked_twin_has_the_extreme_slopes_and_is_convex():
    z = np.linspace(-2, 2, 9)
    for name, activation in ACTIVATIONS.items():
        twin, (low, high) = kinked_twin(name), activation.slope_range
        np.testing.assert_allclose(twin.value(z), np.maximum(low * z, high * z))
        assert set(twin.slope(z[z != 0])) == {low, high} and twin.is_piecewise_linear


# The whole ladder ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "abs", "tanh", "gelu"])
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("domain", [None, (-2.0, 2.0)])
def test_the_rungs_are_in_order(name, d, domain):
    points = np.random.default_rng(0).uniform(-2, 2, (40, d))
    ensemble = gaussian_ensemble(8, d, seeds=(0, 1), activation=name)
    found = [rungs_of(ensemble, i, domain, points, time_limit=3.0) for i in range(2)]
    for each in found:
        rungs = each.named()
        order = ["sampled", "climbed", "exact", "formal", "SDP", "centred", "product"]
        for low, high in itertools.pairwise(order):
            assert rungs[low] <= rungs[high] * (1 + 1e-5), (low, high)
        assert rungs["SDP"] <= rungs["path norm"] * (1 + 1e-5)
        assert each.sdp_lower <= each.sdp and each.climbed <= each.bracket.upper
    ratios = ratios_to_exact(found)
    assert list(ratios) == list(rungs) and all(len(r) == 2 for r in ratios.values())
    assert (ratios["exact"] == 1.0).all()


def test_the_half_square_verdict_takes_both_values():
    points = np.zeros((1, 2)) + 0.1
    for name, failed in (("relu", None), ("tanh", None), ("abs", "H2"), ("leaky relu", "H2")):
        ensemble = gaussian_ensemble(6, 2, activation=name)
        rungs = rungs_of(ensemble, 0, (-1.0, 1.0), points, time_limit=3.0)
        t = uniform_multiplier(*(weights_of(ensemble, 0)[i] for i in (0, 2)))
        found = HalfSquareBound().verdict(ensemble, 0, t, rungs.bracket)
        assert (found.failed.name if found.failed else None) == failed
        assert not found.contradicted
        wrong = HalfSquareBound().verdict(ensemble, 0, -t, rungs.bracket)
        assert wrong.failed.name == "H1" and wrong.bound is None


def test_half_the_square_is_no_bound_where_slopes_are_negative():
    # Negative control: |x| has slopes ±1; ½(√t·1, 1/√t)² = 1 at t = 1 is attained, and for
    # |x + 1| − |x − 1|, steepest with opposite slopes, ½·‖rows‖² stays below 2·(its constant)/2.
    ensemble = ensemble_of([[1.0], [1.0]], [1.0, -1.0], [[1.0, -1.0]], "abs")
    known = bracket(*weights_of(ensemble, 0), "abs", None)
    found = HalfSquareBound().verdict(ensemble, 0, np.ones(2), known)
    assert known.lower == pytest.approx(2.0) and found.bound == pytest.approx(1.0)
    assert not found.applies
