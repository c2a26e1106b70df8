"""The Lipschitz budget: never overdrawn, early stopping in disguise, and the rescaled variant."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches

from lipbook.activations import ACTIVATIONS
from lipbook.caps.gradient_flow import flat, flow_to_limit
from lipbook.caps.lipschitz_budget import LipschitzBudget
from lipbook.caps.rescaled_descent import rescaled_to, train_rescaled
from lipbook.data import synthetic
from lipbook.gradients import risk_and_gradient
from lipbook.lipschitz import bracket
from lipbook.lipschitz.rounding import spectral_norm_lower
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.rate_caps import DescentState
from lipbook.schedules import make_schedule
from lipbook.theorems.budget_schedule import BudgetSchedule, EarlyStopping, certificate_history
from lipbook.theorems.moduli import certificates
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.rescaled_points import RescaledDescent, decay_multiplier
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
STEPS = 40
# Certificates are rounded up by about this much: the stored weights obey the limit itself.
UP = 1 + 1e-10


def lowest_product(ensemble, index=0):
    """A proved lower bound of L_σ‖W‖‖a‖ of the stored weights."""
    w, a = (b[index].double().numpy() for b in (ensemble.hidden_weight, ensemble.output_weight))
    norms = spectral_norm_lower(w) * spectral_norm_lower(a)
    return float(norms) * ensemble.activation.lipschitz * (1 - 1e-14)


def state_of(ensemble, gradient):
    norms = torch.stack([gradient[n].flatten(1).norm(dim=1) for n in BLOCKS], 1)
    zero = ensemble.hidden_bias.new_zeros(ensemble.size)
    return DescentState(0, ensemble, gradient, norms, zero + 1.0, zero + 1.0, zero + 1.0, zero)


def step_of(ensemble, gradient, rate):
    """One step as `train` makes it, in the ensemble's own precision."""
    changed = {}
    for name in BLOCKS:
        block = getattr(ensemble, name)
        scale = rate.view(-1, *[1] * (block.ndim - 1))
        changed[name] = block - torch.where(scale > 0, scale * gradient[name], 0.0 * block)
    return replace(ensemble, **changed)


def hostile(ensemble, g, size):
    """A gradient whose step raises ‖W‖ and ‖a‖ as fast as its norm allows."""
    w, a = ensemble.hidden_weight.double(), ensemble.output_weight.double()
    u, _, v = torch.linalg.svd(w, full_matrices=False)
    up_w = u[:, :, :1] @ v[:, :1, :]
    up_a = a / a.norm(dim=2, keepdim=True).clamp_min(1e-30)
    noise = [torch.from_numpy(g.normal(size=tuple(t.shape))) for t in (w, a)]
    mix = g.choice([0.0, 0.0, 0.3])
    blocks = {
        "hidden_weight": -size * g.uniform(0, 2) * (up_w + mix * noise[0]),
        "output_weight": -size * g.uniform(0, 2) * (up_a + mix * noise[1]),
        "hidden_bias": torch.zeros_like(ensemble.hidden_bias).double(),
        "output_bias": torch.zeros_like(ensemble.output_bias).double(),
    }
    return {n: b.to(ensemble.hidden_bias.dtype) for n, b in blocks.items()}


# Never overdrawn -----------------------------------------------------------------------------


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    m=st.integers(1, 9),
    d=st.integers(1, 4),
    activation=st.sampled_from(NAMES),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    log_size=st.floats(-30, 30),
)
def test_hostile_gradients_never_overdraw_the_budget(
    seed, m, d, activation, share, dtype, log_size
):
    g = np.random.default_rng([seed, 5])
    net = gaussian_ensemble(m, d, seeds=(seed,), activation=activation, dtype=dtype)
    kind = "formal" if d == 1 and seed % 2 else "product"
    limit = float(certificates(net, kind)[0]) * g.choice([1.0 + 1e-7, 1.1, 3.0])
    for _ in range(25):
        gradient = hostile(net, g, 10.0 ** (log_size + g.uniform(-6, 6)))
        if not all(torch.isfinite(b).all() for b in gradient.values()):
            continue
        net = step_of(net, gradient, LipschitzBudget(limit, share, kind)(state_of(net, gradient)))
        assert certificates(net, kind)[0] <= limit * UP
        if kind == "product":
            assert lowest_product(net) <= limit
    if share == 1.0 and kind == "product" and log_size > -5:
        assert certificates(net, kind)[0] >= 0.6 * limit  # the limit is used, too


def test_the_budget_is_attained():
    # One neuron, θ = 1, a gradient along the weights: one step ends within rounding of the limit.
    net = gaussian_ensemble(1, 1, seeds=(0,))
    gradient = {n: -getattr(net, n) for n in BLOCKS}
    rate = LipschitzBudget(7.0, 1.0)(state_of(net, gradient))
    assert certificates(step_of(net, gradient, rate))[0] == pytest.approx(7.0, rel=1e-9)


def test_without_room_for_rounding_the_stored_weights_overdraw():
    # Negative control: the exact formula, evaluated in the weights' own float32.
    over, safe, g = 0, 0, np.random.default_rng(0)
    for seed in range(40):
        net = gaussian_ensemble(6, 1, seeds=(seed,), dtype=torch.float32)
        gradient = hostile(net, np.random.default_rng(seed), 10.0 ** g.uniform(-3, 3))
        gradient = {n: (v if n == "hidden_weight" else 0 * v) for n, v in gradient.items()}
        x, y = net.hidden_norm(), net.output_norm()
        limit = float(x * y * 1.5)
        rate = (limit - x * y) / (y * gradient["hidden_weight"].flatten(1).norm(dim=1))
        over += lowest_product(step_of(net, gradient, rate)) > limit
        kept = LipschitzBudget(limit, 1.0)(state_of(net, gradient))
        safe += lowest_product(step_of(net, gradient, kept)) <= limit
    assert over >= 5 and safe == 40, (over, safe)


