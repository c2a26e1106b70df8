"""The runs and figures of the chapter on promises: numbers, alt texts, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib import pyplot as plt

from lipbook.data import synthetic
from lipbook.experiments.budgets import (
    METHODS,
    constants_on_domain,
    limited_of,
    stopping_study,
    train_limited,
)
from lipbook.losses import get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.plotting.promises import draw_budget, draw_methods, draw_promises, draw_stopping
from lipbook.theorems.moduli import certificates

DATA = synthetic("sine", 12, noise=0.1)
LOSS = get_loss("mse")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_obeys_its_limit(method):
    start = gaussian_ensemble(6, 1, seeds=(0, 1), activation="tanh")
    limit = 1.1 * float(certificates(start).max())
    found = train_limited(method, start, DATA, LOSS, 0.2, 60, limit)
    assert (found.steepest <= limit * (1 + 1e-10)).all() and (found.mass > 0).all()
    assert (found.constant <= found.certificate * (1 + 1e-3)).all()
    assert np.isfinite(found.risk).all() and ((found.rises >= 0) & (found.rises <= 1)).all()


def test_another_method_is_refused():
    start = gaussian_ensemble(2, 1)
    with pytest.raises(
        ValueError, match=r"`method` must be one of throttle, product; rescale, prod"
    ):
        train_limited("clip, product", start, DATA, LOSS, 0.1, 2, 9.0)


def test_a_study_compares_runs_with_the_stopped_flow():
    start = gaussian_ensemble(4, 1, seeds=(0,), activation="tanh")
    study = stopping_study(start, DATA, LOSS, (0.1, 0.05), 0.5, 0.5)
    assert study.flow.met and study.distance[1] < study.distance[0]
    last = limited_of(study.runs[0], "product")
    assert last.certificate[0] <= study.limit * (1 + 1e-10)
    # A rate so large that the run diverges (the output bias is free) leaves no distance.
    wild = stopping_study(start, DATA, LOSS, (2.5,), 0.5, 0.5)
    assert wild.runs[0].diverged.any() == math.isnan(wild.distance[0])


def test_constants_of_broken_networks_are_not_a_number():
    net = gaussian_ensemble(2, 1, seeds=(0, 1))
    net.hidden_weight[0, 0, 0] = math.inf
    found = constants_on_domain(net)
    assert math.isnan(found[0]) and found[1] > 0


def test_figures_say_what_they_show():
    steps = np.array([5, 6, 8])
    fig, ax = plt.subplots()
    missing = np.full(3, np.nan)
    alt = draw_promises(ax, steps, np.ones(3), 2 * np.ones(3), {"formal": 3 * np.ones(3),
                        "exact": missing})  # fmt: skip
    assert "exact constant from 1 to 1" in alt and "formal carried up to 3" in alt
    assert "exact carried" not in alt
    plt.close(fig)
    fig, ax = plt.subplots()
    curves = {"free": np.full((3, 2), np.inf), "budget": np.ones((3, 2))}
    alt = draw_budget(ax, steps, curves, 1.5)
    assert "no budget, nothing finite at the end" in alt and "limit 1.5" in alt
    plt.close(fig)
    fig, ax = plt.subplots()
    alt = draw_stopping(ax, np.array([0.2, 0.1]), np.array([0.4, 0.2]), np.array([0.1, np.nan]))
    assert "from 0.4 to 0.2" in alt and "to nothing finite" in alt
    plt.close(fig)
    fig, ax = plt.subplots()
    alt = draw_methods(ax, {"throttle, product": np.ones(2), "rescale, product": missing})
    assert "throttle, product 1, rescale, product nothing finite" in alt
    plt.close(fig)
