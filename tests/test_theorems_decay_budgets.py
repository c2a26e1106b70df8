"""Budgets as code: bounded pull, the squared loss, bounded activations, and what explodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from decay_cases import UP, column, network, one

from lipbook.activations import ACTIVATIONS
from lipbook.losses import MeanSquaredError, get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import ConstantRate, Schedule, make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.bounded_activation import BoundedActivation
from lipbook.theorems.bounded_pull import BoundedPull
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.dichotomy import (
    GeometricRate,
    NeedsBudget,
    product_law,
    product_problem,
    pulled_problem,
    relu_problem,
    threshold,
)
from lipbook.training import train

# Bounded pull --------------------------------------------------------------------------------


def test_the_pull_bounds_are_attained_in_the_limit_of_small_steps():
    # One ReLU neuron with v a positive multiple of (x, 1), a = ‖v‖, and a datum far above it.
    n_steps, delta = 2000, 1.0
    start, x, y = pulled_problem(100.0)
    assert start.output_norm().item() == pytest.approx(100.0 * 2.0**0.5)
    rates = make_schedule("constant", 1.0 / n_steps, n_steps=n_steps)
    run = train(start, x, y, rates, n_steps, loss="huber", huber_delta=delta, steps=[n_steps])
    theorem = BoundedPull(Setting.of(start, x, y, run.loss))
    path = run.path[-1, 0] / theorem.path_bounds(run)[-1, 0]
    assert 0.99 < path <= UP, path
    hidden, output = theorem.block_bounds(start, run.mass[-1])
    walked = np.hypot(run.block_path["hidden_weight"], run.block_path["hidden_bias"])[-1, 0]
    assert 0.99 < walked / hidden[0] <= UP
    assert 0.99 < float(run.ensemble.output_norm()) / output[0] <= UP


def test_the_pull_must_be_bounded_by_what_was_said():
    # Control: the squared loss pulls by 10⁴ here, and Λ = 1 is far too small.
    start = network([[1.0]], [1.0], [1.0])
    x, y = column(1.0), column(1e4)
    run = train(start, x, y, make_schedule("constant", 1e-5, n_steps=3), 3)
    theorem = BoundedPull(Setting.of(start, x, y, run.loss), pull=1.0)
    verdict = theorem.verdict(run, 0, float(run.product_bound[-1, 0]))
    assert verdict.measured > verdict.bound
    assert verdict.failed.name == "H2" and verdict.failed_step == 0
    without = BoundedPull(theorem.setting)
    assert without.verdict(run, 0, float(run.product_bound[-1, 0])).applies
    message = r"`pull` must be given for a loss whose derivative is unbounded .*thm-huber-budget"
    with pytest.raises(HypothesisError, match=message):
        without.bound(start, np.array([1.0]))


# The budget of the squared loss --------------------------------------------------------------


def test_the_budget_is_met_to_first_order_by_one_large_neuron():
    s = 300.0
    start = network([[s]], [s], [s * 2**0.5])
    x, y = column(1.0), column(0.0)
    probe = MseBudget(Setting.of(start, x, y, get_loss("mse")))
    rate = 1e-6 / float(start.parameter_norm()) ** 2
    run = train(start, x, y, Schedule("constant", rate, ConstantRate()), 1)
    share = run.path[-1, 0] / probe.path_bounds(run)[-1, 0]
    assert 0.99 < share <= UP, share


def test_the_budget_is_about_one_safe_step_when_nothing_is_known_of_the_risk():
    rng = np.random.default_rng(0)
    for _ in range(200):
        m, scale = int(rng.integers(1, 500)), 10.0 ** rng.uniform(-2, 2)
        ensemble = gaussian_ensemble(m, 2, activation="relu")
        x, y = torch.from_numpy(rng.normal(size=(5, 2))), torch.zeros(5, 1, dtype=torch.float64)
        theorem = MseBudget(Setting.of(ensemble, x, y, get_loss("mse")))
        norm = float(ensemble.parameter_norm()) * scale
        steps = theorem.safe_steps(np.array([norm]), np.array([theorem.blind_residual(norm)]))[0]
        # y = 0: 1 − ζ = (κ₀/J₀)², so the budget is between 1 and 1 + O(1/J₀).
        share = (theorem.setting.kappa_0 / theorem.setting.growth(norm)) ** 2
        assert steps == pytest.approx(-np.log1p(-share) / share) and steps >= 1.0


def test_beyond_the_budget_and_with_too_small_a_residual_nothing_is_promised():
    start, x, y = product_problem(3.0)
    schedule = Schedule("exponential", 3.0 / 9.0, GeometricRate(0.25))
    run = train(start, x, y, schedule, 8, steps=range(9), on_divergence="record")
    theorem = MseBudget(Setting.of(start, x, y, run.loss))
    verdict = theorem.verdict(run, 0, float(np.nanmax(run.product_bound)))
    assert verdict.failed.name == "H3" and verdict.failed_step == 0 and verdict.bound is None
    # Control: with q₀ far below the residual the formula stays finite, and wrong.
    wrong = replace(theorem, residual=1e-30).verdict(run, 0, float(np.nanmax(run.product_bound)))
    assert wrong.measured > wrong.bound and wrong.failed.name == "H2"
    with pytest.raises(HypothesisError, match=r"`mass` must be below the budget .*thm-mse-budget"):
        replace(theorem, residual=9.0).bound(start, 1.0)
    with pytest.raises(HypothesisError, match=r"`residual` must be given before there is a run"):
        theorem.bound(start, 1e-9)
    inside = replace(theorem, residual=9.0).bound(start, 1e-3)
    assert 9.0 < inside[0] < 20.0


def test_the_budget_formula_is_smooth_through_its_special_cases():
    theorem = MseBudget(one()[1])
    u = np.array([2.0])
    growth = theorem.setting.growth(2.0)
    middle = growth**2 / (2.0 * theorem.setting.kappa)  # ζ = 1
    mass = np.array([0.5 / growth**2])
    exact = theorem.path(u, np.array([middle]), mass)
    assert exact[0] == pytest.approx(growth / theorem.setting.kappa * (0.5**-0.5 - 1.0))
    for near in (middle * (1 - 1e-9), middle * (1 + 1e-9)):
        assert theorem.path(u, np.array([near]), mass) == pytest.approx(exact, rel=1e-6)
    assert theorem.path(u, np.array([0.0]), mass * 1e9)[0] == 0.0
    assert np.isinf(theorem.safe_steps(u, np.array([0.0]))[0])
    small = 1e-9
    gain = theorem.path(u, np.array([small]), mass)[0] / (small * np.expm1(0.5) / growth)
    assert gain == pytest.approx(1.0, rel=1e-6)
    # At the budget the bound ends.
    budget = theorem.safe_steps(u, np.array([1.0])) / growth**2
    assert np.isfinite(theorem.path(u, np.array([1.0]), budget * (1 - 1e-9)))
    assert np.isinf(theorem.path(u, np.array([1.0]), budget * (1 + 1e-9)))


# Bounded activations -------------------------------------------------------------------------


def test_bounded_activations_need_their_bound_and_gentle_rates():
    x, y = column(1.0, -1.0), column(0.0, 0.0)
    start = network([[5.0]], [0.0], [5.0], activation="relu")
    run = train(start, x, y, make_schedule("cosine", 1.0, n_steps=3), 3, on_divergence="record")
    liar = replace(ACTIVATIONS["relu"], bound=0.1)
    setting = replace(Setting.of(start, x, y, run.loss), activation=liar)
    # Control: an unbounded σ breaks the bound.
    assert (
        np.nanmax(run.product_bound[1:] / BoundedActivation(setting).bounds(run)[run.steps][1:]) > 1
    )
    honest = BoundedActivation(replace(setting, activation=ACTIVATIONS["relu"]))
    verdict = honest.verdict(run, 0, 1.0)
    assert not verdict.applies and verdict.bound is None
    with pytest.raises(HypothesisError, match=r"`activation` must be bounded for thm-bounded"):
        honest.bounds(run)
    # Control: rates above 2/Γ² break the linear bound.
    wild, tame = one("constant", 3.0, n_steps=20, activation="tanh")
    theorem = BoundedActivation(tame)
    forced = theorem.block_bounds(
        wild.checkpoints[0], wild.mass, np.ones_like(wild.mass, dtype=bool)
    )[1]
    lengths = [float(c.output_norm()) for c in wild.checkpoints]
    assert (np.array(lengths) > forced[:, 0]).any()
    assert (np.array(lengths) <= theorem.block_bounds(
        wild.checkpoints[0], wild.mass, theorem.gentle(wild))[1][:, 0] * UP).all()  # fmt: skip
    assert theorem.gentle_rate() == pytest.approx(2.0 / 8.0)


# What explodes -------------------------------------------------------------------------------


def exploding(problem, v, first, ratio, n_steps):
    """Train an exploding problem under α_t = α₀q^t with α₀ = first/v²."""
    start, x, y = problem(v)
    schedule = Schedule("exponential", first / v**2, GeometricRate(ratio))
    run = train(start, x, y, schedule, n_steps, steps=range(n_steps + 1), on_divergence="record")
    return run, x, y


@pytest.mark.parametrize("v", [0.3, 1.0, 7.0])
def test_the_budget_of_the_product_is_attained_and_exact(v):
    run, x, y = exploding(product_problem, v, 3.0, 0.25, 8)
    theorem, u = NeedsBudget(), v * 2.0**0.5
    assert run.mass[-1, 0] < theorem.budget(u) == pytest.approx(run.schedules[0].tail_mass(0))
    for step in range(9):
        size = float(run.checkpoints[step].parameter_norm()[0]) ** 2
        assert size == pytest.approx(u**2 * 4.0**step)
        assert size == pytest.approx(theorem.bound(u, run.mass[step, 0]), rel=1e-6)
    verdict = theorem.verdict(run, 0, x, y)
    assert verdict.applies and abs(verdict.slack) <= 1e-6 * verdict.bound
    assert not verdict.contradicted


def test_below_the_threshold_it_settles_and_above_it_explodes_doubly():
    for ratio in (0.1, 0.25, 0.6):
        p = threshold(ratio)
        calm, _, _ = exploding(product_problem, 1.0, 0.98 * p, ratio, 60)
        sizes = [float(c.parameter_norm()[0]) for c in calm.checkpoints]
        assert not calm.diverged[0] and sizes[-1] == pytest.approx(sizes[-5], rel=1e-3)
        wild = product_law(1.0, 1.02 * p * ratio ** np.arange(30.0))
        exponents = np.log(np.abs(wild[np.isfinite(wild)]))
        assert len(exponents) < 30
        late = exponents[exponents > 20.0]
        assert len(late) >= 2 and (late[1:] / late[:-1] > 2.0).all(), exponents
        run, x, y = exploding(product_problem, 1.0, 1.02 * p, ratio, 30)
        assert run.diverged[0]
        # Training was stopped for its huge risk; the weights themselves are still finite, and H1
        # must not call this an overflow.
        assert np.isfinite(wild[: run.diverged_at[0] + 1]).all()
        found = [c.output_weight.item() for c in run.checkpoints[: run.diverged_at[0]]]
        assert found == pytest.approx(wild[: run.diverged_at[0]].tolist(), rel=1e-6)
        verdict = NeedsBudget().verdict(run, 0, x, y)
        assert not verdict.applies
        stopped = verdict.hypotheses[0]
        assert (stopped.name, stopped.step) == ("H1", int(run.diverged_at[0]))
        assert "training was not stopped for a huge risk" in stopped.statement


def test_every_rate_below_the_budget_keeps_the_bound():
    rng = np.random.default_rng(1)
    tightest = 0.0
    for _ in range(3000):
        rates = rng.dirichlet(np.full(int(rng.integers(1, 7)), 0.3)) * rng.uniform(0, 4)
        v = product_law(1.0, rates)
        bound = 4.0 / (4.0 - np.concatenate([[0.0], np.cumsum(rates)]))
        inside = bound > 0.0
        assert (v[inside] ** 2 <= bound[inside] * UP).all()
        if inside[-1]:
            tightest = max(tightest, float(v[-1] ** 2 / bound[-1]))
    assert tightest > 0.9


@pytest.mark.parametrize("ratio", [0.25, 0.5])
def test_relu_pairs_with_biases_explode_as_the_theorem_says(ratio):
    first = 1.001 * (2.0 + 2.0 * ratio**-0.5)
    run, x, y = exploding(relu_problem, 1.5, first, ratio, 12)
    assert run.diverged[0] and run.risk.shape[0] == 13
    rates, low = run.learning_rates[:, 0], []
    for step, c in enumerate(run.checkpoints[: int(run.diverged_at[0])]):
        a, v, b = (float(block.reshape(-1)[0]) for block in
                   (c.output_weight, c.hidden_weight, c.hidden_bias))  # fmt: skip
        z = 3.0 * abs(v) + b
        assert -1.5 * abs(v) <= b <= 0.0
        rate = rates[0] * ratio**step
        low.append(min(rate * a * a, rate * z * z))
    grown = np.array(low)
    assert (grown[1:] >= ratio * grown[:-1] * (0.5 * grown[:-1] - 1.0) ** 2 * (1 - 1e-9)).all()
    assert (np.diff(grown) > 0).all()
    assert not NeedsBudget().verdict(run, 0, x, y).applies


def test_the_product_needs_its_hypotheses():
    run, x, y = exploding(product_problem, 2.0, 1.0, 0.25, 10)
    assert NeedsBudget().verdict(run, 0, x, y).applies
    assert NeedsBudget().verdict(run, 0, x, y + 1.0).failed.name == "H2"
    assert NeedsBudget().verdict(run, 0, 2.0 * x, y).failed.name == "H2"
    tanh, _ = one()
    assert NeedsBudget().verdict(tanh, 0, x, y).failed.name == "H2"
    shifted = replace(run, checkpoints=tuple(
        replace(c, hidden_bias=c.hidden_bias + 1.0) for c in run.checkpoints))  # fmt: skip
    verdict = NeedsBudget().verdict(shifted, 0, x, y)
    assert verdict.failed.name == "H2" and "b = c = 0" in verdict.failed.statement
    # Control: with targets away from 0 the weights outgrow the bound.
    start, x, _ = product_problem(0.1)
    pulled = train(start, x, 9.0 * x, make_schedule("constant", 0.05, n_steps=9), 99)
    bound = NeedsBudget().bound(float(start.parameter_norm()), float(pulled.mass[-1, 0]))
    assert float(pulled.ensemble.parameter_norm()) ** 2 > bound
    assert isinstance(pulled.loss, MeanSquaredError)
    with pytest.raises(HypothesisError, match=r"`mass` must be below the budget 8 .*Got 8\."):
        NeedsBudget().bound(1.0, 8.0)
    with pytest.raises(HypothesisError, match=r"`ratio` must lie in \(0, 1\) .*Got 1\.0"):
        GeometricRate(1.0)
    assert NeedsBudget().bound(0.0, 5.0) == 0.0
    assert GeometricRate(0.5).tail(1) == 1.0
    still, x, y = product_problem(0.0)
    assert NeedsBudget().verdict(train(still, x, y, run.schedules[0], 3), 0, x, y).applies
