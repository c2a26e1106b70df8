"""Paths at any depth, as code: bounds hold on all runs, attained cases are met, controls bite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from deep_runs import DEPTHS, NAMES, UP, batches, drawn_problem, each_run, odd_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.caps.normalised import NormalisedRate
from lipbook.deep_training import deep_train
from lipbook.lipschitz.deep import deep_product_upper_bound, deep_sampled_lower_bound
from lipbook.schedules import ConstantRate, ExponentialRate, PowerRate, make_schedule
from lipbook.theorems.deep_path import DeepAdaptive, DeepEventualDecay, DeepPath, chain_after
from lipbook.theorems.deep_setting import DeepGrowth, DeepSetting
from lipbook.theorems.descent import sufficient_decrease

# All runs ------------------------------------------------------------------------------------


def test_paths_bound_the_constant_at_every_step_of_all_runs():
    for b in batches():
        run, bounds = b.run, DeepPath().bound(b.run)
        whole = chain_after(run.checkpoints[0], run.path)
        moved = chain_after(run.checkpoints[0], run.displacement)
        for k in range(run.ensemble.size):
            seen = slice(0, b.last_step(k) + 1)
            products = b.products[seen, k]
            for bound in (bounds, whole, moved):
                assert (products <= bound[seen, k] * UP).all()
            assert (bounds[seen, k] <= whole[seen, k] * UP).all()
            for step in range(0, seen.stop, 10):
                layers = run.checkpoints[step].layers(k)
                lower = deep_sampled_lower_bound(layers, b.x.numpy(), b.setting.activation)
                assert lower <= products[step] * UP


def test_no_verdict_on_paths_is_contradicted_on_any_run_and_each_takes_both_values():
    counts: dict[str, list[bool]] = {}
    for b, k in each_run():
        seen = b.last_step(k) + 1
        layers = b.run.checkpoints[int(np.nanargmax(b.products[:seen, k]))].layers(k)
        largest_seen = deep_product_upper_bound(layers, b.setting.activation)
        last = deep_product_upper_bound(b.run.checkpoints[seen - 1].layers(k), b.setting.activation)
        for verdict in (
            DeepGrowth(b.setting).verdict(b.run, k),
            DeepPath().verdict(b.run, k, last),
            DeepAdaptive(3.0, ExponentialRate(5.0)).verdict(b.run, k, largest_seen),
            DeepEventualDecay(0).verdict(b.run, k, largest_seen),
        ):
            assert not verdict.contradicted, verdict.line()
            counts.setdefault(verdict.theorem, []).append(verdict.applies)
            assert not (b.run.diverged[k] and verdict.applies)
    assert all(any(each) and not all(each) for each in counts.values()), counts.keys()


def test_eventual_decay_holds_from_any_step_as_long_as_the_risk_decreases():
    seen = broken = 0
    for b in batches():
        for start in (0, 13, 30):
            bounds = DeepEventualDecay(start).bounds(b.run)
            assert np.isnan(bounds[:start]).all()
            for k in range(b.run.ensemble.size):
                last, found = b.last_step(k), sufficient_decrease(b.run, k, start)
                upto = last if found.holds else min(last, found.step)
                part = slice(start, upto + 1)
                assert (b.products[part, k] <= bounds[part, k] * UP).all()
                walked = b.run.path[part, k] - b.run.path[start, k]
                energy = 2.0 * b.run.risk[start, k] * (b.run.mass[part, k] - b.run.mass[start, k])
                rounding = 1e-12 * b.run.path[part, k]
                assert (walked <= np.sqrt(energy) * UP + rounding).all()
                seen += max(upto - start, 0)
                # Control: where the risk does not decrease, the bound fails in some runs.
                part = slice(start, last + 1)
                if (b.products[part, k] > bounds[part, k] * UP).any():
                    assert not found.holds
                    broken += 1
    assert seen > 3000 and broken >= 20, (seen, broken)


# Constructed runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_path_and_adaptive_bounds_are_attained_by_a_chain_that_grows(depth):
    networks, x, y = odd_chain(depth, 1.0, 50.0)
    cap = NormalisedRate(0.3, ExponentialRate(1e-3))
    run = deep_train(networks, x, y, make_schedule("constant", 1e9, n_steps=1), 1, cap=cap)
    steep = float(run.ensemble.weight_norms().prod(0))
    assert steep == pytest.approx((1.0 + 0.3 / depth**0.5) ** depth)
    adaptive = DeepAdaptive(0.3, ExponentialRate(1e-3))
    for verdict in (adaptive.verdict(run, 0, steep), DeepPath().verdict(run, 0, steep)):
        assert verdict.applies and not verdict.contradicted
        assert verdict.bound == pytest.approx(steep, rel=1e-9, abs=0.0)
    # Control: a bound with a path one part in a thousand shorter is exceeded.
    short = replace(adaptive, length=0.3 * 0.999)
    assert steep > short.last_bound(run, 0)
    assert short.verdict(run, 0, steep).failed.name == "H3"
    # Control: without the cap one step of that rate breaks the bound, and H3 names the step.
    plan = make_schedule("constant", 0.02, n_steps=3)
    plain = deep_train(networks, x, y, plan, 3, steps=range(4), on_divergence="record")
    verdict = adaptive.verdict(plain, 0, float(plain.checkpoints[1].weight_norms().prod(0)))
    assert verdict.measured > verdict.bound and verdict.failed_step == 0


def test_one_layer_attains_the_bound_of_eventual_decay():
    # R = ½(w − 5)²: one step of rate 1 uses all of the risk, √(2R₀·1) = 5.
    networks, x, y = odd_chain(1, 0.0, 5.0)
    run = deep_train(networks, x, y, make_schedule("cosine", 1.0, n_steps=1), 1)
    verdict = DeepEventualDecay(0).verdict(run, 0, float(run.ensemble.weight_norms()[0, 0]))
    assert verdict.applies and not verdict.contradicted
    assert verdict.bound == pytest.approx(5.0) == pytest.approx(verdict.measured)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 5000), st.sampled_from(DEPTHS), st.sampled_from(NAMES),
       st.sampled_from(["mse", "huber"]), st.floats(-2, 3), st.integers(0, 12))  # fmt: skip
def test_the_normalised_rate_keeps_every_run_at_every_depth(
    seed, depth, activation, loss, rate, start
):
    networks, x, y, phi = drawn_problem(seed, depth, activation, loss, 0.0)
    rho = ExponentialRate(5.0) if seed % 2 else PowerRate(3.0, 2.0)
    cap = NormalisedRate.with_total(2.0, rho, start)
    plan = make_schedule("constant", 10.0 ** (rate if start == 0 else min(rate, -1)), n_steps=9)
    run = deep_train(networks, x, y, plan, 25, loss=phi, cap=cap, steps=range(26),
                     on_divergence="record")  # fmt: skip
    stopped = int(run.diverged_at[0])
    seen = run.checkpoints[start : 26 if stopped < 0 else max(stopped, start + 1)]
    slope = networks.activation.lipschitz ** (depth - 1)
    steepest = max(float(each.weight_norms().prod(0)) * slope for each in seen)
    verdict = DeepAdaptive(cap.length, rho, start).verdict(run, 0, steepest)
    assert verdict.applies == (stopped < 0) and not verdict.contradicted
    assert run.path[-1, 0] - run.path[start, 0] <= 2.0 * UP + 1e-12 * run.path[-1, 0]


def test_hypotheses_fail_where_they_should():
    networks, x, y = odd_chain(3, 1.2, 1.0)
    options = {"steps": range(31), "on_divergence": "record"}
    wild = deep_train(networks, x, y, make_schedule("exponential", 9.0, n_steps=30), 30, **options)
    stopped = int(wild.diverged_at[0])
    assert stopped > 0
    for theorem in (DeepPath(), DeepAdaptive(1e99, ExponentialRate(9.0))):
        found = theorem.verdict(wild, 0, 1.0)
        assert (found.failed.name, found.failed_step) == ("H1", stopped)
    assert (
        DeepGrowth(DeepSetting.of(networks, x, y, wild.loss)).verdict(wild, 0).failed.name == "H1"
    )
    found = DeepEventualDecay(0).verdict(wild, 0, 1.0)
    assert (found.failed.name, found.failed_step) == ("H3", 0)
    # The sum of constant rates is not finite, that of the same rates until step 5 is.
    calm = deep_train(networks, x, y, make_schedule("constant", 0.01, n_steps=30), 30, **options)
    found = DeepEventualDecay(5).verdict(calm, 0, 1.0)
    assert (found.failed.name, found.failed_step, found.bound) == ("H2", None, np.inf)
    found = DeepAdaptive(1e9, ConstantRate()).verdict(calm, 0, 1.0)
    assert (found.failed.name, found.bound) == ("H2", np.inf)
    # Steps that shrink slower than ρ: the first ones are short enough.
    lengths = calm.learning_rates[:, 0] * calm.gradient_norm[:-1, 0]
    rho = ExponentialRate(2.0)
    allowed = 3.0 * lengths[0] * rho(np.arange(30))
    first = int(np.flatnonzero(lengths > allowed)[0])
    found = DeepAdaptive(3.0 * float(lengths[0]), rho).verdict(calm, 0, 1.0)
    assert first > 0 and (found.failed.name, found.failed_step) == ("H3", first)
    with pytest.raises(ValueError, match=r"`start` must be a recorded step .* Got 31"):
        DeepEventualDecay(31).bounds(calm)


def test_a_network_at_zero_risk_does_not_move_whatever_the_rates_are():
    networks, x, y = odd_chain(2, 1.0, 1.0)
    run = deep_train(networks, x, y, make_schedule("constant", 0.1, n_steps=3), 3)
    assert run.path[-1, 0] == 0.0
    assert DeepEventualDecay(0).verdict(run, 0, 1.0).bound == pytest.approx(1.0)
