"""The Lipschitz budget: never overdrawn, whatever the gradients and the format."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from budget_cases import (
    NAMES,
    UP,
    budgeted,
    hostile,
    lowest_product,
    state_of,
    step_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches

from lipbook.caps.lipschitz_budget import (
    LipschitzBudget,
    largest_safe_rate,
    lowered,
    rate_without_overflow,
    step_sizes,
)
from lipbook.data import synthetic
from lipbook.lipschitz import bracket
from lipbook.networks import BLOCKS, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.budget_schedule import BudgetSchedule, certificate_history
from lipbook.theorems.moduli import certificates
from lipbook.theorems.refusal import HypothesisError
from lipbook.training import train

# Never overdrawn -----------------------------------------------------------------------------


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    m=st.integers(1, 9),
    d=st.integers(1, 4),
    k=st.sampled_from([1, 1, 3]),
    activation=st.sampled_from(NAMES),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    log_size=st.floats(-30, 30),
)
def test_hostile_gradients_never_overdraw_the_budget(
    seed, m, d, k, activation, share, dtype, log_size
):
    g = np.random.default_rng([seed, 5])
    net = gaussian_ensemble(m, d, k, seeds=(seed,), activation=activation, dtype=dtype)
    kind = "formal" if d == k == 1 and seed % 2 else "product"
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


def test_the_room_for_rounding_counts_every_entry_of_several_outputs():
    # Four outputs, one neuron: 4 entries may each be off by 4 least normal numbers.
    tiny, zero = torch.finfo(torch.float32).tiny, torch.zeros(1, 4, 1)
    sizes = step_sizes(zero, zero)
    assert sizes.slack[0] == pytest.approx(8 * tiny) and sizes.slack[0] >= 8 * tiny
    assert sizes.slope[0] == pytest.approx(2 * tiny) and sizes.slope[0] >= 2 * tiny


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_no_rounding_of_the_rate_takes_it_up(dtype):
    info, g = torch.finfo(dtype), np.random.default_rng(0)
    normal = 10.0 ** g.uniform(np.log10(info.tiny) + 1, np.log10(info.max) - 1, 400)
    rates = np.concatenate((normal, info.tiny * 10.0 ** g.uniform(np.log10(info.eps), 1, 400)))
    stored = torch.as_tensor(lowered(rates, dtype)).to(dtype).double().numpy()
    assert (stored <= rates).all() and (stored[:400] >= rates[:400] * (1 - 4 * info.eps)).all()
    # In the subnormal range the rate loses at most one unit there, and a share, as elsewhere.
    unit = info.tiny * info.eps
    assert (stored >= rates * (1 - 4 * info.eps) - unit).all()
    if dtype != torch.float64:  # negative control: a share below the rate is not enough there
        share = torch.as_tensor(rates * (1 - 2 * info.eps)).to(dtype).double().numpy()
        assert (share > rates).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_no_entry_of_any_block_overflows(dtype, name):
    largest = torch.finfo(dtype).max
    net = gaussian_ensemble(1, 1, seeds=(0, 1), activation="tanh", dtype=dtype)
    net = replace(net, output_weight=torch.full_like(net.output_weight, 4 / largest))
    gradient = {n: torch.zeros_like(getattr(net, n)) for n in BLOCKS}
    gradient[name][0] = -0.9 * largest  # the second network has no gradient
    limit = 1e3 if name == "hidden_weight" else 1e2 * largest
    rate = LipschitzBudget(limit)(state_of(net, gradient)).clamp(max=1.2)
    half, after = 0.5 * largest, step_of(net, gradient, rate)
    assert 0.4 < rate[0] < 0.6 and certificates(after)[0] <= limit
    assert 0.99 * half < float(getattr(after, name)[0].abs().max()) <= half
    assert torch.equal(getattr(after, name)[1], getattr(net, name)[1])
    # Negative control: the condition of (b) alone allows a step that overflows.
    steps = [step_sizes(getattr(net, n), gradient[n]) for n in ("hidden_weight", "output_weight")]
    loose = largest_safe_rate(1.0, *steps, 0.5 * (limit - certificates(net)))
    loose = torch.as_tensor(lowered(np.minimum(loose, 1.2), dtype), dtype=dtype)
    assert getattr(step_of(net, gradient, loose), name)[0].isinf().all()


def test_the_rate_without_overflow_counts_each_format_and_refuses_what_cannot_be():
    big = torch.tensor([[1.0], [4e4], [np.nan], [1.0], [1.0]], dtype=torch.float16)
    slope = torch.tensor([[2.0], [0.0], [1.0], [0.0], [np.inf]], dtype=torch.float16)
    found = rate_without_overflow([(big, slope)])
    assert found[0] == pytest.approx(32751 / 2) and found[0] <= 32751 / 2
    assert found[1:].tolist() == [0.0, 0.0, np.inf, 0.0]
    wide = torch.ones(5, 3, 2), torch.full((5, 3, 2), 1e38)
    mixed = rate_without_overflow([(big, slope), wide])
    assert mixed[0] == pytest.approx(0.5 * 3.4028235e38 / 1e38) and mixed[3] == mixed[0]


def test_without_the_cross_term_the_budget_is_overdrawn():
    # Negative control, in exact arithmetic up to rounding.
    net = gaussian_ensemble(1, 1, seeds=(0,))
    gradient = {n: -getattr(net, n) for n in BLOCKS}
    product = float(certificates(net)[0])
    rate = torch.tensor([(7.0 - product) / (2 * product)], dtype=torch.float64)
    assert certificates(step_of(net, gradient, rate))[0] > 7.5


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
    assert found.quantity == "largest Lipschitz constant at the recorded steps"
    by_default = BudgetSchedule(limit, "sdp").verdict(run, 0)
    assert by_default.quantity == "largest L_sdp at the recorded steps"


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
