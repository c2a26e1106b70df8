"""A promise for all later steps: it holds on all runs, is attained, and can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from promise_cases import (
    UP,
    constant,
    network,
)
from random_runs import N_STEPS, batches

from lipbook.lipschitz import brackets, sampled_lower_bound, sdp_bracket
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.after_path import path_growth
from lipbook.theorems.descent import EventualDecay, finite_steps, sufficient_decrease
from lipbook.theorems.moduli import CERTIFICATES, certificates
from lipbook.theorems.promise import Promise, SmoothPromise
from lipbook.theorems.refusal import HypothesisError
from lipbook.training import train

# The promise ---------------------------------------------------------------------------------


def decreasing_until(run, k, start):
    """The last step up to which the promise from `start` is in force."""
    stop = int(run.diverged_at[k])
    last = run.n_steps if stop < 0 else stop - 1
    found = sufficient_decrease(run, k, start)
    return last if found.holds else min(last, found.step)


def test_the_promise_holds_at_every_step_of_all_runs():
    kinds, tightest = {"applies": 0, "not": 0}, math.inf
    for b in batches():
        run = b.run
        kind = "formal" if b.setting.input_dim == 1 else "product"
        seen = np.stack([certificates(c, kind) for c in run.checkpoints])
        for start in (0, N_STEPS // 3):
            bounds = Promise(start, kind).bounds(run)
            for k in range(run.ensemble.size):
                last = decreasing_until(run, k, start)
                part = slice(start, last + 1)
                assert (seen[part, k] <= bounds[part, k] * UP).all(), (kind, start, k)
                if last > start:
                    tightest = min(tightest, float(bounds[last, k] / seen[last, k]))
                stop = run.n_steps if run.diverged_at[k] < 0 else int(run.diverged_at[k])
                found = Promise(start, kind).verdict(
                    run, k, seen[start : max(stop, start) + 1, k].max()
                )
                assert not found.contradicted
                kinds["applies" if found.applies else "not"] += 1
                assert found.applies <= (finite_steps(run, k).holds)
    assert min(kinds.values()) >= 50, kinds
    assert 1.0 <= tightest <= 1.05


def test_the_promise_with_the_semidefinite_certificate_holds_on_a_sample():
    for b in batches()[::5]:
        run, start = b.run, N_STEPS // 3
        bounds = Promise(start, "sdp").bounds(run)[-1]
        for k in range(0, run.ensemble.size, 3):
            if decreasing_until(run, k, start) == run.n_steps:
                last = run.checkpoints[-1].select([k])
                lower = sdp_bracket(last.hidden_weight[0], last.output_weight[0], last.activation)
                assert lower.lower <= bounds[k] * UP


def test_smooth_promises_hold_on_the_runs_of_one_input():
    applied = 0
    for b in batches():
        run, start = b.run, N_STEPS // 3
        if b.setting.input_dim != 1:
            continue
        if b.setting.activation.slope_lipschitz is None:
            found = SmoothPromise(start, 1.5).verdict(run, 0, (1.0, 1.0), 1.5)
            assert not found.applies and found.bound is None
            continue
        for k in range(run.ensemble.size):
            last = decreasing_until(run, k, start)
            if last <= start:
                continue
            ends = [constant(b.network(k, s), (-1.5, 1.5), 1e-3) for s in (start, last)]
            known = np.full(run.ensemble.size, ends[0].upper)
            bound = SmoothPromise(start, 1.5).bounds(run, known)[last, k]
            assert ends[1].lower <= bound * UP
            applied += 1
            if decreasing_until(run, k, start) == run.n_steps:
                pair = ends[0].upper, ends[1].lower
                found = SmoothPromise(start, 1.5).verdict(run, k, pair, 1.5)
                assert not found.contradicted
    assert applied >= 8


def test_without_sufficient_decrease_the_promise_can_fail():
    # Negative control: among oscillating and divergent runs N leaves the carried bound.
    broken, start = 0, 0
    for b in batches():
        kind = "formal" if b.setting.input_dim == 1 else "product"
        bounds = Promise(start, kind).bounds(b.run)
        seen = np.stack([certificates(c, kind) for c in b.run.checkpoints])
        for k in range(b.run.ensemble.size):
            stop = b.run.n_steps + 1 if b.run.diverged_at[k] < 0 else int(b.run.diverged_at[k])
            if (seen[:stop, k] > bounds[:stop, k] * UP).any():
                assert not sufficient_decrease(b.run, k, start).holds
                broken += 1
    assert broken >= 10, broken


def test_the_promise_is_attained():
    # The example of `ex-lipschitz-attained`: one step of rate 12.5 along the balanced direction.
    x = torch.tensor([[-0.2], [-0.6]], dtype=torch.float64)
    y = torch.tensor([[1.2], [0.0]], dtype=torch.float64)
    run = train(network([1.0], [1.0], [1.0]), x, y, make_schedule("cosine", 12.5, n_steps=1), 1)
    for kind in CERTIFICATES:
        found = Promise(0, kind).verdict(run, 0, constant(run.ensemble).lower)
        assert found.applies and not found.contradicted
        assert found.measured == pytest.approx(4.0) == pytest.approx(found.bound, rel=1e-3)


def test_the_product_form_is_the_theorem_on_eventual_decay_and_the_formal_one_is_smaller():
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    start = gaussian_ensemble(20, 1, seeds=range(4), activation="tanh")
    plan = make_schedule("eventual", 0.1, n_steps=60, start=20, timescale=5.0)
    run = train(start, x, torch.sin(3 * x), plan, 60, steps=[20])
    product, formal = (Promise(20, kind).bound(run) for kind in ("product", "formal"))
    assert product == pytest.approx(EventualDecay(20).bound(run), rel=1e-12)
    state = run.checkpoints[1]
    head_start = certificates(state, "product") - certificates(state, "formal")
    assert product - formal == pytest.approx(head_start) and (head_start > 0).all()
    known = brackets(state, domain=(-1.0, 1.0)).upper
    assert (SmoothPromise(20, 1.0).bound(run, known) > known).all()


@pytest.mark.parametrize("rate", [0.1, 1e-3, 1e-6])
def test_one_step_of_descent_takes_the_exact_constant_of_a_relu_pair_from_0_to_1(rate):
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    pair = network([1.0, 1.0], [0.0, 0.0], [1.0, -1.0])
    run = train(pair, x, y, make_schedule("cosine", rate, n_steps=1), 1)
    assert sufficient_decrease(run, 0, 0).holds
    assert constant(pair).upper == pytest.approx(0.0, abs=1e-12)
    assert constant(run.ensemble).lower == pytest.approx((1 + rate) ** 2)
    found = Promise(0, "formal").verdict(run, 0, constant(run.ensemble).lower)
    assert found.applies and not found.contradicted
    path = EventualDecay(0).path_bound(run)[0]
    carried = 0.0 + path_growth(pair.activation, *map(np.array, (2**0.5, 2**0.5)), path)
    if rate <= 1e-3:  # so the exact constant, carried in the same way, is contradicted
        assert constant(run.ensemble).lower > carried


def test_one_step_of_descent_does_so_for_tanh_on_the_plane():
    rate = 1e-4
    x = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    pair = network([[1.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, -1.0], "tanh")
    run = train(pair, x, torch.ones(1, 1, dtype=torch.float64),
                make_schedule("cosine", rate, n_steps=1), 1)  # fmt: skip
    assert sufficient_decrease(run, 0, 0).holds
    after = run.ensemble
    far = np.array([[10.0, -10.0 / rate - 1.0]])  # x₁ + α(x₂ + 1) = 0, x₁ − α(x₂ + 1) = 20
    layers = after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0]
    assert sampled_lower_bound(*layers, far, "tanh") == pytest.approx(math.hypot(1.0, rate))


def test_promises_refuse_and_do_not_apply():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    two = gaussian_ensemble(3, 1, 2)
    run = train(two, x, torch.cat((x, x), 1), make_schedule("cosine", 0.1, n_steps=5), 5)
    with pytest.raises(
        HypothesisError, match=r"`run` must be of networks with one output for thm-p"
    ):
        Promise(0, "formal").bound(run)
    found = Promise(0, "formal").verdict(run, 0, 1.0)
    assert found.failed.name == "H4" and found.bound is None
    assert Promise(0, "product").verdict(run, 0, 0.0).applies
    with pytest.raises(ValueError, match=r"`start` must be a recorded step of the run. Got 77"):
        Promise(77).bounds(train(gaussian_ensemble(3, 1), x, x, run.schedules[0], 5))
    relu = train(gaussian_ensemble(3, 1), x, x, run.schedules[0], 5)
    with pytest.raises(
        HypothesisError, match=r"`activation` must have a Lipschitz slope for thm-pr"
    ):
        SmoothPromise(0, 1.0).bound(relu, np.ones(1))
    endless = train(gaussian_ensemble(3, 1), x, x, make_schedule("constant", 0.1, n_steps=5), 5)
    assert Promise(0).verdict(endless, 0, 1.0).failed.name == "H2"
    assert SmoothPromise(0, 1.0).verdict(endless, 0, (1.0, 1.0), 1.0).failed.name == "H2"


def test_a_promise_says_what_was_measured_and_on_which_domain():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    start = gaussian_ensemble(3, 1, activation="tanh")
    run = train(start, x, x, make_schedule("cosine", 0.1, n_steps=5), 5)
    seen = float(np.stack([certificates(c, "formal") for c in run.checkpoints]).max())
    found = Promise(0, "formal").verdict(run, 0, seen, "formal constant")
    assert found.quantity == "largest formal constant at the recorded steps from 0 on"
    assert Promise(0).verdict(run, 0, 0.1).quantity.startswith("largest Lipschitz constant at the")
    assert SmoothPromise(0, 1.0).verdict(run, 0, (9.0, 1.0), 1.0).applies
    wide = SmoothPromise(0, 1.0).verdict(run, 0, (9.0, 1.0), 2.0)
    assert wide.failed.name == "H5" and "ball of radius 1" in wide.failed.statement
