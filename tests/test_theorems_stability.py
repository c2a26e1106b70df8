"""Stable minima: no sharper than 2/α, flat at the data, and nowhere else; controls."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches, kind_of

from lipbook.activations import ACTIVATIONS
from lipbook.data import TARGETS
from lipbook.kernels import Curvature, exact_sharpness, parameter_jacobian
from lipbook.lipschitz import brackets
from lipbook.losses import get_loss
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError
from lipbook.theorems.minima import Minimum
from lipbook.theorems.stability import StableConverse, StableData, StableSharpness
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)


def network(weight, bias, output, activation="tanh", c=0.0):
    w, b, a = (torch.tensor(v, dtype=torch.float64) for v in (weight, bias, output))
    end = torch.tensor([[c]], dtype=torch.float64)
    return Ensemble(w[None, :, None], b[None], a[None, None], end, ACTIVATIONS[activation])


def interpolating(ensemble, x, rate, loss="mse"):
    """The minimum at which this network meets every target."""
    return Minimum(ensemble, x, ensemble(x)[0], get_loss(loss, 0.7), rate)


def parabola(rate):
    x = torch.zeros(1, 1, dtype=torch.float64)
    return interpolating(network([0.0], [0.0], [0.0]), x, rate)


def top(minimum):
    jacobian = parameter_jacobian(minimum.network, minimum.x)[0]
    return float(torch.linalg.matrix_norm(jacobian, ord=2)) ** 2


# Sharpness --------------------------------------------------------------------------------------


def test_the_sharpness_bound_is_attained_within_a_percent_and_control():
    near = StableSharpness().verdict(parabola(1.99))
    assert near.applies and not near.contradicted and near.measured >= 0.99 * near.bound
    # Negative control: at a larger rate the same minimum is sharper than 2/α, and not stable.
    beyond = StableSharpness().verdict(parabola(2.1))
    assert beyond.measured > beyond.bound and beyond.failed.name == "H3"


def edge_run(n_steps, shares=(0.25, 0.9), activation="tanh", n=4, m=8):
    x = torch.cos((2 * torch.arange(n, dtype=torch.float64) + 1) * math.pi / (2 * n))[:, None]
    y = torch.from_numpy(TARGETS["zigzag"].function(x.numpy()))
    seeds = [seed for seed in (0, 1, 2) for _ in shares]
    ensemble = gaussian_ensemble(m, 1, seeds=seeds, activation=activation)
    first = exact_sharpness(Curvature.of(ensemble, x, y, get_loss("mse")))
    rates = [s * 2 / h for s, h in zip(shares * 3, first, strict=True)]
    schedules = [make_schedule("constant", rate, n_steps=n_steps) for rate in rates]
    run = train(ensemble, x, y, schedules, n_steps, on_divergence="record")
    return run, [
        Minimum(run.ensemble.select([i]), x, y, get_loss("mse"), rate)
        for i, rate in enumerate(rates)
    ]


def test_where_constant_rates_settle_the_sharpness_is_below_the_edge():
    run, ends = edge_run(1500)
    applies = 0
    for end in ends:
        for found in (
            StableSharpness().verdict(end),
            StableData().verdict(end),
            StableData().verdict(end, part="parameters"),
            StableConverse().verdict(end),
        ):
            assert not found.contradicted, found
            applies += found.applies
    assert applies >= 8
    # On the way these runs were sharper than their limit: the theorem is about where they stay.
    curvatures = [
        exact_sharpness(Curvature.of(c, ends[0].x, ends[0].y, get_loss("mse")))
        for c in run.checkpoints
    ]
    assert (np.array(curvatures) * run.learning_rates[0] / 2 > 1.02).any()


def test_before_it_settles_the_verdict_does_not_apply():
    _, ends = edge_run(20)
    assert all(StableSharpness().verdict(end).failed.name == "H1" for end in ends)
    assert all(StableData().verdict(end).failed.name == "H1" for end in ends)


def test_verdicts_on_the_ends_of_random_runs_are_never_contradicted():
    seen = set()
    for each in batches()[::3]:
        for index in range(0, 8, 3):
            rate = float(each.run.schedules[index].learning_rate)
            end = Minimum(each.run.ensemble.select([index]), each.x, each.y, each.run.loss, rate)
            for theorem in (StableSharpness(), StableData(), StableConverse()):
                found = theorem.verdict(end)
                assert not found.contradicted, found
                seen.add((kind_of(each.run, index), found.applies))
    assert {kind for kind, applies in seen if not applies} == {
        "divergent",
        "oscillating",
        "descending",
    }


def test_a_kink_is_outside_of_the_hypotheses():
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    end = interpolating(network([1.0], [0.0], [1.0], "relu"), x, 0.1)
    assert StableSharpness().verdict(end).failed.name == "H2"
    away = interpolating(network([1.0], [0.3], [1.0], "relu"), x, 0.1)
    assert StableSharpness().verdict(away).applies
    corner = Minimum(away.network, x, away.y + 0.7, get_loss("huber", 0.7), 0.1)
    assert not corner.off_kinks().holds


def test_a_sharp_minimum_can_be_reached_but_not_stayed_at():
    # Exact landing: f = c and rate 1 of a sharper problem, two neurons at rest; moved, it leaves.
    x = torch.tensor([[1.0]], dtype=torch.float64)
    sharp = interpolating(network([2.0], [0.0], [1.0]), x, 1.0)
    assert exact_sharpness(Curvature.of(sharp.network, x, sharp.y, sharp.loss))[0] > 1.9
    still = sharp.follow(sharp.network, 50)
    assert float(sharp.offset(still).norm()) < 1e-12
    fast = replace(sharp, rate=1.05 * 2 / top(sharp))
    found = StableSharpness().verdict(fast)
    assert found.failed.name == "H3" and found.measured > found.bound
    slow = replace(sharp, rate=0.95 * 2 / top(sharp))
    assert StableSharpness().verdict(slow).applies


# Slopes at the data -----------------------------------------------------------------------------

CASES = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(NAMES),
    "m": st.integers(1, 10),
    "d": st.integers(1, 3),
    "n": st.integers(1, 5),
    "share": st.sampled_from([0.3, 0.8, 0.99]),
    "loss": st.sampled_from(["mse", "huber"]),
}


@settings(derandomize=True, max_examples=40, deadline=None)
@given(**CASES)
def test_stable_networks_are_flat_at_the_data(seed, activation, m, d, n, share, loss):
    generator = np.random.default_rng(seed)
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), activation=activation)
    x = torch.from_numpy(generator.uniform(-1.5, 1.5, (n, d)))
    end = interpolating(ensemble, x, 1.0, loss)
    end = replace(end, rate=share * 2 * n / top(end))
    theorem = StableData()
    assert (theorem.slopes(end) <= theorem.bound(end) * (1 + 1e-9)).all()
    assert (theorem.parameter_slopes(end) <= 2 * n / end.rate * (1 + 1e-9)).all()
    found, converse = StableSharpness().verdict(end), StableConverse().verdict(end)
    assert not found.contradicted and not converse.contradicted
    if converse.applies:
        assert found.hypotheses[2].holds


def test_the_slope_bound_is_attained_within_a_percent():
    x = torch.tensor([[0.5]], dtype=torch.float64)
    end = interpolating(network([0.3], [0.1], [8.0]), x, 1.0)
    end = replace(end, rate=0.995 * 2 / top(end))
    found = StableData().verdict(end)
    assert found.applies and 0.99 <= found.measured / found.bound <= 1
    assert StableConverse().verdict(end).applies


def test_without_stability_the_slope_bound_fails():
    # Negative control: one rate above 2n/λ_max, the same network; the slope exceeds its bound.
    x = torch.tensor([[0.5]], dtype=torch.float64)
    end = interpolating(network([0.3], [0.1], [8.0]), x, 1.0)
    end = replace(end, rate=1.1 * 2 / top(end))
    found = StableData().verdict(end)
    assert found.failed.name == "H3" and found.measured > found.bound
    too_fast = replace(end, rate=3.0)
    assert StableData().verdict(too_fast).bound is None
    assert not StableData().verdict(too_fast).applies


def test_flat_at_the_data_and_as_steep_as_one_likes_in_between():
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    for steep in (10.0, 100.0, 1000.0):
        end = interpolating(network([steep], [0.0], [1.0]), x, 1.5)
        found = StableData().verdict(end)
        assert found.applies and found.measured < 1e-6
        assert StableSharpness().verdict(end).applies
        constant = brackets(end.network, domain=(-1.0, 1.0), rel_gap=1e-3)
        assert constant.lower[0] == pytest.approx(steep, rel=2e-3)


# The converse -----------------------------------------------------------------------------------


def test_the_converse_needs_independent_gradients_and_a_small_rate():
    x = torch.tensor([[0.2], [0.9]], dtype=torch.float64)
    end = interpolating(gaussian_ensemble(6, 1, seeds=(0,), activation="tanh"), x, 1.0)
    below, above = (replace(end, rate=s * 4 / top(end)) for s in (0.9, 1.1))
    assert StableConverse().verdict(below).applies
    assert StableConverse().verdict(above).failed.name == "H4"
    twice = interpolating(end.network, x[[0, 0]], 0.1)
    assert StableConverse().verdict(twice).failed.name == "H3"
    assert StableConverse().verdict(replace(below, y=below.y + 1)).failed.name == "H1"


@pytest.mark.parametrize("activation", ["relu", "leaky relu", "abs"])
def test_off_its_kinks_a_piecewise_linear_activation_will_do(activation):
    applied = 0
    for seed in range(8):
        x = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (2, 1)))
        end = interpolating(gaussian_ensemble(5, 1, seeds=(seed,), activation=activation), x, 1.0)
        found = StableConverse().verdict(replace(end, rate=0.9 * 4 / top(end)))
        assert not found.contradicted
        applied += found.applies
    assert applied >= 4
    # The edge of stability: one neuron, both sides of 2/λ_max.
    one = interpolating(network([1.0], [0.0], [1.0], activation), torch.ones(1, 1).double(), 0.49)
    slow, fast = StableConverse().verdict(one), StableConverse().verdict(replace(one, rate=0.51))
    assert slow.applies and slow.measured <= slow.bound and fast.failed.name == "H4"


def test_across_a_kink_starts_may_leave():
    # Negative control: beyond the kink the kernel is 101 in place of 1, and the rate too large.
    x = torch.zeros(1, 1, dtype=torch.float64)
    near, far = (interpolating(network([1.0], [b], [10.0], "relu"), x, 1.0) for b in (-1e-7, -0.3))
    found, theorem = StableConverse().verdict(near), StableConverse()
    assert [h.holds for h in found.hypotheses] == [True, False, True, True]
    assert theorem._reach(near, 0) > 4 * theorem.bound(near)
    assert theorem.verdict(far).applies and not theorem.verdict(far).contradicted


def test_starts_near_by_stay_within_the_distance_that_is_said():
    ratios = []
    for seed in range(6):
        x = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, (2, 1)))
        end = interpolating(gaussian_ensemble(5, 1, seeds=(seed,), activation="tanh"), x, 1.0)
        found = StableConverse().verdict(replace(end, rate=0.7 * 4 / top(end)))
        assert found.applies and not found.contradicted
        ratios.append(found.measured / found.bound)
    assert 0.02 < max(ratios) <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: StableSharpness().bound(0.0), r"`rate` must be positive for thm-stable-sharpness"),
        (lambda: StableData().bound(parabola(3.0)), r"`minimum` must leave 2n/α − 1 − ‖σ"),
        (lambda: StableData().bound(parabola(0.0)), r"`minimum` must have a positive rate for"),
        (lambda: StableConverse().bound(parabola(2.5)), r"`minimum` must have a rate below 2 for"),
        (
            lambda: StableConverse().bound(
                interpolating(network([1.0], [0.0], [1.0]), torch.ones(2, 1).double(), 0.1)
            ),
            r"`minimum` must have independent gradients for prop-stable-converse \(H3\)",
        ),
    ],
)
def test_refusals_name_the_hypothesis(call, message):
    with pytest.raises(HypothesisError, match=message):
        call()


def test_a_network_that_overflowed_is_no_minimum():
    broken = network([math.nan], [0.0], [1.0])
    end = Minimum(
        broken, torch.zeros(1, 1).double(), torch.zeros(1, 1).double(), get_loss("mse"), 1.0
    )
    for theorem in (StableSharpness(), StableData(), StableConverse()):
        found = theorem.verdict(end)
        assert not found.applies and not found.contradicted
