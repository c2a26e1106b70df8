"""What decay costs in width: the width-free bound, its limits, and a constant of order m."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from decay_cases import UP, column, drawn_problem, network, one
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import bracket, brackets
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, gaussian_ensemble
from lipbook.schedules import ConstantRate, Schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.after_path import lipschitz_after, norms
from lipbook.theorems.bounded_pull import BoundedPull
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.order_of_width import (
    OrderOfWidth,
    equal_start,
    far_datum,
    gaussian_limit,
    growth_factors,
)
from lipbook.theorems.width_free import WidthFree, limit_rise, rise_after, stable_rank
from lipbook.training import train

SMOOTH = sorted(n for n, a in ACTIVATIONS.items() if a.slope_lipschitz is not None)
ROOT2 = 2.0**0.5


def points_in_ball(seed, dim, radius, count=40):
    """Points in a ball, its centre and its sphere included."""
    g = np.random.default_rng(seed)
    x = g.normal(size=(count, dim))
    x *= radius * g.uniform(size=(count, 1)) ** 0.3 / np.linalg.norm(x, axis=1, keepdims=True)
    x[: count // 4] *= radius / np.linalg.norm(x[: count // 4], axis=1, keepdims=True)
    x[0] = 0.0
    return torch.from_numpy(x)


def turn(before, after, x):
    """The largest ‖f'(x) − f̃'(x)‖ of each network, (K,)."""
    return (after.jacobian(x) - before.jacobian(x)).norm(dim=3).amax((1, 2)).numpy()


@settings(derandomize=True, max_examples=120, deadline=None)
@given(
    st.integers(0, 5000), st.sampled_from(SMOOTH), st.integers(1, 12), st.floats(-1.5, 1.0),
    st.floats(-3.0, 1.0),
)  # fmt: skip
def test_no_slope_turns_by_more_than_the_path_allows(seed, activation, size, scale, step):
    before, x, _, _ = drawn_problem(seed, activation, "mse", size, scale)
    g = np.random.default_rng(seed + 1)
    moves = {b: torch.from_numpy(g.normal(size=getattr(before, b).shape)) for b in BLOCKS}
    length = float(torch.cat([m.flatten() for m in moves.values()]).norm())
    factor = 10.0**step / length
    after = replace(before, **{b: getattr(before, b) + factor * moves[b] for b in BLOCKS})
    radius = float(x.norm(dim=1).max())
    inside = points_in_ball(seed, before.input_dim, radius)
    allowed = rise_after(before, np.array([10.0**step]), radius)
    assert turn(before, after, inside)[0] <= allowed[0] * UP


def test_width_free_bounds_hold_at_every_step_of_all_runs():
    said, tightest = {"energy": 0, "budget": 0}, 0.0
    for batch in batches():
        setting, run = batch.setting, batch.run
        if setting.activation.slope_lipschitz is None:
            verdict = WidthFree(setting, 1.0).verdict(run, 0, 1.0, 1.0)
            assert not verdict.applies and verdict.bound is None
            continue
        x = points_in_ball(0, setting.input_dim, 2.0)
        for form in said:
            theorem = WidthFree(setting, 2.0, form)
            rises = theorem.bounds(run, np.zeros(run.ensemble.size))
            for index in range(run.ensemble.size):
                verdict = theorem.verdict(run, index, 0.0, 0.0)
                until = batch.last_step(index) if form == "budget" else run.n_steps
                if form == "energy" and not verdict.applies:
                    continue
                for step in range(1, until + 1):
                    if np.isfinite(rises[step, index]):
                        first, later = batch.network(index, 0), batch.network(index, step)
                        turned = turn(first, later, x)[0]
                        assert turned <= rises[step, index] * UP
                        tightest = max(tightest, turned / rises[step, index])
                        said[form] += 1
    assert min(said.values()) >= 400 and tightest > 0.3, (said, tightest)


def test_the_verdict_on_exact_constants_takes_both_values():
    run, setting = one("exponential", 0.05)
    constants = brackets(run.checkpoints[0], domain=(-1.0, 1.0))
    seen = max(brackets(c, domain=(-1.0, 1.0)).lower[0] for c in run.checkpoints[::10])
    for form in ("energy", "budget"):
        verdict = WidthFree(setting, 1.0, form).verdict(run, 0, constants.upper[0], seen)
        assert [h.name for h in verdict.hypotheses][:3] == ["H1", "H2", "H3"]
        assert not verdict.contradicted
        assert verdict.applies == (form == "energy")
    wild, setting = one("constant", 0.9)
    assert not WidthFree(setting, 1.0).verdict(wild, 0, 1.0, 1.0).applies
    short, setting = one("constant", 1e-3, n_steps=5)
    assert WidthFree(setting, 1.0, "budget").verdict(short, 0, 9.0, 1.0).applies
    with pytest.raises(ValueError, match=r"`form` must be 'energy' or 'budget'\. Got 'other'"):
        WidthFree(setting, 1.0, "other")
    with pytest.raises(HypothesisError, match=r"`path` must be finite for thm-width-free \(H3\)"):
        WidthFree(setting, 1.0).bound(short.ensemble, np.array([1.0]), np.array([np.inf]))
    relu = gaussian_ensemble(4, 1)
    with pytest.raises(HypothesisError, match=r"`activation` must have a Lipschitz slope for thm"):
        WidthFree(setting, 1.0).bound(relu, np.array([1.0]), np.array([1.0]))


def test_a_kink_breaks_the_width_free_bound():
    # relu(x) − relu(x − ε): constant 1, and at ε = 0 it is 0; no path is short enough.
    before = network([[1.0], [1.0]], [0.0, 0.0], [1.0, -1.0])
    after = network([[1.0], [1.0]], [0.0, -1e-6], [1.0, -1.0])
    pretend = replace(before, activation=replace(ACTIVATIONS["relu"], slope_lipschitz=1.0))
    constant = bracket(after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0],
                       domain=(-1.0, 1.0)).lower  # fmt: skip
    assert constant > 0.99
    assert rise_after(pretend, np.array([1e-6]), 1.0)[0] < 1e-4


def test_the_rise_has_the_promised_limit_in_the_width():
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    y, theta = torch.sin(3 * x), 0.7
    for scale, deviation in (("standard", 1.0), ("zero-bias", 0.0), ("mean-field", 1.0)):
        for activation in ("tanh", "softplus"):
            wide = gaussian_ensemble(200_000, 1, activation=activation, scale=scale)
            setting = Setting.of(wide, x, y, get_loss("mse"))
            risk = float(setting.loss.risk(wide(x) - y)[0])
            u, mass = norms(wide)[0], theta / setting.growth(norms(wide)[0][0]) ** 2
            budget = MseBudget(setting).path(u, np.array([np.sqrt(2 * risk)]), np.array([mass]))
            energy = np.sqrt(2.0 * risk * np.array([mass]))
            for form, path in (("energy", energy), ("budget", budget)):
                limit = limit_rise(setting, deviation, np.sqrt(2 * risk), theta, form)
                assert rise_after(wide, path, 1.0)[0] == pytest.approx(limit, rel=0.03)
            assert stable_rank(wide)[0] == pytest.approx(1.0)


def test_the_rise_in_terms_of_the_stable_rank():
    wide = gaussian_ensemble(60, 4, seeds=(3,), activation="tanh")
    u, x, y = (float(v[0]) for v in norms(wide))
    root = float(stable_rank(wide)[0]) ** 0.5
    assert x / u <= 1.0 / root and 1.0 <= root <= 2.0
    setting = Setting.of(wide, torch.ones(1, 4, dtype=torch.float64), column(0.0), get_loss("mse"))
    for rate in (0.01, 1.0):
        e = rate / setting.growth(u)
        allowed = rise_after(wide, np.array([e]), setting.input_radius)[0]
        k, steep = setting.kappa, wide.activation.slope_lipschitz
        largest = float(wide.output_weight.abs().max())
        spread = (1.0 / k) * (1.0 / root + y / u) + steep * largest / root
        assert allowed <= rate * spread + 0.5 * rate**2 / (k * u) ** 2


# The order of the width ----------------------------------------------------------------------


def far_run(ensemble, mass, n_steps, delta=1.0, target=1e9):
    x, y = far_datum(target)
    rates = Schedule("constant", mass / n_steps, ConstantRate())
    return train(ensemble, x, y, rates, n_steps, loss="huber", huber_delta=delta, steps=[])


@pytest.mark.parametrize(("width", "mass", "n_steps"), [(1, 1.0, 7), (8, 0.5, 1), (300, 2.0, 50)])
def test_equal_neurons_obey_the_law_exactly(width, mass, n_steps):
    run = far_run(equal_start(width), mass, n_steps)
    theorem = OrderOfWidth(1.0)
    constant = bracket(
        run.ensemble.hidden_weight[0], run.ensemble.hidden_bias[0], run.ensemble.output_weight[0],
        domain=(0.0, 2.0),
    ).lower  # fmt: skip
    verdict = theorem.verdict(run, 0, constant)
    assert verdict.applies and constant == pytest.approx(verdict.bound, rel=1e-9)
    # The a-priori bound of the theorem on bounded pull is between √2 and 2√2 times as large.
    start = equal_start(width)
    setting = Setting.of(start, *far_datum(1.0), run.loss)
    ratio = BoundedPull(setting).bound(start, np.array([mass]))[0] / constant
    assert ratio >= ROOT2 * (1 - 1e-9)
    small = BoundedPull(setting).bound(start, np.array([1e-6]))[0] / theorem.bound(
        width, np.array([1e-6])
    )
    assert small == pytest.approx(ROOT2, rel=1e-3)


def test_the_law_needs_a_far_datum_its_start_and_small_steps():
    near = far_run(equal_start(20), 1.0, 50, target=3.0)
    verdict = OrderOfWidth(1.0).verdict(near, 0, float(near.product_bound[-1, 0]))
    assert verdict.failed.name == "H4" and verdict.measured < 0.5 * verdict.bound
    other = far_run(gaussian_ensemble(20, 1), 1.0, 50)
    assert OrderOfWidth(1.0).verdict(other, 0, 1.0).failed.name == "H2"
    assert OrderOfWidth(2.0).verdict(other, 0, 1.0).failed.name == "H2"
    large = far_run(equal_start(3), 2.0, 2)
    verdict = OrderOfWidth(1.0).verdict(large, 0, 1.0)
    assert verdict.failed.name == "H3" and verdict.bound is None
    with pytest.raises(HypothesisError, match=r"`rates` must be at most .*prop-order-m \(H3\)"):
        OrderOfWidth(1.0).bound(3, np.array([1.0]))
    tanh, _ = one()
    assert not OrderOfWidth(1.0).verdict(tanh, 0, 1.0).applies
    assert growth_factors(1.0, np.array([])) == (1.0, 0.0)


@pytest.mark.parametrize(("mass", "n_steps"), [(1.0, 40), (0.5, 1)])
def test_a_gaussian_start_approaches_its_limit(mass, n_steps):
    width = 40_000
    start = gaussian_ensemble(width, 1, seeds=(0, 1, 2))
    x, _ = far_datum(0.0)
    target = 1e9 if n_steps > 1 else float(start(x).max()) + 1.0
    run = far_run(start, mass, n_steps, target=target)
    slope = run.ensemble.jacobian(x)[:, 0, 0, 0].numpy() / width
    assert slope == pytest.approx(gaussian_limit(1.0, run.learning_rates[:, 0]), rel=0.05)


@pytest.mark.parametrize("scale", ["standard", "mean-field"])
def test_the_law_holds_for_masses_that_shrink_with_the_width(scale):
    x, _ = far_datum(0.0)
    worst, alone = 0.0, 0.0
    for width in (16, 256, 4096, 16384):
        start = gaussian_ensemble(width, 1, seeds=range(8), scale=scale)
        for power in (0.0, -0.25, -0.5, -1.0):
            rates = np.full(20, width**power / 20)
            law = width * gaussian_limit(1.0, rates)
            plus, minus = growth_factors(1.0, rates)
            assert plus >= 1.0 and ROOT2 * rates.sum() <= minus * UP
            assert minus <= np.sinh(ROOT2 * rates.sum()) * UP
            run = far_run(start, rates.sum(), 20)
            error = np.abs(run.ensemble.jacobian(x)[:, 0, 0, 0].numpy() - law).max()
            worst = max(worst, error / (1.0 + width**0.5 * minus))
            alone = max(alone, error / (width**0.5 * minus))
    assert worst < 6.0
    # Negative control: at a mass of 1/m the start's own slope is no O(√m·K⁻).
    assert alone > 20.0 or scale == "mean-field"


@pytest.mark.parametrize("activation", ["tanh", "softplus", "sigmoid", "gelu"])
def test_smoothness_does_not_change_the_order_of_the_width(activation):
    x, _ = far_datum(0.0)
    one = torch.ones(1, dtype=torch.float64)
    for width in (10, 1000):
        run = far_run(equal_start(width, activation=activation), 0.5, 1)
        kind = run.ensemble.activation
        law = width * 0.5 * float(kind.value(one.clone())) * float(kind.slope(one.clone()))
        assert float(run.ensemble.jacobian(x)[0, 0, 0, 0]) == pytest.approx(law, rel=1e-9)


def test_only_the_budget_costs_less_at_the_mean_field_start():
    # C, θ = 1, is O(1) there; A, B and D with the mass of their row keep the order √m.
    x = torch.linspace(-1, 1, 8, dtype=torch.float64)[:, None]
    bounds = []
    for width in (10_000, 1_000_000):
        start = gaussian_ensemble(width, 1, activation="tanh", scale="mean-field")
        setting = Setting.of(start, x, torch.sin(3 * x), get_loss("huber", 1.0))
        u = norms(start)[0]
        pull = np.array([setting.pull(float(setting.loss.risk(start(x) - torch.sin(3 * x))[0]))])
        path = MseBudget(setting).path(u, pull, setting.growth(u) ** -2.0)
        root = np.array([width**-0.5])
        bounds.append([
            lipschitz_after(start, path)[0], lipschitz_after(start, np.ones(1))[0],
            BoundedPull(setting).bound(start, root)[0],
        ])  # fmt: skip
    growth = np.array(bounds[1]) / np.array(bounds[0])
    assert growth == pytest.approx([1.0, 10.0, 10.0], rel=0.15)
