"""The budget of a mass at any depth, and the chain of neurons that shows three layers need one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from deep_runs import NAMES, UP, DeepBatch, each_run, odd_chain
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import gaussian_deep_ensemble
from lipbook.deep_training import deep_train
from lipbook.lipschitz.deep import deep_product_upper_bound
from lipbook.losses import Huber, Loss, MeanSquaredError, get_loss
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.deep_budget import DeepBudget
from lipbook.theorems.deep_path import chain_after
from lipbook.theorems.deep_setting import DeepSetting

NODES, WEIGHTS = leggauss(20)


@dataclass(frozen=True)
class Speed:
    """F(e) without cancellation, from the powers of e; an implementation of its own."""

    setting: DeepSetting
    norm: float
    residual: float

    @property
    def rise(self) -> Polynomial:
        """q(u + e) − q(u) as a polynomial in e."""
        s, L = self.setting, self.setting.depth
        powers = [
            s.factors[L - r] * s.activation.lipschitz ** (r - 1) * r ** (-r / 2)
            for r in range(1, L + 1)
        ]
        whole = Polynomial([0.0, *powers])(Polynomial([self.norm, 1.0]))
        return Polynomial([0.0, *whole.coef[1:]])

    def __call__(self, e):
        most = getattr(self.setting.loss, "delta", np.inf)
        return np.minimum(most, self.residual + self.rise(e)) * self.rise.deriv()(e)

    def mass(self, path):
        """∫_0^e ds/F(s) for every e, by Gauss's rule on pieces of log s."""
        path = np.asarray(path, dtype=float)
        low = 1e-9 * min(1.0, self.residual) / self.rise.deriv()(0.0)
        cuts = np.exp(np.linspace(np.log(low), np.log(np.maximum(path, 2 * low)), 60))
        most = getattr(self.setting.loss, "delta", np.inf)
        if self.residual < most < np.inf:  # F has a kink where the pull reaches δ
            bend = brentq(lambda s: self.residual + self.rise(s) - most, 0.0, 1e9)
            cuts = np.sort(np.concatenate([cuts, np.clip(bend, cuts[0], cuts[-1])[None]]), axis=0)
        left, right = np.log(cuts[:-1]), np.log(cuts[1:])
        middle, half = 0.5 * (left + right), 0.5 * (right - left)
        s = np.exp(middle[..., None] + half[..., None] * NODES)
        pieces = half * (s / self(s) @ WEIGHTS)
        # On (0, low) F is constant up to a part in 1e9.
        return np.where(path < 2 * low, path / self(path), pieces.sum(0) + low / self(0.5 * low))


def deep(depth, loss="mse", name="tanh", width=5, radius=1.5):
    return DeepSetting(ACTIVATIONS[name], (width,) * (depth - 1), radius, 1.0, get_loss(loss, 0.7))


CASES = {
    "depth": st.integers(2, 5),
    "loss": st.sampled_from(["mse", "huber"]),
    "name": st.sampled_from(["tanh", "sigmoid", "gelu"]),
    "norm": st.floats(0.0, 5.0),
    "residual": st.floats(0.1, 5.0),
}


# The numbers ---------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    st.sampled_from(NAMES), st.integers(1, 20), st.floats(0, 3), st.floats(0, 10),
    st.floats(0, 3), st.floats(0.02, 0.999),
)  # fmt: skip
def test_with_two_layers_and_mse_it_is_the_older_budget(name, width, radius, u, log_pull, share):
    old = Setting(ACTIVATIONS[name], width, 1, 5, radius, 1.0, 1.0, MeanSquaredError())
    one, both = MseBudget(old), DeepBudget(DeepSetting.of_two_layers(old))
    pull = 10.0**log_pull
    norm, residual = np.array([u]), np.array([pull])
    budget = one.safe_steps(norm, residual) / old.growth(norm) ** 2
    assert both.budget(u, pull) == pytest.approx(budget[0], rel=1e-8, abs=0.0)
    wanted = one.path(norm, residual, share * budget)[0]
    assert both.path(u, pull, float(share * budget[0])) == pytest.approx(wanted, rel=1e-8, abs=0.0)
    assert both.is_needed and both.path(u, pull, float(budget[0] * (1 + 1e-9))) == np.inf


