"""The decay condition as code: bounds hold on all runs, attained cases are met, controls bite."""

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
from lipbook.caps.normalised import NormalisedRate
from lipbook.gradients import risk_and_gradient
from lipbook.losses import Huber, get_loss
from lipbook.networks import BLOCKS, gaussian_ensemble
from lipbook.schedules import ConstantRate, ExponentialRate, PowerRate, make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.adaptive import Adaptive
from lipbook.theorems.after_path import lipschitz_after, norms
from lipbook.theorems.bounded_activation import BoundedActivation
from lipbook.theorems.bounded_pull import BoundedPull
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.dichotomy import kink_problem
from lipbook.theorems.energy import Energy
from lipbook.theorems.growth import GradientGrowth
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
DRAWN = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(NAMES),
    "loss": st.sampled_from(["mse", "huber"]),
    "size": st.integers(1, 20),
    "scale": st.floats(-2.0, 1.0),
}


# The lemma -----------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=100, deadline=None)
@given(**DRAWN)
def test_gradient_and_output_grow_no_faster_than_the_weights(**drawn):
    ensemble, x, y, loss = drawn_problem(**drawn)
    setting = Setting.of(ensemble, x, y, loss)
    lemma, u = GradientGrowth(setting), float(ensemble.parameter_norm())
    risk, gradient = risk_and_gradient(ensemble, x, y, loss)
    size = float(torch.cat([g.flatten() for g in gradient.values()]).norm())
    assert size <= setting.pull(float(risk)) * lemma.gradient_bound(u) * UP
    assert float(ensemble(x).abs().max()) <= lemma.change_bound(0.0, u) * UP
    g = np.random.default_rng(drawn["seed"])
    moves = {b: torch.from_numpy(g.normal(size=getattr(ensemble, b).shape)) for b in BLOCKS}
    moved = replace(ensemble, **{b: getattr(ensemble, b) + moves[b] for b in BLOCKS})
    path = float(torch.cat([m.flatten() for m in moves.values()]).norm())
    change = float((moved(x) - ensemble(x)).abs().max())
    assert change <= lemma.change_bound(u, path) * UP
    product = float(moved.hidden_norm() * moved.output_norm()) * setting.activation.lipschitz
    assert product <= lipschitz_after(ensemble, np.array([path]))[0] * UP


def test_the_growth_lemma_is_attained_for_large_weights_and_needs_the_radius():
    # v a positive multiple of (x, 1), a = ‖v‖: every inequality is an equality but for c.
    s = 200.0
    ensemble = network([[s]], [s], [s * 2**0.5])
    x, y = column(1.0), column(0.0)
    setting = Setting.of(ensemble, x, y, get_loss("mse"))
    u, f = float(ensemble.parameter_norm()), float(ensemble(x).abs())
    lemma = GradientGrowth(setting)
    assert 0.99 < f / lemma.change_bound(0.0, u) <= 1.0
    risk, gradient = risk_and_gradient(ensemble, x, y, setting.loss)
    size = float(torch.cat([g.flatten() for g in gradient.values()]).norm())
    assert 0.99 < size / (setting.pull(float(risk)) * lemma.gradient_bound(u)) <= 1.0
    # Control: outside of the radius both fail.
    near = GradientGrowth(replace(setting, input_radius=0.5))
    assert f > near.change_bound(0.0, u)
    assert size > setting.pull(float(risk)) * near.gradient_bound(u)


# All runs ------------------------------------------------------------------------------------


def a_priori(batch, index):
    """Every theorem that says something of this network before it is trained, at every step."""
    first = norms(batch.run.checkpoints[0])[0][index]
    blind = MseBudget(batch.setting).blind_residual(first)
    yield "budget", MseBudget(batch.setting)
    yield "blind budget", MseBudget(batch.setting, residual=blind)
    if isinstance(batch.setting.loss, Huber):
        yield "pull", BoundedPull(batch.setting)
    if batch.setting.activation.bound is not None:
        yield "bounded", BoundedActivation(batch.setting)


def test_a_priori_bounds_hold_at_every_step_of_all_runs():
    said = dict.fromkeys(("budget", "blind budget", "pull", "bounded"), 0)
    for batch in batches():
        for index in range(batch.run.ensemble.size):
            until = slice(0, batch.last_step(index) + 1)
            for name, theorem in a_priori(batch, index):
                bounds = theorem.bounds(batch.run)[until, index]
                assert (batch.run.product_bound[until, index] <= bounds * UP).all(), name
                said[name] += int(np.isfinite(bounds[1:]).sum())
                if name != "bounded":
                    paths = theorem.path_bounds(batch.run)[until, index]
                    assert (batch.run.path[until, index] <= paths * UP).all(), name
    assert min(said.values()) >= 500, said


