"""Brackets of perceptrons of any depth: invariances, scales, interrupts, time."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from deep_oracles import (
    UPPER,
    net,
    scaled,
)

from lipbook.lipschitz.deep import (
    DeepBracket,
    bracketing,
    climbing,
    deep_ascent_lower_bound,
    deep_bracket,
    deep_chain_upper_bound,
    deep_product_upper_bound,
    deep_sampled_lower_bound,
    deep_sdp_upper_bound,
    interior_point,
    upper,
)
from lipbook.lipschitz.deep.gradients import gradient_norms_lower


@pytest.fixture(autouse=True)
def short_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rounds say as much about the bounds as many."""
    monkeypatch.setattr(climbing, "SAMPLES", 256)
    monkeypatch.setattr(climbing, "ROUNDS", 20)


# ---- invariances and scales


def test_permuting_neurons_changes_nothing():
    layers = net(7, 3, 6, 5, 2)
    g = np.random.default_rng(0)
    p, q = g.permutation(6), g.permutation(5)
    (w1, b1), (w2, b2), (w3, b3) = layers
    moved = [(w1[p], b1[p]), (w2[q][:, p], b2[q]), (w3[:, q], b3)]
    for bound in UPPER:
        assert bound(moved) == pytest.approx(bound(layers), rel=1e-4)
    x = g.normal(size=(40, 3))
    assert deep_sampled_lower_bound(moved, x) == pytest.approx(
        deep_sampled_lower_bound(layers, x), rel=1e-9
    )


def test_rotating_inputs_and_outputs_changes_nothing():
    layers = net(8, 3, 6, 5, 2)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    (w1, b1), (w2, b2), (w3, b3) = layers
    swap = np.array([[0.0, 1.0], [-1.0, 0.0]])
    moved = [(w1 @ turn, b1), (w2, b2), (swap @ w3, b3)]
    assert deep_sdp_upper_bound(moved) == pytest.approx(deep_sdp_upper_bound(layers), rel=1e-4)


def test_rescaling_relu_neurons_moves_the_product_but_not_the_joint_bound():
    layers = net(9, 3, 6, 5, 2)
    (w1, b1), (w2, b2), (w3, b3) = layers
    s = np.exp(np.random.default_rng(0).normal(size=6))
    moved = [(w1 * s[:, None], b1 * s), (w2 / s, b2), (w3, b3)]
    assert deep_sdp_upper_bound(moved) == pytest.approx(deep_sdp_upper_bound(layers), rel=1e-4)
    assert deep_product_upper_bound(moved) > 1.1 * deep_product_upper_bound(layers)
    x = np.random.default_rng(1).normal(size=(40, 3))
    assert deep_sampled_lower_bound(moved, x) == pytest.approx(
        deep_sampled_lower_bound(layers, x), rel=1e-9
    )


@pytest.mark.parametrize(
    "factors", [(1e8, 1e-8, 1.0), (1e100, 1e-100, 1e50), (1e-100, 1e-100, 1e-90), (1e140,) * 3]
)
def test_scales_multiply_the_bounds(factors):
    layers = [(w, None) for w, _ in net(4, 3, 6, 5, 2)]
    moved = scaled(layers, *factors)
    total = math.prod(factors)
    x = np.random.default_rng(1).normal(size=(40, 3))
    if math.isinf(total):
        assert deep_product_upper_bound(moved) == math.inf
        assert 0.0 < deep_sampled_lower_bound(moved, x) < math.inf
        return
    for bound in UPPER:
        assert bound(moved) == pytest.approx(total * bound(layers), rel=1e-4)
    lower = deep_sampled_lower_bound(moved, x)
    assert lower == pytest.approx(total * deep_sampled_lower_bound(layers, x), rel=1e-9)


@pytest.mark.parametrize("power", [8, 100])
def test_badly_scaled_neurons_keep_the_order(power):
    (w1, b1), (w2, b2), (w3, b3) = net(2, 3, 6, 5, 2)
    s = 10.0 ** np.linspace(-power, power, 6)
    layers = [(w1 * s[:, None], b1 * s), (w2 / s, b2), (w3, b3)]
    plain = net(2, 3, 6, 5, 2)
    for activation in ("relu", "tanh"):
        found = deep_bracket(layers, activation)
        # Weights of 1e100 after a bounded σ leave nothing certain of what comes next.
        assert (found.lower > 0.0) == (activation == "relu" or power < 100)
    assert deep_sdp_upper_bound(layers) == pytest.approx(deep_sdp_upper_bound(plain), rel=1e-4)


@pytest.mark.parametrize("layers", [
    [(np.zeros((3, 2)), np.ones(3)), (np.ones((2, 3)), None), (np.ones((1, 2)), None)],
    [(np.ones((2, 2)), None), (np.array([[1.0, 0], [0, 0]]), None), (np.array([[0.0, 1]]), None)],
])  # fmt: skip
def test_a_constant_network_has_constant_zero(layers):
    found = deep_bracket(layers)
    assert found.lower == found.upper == 0.0 and found.exact and found.gap == 0.0
    assert deep_sdp_upper_bound(layers) == 0.0


