"""Gradients of perceptrons of any depth: rounded down, and none at a kink."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from deep_oracles import (
    NAMES,
    exact_constant,
    net,
    precise_jacobian_norm,
    precise_value,
)
from lipschitz_oracles import SMOOTH

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball
from lipbook.lipschitz.deep import (
    climbing,
    deep_ascent_lower_bound,
    deep_bracket,
    deep_product_upper_bound,
    deep_sampled_lower_bound,
)
from lipbook.lipschitz.deep.chain import chained
from lipbook.lipschitz.deep.climbing import perceptron
from lipbook.lipschitz.deep.gradients import VALUE_ERROR, gradient_norms_lower, slopes_at


@pytest.fixture(autouse=True)
def short_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rounds say as much about the bounds as many."""
    monkeypatch.setattr(climbing, "SAMPLES", 256)
    monkeypatch.setattr(climbing, "ROUNDS", 20)


@pytest.mark.parametrize("activation", NAMES)
def test_gradients_are_rounded_down_and_tight(activation):
    layers = net(11, 2, 4, 3, 1)
    for x in np.random.default_rng(2).normal(size=(6, 2)):
        precise = precise_jacobian_norm(layers, activation, x)
        found = deep_sampled_lower_bound(layers, x[None], activation)
        assert precise * (1 - mpmath.mpf("1e-9")) <= found <= precise


@pytest.mark.parametrize("activation", SMOOTH)
def test_values_are_as_accurate_as_they_are_taken_to_be(activation):
    z = np.concatenate([np.linspace(-40, 40, 161), [1e-8, -1e-12, 0.3, 700.0, -700.0]])
    found = ACTIVATIONS[activation].value(z)
    with mpmath.workdps(60):
        for point, value in zip(z, found, strict=True):
            precise = precise_value(activation, mpmath.mpf(float(point)))
            assert abs(mpmath.mpf(float(value)) - precise) <= VALUE_ERROR * (1 + abs(point))


def test_a_point_at_a_kink_of_a_later_layer_is_dropped():
    # z₂ = relu(x) − 1 vanishes at x = 1, where autograd's slope belongs to one side only.
    layers = [([[1.0]], [0.0]), ([[1.0]], [-1.0]), ([[3.0]], [0.0])]
    found = [deep_sampled_lower_bound(layers, [[x]]) for x in (1.0, 0.0, 1.0 + 1e-15, 1.5, 0.5)]
    assert found[:3] == [0.0, 0.0, 0.0]
    assert found[3] == pytest.approx(3.0) and found[4] == 0.0


def test_a_gradient_at_a_kink_would_be_wrong():
    """Negative control: x ↦ 3relu(x + 1) − 2relu(x) + 2relu(−x), behind an identity layer."""
    w, b, a = [[1.0], [1], [-1]], [1.0, 0, 0], [[3.0, -2, 2]]
    layers = [(w, b), (np.eye(3), np.zeros(3)), (a, None)]
    leaky = [(np.array(x, dtype=float), y) for x, y in layers]
    at_zero = 3.0  # relu'(0) = 0 in both layers
    assert at_zero > exact_constant([(x, np.zeros(len(x)) if y is None else y) for x, y in leaky],
                                    (0.0, 1.0)) == 2  # fmt: skip
    assert deep_sampled_lower_bound(layers, [[0.0]]) == 0.0
    assert deep_bracket(layers).lower <= 2.0


def test_errors_grow_through_the_layers_and_drop_what_is_not_certain():
    layers = [(np.array([[1e8, 1.0]]), None), (np.array([[1.0]]), [-1e8]), ([[1.0]], None)]
    network = perceptron(chained(layers, ACTIVATIONS["relu"]), None)
    close, far = [1.0, 1e-9], [1.0, 1.0]
    assert slopes_at(network, np.array([close, far])).usable.tolist() == [False, True]
    assert gradient_norms_lower(network, np.array([close]))[0] == 0.0


def test_points_that_overflow_are_dropped():
    layers = [(np.full((1, 1), 1e140), None)] * 3
    points = [[1e140], [-1e140], [1.0]]
    for activation in NAMES:
        found = deep_sampled_lower_bound(layers, points, activation)
        assert 0.0 <= found <= deep_product_upper_bound(layers, activation)


def test_the_ascent_beats_its_starts_and_stays_in_the_domain(monkeypatch):
    monkeypatch.setattr(climbing, "ROUNDS", 60)
    layers = net(3, 3, 8, 8, 2)
    for domain in ((-1.0, 2.0), ((-1.0, 0.0, -2.0), (1.0, 2.0, 0.0)), Ball((0.0, 1.0, 0.0), 2.0)):
        found = deep_bracket(layers, "tanh", domain)
        assert found.witness is not None and found.domain == domain
        x = np.array(found.witness.point)
        if isinstance(domain, Ball):
            assert np.linalg.norm(x - [0, 1, 0]) <= 2.0
        else:
            assert (x >= domain[0]).all() and (x <= domain[1]).all()
        again = deep_sampled_lower_bound(layers, x[None], "tanh", domain)
        assert again == found.lower == found.witness.gradient_norm
    draws = np.random.default_rng(0).uniform(-1, 2, (300, 3))
    sampled = deep_sampled_lower_bound(layers, draws, "tanh", (-1.0, 2.0))
    assert deep_ascent_lower_bound(layers, "tanh", (-1.0, 2.0)) >= sampled
