"""The runs, exponents and figures of the chapter on convergence."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from scipy import stats

from lipbook.data import synthetic
from lipbook.experiments.convergence import (
    Problem,
    gains,
    interval,
    log_slopes,
    relative_falls,
    sampled_steps,
    side_by_side,
    smallest_so_far,
    some_of,
)
from lipbook.losses import get_loss
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.plotting.convergence import (
    draw_falls,
    draw_freeze,
    draw_mass,
    draw_smallest,
    median,
)
from lipbook.schedules import make_schedule


def problem(activation="tanh", loss="mse"):
    data = synthetic("sine", 5, input_dim=2, seed=1)
    start = gaussian_ensemble(4, 2, seeds=(1, 2), activation=activation, scale="zero-bias")
    return Problem(start, data.x, data.y, get_loss(loss, 0.5))


def test_schedules_share_their_starts_and_kinks_have_no_self_consistent_rate():
    decaying = make_schedule("eventual", 0.02, n_steps=30, start=10, timescale=3.0)
    smooth, kinked = (side_by_side(problem(name), decaying, 30) for name in ("tanh", "relu"))
    assert list(smooth) == ["constant", "decaying", "self-consistent", "measured"]
    assert list(kinked) == ["constant", "decaying"]
    firsts = np.stack([run.risk[0] for run in smooth.values()])
    assert (firsts == firsts[0]).all() and firsts[0] == pytest.approx(problem().first_risks)
    assert np.array_equal(smooth["constant"].risk[:11], smooth["decaying"].risk[:11])
    assert (gains(smooth, 10) == 1.0).all() and (gains(smooth, 30) >= 1.0).all()
    assert (smooth["measured"].mass[-1] > smooth["self-consistent"].mass[-1]).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_trained_abreast_the_runs_are_those_that_are_trained_alone(activation):
    one, rates = problem(activation), (0.05, 1.3, 60.0)
    schedules = {rate: make_schedule("eventual", rate, n_steps=40, start=15) for rate in rates}
    each = [make_schedule("power", rate, n_steps=40) for rate in (0.3, 0.7)]
    found = one.abreast(schedules | {"own": each}, 40, steps=[15])
    assert list(found) == [*rates, "own"]
    for name, schedule in (schedules | {"own": each}).items():
        alone, abreast = one.run(schedule, 40, steps=[15]), found[name]
        for field in fields(alone):
            same(getattr(abreast, field.name), getattr(alone, field.name))
    # The largest rate diverges, and leaves its neighbours alone.
    assert found[60.0].diverged.all() and not found[0.05].diverged.any()
    swapped = some_of(found[1.3], [1, 0])
    assert np.array_equal(swapped.risk, found[1.3].risk[:, ::-1], equal_nan=True)
    assert not np.array_equal(swapped.risk, found[1.3].risk, equal_nan=True)


def same(left, right):
    """Compare two values of a field of a run."""
    if isinstance(left, dict):
        assert list(left) == list(right)
        for name, value in left.items():
            same(value, right[name])
    elif isinstance(left, Ensemble):
        for ours, theirs in zip(left.blocks(), right.blocks(), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-9, equal_nan=True)
    elif isinstance(left, tuple) and isinstance(left[0], Ensemble):
        for ours, theirs in zip(left, right, strict=True):
            same(ours, theirs)
    elif isinstance(left, np.ndarray):
        assert left.shape == right.shape and np.allclose(left, right, rtol=1e-9, equal_nan=True)
    else:
        assert left == right


def test_the_smallest_so_far_falls_and_relative_falls_leave_out_rises():
    run = problem().run(make_schedule("constant", 1.3, n_steps=25), 25)
    smallest = smallest_so_far(run)
    assert (np.diff(smallest, axis=0) <= 0).all()
    assert smallest[-1] == pytest.approx((run.gradient_norm[:-1] ** 2).min(axis=0))
    falls = relative_falls(run)
    assert (run.risk[1:] > run.risk[:-1]).any()
    assert np.isnan(falls[run.risk[1:] >= run.risk[:-1]]).all()
    down = run.risk[1:] < run.risk[:-1]
    assert np.exp(-falls[down]) == pytest.approx((run.risk[1:] / run.risk[:-1])[down])


def test_log_slopes_recover_exponents_and_leave_out_what_has_no_logarithm():
    x = np.arange(1.0, 50.0)
    values = np.stack([3.0 * x**-0.5, x**2, np.where(x < 48, np.nan, 1.0)], axis=1)
    values[5, 0] = 0.0
    assert log_slopes(x, values)[:2] == pytest.approx([-0.5, 2.0])
    assert math.isnan(log_slopes(x, values)[2])
    steps = sampled_steps(1000)
    assert steps[0] == 100 and steps[-1] == 999 and (np.diff(steps) > 0).all()


def test_the_interval_is_students_and_covers_at_its_level():
    values = np.array([1.0, 2.0, 4.0, np.nan])
    found = interval(values)
    low, high = stats.t.interval(0.95, 2, values[:3].mean(), stats.sem(values[:3]))
    assert (found.low, found.high, found.count) == pytest.approx((low, high, 3))
    assert interval(values[:1]).high == math.inf and interval(values[3:]).count == 0
    g = np.random.default_rng(0)
    inside = [
        abs(i.mean) <= i.high - i.mean for i in (interval(g.normal(size=5)) for _ in range(2000))
    ]
    assert 0.93 < np.mean(inside) < 0.97


def test_medians_leave_out_what_is_not_finite():
    values = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [2.0, np.inf, 4.0]])
    assert median(values)[[0, 2]] == pytest.approx([2.0, 3.0]) and np.isnan(median(values)[1])


def test_alt_texts_tell_the_numbers():
    steps = np.arange(1, 6)
    one = np.linspace(1.0, 0.25, 5)[:, None]
    _, ax = plt.subplots()
    sides = {"constant": one, "decaying": 2 * one}
    promises = {"constant": 8 * one, "decaying": np.full_like(one, np.nan)}
    words = draw_smallest(ax, steps, sides, promises, 3)
    assert "constant rate down to 0.25, promised 2" in words
    assert "decaying rate down to 0.5, promised no value" in words
    assert "measured 0.25; bounds 7 and 9" in draw_mass(
        ax, steps, {"measured": one}, np.full(5, 7.0), np.full(5, 9.0)
    )
    assert "gradient norm 0.25 at the end" in draw_freeze(ax, steps, one, 0.5 * one)
    assert "ones 0.125 (medians)" in draw_freeze(ax, steps, one, 0.5 * one, 2)
    assert "no value" in draw_freeze(ax, steps, one * np.nan, one * np.nan)
    assert "γ = 1: 0.25" in draw_falls(ax, steps, {"γ = 1": one}, {"γ = 1": one[:, 0]})
    plt.close("all")
