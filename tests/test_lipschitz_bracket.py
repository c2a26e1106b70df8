"""`bracket` and its relatives as a caller meets them: inputs, domains, methods, refusals."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from lipschitz_oracles import KINK, network, random_network

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import (
    Ball,
    LipschitzBracket,
    Witness,
    ascent_lower_bound,
    bracket,
    brackets,
    exact_piecewise_linear,
    formal_upper_bound,
    pattern_upper_bound,
    product_upper_bound,
    sampled_lower_bound,
)
from lipbook.networks import gaussian_ensemble

W, B, A = KINK.parts
PLANE = random_network(0, 5, 2).parts
SPACE = random_network(0, 5, 3).parts
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("net", "activation", "method"),
    [
        (KINK.parts, "relu", "sort"),
        (KINK.parts, "abs", "sort"),
        (KINK.parts, ACTIVATIONS["leaky relu"], "sort"),
        (KINK.parts, "tanh", "enclosure"),
        (PLANE, "relu", "sweep"),
        (SPACE, "relu", "branch"),
        (SPACE, "abs", "branch"),
        (PLANE, "gelu", "sdp"),
    ],
)
def test_auto_picks_the_method(net, activation, method):
    found = bracket(*net, activation)
    assert found.method == method == bracket(*net, activation, method=method).method
    assert found.verified and found.basis and found.seconds >= 0.0


def test_every_kind_of_array_is_understood():
    plain = bracket(W, B, A)
    lists = bracket(W.tolist(), B.tolist(), A[0].tolist())
    tensors = bracket(
        *(torch.tensor(p, dtype=torch.float32, requires_grad=True) for p in (W, B, A))
    )
    integers = bracket(*(p.astype(np.int32) for p in (W, B, A)))
    for other in (lists, tensors, integers):
        assert (other.lower, other.upper) == (plain.lower, plain.upper)


@pytest.mark.parametrize(
    ("domain", "stored"),
    [
        (None, None),
        ((-1, 1), (-1.0, 1.0)),
        (np.array([-1, 1]), (-1.0, 1.0)),
        ([[-1, -2], [1, 2]], ((-1.0, -2.0), (1.0, 2.0))),
        ((-1, torch.tensor([1, 2])), ((-1.0, -1.0), (1.0, 2.0))),
        (torch.tensor([[-1, -2], [1, 2]]), ((-1.0, -2.0), (1.0, 2.0))),
        (Ball([0, 1], 2), Ball((0.0, 1.0), 2.0)),
        (Ball(np.float32(0.5), 1), Ball(0.5, 1.0)),
    ],
)
def test_the_domain_is_part_of_the_result(domain, stored):
    assert bracket(*PLANE, domain=domain, method="product").domain == stored


def test_the_result_is_frozen_and_says_its_gap():
    found = bracket(W, B, A, method="product")
    assert found.gap == found.upper / found.lower - 1.0
    with pytest.raises(FrozenInstanceError):
        found.lower = 0.0
    open_below = replace(found, lower=0.0)
    assert open_below.gap == math.inf
    with pytest.raises(AssertionError):
        replace(found, lower=found.upper * 2)
    again = bracket(W, B, A, method="product")
    assert isinstance(found, LipschitzBracket) and found == again
    assert found.witness == Witness(again.witness.point, None, again.witness.gradient_norm)


def test_an_activation_of_ones_own():
    half = replace(ACTIVATIONS["relu"], name="half", kink_slopes=(0.5, 1.0), slope_range=(0.5, 1.0))
    found = bracket(*network([1, -1], [0, 0], [1, 1]).parts, half)
    assert found.lower <= 0.5 <= found.upper and found.exact
    soft = replace(ACTIVATIONS["tanh"], name="soft")
    assert bracket(W, B, A, soft).lower == pytest.approx(bracket(W, B, A, "tanh").lower, rel=1e-6)


@pytest.mark.parametrize("domain", [None, (-2.0, 1.0), Ball(0.1, 0.7)])
@pytest.mark.parametrize(("activation", "d"), [("relu", 1), ("tanh", 1), ("relu", 2)])
def test_ensembles_equal_one_by_one(activation, d, domain):
    ensemble = gaussian_ensemble(12, d, 2, seeds=range(4), activation=activation)
    found = brackets(ensemble, None, domain)
    for i in range(4):
        alone = bracket(
            ensemble.hidden_weight[i], ensemble.hidden_bias[i], ensemble.output_weight[i],
            activation, domain,
        )  # fmt: skip
        assert (found.lower[i], found.upper[i]) == (alone.lower, alone.upper)
        assert found.exact[i] == alone.exact and found.method == alone.method
        assert tuple(found.points[i]) == alone.witness.point
    assert found.verified and found.domain == alone.domain
    assert brackets(ensemble, "abs", domain).method == ("sort" if d == 1 else "sweep")


def test_ensembles_of_constant_networks_have_no_points():
    ensemble = gaussian_ensemble(3, 2, seeds=(0, 1))
    flat = replace(ensemble, output_weight=torch.zeros_like(ensemble.output_weight))
    found = brackets(flat, method="product")
    assert np.isnan(found.points).all() and found.exact.all() and (found.upper == 0.0).all()
    assert (brackets(flat).upper == 0.0).all()


WEIGHTS = [
    (([1, 2], [0, 0], [1, 1]), r"`hidden_weight` must have shape \(m, d\).*reshape\(-1, 1\)"),
    ((np.zeros((0, 1)), [], []), r"`hidden_weight` must have shape"),
    ((W, [0, 0], A), r"`hidden_bias` must have shape \(3,\).*Got \(2,\)"),
    ((W, B, [1, 2]), r"`output_weight` must have shape \(3,\) or \(k, 3\).*Got \(1, 2\)"),
    ((W, B, A[None]), r"`output_weight` must have shape"),
    ((W, B, np.zeros((0, 3))), r"`output_weight` must have shape"),
    ((W * NAN, B, A), r"`hidden_weight` must be finite\. Got nan"),
    ((W, [0, INF, 0], A), r"`hidden_bias` must be finite\. Got inf"),
    ((W, B, torch.tensor([1.0, 2.0, NAN])), r"`output_weight` must be finite"),
    ((W, B, ["a", "b", "c"]), r"`output_weight` must be an array of real numbers\. Got list"),
    ((W, B, [[1], [2, 3]]), r"`output_weight` must be an array of real numbers"),
    ((W.astype(complex), B, A), r"`hidden_weight` must be an array of real numbers"),
    ((None, B, A), r"`hidden_weight` must be an array of real numbers\. Got NoneType"),
    ((W * 1e200, B, A), r"`hidden_weight` must stay within ±1e\+150\. Got 1e\+200\. Rescale"),
]


@pytest.mark.parametrize(("parts", "message"), WEIGHTS)
def test_bad_weights_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        bracket(*parts)


DOMAINS = [
    ((1, 1), r"`domain` must have low < high in every coordinate\. Got \(1\.0, 1\.0\)"),
    ((1, -1), r"`domain` must have low < high"),
    (([0, 1], [1, 0]), r"`domain` must have low < high"),
    ((-INF, 1), r"`domain` must be finite\. Got -inf"),
    ((NAN, 1), r"`domain` must be finite"),
    ((-1e200, 1), r"`domain` must stay within"),
    ((1, 2, 3), r"`domain` must be None, a pair \(low, high\) or a Ball\. Got \(1, 2, 3\)"),
    ("ab", r"`domain` must be None, a pair"),
    (3.0, r"`domain` must be None, a pair"),
    (([0, 0, 0], [1, 1, 1]), r"`domain` must have one entry per input, 2 of them\. Got 3"),
    (([[0, 0]], [[1, 1]]), r"`domain` must be a number or one number per coordinate"),
    (Ball((0, 0, 0), 1), r"`center` must have one entry per input, 2 of them\. Got 3"),
]


@pytest.mark.parametrize(("domain", "message"), DOMAINS)
def test_bad_domains_are_refused(domain, message):
    with pytest.raises(ValueError, match=message):
        bracket(*PLANE, domain=domain)


@pytest.mark.parametrize(
    ("center", "radius", "message"),
    [
        (0, 0, r"`radius` must be a positive number\. Got 0"),
        (0, -1, r"`radius` must be a positive number"),
        (0, INF, r"`radius` must be finite"),
        (0, [1, 2], r"`radius` must be a positive number"),
        (NAN, 1, r"`center` must be finite"),
        (np.zeros((2, 2)), 1, r"`center` must be a number or one number per coordinate"),
    ],
)
def test_bad_balls_are_refused(center, radius, message):
    with pytest.raises(ValueError, match=message):
        Ball(center, radius)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_ball_too_small_for_float64_is_refused(activation):
    with pytest.raises(ValueError, match=r"`radius` must be larger than the spacing"):
        bracket(W, B, A, activation, Ball(1.0, 1e-20))


OPTIONS = [
    ({"method": "guess"}, r"`method` must be one of auto, sort, .*product\. Got 'guess'"),
    ({"rel_gap": 0.0}, r"`rel_gap` must lie strictly between 0 and 1\. Got 0\.0"),
    ({"rel_gap": NAN}, r"`rel_gap` must lie strictly"),
    ({"time_limit": 0.0}, r"`time_limit` must be a positive number of seconds\. Got 0\.0"),
    ({"seed": -1}, r"`seed` must be a nonnegative int\. Got -1"),
    ({"seed": 0.5}, r"`seed` must be a nonnegative int\. Got 0\.5"),
    ({"activation": "step"}, r"`activation` must be one of relu.*Got 'step'"),
    ({"activation": "tanh", "method": "sort"}, r"'sort' needs a piecewise-linear activation"),
    ({"activation": "relu", "method": "enclosure"}, r"'enclosure' needs a smooth activation"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        bracket(W, B, A, **options)


@pytest.mark.parametrize(
    ("net", "method", "activation", "reason"),
    [
        (PLANE, "sort", "relu", r"needs a network of one input\. Got 2 inputs"),
        (PLANE, "enclosure", "tanh", r"needs a box or a Ball as domain\. Got the whole space"),
        (PLANE, "enclosure", "relu", r"needs a smooth activation\. Got 'relu'"),
        (PLANE, "sweep", "tanh", r"needs a piecewise-linear activation\. Got 'tanh'"),
        (SPACE, "sweep", "relu", r"needs at most two inputs in use\. Got 3"),
        ((W, B, A), "sweep", "relu", r"needs a network of two inputs\. Got 1 input"),
        (SPACE, "branch", "gelu", r"needs a piecewise-linear activation\. Got 'gelu'"),
    ],
)
def test_a_method_that_does_not_fit_names_a_remedy(net, method, activation, reason):
    with pytest.raises(ValueError, match=rf"'{method}' {reason}\. Use method=\"sdp\" or \"auto\""):
        bracket(*net, activation, method=method)


def test_two_smooth_inputs_on_a_box_are_enclosed():
    assert bracket(*PLANE, "tanh", (-1, 1)).method == "enclosure"
    five = random_network(0, 5, 5).parts
    assert bracket(*five, "tanh", (-1, 1)).method == "sdp"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("domain", [None, (-1.0, 1.0), Ball(0.2, 0.9)])
def test_all_methods_stand_in_order(seed, d, k, domain):
    """sampled ≤ exact = exact by another method ≤ SDP with local slopes ≤ product."""
    net = random_network(seed, 10, d, k).parts
    exact = bracket(*net, domain=domain)
    branch = bracket(*net, domain=domain, method="branch")
    sdp = bracket(*net, domain=domain, method="sdp")
    points = np.random.default_rng(seed).uniform(-0.4, 0.6, (50, d))
    sampled = sampled_lower_bound(*net, points, domain=domain)
    assert exact.exact and branch.exact
    assert sampled <= exact.upper and exact.lower <= branch.upper and branch.lower <= exact.upper
    slack = 1.0 + 1e-12
    assert exact.lower <= sdp.upper <= product_upper_bound(net[0], net[2]) * slack


STACKS = [
    ((np.zeros((2, 3, 2, 1)), B, A), r"`hidden_weight` must have shape \(K, m, d\)"),
    ((W[None], B, A[None]), r"`hidden_bias` must have shape \(1, 3\).*Got \(3,\)"),
    ((W[None], B[None], A[None, :, :2]), r"`output_weight` must have shape \(1, k, 3\)"),
    ((np.zeros((2, 3, 2)), np.zeros((2, 3)), np.zeros((2, 1, 3))), r"one input.*Got 2 inputs"),
]


@pytest.mark.parametrize(("parts", "message"), STACKS)
def test_bad_stacks_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        exact_piecewise_linear(*parts)


def test_sorting_refuses_smooth_activations_and_bad_intervals():
    with pytest.raises(ValueError, match=r'`activation` must be piecewise linear.*"enclosure"'):
        exact_piecewise_linear(W[None], B[None], A[None], "tanh")
    with pytest.raises(ValueError, match=r"`domain` must have low < high"):
        exact_piecewise_linear(W[None], B[None], A[None], domain=(1, 0))
    with pytest.raises(ValueError, match=r"`rel_gap` must lie"):
        exact_piecewise_linear(W[None], B[None], A[None], rel_gap=2.0)


POINTS = [
    (np.zeros((3, 2)), None, r"must have shape \(n, 1\), n ≥ 1\. Got \(3, 2\)"),
    (np.zeros((0, 1)), None, r"must have shape \(n, 1\), n ≥ 1"),
    ([[2.0]], (-1, 1), r"must lie in the domain.*Got a point outside of \(-1\.0, 1\.0\)"),
    ([[2.0]], Ball(0, 1), r"must lie in the domain"),
    ([[1e200]], None, r"must lie in the domain, and within ±1e\+150"),
    ([[NAN]], None, r"must be finite"),
]


@pytest.mark.parametrize(("points", "domain", "message"), POINTS)
def test_bad_points_are_refused(points, domain, message):
    with pytest.raises(ValueError, match="`points` " + message):
        sampled_lower_bound(W, B, A, points, domain=domain)
    with pytest.raises(ValueError, match="`starts` " + message):
        ascent_lower_bound(W, B, A, domain=domain, starts=points)


def test_bounds_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match=r"`width` must be at most 16.*Got width=17\. Use centred"):
        pattern_upper_bound(np.ones((17, 1)), np.ones(17))
    with pytest.raises(ValueError, match=r"one input and one output.*Got 2 and 1\. Use pattern"):
        formal_upper_bound(np.ones((3, 2)), np.ones(3))
    with pytest.raises(ValueError, match=r"one input and one output.*Got 1 and 2\. Use pattern"):
        formal_upper_bound(np.ones((3, 1)), np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"`hidden_weight` must have shape \(m, d\)"):
        product_upper_bound(np.ones(3), np.ones(3))
