"""The semidefinite bound: closed forms, brute force over multipliers, patterns, invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from lipschitz_oracles import CASES, KINKS, SMOOTH, encloses, exact_square, random_network
from relaxation_oracles import RANGES, brute_force, count_evaluations, relaxed, slopes_of
from scipy.special import gamma as gamma_function

from lipbook.activations import get_activation
from lipbook.lipschitz import (
    Ball,
    centred_upper_bound,
    formal_upper_bound,
    path_norm_upper_bound,
    pattern_upper_bound,
    product_upper_bound,
)
from lipbook.lipschitz.problem import Options, checked_problem
from lipbook.lipschitz.semidefinite import primal as primal_module
from lipbook.lipschitz.semidefinite import sdp as sdp_module
from lipbook.lipschitz.semidefinite.sdp import (
    sdp_bracket,
    sdp_bracket_on,
    sdp_upper_bound,
    sdp_upper_bounds,
    why_not_sdp,
)
from lipbook.lipschitz.slope_intervals import slope_intervals

ACTIVATION_NAMES = (*KINKS, *SMOOTH)


# The least bound


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize(("d", "k", "width"), [(2, 1, 3), (2, 2, 4), (5, 1, 3), (1, 3, 3)])
def test_no_multipliers_do_better(d, k, width, name):
    net = random_network(d + 7 * k, width, d, k)
    found = sdp_bracket(*net.layers, slope_range=RANGES[name])
    brute = brute_force(*net.layers, *RANGES[name])
    assert found.lower <= brute * (1 + 1e-12)
    assert found.upper <= brute * (1 + 1e-4)
    centre, half_width = slopes_of(*RANGES[name], width)
    matrix = relaxed(*net.layers, centre, half_width, found.multiplier)
    assert np.linalg.eigvalsh(matrix)[-1] == pytest.approx(found.upper, rel=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 8])
def test_a_sum_of_relus_of_coordinates_has_the_norm_of_ones(d):
    assert sdp_upper_bound(np.eye(d), np.ones(d)) == pytest.approx(math.sqrt(d), rel=1e-4)


@pytest.mark.parametrize("width", [3, 5, 8])
def test_evenly_spread_directions(width):
    # By symmetry P = I/√2: the value is m/√2, above every pattern's 1/sin(π/2m).
    angle = np.pi * np.arange(width) / width
    weight = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found = sdp_bracket(weight, np.ones(width), "abs")
    assert found.upper == pytest.approx(width / math.sqrt(2), rel=1e-4)
    patterns = pattern_upper_bound(weight, np.ones(width), "abs")
    assert patterns == pytest.approx(1 / math.sin(np.pi / (2 * width)))
    # So the loss is attained: a smaller constant than `largest_loss` would be refuted here.
    assert found.upper / patterns == pytest.approx(largest_loss(2), rel=0.4 / width**2 + 1e-3)


def test_one_neuron_and_no_neuron():
    found = sdp_bracket([[3.0, 4.0]], [[2.0], [0.0]])
    assert 10.0 * (1 - 1e-12) < found.lower <= 10.0 <= found.upper < 10.0 * (1 + 1e-12)
    assert found.gap < 1e-12
    nothing = sdp_bracket(*CASES["constant"].layers)
    assert (nothing.lower, nothing.upper, nothing.gap) == (0.0, 0.0, 0.0)
    assert sdp_bracket([[1.0]], [1.0], slope_range=(0.0, 0.0)).upper == 0.0
    assert sdp_bracket([[1.0]], [1.0], slope_range=(0.5, 0.5)).upper == pytest.approx(0.5)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("name", [name for name in CASES if len(CASES[name].output_weight) == 1])
def test_one_input_and_one_output_have_the_formal_constant(name, activation):
    found = sdp_bracket(*CASES[name].layers, activation)
    formal = formal_upper_bound(*CASES[name].layers, activation)
    assert found.upper == pytest.approx(formal, rel=1e-11)
    assert found.lower == pytest.approx(formal, rel=1e-11)


def largest_loss(rank):
    """How much larger than the largest pattern the value can be, for one output."""
    return math.sqrt(np.pi / rank) * gamma_function((rank + 1) / 2) / gamma_function(rank / 2)


@pytest.mark.parametrize("activation", ["relu", "abs", "gelu"])
@pytest.mark.parametrize(("seed", "d"), [(0, 2), (1, 3), (2, 6), (3, 12)])
def test_the_relaxation_loses_little(seed, d, activation):
    net = random_network(seed, 10, d)
    patterns = pattern_upper_bound(*net.layers, activation)
    value = sdp_upper_bound(*net.layers, activation)
    assert patterns * (1 - 1e-9) <= value <= largest_loss(min(d, 10)) * patterns * (1 + 1e-4)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize(("width", "d", "k"), [(8, 3, 2), (9, 20, 1), (6, 2, 11), (40, 5, 3)])
def test_it_is_the_best_of_the_bounds_without_biases(width, d, k, activation):
    net = random_network(width, width, d, k)
    found = sdp_bracket(*net.layers, activation)
    assert found.gap <= 1e-3
    for bound in (centred_upper_bound, product_upper_bound, path_norm_upper_bound):
        assert found.upper <= bound(*net.layers, activation) * (1 + 1e-12)
    if width <= 9:
        assert found.upper >= pattern_upper_bound(*net.layers, activation) * (1 - 1e-9)


def test_where_the_centred_bound_is_the_value_it_is_reached():
    # Orthonormal rows with weights that agree: nothing is gained by other multipliers.
    weight, output = np.eye(4)[:, :3], np.ones((1, 4)) / 2
    value = sdp_upper_bound(weight, output, "abs")
    assert value <= centred_upper_bound(weight, output, "abs") * (1 + 1e-14)


@pytest.mark.parametrize(
    "size", [(50, 2, 1), (200, 10, 1), (300, 60, 1), (120, 30, 5), (60, 80, 3)]
)
def test_gaps_are_small_on_random_networks(size):
    for seed in range(3):
        assert sdp_bracket(*random_network(seed, *size).layers).gap <= 3e-4


# Invariances, scales, many coordinates


@pytest.mark.parametrize("slopes", RANGES.values(), ids=RANGES.keys())
def test_invariances(slopes):
    net = random_network(5, 12, 4, 3)
    weight, output = net.layers
    value = sdp_bracket(weight, output, slope_range=slopes).upper
    generator = np.random.default_rng(0)
    turn, other = (np.linalg.qr(generator.normal(size=(n, n)))[0] for n in (4, 3))
    order, scale = generator.permutation(12), 10.0 ** generator.integers(-8, 9, 12)
    same = [
        (weight[order], output[:, order]),
        (weight @ turn, other @ output),
        (weight * scale[:, None], output / scale),
        (output.T, weight.T),
        (-weight, output),
        (np.vstack([weight, np.ones((2, 4))]), np.hstack([output, np.zeros((3, 2))])),
        (np.vstack([weight, weight]), np.hstack([output, output]) / 2),
    ]
    for layers in same:
        assert sdp_bracket(*layers, slope_range=slopes).upper == pytest.approx(value, rel=2e-4)
    assert sdp_bracket(2 * weight, output, slope_range=slopes).upper == pytest.approx(2 * value)
    assert value != pytest.approx(sdp_bracket(weight[1:], output[:, 1:]).upper, rel=2e-4)


@pytest.mark.parametrize("power", [100, -100])
def test_badly_scaled_rows(power):
    net = random_network(2, 9, 3, 2)
    scale = 10.0 ** (power * np.array([1, -1, 0, 1, 0.5, -0.5, 0, 0.08, -0.08]))
    weight, output = net.hidden_weight * scale[:, None], net.output_weight / scale
    assert sdp_bracket(weight, output).gap < 1e-3
    plain = sdp_bracket(*net.layers).upper
    assert sdp_bracket(weight, output).upper == pytest.approx(plain, rel=2e-4)


@pytest.mark.parametrize("scale", [1e-160, 1e-155, 1e140, 1e150])
def test_extreme_scales(scale):
    weight, output = scale * np.array([[1.0, 0.5], [0.25, -1.0]]), np.array([[0.5, -1.0]])
    value = sdp_upper_bound(weight / scale, output)
    assert sdp_upper_bound(weight, output) == pytest.approx(scale * value)
    assert sdp_upper_bound(weight, scale * output) >= scale * value * scale * (1 - 1e-4)


@pytest.mark.parametrize("layer", ["W", "A"])
def test_many_coordinates_are_reduced(monkeypatch, layer):
    net = random_network(1, 12, 40, 2)
    layers = net.layers if layer == "W" else (net.output_weight.T, net.hidden_weight.T)
    plain = sdp_upper_bound(*layers)
    monkeypatch.setattr(sdp_module, "_MANY", 4)
    assert sdp_upper_bound(*layers) == pytest.approx(plain, rel=1e-10)
    assert sdp_upper_bound(*layers) > sdp_bracket(*layers).lower


# Ensembles


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize(("d", "k"), [(1, 1), (3, 2)])
def test_an_ensemble_has_the_bounds_of_its_networks(monkeypatch, d, k, activation):
    monkeypatch.setattr(sdp_module, "_CHUNK", 20 * 4 * 4 * 25)
    nets = [random_network(seed, 20, d, k) for seed in range(12)]
    weight = np.stack([net.hidden_weight for net in nets])
    output = np.stack([net.output_weight for net in nets])
    weight[3], output[5, :, :10] = 0.0, 0.0
    weight[7] *= 1e100
    bounds = sdp_upper_bounds(weight, output, activation)
    for i in range(12):
        alone = sdp_upper_bound(weight[i], output[i], activation)
        assert bounds[i] == pytest.approx(alone, rel=2e-4)
        assert bounds[i] <= centred_upper_bound(weight[i], output[i], activation) * (1 + 1e-12)
    assert bounds[3] == 0.0


# On a domain


DOMAINS = [None, (-1.0, 1.0), ((-1.0, 0.0, -3.0), (0.5, 0.1, 3.0)), Ball((1.0, 0.0, -1.0), 0.7)]


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_slopes_stay_within_their_intervals(domain, activation):
    net = random_network(2, 20, 3)
    problem = checked_problem(*net.parts, activation, domain)
    centre, half_width = slope_intervals(problem)
    x = np.random.default_rng(0).uniform(-1.0, 1.0, (4000, 3))
    if isinstance(domain, Ball):
        x = domain.center + domain.radius * x / np.linalg.norm(x, axis=1, keepdims=True)
    elif domain is not None:
        low, high = (np.broadcast_to(end, 3) for end in domain)
        x = 0.5 * (low + high) + 0.5 * (high - low) * np.sign(x) * np.abs(x) ** 0.2
    slopes = get_activation(activation).slope(x @ net.hidden_weight.T + net.hidden_bias)
    assert (np.abs(slopes - centre) <= half_width + 1e-15).all()
    if domain is not None:  # and the intervals are not much longer than they must be
        reached = slopes.max(axis=0) - slopes.min(axis=0)
        assert np.median(2.0 * half_width - reached) < 0.1


@pytest.mark.parametrize("activation", ["relu", "abs", "gelu"])
@pytest.mark.parametrize("name", CASES)
def test_brackets_of_one_input_enclose_the_exact_constant(name, activation):
    net = CASES[name]
    for domain in (None, (-1.5, 0.5)):
        problem = checked_problem(*net.parts, activation, domain)
        found = sdp_bracket_on(problem, Options())
        if activation in KINKS:
            assert encloses(found.lower, found.upper, exact_square(net, activation, domain))
        assert found.method == "sdp" and found.verified and found.domain == problem.domain
        assert problem.hidden_weight is found.certificate.problem.hidden_weight
    assert why_not_sdp(problem) is None


def test_neurons_that_the_domain_fixes_cost_nothing():
    net = random_network(0, 30, 3, 2)
    bias = np.where(np.arange(30) % 2, 9.0, -9.0)
    problem = checked_problem(net.hidden_weight, bias, net.output_weight, "relu", (-1.0, 1.0))
    found = sdp_bracket_on(problem, Options())
    jacobian = net.output_weight[:, 1::2] @ net.hidden_weight[1::2]
    assert found.exact and found.upper == pytest.approx(np.linalg.norm(jacobian, 2), rel=1e-12)
    assert found.upper < 0.9 * sdp_upper_bound(*net.layers)


def test_a_smaller_domain_has_no_larger_bound():
    net = random_network(4, 15, 3)
    bounds = [
        sdp_bracket_on(checked_problem(*net.parts, "tanh", Ball(0.0, radius)), Options()).upper
        for radius in (0.1, 1.0, 10.0)
    ]
    assert bounds[0] < 0.9 * bounds[1] < bounds[1] < bounds[2] <= sdp_upper_bound(*net.layers)


# Interruptions and errors


def test_it_stops_when_time_is_up_with_a_bound_all_the_same(monkeypatch):
    net = random_network(0, 60, 8, 2)
    problem = checked_problem(*net.parts, "relu", (-1.0, 1.0))
    seen = []
    steps = count_evaluations(monkeypatch)
    options = Options(time_limit=1e-9, watch=lambda lower, upper: seen.append((lower, upper)))
    found = sdp_bracket_on(problem, options)
    assert len(steps) == 1 and seen == [(0.0, found.upper)]
    assert found.lower <= found.upper <= centred_upper_bound(*net.layers) * (1 + 1e-12)
    assert found.certificate.proof.fault(problem, found.upper) is None


def test_an_interruption_keeps_what_was_found(monkeypatch):
    net = random_network(0, 60, 8, 2)
    problem = checked_problem(*net.parts)
    evaluate, steps = primal_module.Program.evaluate, []

    def interrupted(self, factor):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return evaluate(self, factor)

    monkeypatch.setattr(primal_module.Program, "evaluate", interrupted)
    found = sdp_bracket_on(problem, Options())
    assert len(steps) >= 6 and found.certificate.proof.fault(problem, found.upper) is None
    steps.clear()
    with pytest.raises(KeyboardInterrupt):
        sdp_bracket(*net.layers)
    monkeypatch.setattr(sdp_module, "relaxation_upper", interrupted)
    steps[:] = [1] * 5
    early = sdp_bracket_on(problem, Options())
    assert early.upper == product_upper_bound(*net.layers) and early.certificate is None


@pytest.mark.parametrize("bad", [(1.0, 0.0), (0.0,), (0.0, 1e7), 1.0])
def test_slope_ranges_are_checked(bad):
    with pytest.raises(ValueError, match=r"`slope_range` must be a pair .* Use \(0, 1\)"):
        sdp_bracket([[1.0]], [1.0], slope_range=bad)
