"""Schedules that descend for ever: rates, mass, decay that does not hinder."""

from __future__ import annotations

import math

import numpy as np
import pytest
from convergence_cases import (
    CASE,
    RUN,
    SMOOTH,
    affordable,
    draw,
    trained,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from lipbook.caps.self_consistent import (
    SelfConsistentRate,
    largest_rate,
    self_consistent_rates,
)
from lipbook.gradients import risk_and_gradient
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems.convergence import NotHindered, PowerRates, SelfConsistentDescent
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.smoothness import (
    Descent,
    mass_smoothness,
    norm_bounds,
)
from lipbook.theorems.tradeoff import TradeOff
from lipbook.training import train

# ---- thm-self-consistent


@settings(derandomize=True, max_examples=25, deadline=None)
@given(**RUN)
def test_the_self_consistent_rates_descend_for_ever(**drawn):
    run, setting, _ = trained(measured=False, **drawn)
    found = SelfConsistentDescent().verdict(run, 0, setting)
    assert found.applies and not found.contradicted
    assert Descent().verdict(run, 0, setting).applies and TradeOff().verdict(run, 0).applies
    mass, risk = run.mass[:, 0], run.risk[0, 0]
    reached = norm_bounds(run, 0)[0] + np.sqrt(2 * risk * mass)
    assert (norm_bounds(run, 0)[run.steps] <= reached[run.steps] + 1e-12).all()
    norm = float(run.checkpoints[0].parameter_norm()[0])
    beta = mass_smoothness(setting, norm, risk, mass[1:])
    assert run.learning_rates[:, 0] * beta == pytest.approx(1.0, abs=1e-9)
    as_schedule = SelfConsistentRate(setting, norm, risk).schedule()
    assert as_schedule.rates(60) == pytest.approx(run.learning_rates[:, 0], rel=1e-9)
    assert as_schedule.tail_mass(7) == math.inf


@settings(derandomize=True, max_examples=25, deadline=None)
@given(**RUN)
def test_looking_at_the_run_never_costs_mass(**drawn):
    run, setting, _ = trained(measured=True, n_steps=30, every=1, **drawn)
    assert Descent().verdict(run, 0, setting).applies
    start = run.checkpoints[0].parameter_norm()[0]
    blind = self_consistent_rates(setting, float(start), float(run.risk[0, 0]), 30)
    assert (run.mass[1:, 0] >= np.cumsum(blind) * (1 - 1e-9)).all()
    assert run.mass[-1, 0] > blind.sum() * 1.0001


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    **CASE, activation=st.sampled_from(SMOOTH), risk=st.sampled_from([1e-6, 0.1, 1.0, 100.0]),
    norm=st.sampled_from([0.0, 1.0, 30.0]), horizon=st.integers(1, 400),
)  # fmt: skip
def test_the_mass_of_the_self_consistent_rates_is_bracketed(risk, norm, horizon, **drawn):
    setting = draw(**drawn)[3]
    rates = self_consistent_rates(setting, norm, risk, horizon)
    total = float(rates.sum())
    low, high = SelfConsistentDescent().mass_bounds(setting, norm, risk, horizon)
    assert low * (1 - 1e-9) <= total <= high * (1 + 1e-9)
    assert (np.diff(rates) <= 1e-12 * rates[:-1]).all()

    def beta(mass):
        return float(mass_smoothness(setting, norm, risk, mass))

    spent = quad(beta, 0.0, total, epsrel=1e-10)[0]
    assert horizon - math.log(beta(total) / beta(0.0)) <= spent * (1 + 1e-8) + 1e-8
    assert spent <= horizon * (1 + 1e-8)


def test_the_mass_grows_like_the_root_of_the_horizon():
    setting = draw(0, 2, "huber", "zero-bias", 1.0, "tanh")[3]
    horizons = np.array([10**3, 10**4, 10**5])
    rates = self_consistent_rates(setting, 0.1, 50.0, int(horizons[-1]))
    mass = np.cumsum(rates)[horizons - 1]
    ratio = mass * setting.kappa * np.sqrt(50.0 / horizons)
    assert (ratio <= 1.0).all() and (np.diff(ratio) > 0).all() and ratio[-1] > 0.88
    local = np.log(mass[2] / mass[1]) / np.log(10.0)
    assert local == pytest.approx(0.5, abs=0.02)


def test_breaking_the_promise_by_a_factor_is_seen():
    # Control: above the cap the hypothesis fails at once, and far above it the descent, too.
    little, setting, _ = trained(0, "tanh", "mse", measured=False, factor=1.01)
    assert SelfConsistentDescent().verdict(little, 0, setting).failed.name == "H3"
    rises = 0
    for seed in range(10):
        much, setting, _ = trained(seed, "tanh", "mse", measured=False, factor=100.0, n_steps=40)
        found = SelfConsistentDescent().verdict(much, 0, setting)
        assert found.failed.name in ("H2", "H3")
        rises += bool(much.diverged[0]) or bool((np.diff(much.risk[:, 0]) > 0).any())
    assert rises >= 5


def test_the_scalar_equation_is_solved_from_below():
    like = np.zeros(3)
    slope = np.array([1e-3, 1.0, 1e3])
    rate = largest_rate(lambda a: 2.0 + slope * a, like)
    exact = (np.sqrt(1.0 + slope) - 1.0) / slope  # slope·α² + 2α = 1
    assert (rate <= exact * (1 + 1e-12)).all() and rate == pytest.approx(exact, rel=1e-9)


