"""Runs with a constant rate, their summaries and their figures."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from lipbook.experiments.constant_rates import (
    draw_start,
    sharpness_along,
    spread_samples,
    train_edge,
    train_wide,
)
from lipbook.experiments.constant_summaries import (
    edge_summary,
    medians,
    promise_summary,
    settled_summary,
    trust_summary,
    wide_summary,
)
from lipbook.kernels import Curvature, exact_sharpness
from lipbook.losses import get_loss
from lipbook.plotting.constant_rates import draw_edge, draw_paths, draw_quotient, draw_steep
from lipbook.theorems.stability import StableData

MSE = get_loss("mse")


def test_samples_lie_apart_and_inside():
    x, y = spread_samples("kink", 4)
    assert torch.allclose(y, x.abs()) and float(x.abs().max()) < 1
    assert float((x[:-1] - x[1:]).min()) > 0.5


@pytest.mark.parametrize("schedule", ["constant", "exponential"])
def test_wide_runs_know_their_bounds(schedule):
    x, y = spread_samples("zigzag", 3)
    wide = train_wide(draw_start(600, (0, 1), "tanh"), x, y, MSE, 0.2, 60, schedule)
    found = wide_summary(wide)
    assert found["path walked"] <= found["path, µ measured"] < math.inf
    assert found["largest Lip"] <= found["Lip, µ measured"]
    assert 0 < wide.mu.min() <= found["µ at the start"]
    said = promise_summary(wide, 0)
    assert (said["path, energy"] == math.inf) == (schedule == "constant")
    if schedule != "constant":
        assert found["path, from the start"] == math.inf


def test_the_energy_promises_nothing_without_sufficient_decrease():
    x, y = spread_samples("zigzag", 3)
    start = draw_start(600, (0, 1), "tanh")
    slow, fast = (train_wide(start, x, y, MSE, s, 60, "exponential") for s in (0.2, 0.8))
    assert promise_summary(slow, 0)["path, energy"] < math.inf
    said = promise_summary(fast, 0)
    assert said["path, energy"] == math.inf == said["Lip, energy"]
    assert said["path, µ measured"] < math.inf


def test_wide_runs_that_diverge_promise_nothing():
    x, y = spread_samples("sine", 3)
    wide = train_wide(draw_start(30, (0,), "relu"), x, y, MSE, 40.0, 200)
    assert wide.run.diverged[0]
    paths = wide.paths(0)
    assert paths["measured"] == math.inf == paths["start"] == wide.lipschitz(0, math.inf)


def test_edge_runs_start_where_they_are_told_to():
    x, y = spread_samples("zigzag", 4)
    starts = draw_start(6, (0, 1), "tanh")
    edge = train_edge(starts, x, y, MSE, (0.5, 0.9, 40.0), 400)
    assert np.allclose(edge.relative[0], np.repeat([0.5, 0.9, 40.0], 2), rtol=1e-9)
    for row in (0, 7):
        exact = exact_sharpness(Curvature.of(edge.run.checkpoints[row], x, y, MSE))
        assert np.allclose(edge.sharpness[row, :4], exact[:4], rtol=1e-6)
    assert np.isnan(edge.sharpness[-1, edge.columns(2)]).all()
    assert edge_summary(edge, 2)["diverged"] == 2
    assert np.array_equal(sharpness_along(edge.run, x, y), edge.sharpness, equal_nan=True)
    verdicts = [StableData().verdict(edge.end(i)) for i in range(6)]
    settled = settled_summary(edge, 1, verdicts, edge.last_constants())
    assert settled["settled"] >= 1 and settled["αλ/2 at the end"] <= 1
    assert settled["slope at the data"] <= settled["its bound"]
    assert settled["slope at the data"] <= settled["Lipschitz constant"] * (1 + 1e-9)
    none = settled_summary(edge, 2, verdicts, edge.last_constants())
    assert none["settled"] == 0 and math.isnan(none["its bound"])
    assert trust_summary(edge, 0)["path walked"] <= trust_summary(edge, 0)["bound on trust"]


def test_medians_leave_out_what_is_unknown():
    found = medians({"a": [1.0, math.nan, 3.0, math.inf], "b": [math.nan]})
    assert found["a"] == 3.0 and math.isnan(found["b"])


def test_alt_texts_say_what_is_drawn():
    _, axes = plt.subplots(2, 2)
    steps, ones = np.arange(3), np.array([1.0, 2.0, 4.0])
    assert "between 1 and 4, the quotient" in draw_quotient(axes[0, 0], steps, ones, 2 * ones)
    both = draw_paths(axes[0, 1], steps, ones, {"measured": 7.0, "start": math.inf})
    assert both == "the path grows to 4; bound, µ measured 7"
    neither = {"measured": math.inf, "start": math.inf}
    assert draw_paths(axes[0, 1], steps, ones, neither).endswith("no bound applies")
    shown = draw_edge([axes[0, 0]], [axes[1, 0]], steps, [ones[:, None]], [ones[:, None]], [0.5])
    assert "at 0.5 of the edge from 1 to 4, largest 4" in shown
    curve = draw_steep(axes[1, 1], ones, {"w = 4": ones}, ones[:2], ones[:2])
    assert curve.startswith("1 S-shaped curves through the same 2 data points")
    plt.close("all")
