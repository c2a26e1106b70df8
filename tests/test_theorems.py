"""Theorems as code: bounds hold on random runs, verdicts take both values, controls bite."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import (
    EventualDecay,
    HalfAndHalf,
    PathBound,
    SortedCells,
    SteepestGradient,
    ladder,
)
from lipbook.theorems.steepness import half_and_half_bound
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)


def constant_of(ensemble, network, domain=(-3.0, 3.0), rel_gap=1e-4):
    weights = (
        ensemble.hidden_weight[network],
        ensemble.hidden_bias[network],
        ensemble.output_weight[network],
    )
    return bracket(*weights, ensemble.activation, domain=domain, rel_gap=rel_gap)


def single(weight, bias, output, activation="relu"):
    """One network with one input and one output from three lists."""
    columns = [torch.tensor(v, dtype=torch.float64) for v in (weight, bias, output)]
    return Ensemble(
        columns[0][None, :, None],
        columns[1][None],
        columns[2][None, None],
        torch.zeros(1, 1, dtype=torch.float64),
        ACTIVATIONS[activation],
    )


def small_run(seed, rate, schedule="eventual", activation="relu", loss="mse", n_steps=60, start=20):
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x) + 0.2 * torch.cos(11 * x)
    ensemble = gaussian_ensemble(7, 1, seeds=(seed,), activation=activation)
    chosen = make_schedule(schedule, rate, n_steps=n_steps, start=start, timescale=8.0)
    return train(ensemble, x, y, chosen, n_steps, loss=loss, steps=[start], on_divergence="record")


# Verdicts ------------------------------------------------------------------------------------


def verdict(*hypotheses, bound=2.0, measured=1.0):
    return Verdict("thm-x", "A theorem", "a quantity", hypotheses, bound, measured, "a run")


def test_a_verdict_names_the_hypothesis_that_fails_first():
    held = Hypothesis("H1", "fine", True)
    late, early = (Hypothesis(n, "bad", False, step=s) for n, s in (("H2", 9), ("H3", 4)))
    found = verdict(held, late, early)
    assert not found.applies and found.failed is early and found.failed_step == 4
    assert found.line() == "A theorem (a run): does not apply, H3 fails, first at step 4 (bad)."
    static = Hypothesis("H4", "never", False)
    assert verdict(late, static).failed is static and verdict(late, static).failed_step is None


def test_a_verdict_that_applies_gives_bound_measured_and_slack():
    found = verdict(Hypothesis("H1", "fine", True))
    assert found.applies and found.slack == 1.0 and not found.contradicted
    assert found.line() == "A theorem (a run): applies; a quantity 1 ≤ 2."
    assert verdict(bound=None).slack is None
    assert verdict(bound=None).line() == "A theorem (a run): applies."


def test_a_contradiction_is_seen_and_a_failed_hypothesis_excuses():
    assert verdict(measured=2.1).contradicted and "CONTRADICTED" in verdict(measured=2.1).line()
    assert verdict(measured=math.nan).contradicted
    assert not verdict(measured=2.0 + 1e-12).contradicted
    assert not verdict(Hypothesis("H1", "bad", False), measured=2.1).contradicted


def test_a_verdict_is_ready_for_json():
    stored = json.loads(json.dumps(verdict(Hypothesis("H1", "bad", False, 3, -0.5)).to_dict()))
    assert stored["failed"] == "H1" and stored["failed_step"] == 3 and stored["applies"] is False
    assert stored["hypotheses"][0]["margin"] == -0.5


def test_hypotheses_over_steps_find_the_first_failure_and_the_least_margin():
    assert hypothesis_over_steps("H", "s", [1, 2, 3], [0, 1.5, 0]).margin == 0.5
    failed = hypothesis_over_steps("H", "s", [1, 1, 1], [0, 2, 3])
    assert (failed.holds, failed.step, failed.margin) == (False, 1, -1)
    assert not hypothesis_over_steps("H", "s", [1.0], [math.nan]).holds


# Descent -------------------------------------------------------------------------------------

RUNS = {
    "seed": st.integers(0, 10_000),
    # Above about 2 these runs oscillate, above about 10 they diverge.
    "rate": st.sampled_from([0.01, 0.1, 0.5, 1.5, 3.0, 8.0, 40.0, 200.0]),
    "schedule": st.sampled_from(["constant", "exponential", "power", "cosine", "eventual"]),
    "activation": st.sampled_from(NAMES),
    "loss": st.sampled_from(["mse", "huber"]),
}


@settings(derandomize=True, max_examples=80, deadline=None)
@given(**RUNS)
def test_the_path_bounds_hold_on_random_runs(**drawn):
    run = small_run(**drawn)
    found = PathBound().verdict(run, 0, 0.0)
    assert found.applies == (not run.diverged[0])
    if run.diverged[0]:
        return
    final = constant_of(run.ensemble, 0, domain=None).upper
    assert not PathBound().verdict(run, 0, final).contradicted
    eventual = EventualDecay(20)
    later = [c for c, step in zip(run.checkpoints, run.steps, strict=True) if step >= 20]
    largest = max(constant_of(c, 0, domain=None).upper for c in later)
    assert not eventual.verdict(run, 0, largest).contradicted


def test_random_runs_contain_enough_of_each_kind():
    kinds = {"diverged": 0, "oscillating": 0, "descending": 0}
    rates = [0.01, 0.1, 0.5, 1.5, 3.0, 8.0, 40.0, 200.0]
    runs = [small_run(seed, rate) for seed in range(6) for rate in rates]
    for run in runs:
        if run.diverged[0]:
            kinds["diverged"] += 1
        elif (np.diff(run.risk[:, 0]) > 0).any():
            kinds["oscillating"] += 1
        else:
            kinds["descending"] += 1
    assert min(kinds.values()) >= 0.2 * len(runs), kinds


def test_eventual_decay_takes_both_values_and_says_why():
    assert EventualDecay(20).verdict(small_run(0, 0.1), 0, 1.0).applies
    constant = EventualDecay(20).verdict(small_run(0, 0.1, "constant"), 0, 1.0)
    assert constant.failed.name == "H2" and constant.bound == math.inf
    wild = EventualDecay(20).verdict(small_run(1, 3.0), 0, 1.0)
    assert wild.failed.name in ("H1", "H3") and wild.failed_step >= 0
    diverged = EventualDecay(20).verdict(small_run(0, 200.0), 0, 1.0)
    assert diverged.failed.name == "H1" and diverged.failed_step > 0
    assert not PathBound().verdict(small_run(0, 200.0), 0, 1.0).applies


def test_without_sufficient_decrease_the_energy_bound_can_fail():
    # Negative control: on runs that oscillate, the path does exceed √(2R·S).
    seen = 0
    for seed in range(20):
        run = small_run(seed, 2.0, "constant")
        if run.diverged[0]:
            continue
        tail = run.path[-1, 0] - run.path[20, 0]
        mass = run.mass[-1, 0] - run.mass[20, 0]
        if tail > math.sqrt(2 * run.risk[20, 0] * mass):
            seen += 1
            assert not EventualDecay(20).verdict(run, 0, 1.0).applies
    assert seen >= 10


def test_the_energy_path_bound_holds_where_decrease_does_and_is_nearly_attained():
    run = small_run(3, 0.1)
    tail = run.path[-1, 0] - run.path[20, 0]
    assert tail <= EventualDecay(20).path_bound(run)[0]
    # Attained: f = c alone (weights zero), R = c²/2, one step of rate 1 from c = 1 to c = 0. Its
    # length is 1, and so is √(2R_0S).
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    still = single([0.0], [0.0], [0.0])
    pushed = Ensemble(
        still.hidden_weight,
        still.hidden_bias,
        still.output_weight,
        torch.ones(1, 1, dtype=torch.float64),
        still.activation,
    )
    schedule = make_schedule("cosine", 1.0, n_steps=1)
    one = train(pushed, x, y, schedule, 1)
    assert one.path[-1, 0] == pytest.approx(EventualDecay(0).path_bound(one)[0])


def test_a_step_that_was_not_recorded_is_refused():
    with pytest.raises(ValueError, match=r"`start` must be a recorded step of the run. Got 21"):
        EventualDecay(21).bound(small_run(0, 0.1, start=20, n_steps=60))


# One network ---------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.sampled_from(NAMES))
def test_the_ladder_is_in_order(seed, width, activation):
    ensemble = gaussian_ensemble(width, 1, seeds=(seed,), activation=activation)
    known = constant_of(ensemble, 0)
    points = np.linspace(-3, 3, 100)
    sampled = SteepestGradient().verdict(ensemble, 0, points, known)
    assert sampled.applies and not sampled.contradicted
    rungs = ladder(ensemble, 0, (known.lower, known.upper), sampled.measured)
    up = 1 + 1e-9
    order = ["sampled", "exact (upper end)", "formal", "centred", "product"]
    for low, high in itertools.pairwise(order):
        assert rungs[low] <= rungs[high] * up, (low, high)
    assert rungs["formal"] <= rungs["path norm"] * up
    half = HalfAndHalf().verdict(ensemble, 0, known)
    assert half.applies == (activation not in ("abs", "gelu", "silu"))
    assert not half.contradicted
    exact = SortedCells().verdict(ensemble, 0, known)
    assert exact.applies == ensemble.activation.is_piecewise_linear
    if exact.applies:
        assert exact.measured == pytest.approx(known.lower, rel=1e-9)


def test_half_and_half_needs_slopes_that_are_not_negative():
    # |x − 1| − |x + 1| is −2x in between: constant 2, and ½(‖AW‖ + ‖A‖‖W‖) = ½(0 + 2) = 1.
    ensemble = single([1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], "abs")
    assert constant_of(ensemble, 0).lower == pytest.approx(2.0)
    assert half_and_half_bound(ensemble, 0) == pytest.approx(1.0)
    assert not HalfAndHalf().verdict(ensemble, 0, constant_of(ensemble, 0)).applies


def test_the_half_and_half_bound_is_attained():
    ensemble = single([1.0, 0.0], [0.0, 0.0], [1.0, 0.0])
    assert half_and_half_bound(ensemble, 0) == pytest.approx(constant_of(ensemble, 0).lower)


def test_a_gradient_at_a_kink_may_exceed_the_constant():
    # 3relu(x + 1) − 2relu(x) + 2relu(−x): at 0 the left slope counts no neuron but the first.
    ensemble = single([1.0, 1.0, -1.0], [1.0, 0.0, 0.0], [3.0, -2.0, 2.0])
    known = constant_of(ensemble, 0)
    assert known.lower == pytest.approx(2.0) == known.upper
    at_kink = SteepestGradient().verdict(ensemble, 0, np.array([0.0]), known)
    assert at_kink.measured > known.upper and at_kink.failed.name == "H2"
    outside = SteepestGradient().verdict(ensemble, 0, np.array([5.0]), known)
    assert outside.failed.name == "H1"


def test_zero_biases_put_every_kink_on_a_symmetric_grid():
    ensemble = gaussian_ensemble(9, 1, scale="zero-bias")
    odd, even = np.linspace(-3, 3, 11), np.linspace(-3, 3, 10)
    known = constant_of(ensemble, 0)
    assert not SteepestGradient().verdict(ensemble, 0, odd, known).applies
    assert SteepestGradient().verdict(ensemble, 0, even, known).applies


@pytest.mark.parametrize("domain", [None, (-0.5, 0.25)])
def test_sorted_cells_on_the_line_and_on_an_interval(domain):
    ensemble = gaussian_ensemble(20, 1, seeds=(3,))
    known = constant_of(ensemble, 0, domain=domain)
    assert SortedCells().verdict(ensemble, 0, known).measured == pytest.approx(known.lower)


def test_the_bound_of_single_steps_is_finite_for_a_constant_rate_and_below_the_bound_for_all():
    for name in ("constant", "eventual"):
        run = small_run(0, 0.1, name)
        theorem = EventualDecay(20)
        each, total = theorem.bounds(run)[:, 0], theorem.bound(run)[0]
        later = run.steps >= 20
        assert np.isnan(each[~later]).all() and np.isfinite(each[later]).all()
        assert (np.diff(each[later]) >= 0).all() and (each[later] <= total).all()
        for bound, checkpoint in zip(each[later], np.array(run.checkpoints)[later], strict=True):
            assert constant_of(checkpoint, 0, domain=None).upper <= bound


def test_from_a_kink_the_risk_can_rise_at_every_rate():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    start = single([1.0], [0.0], [3.0])
    for rate in (1e-6, 1e-3, 0.1, 1.0, 30.0):
        run = train(start, x, y, make_schedule("cosine", rate, n_steps=1), 1)
        assert run.risk[0, 0] == 17 / 4
        rise = run.risk[1, 0] - run.risk[0, 0]
        assert rise >= (2 * rate + 0.75 * rate**2) * (1 - 1e-6)


def test_the_eventual_bound_is_attained_by_one_relu_neuron():
    start = single([1.0], [1.0], [1.0])
    x = torch.tensor([[-0.2], [-0.6]], dtype=torch.float64)
    y = torch.tensor([[1.2], [0.0]], dtype=torch.float64)
    run = train(start, x, y, make_schedule("cosine", 12.5, n_steps=1), 1)
    assert run.risk[:, 0] == pytest.approx([0.08, 0.0], abs=1e-15)
    exact = constant_of(run.ensemble, 0, domain=(-1.0, 1.0)).lower
    assert EventualDecay(0).bound(run)[0] == pytest.approx(exact) == pytest.approx(4.0)
