"""A chain of neurons under Huber's loss: its law, its exact budget, the rates that attain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch
from deep_runs import UP
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import deep_train
from lipbook.losses import Huber
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems import HypothesisError
from lipbook.theorems.deep_chain import (
    DeepNeedsBudget,
    chain_law,
    chain_problem,
    is_chain_problem,
)
from lipbook.theorems.dichotomy import GeometricRate

DEPTHS = (3, 4, 5, 6, 7, 8)


class Listed:
    """ρ(k) = v_k/v_0, as listed; 0 after the last of them."""

    def __init__(self, values):
        """Take v_0, v_1, … as they are."""
        self.values = np.asarray(values) / values[0]

    def __call__(self, step):
        """Return ρ(step), elementwise."""
        return np.append(self.values, 0.0)[np.minimum(step, len(self.values))]

    def tail(self, step):
        """Return what is left of the sum."""
        return float(self.values[step:].sum())


def chain_run(depth, v, delta, rates, loss="huber"):
    networks, x, y = chain_problem(depth, v)
    plan, n = Schedule("listed", float(rates[0]), Listed(rates)), len(rates)
    run = deep_train(networks, x, y, plan, n, loss=loss, huber_delta=delta, steps=range(n + 1),
                     on_divergence="record")  # fmt: skip
    return run, x, y


# The constant --------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_constant_is_the_least_cost_of_a_push(depth):
    theorem, k = DeepNeedsBudget(depth, 0.7), depth - 2
    found = minimize_scalar(
        lambda z: z / (1.0 - (z - 1.0) ** -k), bounds=(2.0, 9.0), method="bounded",
        options={"xatol": 1e-12},
    )  # fmt: skip
    assert theorem.constant == pytest.approx(found.fun, rel=1e-12, abs=0.0)
    assert theorem.push == pytest.approx(found.x, rel=1e-6, abs=0.0) and theorem.push > 2.0
    # The mass α₀/(1 − θ) of the geometric rates with α₀δ|v₀|^k = 1 + θ^{−1/k} is least at θ*.
    ratios = np.linspace(1e-3, 0.999, 2001)
    masses = (1.0 + ratios ** (-1.0 / k)) / (1.0 - ratios)
    assert theorem.constant <= masses.min() <= theorem.constant * (1 + 1e-3)
    rates = theorem.rates(1.3, 400)
    assert rates.sum() == pytest.approx(theorem.budget(1.3), rel=1e-9, abs=0.0)
    assert rates[1] / rates[0] == pytest.approx((theorem.push - 1.0) ** -k)


def test_the_first_two_constants_are_known():
    z = sp.symbols("z", positive=True)
    for depth, constant, push in ((3, 3 + 2 * sp.sqrt(2), 2 + sp.sqrt(2)), (4, 4, 3)):
        cost = z / (1 - (z - 1) ** (2 - depth))
        assert sp.simplify(sp.diff(cost, z).subs(z, push)) == 0
        assert sp.simplify(cost.subs(z, push) - constant) == 0
        theorem = DeepNeedsBudget(depth, 1.0)
        assert theorem.constant == pytest.approx(float(constant), rel=1e-14, abs=0.0)
        assert theorem.push == pytest.approx(float(push), rel=1e-12, abs=0.0)


# The law and the bound -----------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, *DEPTHS])
@pytest.mark.parametrize("v", [-1.4, 0.3, 1.2])
def test_the_law_is_that_of_a_real_run(depth, v):
    rates = 10.0 ** np.random.default_rng(depth).uniform(-1.5, 0.5, 12)
    run, x, y = chain_run(depth, v, 0.4, rates)
    last = run.n_steps if run.diverged_at[0] < 0 else int(run.diverged_at[0])
    law = chain_law(depth, v, 0.4, rates)
    assert len(law) == 13 and last >= 3
    for step in range(last):
        kept = run.checkpoints[step]
        assert not any(bool(bias.any()) for bias in kept.biases)
        for weight in kept.weights:
            assert weight.item() == pytest.approx(law[step], rel=1e-9, abs=0.0)
    if depth > 2:
        assert is_chain_problem(run, 0, x, y, DeepNeedsBudget(depth, 0.4))


def test_the_chain_starts_at_the_weight_that_was_asked_for():
    assert chain_problem(3, 1.2)[0].weights[0].item() == 1.2


def test_a_tiny_weight_has_a_huge_budget():
    assert DeepNeedsBudget(5, 1.0).bound(1e-144, 1.0) == pytest.approx(1e-144, abs=0.0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(("v", "delta"), [(1.5, 0.7), (-1.5, 0.7), (1.0, 1.0)])
def test_the_bound_is_attained_at_every_step(depth, v, delta):
    theorem = DeepNeedsBudget(depth, delta)
    rates = theorem.rates(v, 6)
    law = np.abs(chain_law(depth, v, delta, rates))
    for step in range(7):
        assert theorem.bound(v, rates[:step].sum()) == pytest.approx(law[step], rel=1e-9, abs=0.0)
    assert law[-1] == pytest.approx(abs(v) * (theorem.push - 1.0) ** 6, rel=1e-9, abs=0.0)
    # Control: the bound of a larger constant, or of a larger δ, is exceeded.
    tight = np.abs(v) * (1.0 - 0.99 * rates.sum() / theorem.budget(v)) ** (-1.0 / (depth - 2))
    assert law[-1] > tight
    assert law[-1] > DeepNeedsBudget(depth, 0.99 * delta).bound(v, rates.sum())


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.sampled_from(DEPTHS), st.floats(-2, 0.5), st.floats(0.05, 5), st.integers(0, 10_000))
def test_no_rates_below_the_budget_exceed_the_bound(depth, log_v, delta, seed):
    v = (-1.0) ** seed * 10.0**log_v
    theorem, g = DeepNeedsBudget(depth, delta), np.random.default_rng(seed)
    # Pushes around the best one, as long as the mass lasts, then whatever is left.
    left, rates, at = theorem.budget(v) * (1.0 - 1e-6), [], v
    for _ in range(10):
        push = theorem.push * g.choice([1.0, g.uniform(0.2, 3.0)])
        rates.append(min(push / (delta * abs(at) ** (depth - 2)), left))
        left -= rates[-1]
        at = chain_law(depth, at, delta, np.array(rates[-1:]))[-1]
        if at == 0.0 or left == 0.0:
            break
    law = np.abs(chain_law(depth, v, delta, np.array(rates)))
    bounds = [theorem.bound(v, mass) for mass in np.concatenate([[0.0], np.cumsum(rates)])]
    assert (law <= np.array(bounds) * UP).all()


@pytest.mark.parametrize("depth", [3, 4, 6])
@pytest.mark.parametrize("ratio", [0.1, 0.4, 0.8])
def test_geometric_rates_explode_from_their_threshold_on(depth, ratio):
    v, delta, k = -1.3, 0.9, depth - 2
    threshold = (1.0 + ratio ** (-1.0 / k)) / (delta * abs(v) ** k)
    theorem = DeepNeedsBudget(depth, delta)
    assert threshold / (1.0 - ratio) >= theorem.budget(v)
    exactly = np.abs(chain_law(depth, v, delta, threshold * ratio ** np.arange(6)))
    assert exactly == pytest.approx(abs(v) * ratio ** (-np.arange(7) / k), rel=1e-6, abs=0.0)
    more = np.log10(np.abs(chain_law(depth, v, delta, 1.1 * threshold * ratio ** np.arange(60))))
    beyond = int(np.flatnonzero(~(more < 100))[0])
    assert beyond < 60
    # Doubly exponentially: the digits multiply by nearly k + 1 a step.
    assert (more[beyond - 1] > 30 / (k + 1)) and more[beyond - 1] > 1.5 * more[beyond - 2]
    less = np.abs(chain_law(depth, v, delta, 0.9 * threshold * ratio ** np.arange(400)))
    assert less.max() < 1e4 and less[-1] == pytest.approx(less[-2], rel=1e-6, abs=0.0)


# The verdict ---------------------------------------------------------------------------------


def test_the_verdict_holds_below_the_budget_and_names_the_step_beyond_it():
    theorem = DeepNeedsBudget(3, 0.7)
    rates = theorem.rates(1.5, 8)
    run, x, y = chain_run(3, 1.5, 0.7, rates)
    found = theorem.verdict(run, 0, x, y, "attained")
    assert found.applies and not found.contradicted and found.subject == "attained"
    assert found.bound == pytest.approx(found.measured, rel=1e-9, abs=0.0)
    rates[5] *= 60.0
    run, x, y = chain_run(3, 1.5, 0.7, rates)
    found = theorem.verdict(run, 0, x, y)
    assert (found.failed.name, found.failed_step, found.bound) == ("H2", 5, None)
    # Control: that step goes beyond what the bound of the mass before it and any after allows.
    assert found.measured > 10 * theorem.bound(1.5, rates[:5].sum())
    still, x, y = chain_run(3, 0.0, 0.7, rates)
    found = theorem.verdict(still, 0, x, y)
    assert found.applies and found.bound == 0.0 == found.measured


@pytest.mark.parametrize(
    "change",
    ["activation", "loss", "delta", "depth", "x", "y", "weight", "bias", "width"],
)
def test_the_verdict_is_about_the_chain_alone(change):
    networks, x, y = chain_problem(3, 0.9)
    theorem, options = DeepNeedsBudget(3, 0.7), {"loss": "huber", "huber_delta": 0.7}
    if change == "activation":
        networks = replace(networks, activation=ACTIVATIONS["tanh"])
    elif change == "loss":
        options = {"loss": "mse"}
    elif change == "delta":
        options["huber_delta"] = 0.8
    elif change == "depth":
        theorem = DeepNeedsBudget(4, 0.7)
    elif change == "x":
        x = 2.0 * x
    elif change == "y":
        y = y + 1.0
    elif change == "weight":
        networks = replace(networks, weights=(*networks.weights[:2], 2.0 * networks.weights[2]))
    elif change == "bias":
        networks = replace(networks, biases=(networks.biases[0] + 0.1, *networks.biases[1:]))
    else:
        wide = torch.full((1, 2, 1), 0.9).double(), torch.full((1, 1, 2), 0.9).double()
        biases = torch.zeros(1, 2).double(), *networks.biases[1:]
        weights = (wide[0], wide[1], networks.weights[2])
        networks = DeepEnsemble(weights, biases, networks.activation)
    run = deep_train(networks, x, y, make_schedule("constant", 0.01, n_steps=3), 3, **options)
    found = theorem.verdict(run, 0, x, y)
    assert (found.failed.name, found.failed_step) == ("H1", None)


def test_depths_and_masses_without_a_theorem_are_refused():
    message = r"`depth` must be at least 3 for thm-deep-needs-budget \(H1\)\. Got 2\. Two weight"
    with pytest.raises(HypothesisError, match=message):
        DeepNeedsBudget(2, 1.0)
    with pytest.raises(HypothesisError, match=r"`delta` must be positive .* Got 0\.0\. Use 1\.0"):
        DeepNeedsBudget(3, 0.0)
    message = r"`mass` must be below the budget 4 for thm-deep-needs-budget \(H2\)\. Got 4\. At"
    with pytest.raises(HypothesisError, match=message):
        DeepNeedsBudget(4, 1.0).bound(1.0, 4.0)


def test_two_layers_grow_once_and_come_back():
    # The control for the depth: at L = 2 a push is α_tδ, whatever v is, so geometric rates stop.
    rates = 6.0 / 0.7 * (2**0.5 - 1.0) ** np.arange(60)
    law = np.abs(chain_law(2, 1.5, 0.7, rates))
    assert law.max() > 5.0 and law[-1] < 20.0
    rho = GeometricRate(2**0.5 - 1.0)
    networks, x, y = chain_problem(2, 1.5)
    plan = Schedule("geometric", 6.0 / 0.7, rho)
    run = deep_train(networks, x, y, plan, 60, loss=Huber(0.7))
    assert float(run.ensemble.weight_norms().max()) == pytest.approx(law[-1], rel=1e-9, abs=0.0)
    deeper = np.abs(chain_law(3, 1.5, 0.7, rates))
    assert not deeper[-1] < 1e30