@pytest.mark.parametrize(
    ("u", "pull", "share"),
    [(1, 1e-4, 1e-6), (30, 1e-4, 1e-6), (10, 1.0, 1e-6), (10, 1e-2, 1e-3), (30, 1e-8, 0.5)],
)  # fmt: skip
def test_small_residuals_and_small_masses_are_no_worse(u, pull, share):
    old = Setting(ACTIVATIONS["tanh"], 8, 1, 5, 1.5, 1.0, 1.0, MeanSquaredError())
    one, both = MseBudget(old), DeepBudget(DeepSetting.of_two_layers(old))
    norm, residual = np.array([u]), np.array([pull])
    mass = share * one.safe_steps(norm, residual) / old.growth(norm) ** 2
    found = both.path(u, pull, float(mass[0]))
    assert found == pytest.approx(one.path(norm, residual, mass)[0], rel=1e-8, abs=0.0)


def solved(theorem, norm, residual, share):
    """Check F, S* and the path against an implementation of their own."""
    speed = Speed(theorem.setting, norm, residual)
    for e in (0.0, 0.5, 20.0):
        assert theorem.speed(norm, residual)(e) == pytest.approx(float(speed(e)), rel=1e-9, abs=0.0)
    budget = theorem.budget(norm, residual)
    if theorem.is_needed:
        assert budget == pytest.approx(float(speed.mass(1e14)), rel=1e-8, abs=0.0)
    mass = share * min(budget, 1.0)
    path = theorem.path(norm, residual, mass)
    assert float(speed.mass(path)) == pytest.approx(mass, rel=1e-8, abs=0.0)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.integers(2, 8), st.sampled_from(["mse", "huber"]), st.sampled_from(NAMES),
    st.floats(-2, 2), st.floats(-8, 1), st.one_of(st.floats(-8, -1e-3), st.floats(-1, -1e-3)),
)  # fmt: skip
def test_path_and_budget_solve_their_equation(depth, loss, name, norm, residual, share):
    theorem = DeepBudget(deep(depth, loss, name))
    assert theorem.is_needed == (depth > 2 or loss == "mse")
    # Under Huber the pull often reaches δ on the way: F has a kink there.
    residual = min(10.0**residual, 0.7) if loss == "huber" else 10.0**residual
    solved(theorem, 10.0**norm, residual, 10.0**share)


@pytest.mark.parametrize(("depth", "norm"), [(5, 1e4), (8, 1e3), (12, 210.0)])
def test_long_weights_under_huber_have_a_finite_path_within_the_budget(depth, norm):
    for residual in (0.7, 0.1):
        solved(DeepBudget(deep(depth, "huber")), norm, residual, 0.3)


@pytest.mark.parametrize(("depth", "norm"), [(8, 100.0), (11, 100.0), (12, 1.0), (20, 1.0)])
def test_budgets_of_deeper_networks(depth, norm):
    theorem = DeepBudget(deep(depth))
    wanted = float(Speed(theorem.setting, norm, 1.0).mass(1e6 * (1.0 + norm)))
    assert theorem.budget(norm, 1.0) == pytest.approx(wanted, rel=1e-8, abs=0.0)


def test_no_residual_no_mass_and_one_layer_need_no_budget():
    for depth, loss in ((1, "mse"), (1, "huber"), (2, "huber"), (3, "mse"), (4, "huber")):
        theorem = DeepBudget(deep(depth, loss))
        assert theorem.is_needed == (depth > 2)
        assert theorem.path(2.0, 0.5, 0.0) == 0.0 == theorem.path(2.0, 0.0, 1e9)
        assert theorem.budget(2.0, 0.0) == np.inf
        assert (theorem.budget(2.0, 0.7) == np.inf) == (not theorem.is_needed)
    assert DeepBudget(deep(3)).path(2.0, 0.5, 1e9) == np.inf
    # One layer: e' = (Λ₀ + k₀e)k₀ under MSE, and at most δk₀ under Huber.
    k, theorem = 3.25**0.5, DeepBudget(deep(1))
    assert theorem.path(7.0, 0.5, 2.0) == pytest.approx(
        0.5 / k * np.expm1(3.25 * 2.0), rel=1e-9, abs=0.0
    )
    assert DeepBudget(deep(1, "huber")).path(7.0, 0.7, 1e9) == pytest.approx(
        0.7e9 * k, rel=1e-9, abs=0.0
    )


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.sampled_from(NAMES), st.integers(1, 20), st.floats(0, 8), st.floats(0.01, 3),
       st.floats(0.1, 5))  # fmt: skip