def test_no_verdict_is_contradicted_on_any_run_and_each_takes_both_values():
    counts: dict[str, list[bool]] = {}
    for batch in batches():
        for index in range(batch.run.ensemble.size):
            largest = np.nanmax(batch.run.product_bound[: batch.last_step(index) + 1, index])
            setting, run = batch.setting, batch.run
            found = [
                theorem.verdict(run, index, float(largest))
                for theorem in (
                    Energy(), Energy(share=0.9), BoundedPull(setting), MseBudget(setting),
                    BoundedActivation(setting), Adaptive(3.0, ExponentialRate(5.0)),
                )
            ] + [GradientGrowth(setting).verdict(run, index)]  # fmt: skip
            for verdict in found:
                assert not verdict.contradicted, verdict.line()
                counts.setdefault(verdict.theorem, []).append(verdict.applies)
                if batch.run.diverged[index]:
                    assert not verdict.applies
                assert verdict.hypotheses[0].statement.endswith("was not stopped for a huge risk")
    assert all(any(each) and not all(each) for each in counts.values()), counts.keys()


@pytest.mark.parametrize("start", [0, 20])
def test_every_theorem_may_begin_at_a_later_step(start):
    run, setting = one("constant", 0.05)
    theorems = (Energy(start), BoundedPull(setting, start=start), MseBudget(setting, start=start),
                BoundedActivation(setting, start=start))  # fmt: skip
    for theorem in theorems:
        bounds = theorem.bounds(run)[:, 0]
        assert np.isnan(bounds[:start]).all() and not np.isnan(bounds[start:]).any()
        assert (run.product_bound[start:, 0] <= bounds[start:] * UP).all()
        # The bound for bounded activations begins with ‖(a, c)‖, the others with the product.
        if not isinstance(theorem, BoundedActivation):
            assert bounds[start] == pytest.approx(run.product_bound[start, 0])


def test_a_step_that_was_not_recorded_is_refused():
    run, _ = one()
    sparse = replace(run, steps=run.steps[::10], checkpoints=run.checkpoints[::10])
    with pytest.raises(ValueError, match=r"`start` must be a recorded step of the run. Got 21"):
        Energy(21).bounds(sparse)


# Adaptive ------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    st.integers(0, 5000), st.sampled_from(NAMES), st.sampled_from(["mse", "huber"]),
    st.floats(-2, 3), st.integers(0, 20),
)  # fmt: skip
def test_the_normalised_rate_keeps_the_path_for_any_problem(seed, activation, loss, rate, start):
    g = np.random.default_rng(seed)
    x, y = torch.from_numpy(g.normal(size=(6, 2))), torch.from_numpy(g.normal(size=(6, 1)) * 30)
    ensemble = gaussian_ensemble(5, 2, seeds=(seed,), activation=activation)
    rho = ExponentialRate(5.0) if seed % 2 else PowerRate(3.0, 2.0)
    cap = NormalisedRate.with_total(2.0, rho, start)
    schedule = make_schedule("constant", 10.0 ** (rate if start == 0 else min(rate, -1)), n_steps=9)
    run = train(ensemble, x, y, schedule, 40, loss=loss, cap=cap, steps=range(41),
                on_divergence="record")  # fmt: skip
    theorem = Adaptive(cap.length, rho, start)
    largest = np.max(
        run.product_bound[start:], where=np.isfinite(run.product_bound[start:]), initial=0.0
    )
    verdict = theorem.verdict(run, 0, float(largest))
    assert verdict.applies != bool(run.diverged[0]) and not verdict.contradicted
    walked = run.path[start:, 0] - run.path[start, 0]
    # A difference of long paths is rounded.
    walked = walked - 1e-12 * run.path[start:, 0]
    assert (walked <= theorem.path_bounds(run)[start:, 0] * UP).all() and walked[-1] <= 2.0 * UP
    assert cap.total == pytest.approx(2.0)