def test_without_the_cross_term_the_budget_is_overdrawn():
    # Negative control, in exact arithmetic up to rounding.
    net = gaussian_ensemble(1, 1, seeds=(0,))
    gradient = {n: -getattr(net, n) for n in BLOCKS}
    product = float(certificates(net)[0])
    rate = torch.tensor([(7.0 - product) / (2 * product)], dtype=torch.float64)
    assert certificates(step_of(net, gradient, rate))[0] > 7.5


def budgeted(b, kind):
    """Train a batch again under budgets of its own, all at rates up to 150."""
    start = b.run.checkpoints[0]
    limit = 1.2 * float(certificates(start, kind).max())
    run = train(
        start, b.x, b.y, b.run.schedules, STEPS, loss=b.run.loss, on_divergence="record",
        steps=range(STEPS + 1), cap=LipschitzBudget(limit, 0.5, kind),
    )  # fmt: skip
    return run, limit


def test_the_budget_holds_at_every_step_of_all_runs():
    kinds = {"applies": 0, "not": 0, "bound": 0}
    for b in batches():
        kind = "formal" if b.setting.input_dim == 1 else "product"
        run, limit = budgeted(b, kind)
        assert (certificate_history(run, kind) <= limit * UP).all()
        # On the run without a budget the theorem does not apply once a step was too long.
        free = certificate_history(b.run, kind)
        for k in range(run.ensemble.size):
            found = BudgetSchedule(limit, kind).verdict(run, k)
            assert found.applies == (run.diverged_at[k] < 0) and not found.contradicted
            kinds["bound"] += bool((run.learning_rates[:, k] < b.run.learning_rates[:, k]).any())
            loose = BudgetSchedule(limit, kind).verdict(b.run, k)
            assert not loose.contradicted
            if free[:, k].max() > limit * UP:
                assert not loose.applies
            kinds["applies" if loose.applies else "not"] += 1
    assert min(kinds.values()) >= 20, kinds


def test_the_semidefinite_budget_holds_with_two_inputs():
    data = synthetic("sine", 12, input_dim=2)
    start = gaussian_ensemble(6, 2, seeds=range(3), activation="tanh")
    limit = 1.3 * float(certificates(start, "sdp").max())
    plan = make_schedule("constant", 0.3, n_steps=30)
    run = train(start, data.x, data.y, plan, 30, cap=LipschitzBudget(limit, 0.5, "sdp"))
    assert (certificate_history(run, "sdp") <= limit * (1 + 1e-3)).all()
    known = bracket(run.ensemble.hidden_weight[0], run.ensemble.hidden_bias[0],
                    run.ensemble.output_weight[0], "tanh", domain=(-1, 1), rel_gap=0.2)  # fmt: skip
    found = BudgetSchedule(limit, "sdp").verdict(run, 0, known.lower)
    assert found.applies and not found.contradicted


def test_networks_above_the_limit_or_not_finite_stand_still():
    net = gaussian_ensemble(3, 1, seeds=(0, 1, 2))
    with torch.no_grad():
        net.hidden_weight[1] *= 1e6
        net.hidden_weight[2, 0] = torch.nan
    gradient = {n: torch.ones_like(getattr(net, n)) for n in BLOCKS}
    rate = LipschitzBudget(50.0)(state_of(net, gradient))
    assert rate[0] > 0 and rate[1] == 0 and rate[2] == 0


def test_budgets_refuse():
    data = synthetic("sine", 8)
    plan = make_schedule("constant", 0.1, n_steps=3)
    run = train(gaussian_ensemble(4, 1), data.x, data.y, plan, 3, steps=range(4))
    with pytest.raises(
        HypothesisError, match=r"`run` must start at or below the limit 0.01 for thm-"
    ):
        BudgetSchedule(0.01).bound(run)
    assert BudgetSchedule(0.01).verdict(run, 0).failed.name == "H1"
    assert BudgetSchedule(100.0).bound(run) == 100.0
    for limit in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"`limit` must be a positive number. Got"):
            LipschitzBudget(limit)
    for share in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"`share` must lie in \(0, 1\]. Got"):
            LipschitzBudget(1.0, share)
    two = gaussian_ensemble(4, 2)
    with pytest.raises(
        ValueError, match=r"`certificate` must be 'product' or 'sdp' for several inp"
    ):
        train(two, data.x.expand(-1, 2), data.y, plan, 3, cap=LipschitzBudget(9.0, 0.5, "formal"))


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


def test_the_mass_that_is_left_is_bounded_and_nearly_attained():
    limit, path = stopped_flow()
    run = budget_run(0.025, limit, 2 * path.times[-1])
    start = int(0.9 * path.times[-1] / 0.025)
    found = EarlyStopping(limit, start).verdict(run, 0)
    assert found.applies and not found.contradicted
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


def test_scaling_leaves_others_alone():
    net = gaussian_ensemble(4, 1, seeds=(0, 1))
    top = certificates(net)
    moved, seen, factor = rescaled_to(net, float(top.min()) * 1.01)
    assert (factor[top > top.min()] < 1).all() and (factor[top == top.min()] == 1).all()
    assert (seen <= top.min() * 1.01).all()
    assert isinstance(moved, Ensemble) and torch.equal(moved.hidden_bias, net.hidden_bias)