def test_two_layers_under_huber_have_the_older_closed_form(name, width, norm, mass, delta):
    setting = replace(deep(2, "huber", name, width), loss=Huber(delta))
    old = Setting(ACTIVATIONS[name], width, 1, 5, 1.5, 1.0, 1.0, setting.loss)
    theorem, mass = DeepBudget(setting), mass / (old.kappa * delta)
    closed = (norm + old.kappa_0 / old.kappa) * np.expm1(old.kappa * delta * mass)
    assert not theorem.is_needed
    assert theorem.path(norm, delta, mass) == pytest.approx(closed, rel=1e-8, abs=0.0)


@pytest.mark.parametrize("pull", [0.01, 0.1, 0.5])
def test_a_smaller_pull_at_the_start_stays_below_the_closed_form(pull):
    theorem, kappa = DeepBudget(deep(2, "huber")), 3.25**0.5
    for norm in (0.5, 3.0):
        for mass in (0.5, 2.0, 6.0):
            closed = (norm + 1.0 / kappa) * np.expm1(kappa * 0.7 * mass)
            path = theorem.path(norm, pull, mass)
            assert 0.0 < path <= closed * UP


@settings(derandomize=True, max_examples=25, deadline=None)
@given(**CASES, share=st.floats(0.05, 0.95), seed=st.integers(0, 1000))
def test_no_euler_iteration_overtakes_the_flow(depth, loss, name, norm, residual, share, seed):
    theorem = DeepBudget(deep(depth, loss, name))
    residual = 0.7 if loss == "huber" else residual
    speed, g = theorem.speed(norm, residual), np.random.default_rng(seed)
    mass = share * min(theorem.budget(norm, residual), 1.0)
    rates = g.exponential(size=12) ** g.choice([1.0, 4.0])
    walked = 0.0
    for rate in mass * rates / rates.sum():
        walked += rate * speed(walked)
    path = theorem.path(norm, residual, mass)
    assert walked <= path * UP
    # Control: before most of the mass is spent, the flow is not as far.
    assert theorem.path(norm, residual, 0.02 * mass) < walked


@pytest.mark.parametrize(("depth", "loss"), [(2, "mse"), (3, "mse"), (3, "huber"), (5, "huber")])
def test_small_equal_rates_follow_the_flow_and_explode_beyond_the_budget(depth, loss):
    theorem = DeepBudget(deep(depth, loss))
    speed, budget, n = theorem.speed(1.5, 0.7), theorem.budget(1.5, 0.7), 1500
    for share in (0.3, 0.9):
        walked = 0.0
        for _ in range(n):
            walked += share * budget / n * speed(walked)
        assert 0.97 < walked / theorem.path(1.5, 0.7, share * budget) < 1.0
    walked, steps = 0.0, 0
    while walked < 1e12 and steps < 1.1 * n:
        walked += budget / n * speed(walked)
        steps += 1
    assert walked >= 1e12 and steps > n


# Runs ----------------------------------------------------------------------------------------


def broken_steps(batch: DeepBatch, k: int, residual: float) -> int:
    """Count the steps at which the path of a run is longer than this Λ₀ allows."""
    run, seen = batch.run, slice(1, batch.last_step(k) + 1)
    speed = Speed(batch.setting, float(run.checkpoints[0].parameter_norm()[k]), residual)
    return int((speed.mass(run.path[seen, k]) > run.mass[seen, k] * UP).sum())


def test_the_path_of_every_run_is_within_the_budget_at_every_step():
    weaker = 0
    for b, k in each_run():
        pull = b.setting.pull(float(b.run.risk[0, k]))
        if pull > 0.0:
            assert broken_steps(b, k, pull) == 0
            # Control: with a twentieth of the pull the theorem would be wrong.
            weaker += broken_steps(b, k, 0.05 * pull) > 0
    assert weaker >= 20, weaker


def test_no_verdict_on_the_budget_is_contradicted_and_displacement_stays_below_the_path():
    applied, failing = 0, set()
    for b, k in each_run():
        last, theorem = b.last_step(k), DeepBudget(b.setting)
        step = int(np.nanargmax(b.products[: last + 1, k]))
        layers = b.run.checkpoints[step].layers(k)
        verdict = theorem.verdict(b.run, k, deep_product_upper_bound(layers, b.setting.activation))
        assert not verdict.contradicted, verdict.line()
        assert not (verdict.applies and b.run.diverged[k])
        applied += verdict.applies
        failing |= {h.name for h in verdict.hypotheses if not h.holds}
        if k == 0:
            e = theorem.path_after(b.run, k, float(b.run.mass[last, k]))
            assert b.run.displacement[last, k] <= b.run.path[last, k] * UP <= e * UP**2
            after = chain_after(b.run.checkpoints[0], np.full(b.run.ensemble.size, e))[k]
            assert b.products[last, k] <= after * UP
    assert applied >= 30 and failing == {"H1", "H3"}