def test_the_adaptive_bound_is_attained_and_a_plain_rate_breaks_it():
    start = network([[1.0]], [1.0], [1.0])
    x, y = column(-0.2, -0.6), column(1.2, 0.0)
    cap = NormalisedRate(2.0**0.5, ExponentialRate(1e-3))
    run = train(start, x, y, make_schedule("constant", 1e9, n_steps=1), 1, cap=cap)
    assert run.learning_rates[0, 0] == pytest.approx(12.5)
    steep = float(run.ensemble.hidden_norm() * run.ensemble.output_norm())
    theorem = Adaptive(cap.length, cap.rate_function)
    assert theorem.bound(start)[0] == pytest.approx(steep) == pytest.approx(4.0)
    assert theorem.verdict(run, 0, steep).slack == pytest.approx(0.0, abs=1e-9)
    # Control: without the cap one step of rate 100 goes eight times as far.
    plain = train(start, x, y, make_schedule("cosine", 100.0, n_steps=1), 1, on_divergence="record")
    verdict = theorem.verdict(plain, 0, float(plain.product_bound[-1, 0]))
    assert verdict.measured > verdict.bound and verdict.failed.name == "H3"
    assert verdict.failed_step == 0


def test_a_zero_gradient_and_the_steps_before_the_start_are_left_alone():
    still = network([[0.0]], [0.0], [0.0])
    x, y = column(0.0), column(0.0)
    run = train(still, x, y, make_schedule("constant", 0.1, n_steps=3), 3,
                cap=NormalisedRate(1.0, ExponentialRate(2.0)))  # fmt: skip
    assert (run.learning_rates == 0.1).all() and run.path[-1, 0] == 0.0
    early, _ = one("constant", 0.1, cap=NormalisedRate(1e-6, ExponentialRate(2.0), start=5))
    assert (early.learning_rates[:5] == 0.1).all() and (early.learning_rates[5:] < 0.1).all()


def test_rate_functions_without_a_sum_and_odd_lengths_are_refused():
    message = r"`rate_function` must have a finite sum for thm-adaptive \(H2\)\. Got ConstantRate"
    with pytest.raises(HypothesisError, match=message):
        NormalisedRate(1.0, ConstantRate())
    with pytest.raises(HypothesisError, match=message):
        NormalisedRate.with_total(1.0, ConstantRate())
    with pytest.raises(HypothesisError, match=message):
        Adaptive(1.0, ConstantRate()).bound(network([[1.0]], [0.0], [1.0]))
    with pytest.raises(HypothesisError, match=r"`length` must be a finite number ≥ 0 .* Got -1"):
        NormalisedRate(-1.0, ExponentialRate(1.0))
    run, _ = one()
    forever = Adaptive(1e9, ConstantRate()).verdict(run, 0, 1.0)
    assert forever.failed.name == "H2" and forever.bound == np.inf


# Energy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 1.5, 1.9])
def test_the_energy_bound_is_attained_at_every_rate_below_two(rate):
    start = network([[0.0]], [0.0], [0.0], c=1.0)
    run = train(start, column(0.0), column(0.0), make_schedule("cosine", rate, n_steps=1), 1)
    theorem = Energy(share=1.0 - 0.5 * rate)
    assert run.path[-1, 0] == pytest.approx(theorem.path_bounds(run)[-1, 0])
    assert theorem.verdict(run, 0, 0.0).applies
    assert not Energy(share=1.0 - 0.5 * rate + 1e-3).verdict(run, 0, 0.0).applies


def test_without_decrease_the_energy_bound_fails():
    seen = 0
    for seed in range(20):
        run, _ = one("constant", 0.8, seed=seed, activation="relu")
        bound = Energy().path_bounds(run)[-1, 0]
        if not run.diverged[0] and run.path[-1, 0] > bound:
            seen += 1
            assert not Energy().verdict(run, 0, 0.0).applies
    assert seen >= 5
    with pytest.raises(HypothesisError, match=r"`share` must lie in \(0, 1\] for thm-energy"):
        Energy(share=1.5)


def test_from_a_kink_the_risk_rises_at_every_rate_and_nothing_pays_for_the_path():
    for rate in (1e-6, 1e-2, 1.0):
        run = train(*kink_problem(), make_schedule("cosine", rate, n_steps=1), 1)
        assert run.risk[1, 0] - run.risk[0, 0] >= (2 * rate + 0.75 * rate**2) * (1 - 1e-6)
        verdict = Energy().verdict(run, 0, 0.0)
        assert verdict.failed.name == "H2" and verdict.failed_step == 0
        assert run.path[-1, 0] > Energy().path_bounds(run)[-1, 0]
