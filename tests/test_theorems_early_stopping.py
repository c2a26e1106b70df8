"""Early stopping in disguise, and descent that is scaled back to its limit."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from budget_cases import (
    NAMES,
    STEPS,
    budgeted,
    lowest_product,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from promise_cases import network
from random_runs import batches

from lipbook.caps.gradient_flow import flat, flow_to_limit
from lipbook.caps.lipschitz_budget import LipschitzBudget
from lipbook.caps.rescaled_descent import rescaled_to, train_rescaled
from lipbook.data import synthetic
from lipbook.gradients import risk_and_gradient
from lipbook.losses import get_loss
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.budget_schedule import EarlyStopping
from lipbook.theorems.moduli import certificates
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.rescaled_points import RescaledDescent, decay_multiplier
from lipbook.training import train

# Early stopping in disguise ------------------------------------------------------------------

RATES = (0.1, 0.05, 0.025)


@cache
def small_problem(seed=0):
    data = synthetic("sine", 16, noise=0.1)
    return gaussian_ensemble(8, 1, seeds=(seed,), activation="tanh"), data


@cache
def stopped_flow():
    start, data = small_problem()
    rising = flow_to_limit(
        start, data.x, data.y, get_loss("mse"), math.inf, step=0.05, horizon=12.0
    )
    limit = 0.5 * (rising.certificate[0] + rising.certificate[-1])
    path = flow_to_limit(start, data.x, data.y, get_loss("mse"), limit, step=0.0125, horizon=12.0)
    return limit, path


def budget_run(rate, limit, total, share=0.5, seed=0):
    start, data = small_problem(seed)
    steps = round(total / rate)
    plan = make_schedule("constant", rate, n_steps=steps)
    cap = LipschitzBudget(limit, share)
    return train(start, data.x, data.y, plan, steps, cap=cap, steps=range(steps + 1))


def distance(run, path, rate):
    """sup over t of ‖Θ_t − Θ(min(αt, s*))‖."""
    points = np.stack([flat(c)[0] for c in run.checkpoints])
    return float(np.linalg.norm(points - path.at(rate * run.steps), axis=1).max())


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_small_rates_stop_where_the_flow_meets_the_limit(share):
    limit, path = stopped_flow()
    assert path.met and path.certificate[-1] == pytest.approx(limit, rel=1e-6)
    runs = {rate: budget_run(rate, limit, 2 * path.times[-1], share) for rate in RATES}
    gaps = [distance(run, path, rate) for rate, run in runs.items()]
    spent = [abs(run.mass[-1, 0] - path.times[-1]) for run in runs.values()]
    for wide, narrow in ((gaps[0], gaps[1]), (gaps[1], gaps[2]), (spent[0], spent[2])):
        assert narrow <= 0.65 * wide, (gaps, spent)  # O(α): halving the rate halves it
    assert gaps[-1] < 0.05
    # Negative control: without the budget the run goes on.
    start, data = small_problem()
    free = train(start, data.x, data.y, make_schedule("constant", 0.05, n_steps=400), 400)
    assert np.linalg.norm(flat(free.ensemble)[0] - path.points[-1]) > 0.3


def test_before_the_meeting_the_budget_does_not_bind():
    limit, path = stopped_flow()
    run = budget_run(0.025, limit, 0.8 * path.times[-1])
    assert (run.learning_rates == 0.025).all()


def test_a_flow_that_never_meets_the_limit_is_followed():
    limit, _ = stopped_flow()
    start, data = small_problem()
    path = flow_to_limit(start, data.x, data.y, get_loss("mse"), 10 * limit, step=0.0125, horizon=4)
    assert not path.met
    gaps = [distance(budget_run(r, 10 * limit, 4.0), path, r) for r in RATES]
    assert gaps[1] <= 0.6 * gaps[0] and gaps[2] <= 0.6 * gaps[1]


def test_where_the_flow_only_grazes_the_limit_the_limit_point_jumps():
    # Negative control: seed 5 has a largest product bound inside (0, 15), where the flow turns.
    start, data = small_problem(5)
    loss = get_loss("mse")
    path = flow_to_limit(start, data.x, data.y, loss, math.inf, step=0.05, horizon=15.0)
    peak = path.certificate.max()
    assert 1.0 < path.times[path.certificate.argmax()] < 14.0
    below, above = (budget_run(0.05, peak * f, 15.0, seed=5) for f in (0.998, 1.002))
    assert above.mass[-1, 0] > 0.97 * 15.0 and below.mass[-1, 0] < 10.0
    # At the peak itself the distance from the limit point falls like the root of the rate.
    there = path.points[path.certificate.argmax()]
    runs = (budget_run(rate, peak, 15.0, seed=5) for rate in (0.1, 0.025))
    gaps = [float(np.linalg.norm(flat(run.ensemble)[0] - there)) for run in runs]
    assert 0.4 * gaps[0] <= gaps[1] <= 0.55 * gaps[0]


def test_the_mass_that_is_left_is_bounded_and_nearly_attained():
    limit, path = stopped_flow()
    run = budget_run(0.025, limit, 2 * path.times[-1])
    start = int(0.9 * path.times[-1] / 0.025)
    found = EarlyStopping(limit, start).verdict(run, 0)
    assert found.applies and not found.contradicted and found.title.endswith("part (c)")
    assert all(f"from {start}" in h.statement or f"step {start}" in h.statement
               for h in found.hypotheses)  # fmt: skip
    assert found.measured >= 0.9 * found.bound
    assert EarlyStopping(limit, start).bound(run, 0) == found.bound


def test_the_mass_bound_holds_on_all_runs_and_says_when_it_does_not_apply():
    kinds = {True: 0, False: 0}
    for b in batches()[::4]:
        run, limit = budgeted(b, "product")
        for k in range(run.ensemble.size):
            found = EarlyStopping(limit, STEPS // 2).verdict(run, k)
            assert not found.contradicted
            kinds[found.applies] += 1
    assert min(kinds.values()) >= 10, kinds


def test_early_stopping_refuses():
    start, data = small_problem()
    plan = make_schedule("constant", 0.05, n_steps=20)
    with pytest.raises(ValueError, match=r"`run` must have recorded every step. Got 2 of 21"):
        EarlyStopping(9.0, 0).bound(train(start, data.x, data.y, plan, 20, steps=[0]), 0)
    falling, data = small_problem(5)
    late = flow_to_limit(falling, data.x, data.y, get_loss("mse"), 9.0, step=0.05, horizon=12.0)
    count = len(late.times)
    assert late.certificate[-1] < late.certificate.max()
    plan = make_schedule("constant", 0.05, n_steps=count)
    run = train(falling, data.x, data.y, plan, count, steps=range(count + 1))
    with pytest.raises(
        HypothesisError, match=r"`run` must raise the certificate at every step for"
    ):
        EarlyStopping(9.0, count - 20).bound(run, 0)
    with pytest.raises(
        ValueError, match=r"`ensemble` must be one network that starts below the lim"
    ):
        flow_to_limit(start, data.x, data.y, get_loss("mse"), 0.1, step=0.1, horizon=1.0)


# Rescaled ------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    m=st.integers(1, 9),
    d=st.integers(1, 3),
    activation=st.sampled_from(NAMES),
    factor=st.sampled_from([0.01, 0.5, 1.0, 1.5]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_rescaled_runs_never_exceed_their_limit(seed, m, d, activation, factor, dtype):
    g = np.random.default_rng(seed)
    x = torch.from_numpy(g.uniform(-1, 1, (7, d))).to(dtype)
    y = torch.from_numpy(g.normal(size=(7, 1))).to(dtype)
    start = gaussian_ensemble(m, d, seeds=(seed, seed + 1), activation=activation, dtype=dtype)
    kind = "formal" if d == 1 and seed % 2 else "product"
    limit = factor * float(certificates(start, kind).min())
    run = train_rescaled(start, x, y, 10.0 ** g.uniform(-3, 1), 25, limit, certificate=kind)
    for k in range(2):
        found = RescaledDescent(limit).verdict(run, k)
        assert not found.contradicted and found.bound == limit
        assert not found.applies or found.measured <= limit
        if kind == "product" and found.applies:
            assert lowest_product(run.ensemble, k) <= limit


def test_rescaled_verdicts_take_both_values():
    start, data = small_problem()
    wild = train_rescaled(start, data.x, data.y, 1e200, 4, 2.0)
    found = RescaledDescent(2.0).verdict(wild, 0)
    assert not found.applies and found.failed.name == "H1" and not found.contradicted
    assert (
        RescaledDescent(2.0).verdict(train_rescaled(start, data.x, data.y, 0.1, 4, 2.0), 0).applies
    )
    assert wild.diverged[0]


REST = 0.6


@cache
def at_rest(activation, seed=1, steps=800):
    data = synthetic("sine", 6, seed=3)
    start = gaussian_ensemble(2, 1, seeds=(seed,), activation=activation)
    run = train_rescaled(start, data.x, data.y, 0.8, steps, REST)
    _, gradient = risk_and_gradient(run.ensemble, data.x, data.y, get_loss("mse"))
    return run, gradient


def test_rescaled_descent_rests_where_weight_decay_does():
    for activation in ("tanh", "leaky relu"):
        run, gradient = at_rest(activation)
        nu, away = decay_multiplier(run.ensemble, gradient)
        assert nu[0] > 0.1 and away[0] < 1e-4, (activation, nu, away)
    # The points of rest of a homogeneous σ are balanced: |a_j| = ‖w_j‖, so M is the path norm.
    inner, outer = run.ensemble.hidden_weight[0, :, 0].abs(), run.ensemble.output_weight[0, 0].abs()
    assert inner.numpy() == pytest.approx(outer.numpy(), abs=1e-3)
    # With tanh they are not: a negative control of homogeneity.
    tanh = at_rest("tanh")[0].ensemble
    assert (tanh.hidden_weight[0, :, 0].abs() - tanh.output_weight[0, 0].abs()).abs().max() > 0.01


def test_where_a_budget_stops_nothing_is_at_rest():
    # Negative control of the points of rest.
    data = synthetic("sine", 6, seed=3)
    start = gaussian_ensemble(2, 1, seeds=(0,), activation="tanh")
    limit = 1.1 * float(certificates(start)[0])
    plan = make_schedule("constant", 0.1, n_steps=600)
    run = train(start, data.x, data.y, plan, 600, cap=LipschitzBudget(limit))
    _, gradient = risk_and_gradient(run.ensemble, data.x, data.y, get_loss("mse"))
    assert run.mass[-1, 0] < 30 and decay_multiplier(run.ensemble, gradient)[1][0] > 0.1


def test_a_point_of_rest_stays_for_every_rate():
    run, _ = at_rest("tanh")
    data = synthetic("sine", 6, seed=3)
    for rate in (0.01, 0.3):
        one = train_rescaled(run.ensemble, data.x, data.y, rate, 1, REST)
        assert np.abs(flat(one.ensemble) - flat(run.ensemble)).max() < 1e-6


def test_scaling_back_may_raise_the_risk():
    data = synthetic("sine", 6, seed=3)
    start = gaussian_ensemble(2, 1, seeds=range(6), activation="tanh")
    run = train_rescaled(start, data.x, data.y, 0.3, 400, REST)
    assert (np.diff(run.risk, axis=0) > 1e-9).sum() >= 5


def test_on_a_kink_a_point_of_rest_need_not_be_stationary():
    # Negative control of `prop-rescaled` (c): ReLU, a sample on the kink, d = 1, M = L* = 1.
    x = torch.tensor([[-1.0], [0.0], [1.0], [2.0]], dtype=torch.float64)
    y = torch.tensor([[-1.0], [1.0], [0.0], [3.0]], dtype=torch.float64)
    net, higher = network([1.0], [0.0], [1.0]), network([1.0], [1e-4], [1.0])
    risk, gradient = risk_and_gradient(net, x, y, get_loss("mse"))
    nu, away = decay_multiplier(net, gradient)
    assert nu[0] == pytest.approx(0.25) and away[0] == pytest.approx(0.0, abs=1e-15)
    once = train_rescaled(net, x, y, 0.3, 1, 1.0).ensemble
    assert np.abs(flat(once) - flat(net)).max() < 1e-12
    lower, _ = risk_and_gradient(higher, x, y, get_loss("mse"))
    assert (lower - risk).item() / 1e-4 == pytest.approx(-0.25, rel=1e-3)
    assert certificates(higher)[0] == certificates(net)[0]


def test_scaling_leaves_others_alone():
    net = gaussian_ensemble(4, 1, seeds=(0, 1))
    top = certificates(net)
    moved, seen, factor = rescaled_to(net, float(top.min()) * 1.01)
    assert (factor[top > top.min()] < 1).all() and (factor[top == top.min()] == 1).all()
    assert (seen <= top.min() * 1.01).all()
    assert isinstance(moved, Ensemble) and torch.equal(moved.hidden_bias, net.hidden_bias)