@pytest.mark.parametrize("start", [0, 10])
def test_budget_hypotheses_fail_where_they_should(start):
    x = torch.linspace(-1, 1, 5).double()[:, None]
    networks = gaussian_deep_ensemble((1, 4, 4, 1), seeds=(3,), activation="tanh")
    plan = make_schedule("constant", 1e-4, n_steps=40)
    run = deep_train(networks, x, torch.sin(x), plan, 40, steps=range(41))
    setting = DeepSetting.of(networks, x, torch.sin(x), run.loss)
    theorem, pull = DeepBudget(setting, start=start), setting.pull(float(run.risk[start, 0]))
    norm = float(run.checkpoints[start].parameter_norm()[0])
    assert theorem.residual_of(run, 0) == pull
    fine = theorem.verdict(run, 0, 0.0)
    assert fine.applies and np.isfinite(fine.bound)
    margin = theorem.budget(norm, pull) - (40 - start) * 1e-4
    assert fine.hypotheses[2].margin == pytest.approx(margin, rel=1e-6, abs=0.0)
    path = theorem.path(norm, pull, (40 - start) * 1e-4)
    kept = run.checkpoints[start]
    assert fine.bound == pytest.approx(
        float(chain_after(kept, np.array([path]))[0]), rel=1e-9, abs=0.0
    )
    given = replace(theorem, residual=pull * (1 - 1e-6))
    assert given.verdict(run, 0, 0.0).failed.name == "H2"
    assert replace(theorem, residual=pull).verdict(run, 0, 0.0).applies
    # A pull so large that the budget ends inside the run: the first step beyond it is named.
    most = brentq(lambda log: theorem.budget(norm, 10.0**log) - 15.5e-4, 0.0, 9.0)
    beyond = replace(theorem, residual=10.0**most).verdict(run, 0, 0.0)
    assert (beyond.failed.name, beyond.failed_step, beyond.bound) == ("H3", start + 15, None)
    assert beyond.failed.margin == pytest.approx(-0.5e-4, rel=1e-6, abs=0.0)
    other = replace(theorem, setting=replace(setting, loss=Quartic()))
    assert other.verdict(run, 0, 0.0).failed.name == "H2"


class Quartic(Loss):
    """φ(r) = r⁴, which is neither of the two losses of the theorem."""

    def value(self, residual):
        return residual**4

    def derivative(self, residual):
        return 4.0 * residual**3

    def mean_derivative_bound(self, risk, output_dim=1):
        return 4.0 * risk**0.75


def test_bounds_before_a_run_are_refused_without_a_pull_or_beyond_the_budget():
    networks, *_ = odd_chain(3, 1.0, 1.0)
    theorem = DeepBudget(replace(deep(3), activation=networks.activation), residual=0.5)
    norm = float(networks.parameter_norm()[0])
    budget = theorem.budget(norm, 0.5)
    half = theorem.bound(networks, 0.5 * budget)
    path = theorem.path(norm, 0.5, 0.5 * budget)
    assert half[0] == pytest.approx((1.0 + path / 3**0.5) ** 3, rel=1e-9, abs=0.0)
    with pytest.raises(HypothesisError, match=r"`residual` must be given .* \(H2\)\. Got None\. G"):
        replace(theorem, residual=None).bound(networks, 0.1)
    message = (
        rf"`mass` must be below the budget {budget:g} for thm-deep-budget \(H3\)\. Got 9\. Use"
    )
    with pytest.raises(HypothesisError, match=message):
        theorem.bound(networks, 9.0)


def test_where_no_budget_is_needed_no_run_is_beyond_it():
    networks, x, y = odd_chain(1, 0.0, 1.0)
    run = deep_train(networks, x, y, make_schedule("constant", 0.5, n_steps=200), 200)
    theorem = DeepBudget(DeepSetting.of(networks, x, y, run.loss))
    assert theorem.budget(1.0, 1.0) == np.inf
    assert theorem.verdict(run, 0, 1.0).applies
