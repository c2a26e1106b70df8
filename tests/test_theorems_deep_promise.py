"""Certificates carried at any depth, and the chain of neurons under the squared loss."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import deep_train
from lipbook.lipschitz.deep import deep_chain_upper_bound, deep_product_upper_bound
from lipbook.schedules import make_schedule
from lipbook.theorems.deep_chain import chain_problem
from lipbook.theorems.deep_path import DeepEventualDecay
from lipbook.theorems.deep_promise import DeepPromise, carried

UP = 1 + 1e-9


def formal(networks):
    """max ‖W_L D_{L−1}⋯D_1 W_1‖ over slopes 0 and 1, by trying all of them."""
    weights = [weight[0].numpy() for weight in networks.weights]
    count = sum(weight.shape[0] for weight in weights[:-1])
    best = 0.0
    for pattern in itertools.product((0.0, 1.0), repeat=count):
        slopes, product = iter(pattern), weights[0]
        for weight in weights[1:]:
            product = weight @ (np.array([next(slopes) for _ in product])[:, None] * product)
        best = max(best, float(np.linalg.norm(product, 2)))
    return best


def moved(networks, length, seed):
    """The weights at a distance, in a random direction of all of them together."""
    generator = torch.Generator().manual_seed(seed)
    steps = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in networks.weights]
    scale = length / math.sqrt(sum(float(step.square().sum()) for step in steps))
    pairs = zip(networks.weights, steps, strict=True)
    weights = tuple(w + scale * step for w, step in pairs)
    return DeepEnsemble(weights, networks.biases, networks.activation)


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(1, 2),
    st.floats(0.0, 3.0),
)
@settings(derandomize=True, deadline=None, max_examples=60)
def test_the_formal_constant_after_a_path_stays_below_what_is_carried(seed, hidden, d, length):
    start = gaussian_deep_ensemble((d, *hidden, 1), seeds=(seed,))
    first, after = formal(start), formal(moved(start, length, seed))
    bound = carried(start, np.array([first]), np.array([length]))[0]
    assert after <= bound * UP
    product = deep_product_upper_bound(start.layers(0), "relu")
    assert bound <= carried(start, np.array([product]), np.array([length]))[0] * UP


def test_a_third_of_the_path_is_not_enough():
    # Negative control.
    broken = 0
    for seed in range(40):
        start = gaussian_deep_ensemble((1, 1, 1, 1), seeds=(seed,), bias_scale=0.0)
        positive = DeepEnsemble(
            tuple(w.abs() for w in start.weights), start.biases, start.activation
        )
        after = DeepEnsemble(
            tuple(w + 1 / math.sqrt(3) for w in positive.weights), start.biases, start.activation
        )
        short = carried(positive, np.array([formal(positive)]), np.array([1 / 3]))[0]
        broken += formal(after) > short * UP
        assert formal(after) <= carried(positive, np.array([formal(positive)]), np.ones(1))[0] * UP
    assert broken == 40


def run_of(rate=0.02, activation="tanh"):
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    networks = gaussian_deep_ensemble((1, 5, 4, 1), seeds=(0, 1), activation=activation)
    schedule = make_schedule("eventual", rate, n_steps=60, start=20, timescale=3.0)
    return deep_train(
        networks, x, torch.sin(3 * x[:, 0]), schedule, 60, steps=range(61), on_divergence="record"
    )


def test_a_carried_certificate_holds_on_a_run_and_beats_the_chain():
    run = run_of()
    there = run.checkpoints[20]
    known = tuple(deep_chain_upper_bound(there.layers(i), "tanh") for i in range(2))
    theorem = DeepPromise(20, known)
    bounds, chain = theorem.bounds(run), DeepEventualDecay(20).bounds(run)
    assert np.isnan(bounds[:20]).all() and (bounds[20:] <= chain[20:] * UP).all()
    for index in range(2):
        found = [deep_chain_upper_bound(c.layers(index), "tanh") for c in run.checkpoints[20:]]
        assert (np.array(found) <= bounds[20:, index] * UP).all()
        verdict = theorem.verdict(run, index, max(found))
        assert verdict.applies and not verdict.contradicted
        assert verdict.bound < DeepEventualDecay(20).last_bound(run, index)


def test_it_asks_for_descent_and_a_finite_mass():
    wild = run_of(rate=1.5, activation="relu")
    verdicts = [DeepPromise(20, (9.0, 9.0)).verdict(wild, i, 1.0) for i in range(2)]
    assert any(not verdict.applies for verdict in verdicts)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_the_chain_under_the_squared_loss_needs_a_budget_too(depth):
    k, v0 = 2 * depth - 2, 0.7

    def cost(z):
        return z / (1.0 - (z - 1.0) ** -k)

    # With w = z − 1 the derivative of the cost has the sign of this.
    push = 1.0 + brentq(lambda w: w ** (k + 1) - (k + 1) * w - k, 1.0, 6.0, xtol=1e-15)
    assert cost(push) == pytest.approx(min(cost(z) for z in np.linspace(2.1, 6.0, 1000)), rel=1e-4)
    least = cost(push)
    if depth == 2:
        assert least == pytest.approx(4.0) and push == pytest.approx(3.0)
    ratio = (push - 1.0) ** -k
    rates = push / v0**k * ratio ** np.arange(8)
    x, y = chain_problem(depth, v0)[1:]
    start = chain_problem(depth, v0)[0]
    weights = [v0]
    moving = start
    for rate in rates:
        schedule = make_schedule("constant", float(rate), n_steps=1)
        moving = deep_train(moving, x, y, schedule, 1).ensemble
        weights.append(abs(float(moving.weights[0])))
    spent = np.concatenate([[0.0], np.cumsum(rates)])
    bounds = (v0**-k - spent / least) ** (-1.0 / k)
    assert np.allclose(weights, bounds, rtol=1e-4)
    assert weights == pytest.approx([v0 * (push - 1) ** t for t in range(9)], rel=1e-6)
    # Random rates of less mass never exceed the bound.
    generator = np.random.default_rng(depth)
    for _ in range(200):
        shares = generator.dirichlet(np.ones(8)) * generator.uniform(0.1, 0.999)
        v, mass = v0, 0.0
        for share in shares:
            rate = share * least / v0**k
            v, mass = abs(v * (1.0 - rate * v**k)), mass + rate
            assert v <= (v0**-k - mass / least) ** (-1.0 / k) * UP
