"""Meeting, hindrance, trade-off, plain PyTorch: attained cases, random cases, controls."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from convergence_cases import (
    CASE,
    NAMES,
    RUN,
    affordable,
    constant_network,
    draw,
    exact_run,
    moved,
    trained,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.gradients import risk_and_gradient
from lipbook.losses import get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems import Setting
from lipbook.theorems.freezing import FrozenGradient, gradient_floors
from lipbook.theorems.hindrance import RiskFall, RiskFloor, log_ratio, stretch
from lipbook.theorems.meeting import Meet
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.tradeoff import AnyOptimiser, TradeOff
from lipbook.training import train

# ---- thm-meet


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    activation=st.sampled_from(NAMES),
    loss=st.sampled_from(["mse", "huber"]),
    delta=st.sampled_from([0.5, 2.0]),
)
def test_from_the_meeting_on_both_losses_are_one(seed, activation, loss, delta):
    start, x, y, _ = draw(seed, 6, loss, "standard", 0.5, activation)
    schedule = make_schedule("constant", 0.05, n_steps=80)
    run = train(start, x, y, schedule, 80, loss=get_loss(loss, delta), steps=range(0, 81, 5))
    found = Meet().verdict(run, 0, (x, y), delta)
    assert not found.contradicted
    first = Meet().meeting_step(run, 0, delta, len(x))
    if not found.applies:
        return
    met = next(c for c, t in zip(run.checkpoints, run.steps, strict=True) if t >= first)
    ends = [
        train(met, x, y, schedule, 40, loss=get_loss(name, delta), steps=[0])
        for name in ("mse", "huber")
    ]
    assert np.array_equal(ends[0].gradient_norm, ends[1].gradient_norm)
    assert ends[0].risk == pytest.approx(ends[1].risk, rel=1e-14)


def test_the_meeting_takes_place_and_its_verdict_takes_both_values():
    easy, _, data = trained(
        3, "tanh", "huber", target=0.3, schedule=make_schedule("constant", 0.2, n_steps=60)
    )
    assert Meet().verdict(easy, 0, data, 0.7).applies
    assert Meet().verdict(easy, 0, data, 1e-9).failed.name == "H2"
    # A run under another Huber loss says nothing of this one.
    assert Meet().verdict(easy, 0, data, 0.8).failed.name == "H2"


@pytest.mark.parametrize("n", [1, 4, 9])
def test_the_threshold_cannot_be_raised(n):
    delta = 0.7
    residual = torch.zeros(n, 1, dtype=torch.float64)
    residual[0] = delta * (1 + 1e-6)
    mse, huber = get_loss("mse"), get_loss("huber", delta)
    assert float(mse.risk(residual)) == pytest.approx(Meet().threshold(delta, n), rel=1e-5)
    assert float(huber.derivative(residual)[0]) != float(mse.derivative(residual)[0])


def test_residuals_below_delta_alone_may_rise_again():
    # Control: f = c among one target far off and nine together; the mean pulls c away from the one.
    x = torch.zeros(10, 1, dtype=torch.float64)
    y = torch.cat([torch.ones(1, 1), torch.full((9, 1), -0.2)]).double()
    run = train(constant_network(0.1), x, y, make_schedule("constant", 0.5, n_steps=20), 20)
    residuals = [(c(x)[0] - y).abs().max().item() for c in (run.checkpoints[0], run.ensemble)]
    assert residuals[0] == pytest.approx(0.9) and residuals[1] > 1.05
    assert (np.diff(run.risk[:, 0]) <= 0).all()
    assert not Meet().verdict(run, 0, (x, y), 1.0).applies


# ---- thm-hindered


@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("name", ["constant", "exponential", "power", "cosine"])
def test_the_exact_example_attains_the_law(name, loss):
    run, setting = exact_run(1e-3, make_schedule(name, 0.3, n_steps=20), 20, loss)
    floor = RiskFloor().verdict(run, 0, setting)
    exact = -2 * np.log1p(-run.learning_rates[:, 0]).sum()
    assert floor.applies and floor.measured == pytest.approx(exact, rel=1e-9)
    assert floor.measured <= floor.bound <= 1.01 * floor.measured
    fall = RiskFall().verdict(run, 0)
    assert fall.applies and RiskFall().constant(run, 0) == pytest.approx(1.0)
    assert fall.measured <= fall.bound
    # The lower side of the law is attained as the rates tend to zero, up to its factor 2.
    slow, _ = exact_run(1e-3, make_schedule(name, 1e-5, n_steps=20), 20, loss)
    found = RiskFall().verdict(slow, 0)
    assert found.bound == pytest.approx(2 * found.measured, rel=1e-2)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(**CASE, activation=st.sampled_from(NAMES), share=st.sampled_from([0.01, 0.3, 0.9]))
def test_no_risk_falls_faster_than_the_mass_allows(share, **drawn):
    start, x, y, setting = draw(**drawn)
    rate = share / setting.growth(float(start.parameter_norm()[0])) ** 2
    schedule = make_schedule("exponential", rate, n_steps=25)
    run = train(start, x, y, schedule, 25, loss=setting.loss, on_divergence="record", steps=[10])
    found = RiskFloor().verdict(run, 0, setting)
    assert not found.contradicted and (found.applies or share == 0.9)
    assert not RiskFall().verdict(run, 0).contradicted
    # Step by step, as the proof has it.
    root = np.sqrt(run.risk[:, 0])
    growth = setting.growth(
        max(float(c.parameter_norm()[0]) for c in run.checkpoints) + run.path[-1, 0]
    )
    steps = np.maximum(1.0 - run.learning_rates[:, 0] * growth**2, 0.0)
    assert (root[1:] >= root[:-1] * steps * (1 - 1e-9)).all()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(**CASE, activation=st.sampled_from(NAMES), share=st.sampled_from([0.1, 1.0, 8.0]))
def test_steep_descent_keeps_its_path_short_whatever_the_mass(share, **drawn):
    start, x, y, setting = draw(**drawn)
    rate = share / setting.growth(float(start.parameter_norm()[0])) ** 2
    schedule = make_schedule("constant", rate, n_steps=60)
    run = train(start, x, y, schedule, 60, loss=setting.loss, on_divergence="record")
    mu = RiskFall().constant(run, 0)
    if RiskFall().verdict(run, 0).applies and mu > 0:
        assert run.path[-1, 0] <= math.sqrt(8.0 * run.risk[0, 0] / mu) * (1 + 1e-9)


def test_without_sufficient_decrease_steep_descent_walks_far():
    # Control: f = c at rates close to 2 swings to and fro; (H5) holds with μ = 1, (H4) does not.
    run, _ = exact_run(1e-3, make_schedule("constant", 1.99, n_steps=9), 60)
    found, limit = RiskFall(mu=1.0).verdict(run, 0), math.sqrt(8.0 * run.risk[0, 0])
    assert found.failed.name == "H4" and run.path[-1, 0] > limit
    slow, _ = exact_run(1e-3, make_schedule("constant", 1.0 - 1e-9, n_steps=9), 60)
    assert RiskFall().verdict(slow, 0).applies and slow.path[-1, 0] <= limit


def test_past_one_over_lambda_one_step_may_land_on_zero():
    # Control: f = c with rate 1 is at zero risk after one step; the law would forbid that.
    run, setting = exact_run(1e-3, make_schedule("cosine", 1.0, n_steps=1), 1)
    assert run.risk[-1, 0] == 0.0
    assert RiskFloor().verdict(run, 0, setting).failed.name == "H2"
    with pytest.raises(HypothesisError, match=r"`rates` must stay below 1/Λ for thm-hindered"):
        RiskFloor().bound(np.array([0.1, 1.0]), 1.0)


def test_without_steep_gradients_the_mass_is_wasted():
    # Control: at a saddle (all weights zero but y ≠ 0 of mean zero) the risk does not fall at all.
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    run = train(constant_network(0.0), x, y, make_schedule("constant", 0.1, n_steps=9), 9)
    assert run.risk[-1, 0] == run.risk[0, 0] > 0
    assert RiskFall().constant(run, 0) == 0.0 and not RiskFall().verdict(run, 0).contradicted
    claimed = RiskFall(mu=0.5).verdict(run, 0)
    assert claimed.failed.name == "H5" and claimed.measured > claimed.bound


def test_the_stretch_lies_between_one_and_its_majorant():
    for x in (1e-12, 0.1, 0.5, 0.99):
        assert 1.0 <= stretch(x) <= 1.0 / (1.0 - x)
    assert stretch(0.0) == 1.0 and stretch(1.0) == math.inf == stretch(2.0)
    assert log_ratio(1.0, 0.0) == math.inf and log_ratio(0.0, 0.0) == 0.0


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.75, 1.0, 2.0])
def test_the_relative_fall_of_the_exact_example_follows_the_rates(exponent):
    # Both sides of the law at every step, so the log-log slope is −γ.
    chosen = make_schedule(
        "power" if exponent else "constant", 0.02, n_steps=9, timescale=2.0,
        exponent=exponent or 1.0,
    )  # fmt: skip
    run, _ = exact_run(1e-3, chosen, 400)
    fall = np.log(run.risk[:-1, 0] / run.risk[1:, 0])
    at = np.arange(40, 400)
    slope = np.polyfit(np.log1p(at / 2.0), np.log(fall[at]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.01)


# ---- thm-frozen


def test_the_exact_example_attains_the_freeze():
    schedule = make_schedule("exponential", 0.01, n_steps=9, timescale=20.0)
    run, setting = exact_run(1e-5, schedule, 600)
    for start in (0, 30):
        found = FrozenGradient(start).verdict(run, 0, setting)
        assert found.applies and found.measured <= found.bound <= 1.01 * found.measured
        floor = FrozenGradient(start).floor(run, 0, setting)
        assert floor == pytest.approx(run.gradient_norm[-1, 0], rel=0.01) and floor > 0


@settings(derandomize=True, max_examples=25, deadline=None)
@given(**RUN, start=st.sampled_from([0, 25, 40]))
def test_with_a_finite_mass_the_gradient_freezes(start, **drawn):
    ensemble, x, y, setting = draw(width=5, scale="zero-bias", **drawn)
    norm = float(ensemble.parameter_norm()[0])
    risk = float(risk_and_gradient(ensemble, x, y, setting.loss)[0][0])
    unit = make_schedule("eventual", 1.0, n_steps=50, start=25, timescale=4.0)
    rate = 0.9 * affordable(setting, norm, risk, unit.tail_mass(0))
    schedule = Schedule("eventual", rate, unit.rate_function, unit.start)
    run = train(ensemble, x, y, schedule, 60, loss=setting.loss, steps=[25, 40])
    theorem = FrozenGradient(start)
    found = theorem.verdict(run, 0, setting)
    assert found.applies and not found.contradicted
    assert 0.0 < theorem.floor(run, 0, setting) <= run.gradient_norm[start:, 0].min() * (1 + 1e-9)
    # Late in the decay the floor is close to the gradient that is left.
    late = FrozenGradient(60).floor(run, 0, setting)
    assert late >= 0.9 * run.gradient_norm[60, 0]
    at_once = gradient_floors(run, setting)[np.isin(run.steps, [25, 40]), 0]
    each = [FrozenGradient(step).floor(run, 0, setting) for step in (25, 40)]
    assert at_once == pytest.approx(each, rel=1e-9)


def test_an_infinite_mass_passes_every_floor():
    # Control: the constant rate; with the mass spent so far in place of S' the bound is passed.
    run, setting = exact_run(1e-5, make_schedule("constant", 0.05, n_steps=9), 300)
    found = FrozenGradient(0).verdict(run, 0, setting)
    assert found.failed.name == "H3" and found.bound == math.inf
    assert np.isnan(gradient_floors(run, setting)).all()
    short = stretch(0.05) * 0.05 * 10
    assert found.measured > short
    fast = make_schedule("exponential", 3.0, n_steps=9, timescale=2.0)
    start = exact_run(1e-5, fast, 3)
    assert FrozenGradient(0).verdict(*[start[0], 0, start[1]]).failed.name == "H4"


def test_a_step_outside_of_the_run_is_refused():
    run, setting = exact_run(0.1, make_schedule("constant", 0.05, n_steps=9), 5)
    with pytest.raises(ValueError, match=r"`start` must be a step of the run, 0 to 5. Got 6"):
        FrozenGradient(6).tail(run, 0, setting)


# ---- thm-trade-off and thm-any-optimiser


def test_one_step_of_the_exact_example_attains_the_trade_off():
    run, _ = exact_run(0.3, make_schedule("cosine", 1.0, n_steps=1), 1)
    found = TradeOff().verdict(run, 0)
    assert found.applies and found.measured == pytest.approx(found.bound, rel=1e-9)


def test_without_descent_the_trade_off_fails():
    # Control: large constant rates oscillate: long paths, no fall.
    seen = 0
    for seed, rate in itertools.product(range(8), (0.6, 0.9, 1.3)):
        steady = make_schedule("constant", rate, n_steps=60)
        run, _, _ = trained(seed, "tanh", "mse", schedule=steady, width=8)
        found = TradeOff().verdict(run, 0)
        if not run.diverged[0] and found.measured > found.bound:
            seen += 1
            assert not found.applies
    assert seen >= 3


@settings(derandomize=True, max_examples=150, deadline=None)
@given(**CASE, activation=st.sampled_from(NAMES), distance=st.sampled_from([1e-3, 0.3, 3.0, 30.0]))
def test_nobody_learns_without_moving(distance, **drawn):
    start, x, y, setting = draw(**drawn)
    norm = float(start.parameter_norm()[0])
    first = float(risk_and_gradient(start, x, y, setting.loss)[0][0])
    there = moved(start, drawn["seed"], distance)
    last = float(risk_and_gradient(there, x, y, setting.loss)[0][0])
    gap = abs(math.sqrt(2 * first) - math.sqrt(2 * last))
    theorem = AnyOptimiser()
    assert gap <= theorem.bound(setting, norm, distance) * (1 + 1e-9)
    assert theorem.distance(setting, norm, first, last) <= distance * (1 + 1e-9)
    least = theorem.distance(setting, norm, first, 0.0)
    assert theorem.bound(setting, norm, least) == pytest.approx(math.sqrt(2 * first), rel=1e-9)


def test_moving_is_attained_by_the_bias_and_needs_the_radius_of_the_data():
    run, setting = exact_run(1e-3, make_schedule("cosine", 1.0, n_steps=1), 1)
    found = AnyOptimiser().verdict(run, 0, setting)
    assert 0.99 * found.bound <= found.measured <= found.bound
    # Control: data far outside of the radius that κ was made for.
    g = gaussian_ensemble(6, 1, seeds=(2,), activation="relu")
    x = torch.full((1, 1), 100.0, dtype=torch.float64)
    y = g(x)[0].clone()
    near = Setting.of(g, x / 100.0, y, get_loss("mse"))
    stepped = train(g, x, y + 1.0, make_schedule("constant", 1e-6, n_steps=1), 1).ensemble
    moved_by = float((stepped.hidden_weight - g.hidden_weight).norm())
    risk = float(risk_and_gradient(stepped, x, y, get_loss("mse"))[0][0])
    assert math.sqrt(2 * risk) > AnyOptimiser().bound(near, float(g.parameter_norm()[0]), moved_by)


def test_the_distance_is_the_root_of_its_equation():
    growth, kappa, gap = sympy.symbols("growth kappa gap", positive=True)
    root = 2 * gap / (growth + sympy.sqrt(growth**2 + 2 * kappa * gap))
    assert sympy.simplify(kappa * root**2 / 2 + growth * root - gap) == 0
    b_0, b_1 = sympy.symbols("b_0 b_1", positive=True)
    rate = 2 / (b_0 + sympy.sqrt(b_0**2 + 4 * b_1))
    assert sympy.simplify(rate * (b_0 + rate * b_1) - 1) == 0
