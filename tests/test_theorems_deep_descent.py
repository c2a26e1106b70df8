"""Descent at any depth: rates given by an equation, the descent they promise, and their mass."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from deep_runs import SMOOTH, UP, batches, drawn_problem

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import deep_risk_and_gradient, deep_train
from lipbook.implicit_rates import implicit_rates
from lipbook.losses import get_loss
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems.deep_descent import (
    DeepDescent,
    DeepSelfConsistentRate,
    deep_mass_smoothness,
    deep_rates,
)
from lipbook.theorems.deep_path import DeepEventualDecay
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.descent import sufficient_decrease
from lipbook.theorems.dichotomy import IDENTITY

MSE = get_loss("mse")

# Rates given by an equation ------------------------------------------------------------------


def counted(reciprocal, most):
    """The same function, which gives up after so many questions."""
    asked = [0]

    def answer(mass):
        asked[0] += 1
        if asked[0] > most:
            raise RecursionError(f"asked {most} times")
        return reciprocal(mass)

    return answer


def products(rates, reciprocal):
    """α_t·β̄(S_t + α_t), with the mass added up as the run does."""
    mass = np.cumsum(rates)
    return rates / np.array([reciprocal(float(each)) for each in mass])


RECIPROCALS = {
    **{f"power {L}": lambda s, L=L: (1.0 + s) ** (1.0 - L) for L in range(1, 6)},
    "exponential": lambda s: math.exp(-s),
    "tiny": lambda s: 1e-12 / (1.0 + s) ** 3,
}


def kept(reciprocal, n_steps):
    """Rates found with a limit on the questions: α_t is the largest with α·β̄(S_t + α) ≤ 1."""
    rates = implicit_rates(counted(reciprocal, 100 * n_steps), n_steps)
    assert (products(rates, reciprocal) <= 1.0 + 1e-14).all()
    before = np.concatenate([[0.0], np.cumsum(rates)[:-1]])
    # Control: a rate by one part in a billion larger breaks its promise.
    for rate, mass in zip(rates * (1.0 + 1e-9), before, strict=True):
        assert rate > reciprocal(float(mass + rate))
    return rates


@pytest.mark.parametrize("name", RECIPROCALS)
def test_implicit_rates_keep_their_promise_and_no_more(name):
    rates = kept(RECIPROCALS[name], 60)
    assert (products(rates, RECIPROCALS[name]) >= 1.0 - 1e-9).all()
    assert (np.diff(rates) <= 0.0).all() and (rates > 0.0).all() and len(rates) == 60
    with pytest.raises(ValueError, match="read-only"):
        rates[0] = 1.0


@pytest.mark.parametrize("case", ["power", "jump", "three layers", "four layers"])
def test_steep_equations_are_solved_too(case):
    tanh, widths = ACTIVATIONS["tanh"], (8, 8, 8)
    three, four = (DeepSetting(tanh, widths[:k], 1.5, 1.0, MSE) for k in (2, 3))
    problems = {
        "power": lambda s: (1.0 + s) ** -5.0,
        "jump": lambda s: 0.5 ** math.floor(3.0 * s),
        "three layers": lambda s: 1.0 / deep_mass_smoothness(three, 0.1, 1e4, s),
        "four layers": lambda s: 1.0 / deep_mass_smoothness(four, 0.1, 10.0, s),
    }
    kept(problems[case], 3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_the_mass_grows_like_the_root_of_the_steps(depth):
    rates = implicit_rates(RECIPROCALS[f"power {depth}"], 8192)
    mass, first = np.cumsum(rates), rates[0]
    for steps in (1, 10, 1000, 8192):
        s = mass[steps - 1]
        low, high = ((1 + s) ** depth - 1) / depth, (1 + s + first) ** depth
        assert low * (1 - 1e-9) <= steps <= (high - (1 + first) ** depth) / depth * UP
    at = np.array([63, 127, 1023, 2047, 4095, 8191])
    slopes = (np.diff(np.log(mass[at])) / np.diff(np.log(at + 1.0)))[[0, 2, 3, 4]]
    exact = np.diff(np.log1p(mass[at]))[-1] / math.log(2.0)
    assert exact == pytest.approx(1.0 / depth, rel=1e-3, abs=0.0)
    gaps = np.abs(slopes - 1.0 / depth)
    assert (np.diff(gaps) <= 1e-9).all() and gaps[-1] <= 0.05
    # Control: it is this root and no other.
    assert abs(exact - 1.0 / (depth + 1)) > 0.02


@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_leading_order_of_the_mass_is_the_page_s(depth, loss):
    setting = DeepSetting(ACTIVATIONS["gelu"], (6,) * (depth - 1), 1.5, 1.0, get_loss(loss, 0.3))
    slope, risk = setting.activation.lipschitz, 0.8
    k = math.hypot(1.0, 1.5) * slope ** (depth - 1) * depth ** (1.0 - depth / 2.0)
    ratios = []
    for mass in (1e4, 1e8, 1e12):
        low, high = DeepDescent().steps_between(setting, 2.0, risk, mass)
        order = k**2 * (2.0 * risk) ** (depth - 1) * mass**depth / depth
        assert 1.0 <= high / low < 1.01
        ratios.append(low / order - 1.0)
    assert abs(ratios[-1]) < 1e-4 and (np.diff(np.abs(ratios)) <= 1e-9).all()


# Descent -------------------------------------------------------------------------------------


def descending(seed, depth, activation, loss, factor=1.0, n_steps=40):
    """A run with the self-consistent rates of its own start, all times a factor."""
    networks, x, y, phi = drawn_problem(seed, depth, activation, loss, 0.0)
    y = y / y.abs().max()
    setting = DeepSetting.of(networks, x, y, phi)
    risk = float(deep_risk_and_gradient(networks, x, y, phi)[0])
    rate = DeepSelfConsistentRate(setting, float(networks.parameter_norm()[0]), risk)
    plan = rate.schedule()
    plan = Schedule(plan.name, factor * plan.learning_rate, rate)
    run = deep_train(networks, x, y, plan, n_steps, loss=phi, steps=range(n_steps + 1),
                     on_divergence="record")  # fmt: skip
    return run, setting, rate


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_self_consistent_rates_descend_at_every_step(depth, loss, name):
    run, setting, rate = descending(0, depth, name, loss)
    fall = 0.5 * run.learning_rates * run.gradient_norm[:-1] ** 2
    assert (run.risk[1:] <= run.risk[:-1] * (1 + 1e-12) - fall).all()
    norms = np.array([float(c.parameter_norm()[0]) for c in run.checkpoints])
    room = norms[0] + np.sqrt(2.0 * run.risk[0, 0] * run.mass[:, 0])
    assert (norms <= room * UP).all()
    found = DeepDescent().verdict(run, 0, setting)
    assert found.applies and not found.contradicted
    assert found.bound == pytest.approx(2.0 * run.risk[0, 0] / run.mass[-1, 0])
    assert found.measured == pytest.approx((run.gradient_norm[:-1, 0] ** 2).min())
    # The hypothesis is met with hardly anything to spare at any step.
    start, mass = (rate.first_norm, rate.first_risk), run.mass[:, 0]
    betas = [deep_mass_smoothness(setting, *start, s) for s in mass[1:]]
    assert run.learning_rates[:, 0] * betas == pytest.approx(np.ones(40), rel=1e-9, abs=0.0)
    low, high = DeepDescent().steps_between(setting, *start, float(mass[-1]))
    assert low * (1 - 1e-9) <= 40 <= high * UP
    # Control: a mass by half larger, or smaller, takes another number of steps.
    assert DeepDescent().steps_between(setting, *start, 1.5 * float(mass[-1]))[0] > 40
    assert DeepDescent().steps_between(setting, *start, 0.5 * float(mass[-1]))[1] < 40


def test_rates_fifty_times_as_large_fail_the_hypothesis_and_sometimes_the_descent():
    rising = 0
    for depth in (1, 2, 3, 4):
        for name in SMOOTH:
            run, setting, _ = descending(0, depth, name, "mse", 50.0)
            found = DeepDescent().verdict(run, 0, setting)
            assert not found.applies and not found.contradicted
            h3 = found.hypotheses[2]
            assert (h3.name, h3.holds, h3.step) == ("H3", False, 0)
            rising += not sufficient_decrease(run, 0, 0).holds
    assert rising >= 10, rising


def test_one_layer_uses_all_of_the_promise():
    # One sample, f = wx + b: a step of 1/(1 + x²) takes the risk to 0, as half of αg² says.
    one = DeepEnsemble((torch.ones(1, 1, 1).double(),), (torch.ones(1, 1).double(),), IDENTITY)
    x, y = torch.full((1, 1), 3.0).double(), torch.zeros(1, 1).double()
    setting = DeepSetting.of(one, x, y, MSE)
    rate = DeepSelfConsistentRate(setting, 2.0**0.5, 8.0)
    run = deep_train(one, x, y, rate.schedule(), 1)
    assert run.learning_rates[0, 0] == pytest.approx(0.1, rel=1e-9, abs=0.0)
    assert run.risk[:, 0] == pytest.approx([8.0, 0.0], abs=1e-15)
    found = DeepDescent().verdict(run, 0, setting)
    assert found.applies and found.bound == pytest.approx(found.measured, rel=1e-9, abs=0.0)


def test_hypotheses_of_descent_fail_where_they_should():
    run, setting, rate = descending(0, 3, "tanh", "mse")
    rates = rate.known(40).copy()
    assert DeepDescent().verdict(run, 0, setting).hypotheses[2].margin == pytest.approx(0, abs=1e-8)
    # A rate two parts in a million too large at step 17.
    rates[17] *= 1.000002
    broken = replace(run, learning_rates=rates[:, None], mass=np.cumsum([0.0, *rates])[:, None])
    found = DeepDescent().verdict(broken, 0, setting)
    assert (found.failed.name, found.failed_step) == ("H3", 17)
    counts = {True: 0, False: 0}
    for b in batches():
        for k in range(b.run.ensemble.size):
            found = DeepDescent().verdict(b.run, k, b.setting)
            assert not found.contradicted
            counts[found.applies] += 1
            if found.applies:
                assert sufficient_decrease(b.run, k, 0).holds
                assert not DeepEventualDecay(0).hypotheses(b.run, k)[2].step
            if b.run.diverged[k] and b.setting.activation.slope_lipschitz is not None:
                assert not found.hypotheses[1].holds and not found.hypotheses[2].holds
    assert min(counts.values()) >= 5, counts


def test_the_schedule_is_the_equation_s_and_asking_in_pieces_changes_nothing():
    networks = gaussian_deep_ensemble((2, 4, 4, 1), activation="silu")
    setting = DeepSetting(networks.activation, (4, 4), 1.2, 1.0, MSE)
    rate = DeepSelfConsistentRate(setting, 2.5, 0.7)
    plan, whole = rate.schedule(), deep_rates(setting, 2.5, 0.7, 600)
    assert plan.rates(600) == pytest.approx(whole, rel=1e-14, abs=0.0)
    assert float(rate(np.array(0))) == 1.0
    for step in (1, 255, 256, 599):
        assert float(rate(np.array(step))) * whole[0] == pytest.approx(
            whole[step], rel=1e-14, abs=0.0
        )
    assert plan.tail_mass(0) == np.inf == rate.tail(5)
    assert products(whole, lambda s: 1 / deep_mass_smoothness(setting, 2.5, 0.7, s)) == (
        pytest.approx(np.ones(600), rel=1e-9, abs=0.0)
    )


def test_an_absurd_rate_fails_the_hypothesis_at_any_depth():
    networks, x, y, phi = drawn_problem(0, 5, "tanh", "mse", 0.0)
    run = deep_train(networks, x, y, make_schedule("constant", 1e100, n_steps=3), 3, loss=phi,
                     on_divergence="record")  # fmt: skip
    assert not DeepDescent().verdict(run, 0, DeepSetting.of(networks, x, y, phi)).applies