def test_at_zero_risk_nothing_moves_and_the_mass_is_not_bounded():
    setting = draw(0, 2, "mse", "zero-bias", 1.0, "tanh")[3]
    rates = self_consistent_rates(setting, 1.0, 0.0, 5)
    assert rates == pytest.approx(np.full(5, rates[0]))
    with pytest.raises(HypothesisError, match=r"`risk` must be positive for thm-self-consistent"):
        SelfConsistentDescent().mass_bounds(setting, 1.0, 0.0, 10)


# ---- thm-not-hindered and prop-power-rates


@settings(derandomize=True, max_examples=25, deadline=None)
@given(**RUN, name=st.sampled_from(["eventual", "exponential", "cosine"]), early=st.booleans())
def test_eventual_decay_does_not_hinder(name, early, **drawn):
    start, x, y, setting = draw(width=5, scale="zero-bias", **{k: drawn[k] for k in drawn})
    norm = float(start.parameter_norm()[0])
    risk = float(risk_and_gradient(start, x, y, setting.loss)[0][0])
    unit = make_schedule(name, 1.0, n_steps=50, start=5 if early else 30, timescale=3.0)
    rate = affordable(setting, norm, risk, unit.tail_mass(0))
    schedule = Schedule(unit.name, rate, unit.rate_function, unit.start)
    run = train(start, x, y, schedule, 70, loss=setting.loss, steps=range(0, 71, 10))
    theorem = NotHindered()
    found = theorem.verdict(run, 0, setting)
    assert found.applies and not found.contradicted
    assert SelfConsistentDescent().verdict(run, 0, setting).applies
    share = theorem.share(run)[0]
    assert theorem.bound(run)[0] == pytest.approx(2 * risk / (share * rate * 70))
    if name == "eventual":
        assert share >= schedule.start / 70
    # Twice the rate is not affordable any more.
    doubled = Schedule(unit.name, 2.1 * rate, unit.rate_function, unit.start)
    again = train(start, x, y, doubled, 5, loss=setting.loss)
    assert theorem.verdict(again, 0, setting).failed.name == "H4"


def test_not_hindered_fails_for_the_right_reasons():
    run, setting, _ = trained(0, "tanh", "mse", schedule=make_schedule("constant", 1e-4, n_steps=9))
    assert NotHindered().verdict(run, 0, setting).failed.name == "H3"
    decay = make_schedule("exponential", 1e-4, n_steps=9)
    run, setting, _ = trained(0, "relu", "mse", schedule=decay)
    assert NotHindered().verdict(run, 0, setting).failed.name == "H1"
    wild = make_schedule("exponential", 1e4, n_steps=90)
    run, setting, _ = trained(0, "softplus", "mse", schedule=wild)
    assert NotHindered().verdict(run, 0, setting).failed.name in ("H2", "H4")


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    **CASE, activation=st.sampled_from(SMOOTH), risk=st.sampled_from([1e-3, 1.0, 100.0]),
    norm=st.sampled_from([0.0, 2.0, 30.0]), timescale=st.sampled_from([0.1, 1.0, 100.0]),
    exponent=st.sampled_from([0.5, 0.6, 0.75, 1.0, 1.5, 3.0]),
)  # fmt: skip
def test_power_rates_from_one_half_on_descend_for_ever(risk, norm, timescale, exponent, **drawn):
    setting = draw(**drawn)[3]
    rate = PowerRates().bound(setting, norm, risk, timescale, exponent)
    unit = make_schedule("power", rate, n_steps=9, timescale=timescale, exponent=exponent)
    rates = unit.rates(20_000)
    beta = mass_smoothness(setting, norm, risk, np.cumsum(rates))
    assert (rates * beta <= 1.0 + 1e-12).all()


def test_below_one_half_no_rate_is_small_enough_for_ever():
    setting = draw(0, 2, "mse", "zero-bias", 1.0, "tanh")[3]
    rate = PowerRates().bound(setting, 1.0, 1.0, 1.0, 0.5)
    rates = make_schedule("power", rate, n_steps=9, timescale=1.0, exponent=0.25).rates(10**6)
    products = rates * mass_smoothness(setting, 1.0, 1.0, np.cumsum(rates))
    assert products[0] < 1.0 < products[-1]
    with pytest.raises(HypothesisError, match=r"`exponent` must be at least 1/2 for prop-power"):
        PowerRates().bound(setting, 1.0, 1.0, 1.0, 0.49)


def test_the_power_verdict_takes_both_values():
    setting = draw(0, 5, "mse", "zero-bias", 1.0, "tanh")[3]
    start = draw(0, 5, "mse", "zero-bias", 1.0, "tanh")[0]
    norm = float(start.parameter_norm()[0])
    _, x, y, _ = draw(0, 5, "mse", "zero-bias", 1.0, "tanh")
    risk = float(risk_and_gradient(start, x, y, setting.loss)[0][0])
    rate = PowerRates().bound(setting, norm, risk, 3.0, 0.5)
    found = {}
    for factor, exponent in ((1.0, 0.5), (50.0, 0.5), (1.0, 0.3)):
        chosen = make_schedule("power", factor * rate, n_steps=9, timescale=3.0, exponent=exponent)
        run = train(start, x, y, chosen, 50, on_divergence="record")
        found[factor, exponent] = PowerRates().verdict(run, 0, setting)
    assert found[1.0, 0.5].applies and not found[1.0, 0.5].contradicted
    assert found[50.0, 0.5].failed.name == "H3" and found[1.0, 0.3].failed.name == "H2"
    # At the rate 0 nothing moves, and the gradient stays where it was.
    still = make_schedule("power", 0.0, n_steps=9, timescale=3.0, exponent=0.5)
    run = train(start, x, y, still, 50)
    assert PowerRates().verdict(run, 0, setting).failed.name == "H2"
    assert run.gradient_norm[0, 0] == run.gradient_norm[-1, 0] > 0