# ---- the bracket


def test_the_bracket_says_what_it_rests_on():
    found = deep_bracket(net(0, 4, 8, 8, 2), seed=3)
    assert isinstance(found, DeepBracket)
    assert found.method == "joint sdp" and "positive semidefinite" in found.basis
    assert found.verified and not found.exact and found.domain is None and found.gap > 1e-6
    assert found.witness is not None and found.witness.pattern.shape == (16,)
    assert deep_bracket(net(0, 4, 8, 8, 2), "gelu").witness.pattern is None
    assert found == deep_bracket(net(0, 4, 8, 8, 2), seed=3)


def test_exact_only_where_the_bounds_meet():
    # x ↦ relu(relu(x)) has constant 1, and so does every bound.
    found = deep_bracket([([[1.0]], [0.0])] * 3)
    assert found.exact and found.lower <= 1.0 <= found.upper <= found.lower * (1 + 1e-6)
    twice = deep_bracket([([[1.0]], [0.0]), ([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, 1.0]], [0.0])])
    assert not twice.exact or twice.upper <= twice.lower * (1 + 1e-6)


def test_one_affine_map_is_its_norm():
    matrix = np.random.default_rng(0).normal(size=(3, 5))
    found = deep_bracket([(matrix, None)], domain=(0.0, 1.0))
    norm = np.linalg.norm(matrix, 2)
    assert found.exact and found.method == "norm"
    assert found.lower <= norm <= found.upper <= norm * (1 + 1e-12)
    x = found.witness.point
    assert len(x) == 5 and all(0.0 <= v <= 1.0 for v in x)
    assert deep_sampled_lower_bound([(matrix, None)], [x]) == pytest.approx(norm)
    assert deep_ascent_lower_bound([(matrix, None)]) == pytest.approx(norm)
    assert deep_sdp_upper_bound([(matrix, None)]) == deep_chain_upper_bound([(matrix, None)])


def test_what_is_watched_narrows_and_is_true():
    layers, seen = net(6, 3, 20, 20, 2), []
    found = deep_bracket(layers, watch=lambda low, high: seen.append((low, high)))
    assert len(seen) >= 2 and seen[-1] == (found.lower, found.upper)
    assert [high for _, high in seen] == sorted((high for _, high in seen), reverse=True)
    x = np.random.default_rng(0).normal(size=(200, 3))
    assert all(deep_sampled_lower_bound(layers, x) <= high for _, high in seen)


def test_a_short_time_limit_leaves_a_bracket():
    layers = net(6, 10, 150, 150, 4)
    found = deep_bracket(layers, time_limit=1e-3)
    assert 0.0 < found.lower <= found.upper <= deep_chain_upper_bound(layers)
    assert found.seconds < 20.0
    assert deep_sdp_upper_bound(layers, time_limit=1e-3) <= deep_chain_upper_bound(layers)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (bracketing, "steepest_witness"),
        (bracketing, "chain_upper"),
        (interior_point, "_next"),
        (upper, "is_proved"),
    ],
)
def test_an_interrupt_leaves_a_bracket(monkeypatch, module, name):
    def interrupt(*_args, **_keywords):
        raise KeyboardInterrupt

    layers = net(6, 3, 8, 8, 2)
    whole = deep_bracket(layers)
    monkeypatch.setattr(module, name, interrupt)
    found = deep_bracket(layers)
    assert found.lower <= whole.upper and whole.lower <= found.upper
    assert found.lower in (0.0, whole.lower) and found.upper >= whole.upper
    assert not found.exact


def test_an_interrupt_in_the_climb_keeps_what_was_found(monkeypatch):
    calls = itertools.count()

    def interrupted(network, points):
        if next(calls) == 5:
            raise KeyboardInterrupt
        return gradient_norms_lower(network, points)

    monkeypatch.setattr(climbing, "gradient_norms_lower", interrupted)
    assert deep_bracket(net(6, 3, 8, 8, 2)).lower > 0.0


def test_networks_too_large_for_all_layers_at_once_get_the_chain(monkeypatch):
    layers = net(6, 3, 8, 8, 2)
    monkeypatch.setattr(upper, "MAX_JOINT_SIZE", 10)
    found = deep_bracket(layers)
    assert found.method == "chain" and found.upper == deep_chain_upper_bound(layers)
    assert "neighbouring layers" in found.basis


def test_a_search_that_fails_leaves_the_chain(monkeypatch):
    layers = net(6, 3, 8, 8, 2)
    monkeypatch.setattr(upper, "is_proved", lambda *_: False)
    assert deep_sdp_upper_bound(layers) == deep_chain_upper_bound(layers)


def test_the_global_generators_stay_as_they_are():
    np.random.seed(5)
    random.seed(5)
    torch.manual_seed(5)
    expected = np.random.random(), random.random(), torch.rand(1).item()
    np.random.seed(5)
    random.seed(5)
    torch.manual_seed(5)
    deep_bracket(net(0, 2, 4, 4, 1), seed=9)
    assert (np.random.random(), random.random(), torch.rand(1).item()) == expected
