"""Certificates change little with the weights, and a promise for all later steps follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import N_STEPS, batches

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball, bracket, brackets, sampled_lower_bound, sdp_bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.descent import EventualDecay, finite_steps, sufficient_decrease
from lipbook.theorems.moduli import (
    CERTIFICATES,
    Modulus,
    certificates,
    growth,
    path_growth,
)
from lipbook.theorems.promise import Promise, SmoothPromise
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.smooth_modulus import SmoothModulus
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)
SMOOTH = [n for n in NAMES if ACTIVATIONS[n].slope_lipschitz is not None]
UP = 1 + 1e-9
# What a search for multipliers may leave of the infimum L_sdp.
SDP_GAP = 1e-3


def network(weight, bias, output, activation="relu", c=0.0):
    """One network with one output from nested lists."""
    w = torch.tensor(weight, dtype=torch.float64)
    w = w[:, None] if w.ndim == 1 else w
    return Ensemble(
        w[None],
        torch.tensor(bias, dtype=torch.float64)[None],
        torch.tensor(output, dtype=torch.float64)[None, None],
        torch.full((1, 1), c, dtype=torch.float64),
        ACTIVATIONS[activation],
    )


def moved(ensemble, seed, size, along=None):
    """Another network at a distance of about `size`, in random directions of random kinds."""
    g = np.random.default_rng([seed, 3])
    blocks = {}
    for name in ("hidden_weight", "hidden_bias", "output_weight"):
        block = getattr(ensemble, name)
        change = g.normal(size=tuple(block.shape))
        if g.random() < 0.3:  # one direction for all neurons: the steepest kind of change
            change = np.broadcast_to(change[..., :1], change.shape)
        if g.random() < 0.3:
            change = block.numpy() * g.choice([-1.0, 1.0])
        blocks[name] = block + size * g.choice([0.0, 1.0, 1.0]) * torch.from_numpy(change.copy())
    return Ensemble(**blocks, output_bias=ensemble.output_bias, activation=ensemble.activation)


def constant(ensemble, domain=(-1.0, 1.0), rel_gap=1e-5):
    layers = ensemble.hidden_weight[0], ensemble.hidden_bias[0], ensemble.output_weight[0]
    return bracket(*layers, ensemble.activation, domain=domain, rel_gap=rel_gap)


DRAWN = {
    "seed": st.integers(0, 10_000),
    "m": st.integers(1, 9),
    "activation": st.sampled_from(NAMES),
    "log_size": st.floats(-6, 2),
}


# The moduli ----------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=150, deadline=None)
@given(d=st.integers(1, 4), **DRAWN)
def test_certificates_obey_their_modulus(seed, m, d, activation, log_size):
    before = gaussian_ensemble(m, d, seeds=(seed,), activation=activation)
    after = moved(before, seed, 10.0**log_size)
    for kind in CERTIFICATES[:2] if d == 1 else CERTIFICATES[:1]:
        found = Modulus(kind).verdict(before, after)
        assert found.applies and not found.contradicted, (kind, found)
    if seed % 4 == 0:
        bound = Modulus("sdp").bound(before, after)[0]
        layers = after.hidden_weight[0], after.output_weight[0]
        assert sdp_bracket(*layers, activation).lower <= bound * UP
        assert certificates(after, "sdp")[0] <= bound * (1 + SDP_GAP)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), m=st.integers(1, 8), d=st.integers(1, 3),
       activation=st.sampled_from(NAMES))  # fmt: skip
def test_the_semidefinite_certificate_is_a_norm_of_the_products(seed, m, d, activation):
    g = np.random.default_rng(seed)
    ones = np.ones((1, m))
    one, two = g.normal(size=(2, m, d))
    cases = {"1": one, "2": two, "sum": one + two, "minus": -one, "three": 3 * one}
    value = {name: sdp_bracket(v, ones, activation) for name, v in cases.items()}
    assert value["sum"].lower <= (value["1"].upper + value["2"].upper) * UP
    assert value["minus"].lower <= value["1"].upper * UP
    assert value["1"].lower <= value["minus"].upper * UP
    assert value["three"].lower <= 3 * value["1"].upper * UP and value["1"].lower > 0
    # It sees W and a through diag(a)W alone.
    a = g.uniform(0.1, 3.0, m) * g.choice([-1.0, 1.0], m)
    split = sdp_bracket(one / a[:, None], a[None], activation)
    assert split.lower <= value["1"].upper * UP and value["1"].lower <= split.upper * UP


def test_the_modulus_is_attained():
    # One ReLU neuron with positive weights: N = L_sdp = aw, and (a + η)(w + ξ) is the modulus.
    before, after = network([2.0], [0.0], [3.0]), network([2.5], [0.0], [3.25])
    for kind in CERTIFICATES:
        assert Modulus(kind).bound(before, after)[0] == pytest.approx(2.5 * 3.25, rel=1e-4)
        assert certificates(after, kind)[0] == pytest.approx(2.5 * 3.25, rel=1e-4)
    # From a = 0 in many dimensions: N(diag(Δa)W) = L_σ‖W‖‖Δa‖ for Δa along the top singular vector.
    w = np.abs(np.random.default_rng(0).normal(size=6))
    before = network(w, np.zeros(6), np.zeros(6))
    after = network(w, np.zeros(6), 0.3 * w / np.linalg.norm(w))
    assert certificates(after, "formal")[0] == pytest.approx(
        Modulus("formal").bound(before, after)[0]
    )


def test_without_the_cross_term_the_modulus_fails():
    # Negative control.
    before, after = network([2.0], [0.0], [3.0]), network([4.0], [0.0], [6.0])
    short = certificates(before, "formal")[0] + 2.0 * 3.0 + 3.0 * 2.0
    assert certificates(after, "formal")[0] > short * 1.1
    assert certificates(after, "formal")[0] <= Modulus("formal").bound(before, after)[0] * UP


@pytest.mark.parametrize("shift", [1e-1, 1e-4, 1e-8])
def test_the_exact_constant_of_a_relu_network_has_no_modulus(shift):
    # Negative control: with the exact constants in place of N the modulus would be violated.
    pairs = 5
    weight, output = np.ones(2 * pairs), np.tile([1.0, -1.0], pairs)
    before = network(weight, np.zeros(2 * pairs), output)
    after = network(weight, np.tile([0.0, -shift], pairs), output)
    assert constant(before).upper == pytest.approx(0.0, abs=1e-12)
    formal = certificates(before, "formal")[0]
    assert constant(after).lower == pytest.approx(formal) == pytest.approx(pairs)
    assert Modulus("formal").bound(before, after)[0] == pytest.approx(formal)
    assert certificates(before, "product")[0] == pytest.approx(2 * formal)


def test_the_path_bound_of_the_growth_is_its_maximum_where_the_layers_are_equal():
    x, y, e = (np.array([v]) for v in (3.0, 3.0, 0.7))
    sigma = ACTIVATIONS["relu"]
    angle = np.linspace(0, math.pi / 2, 2001)
    found = growth(sigma, x, y, e * np.cos(angle), e * np.sin(angle)).max()
    assert found == pytest.approx(path_growth(sigma, x, y, e)[0], rel=1e-6)
    g = np.random.default_rng(1)
    for _ in range(200):
        x, y, xi, eta = g.uniform(0, 5, 4)
        assert growth(sigma, x, y, xi, eta) <= path_growth(sigma, x, y, math.hypot(xi, eta)) * UP


def test_the_algebra_of_the_growth():
    x, y, xi, eta = sympy.symbols("x y xi eta", nonnegative=True)
    assert sympy.expand((x + xi) * (y + eta) - x * y - (x * eta + (y + eta) * xi)) == 0
    p, q, room = sympy.symbols("p q room", positive=True)
    # The α of the budget: the positive root of qα² + pα = room.
    root = 2 * room / (p + sympy.sqrt(p**2 + 4 * q * room))
    assert sympy.simplify(q * root**2 + p * root - room) == 0


# Smooth activations --------------------------------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(radius=st.sampled_from([0.3, 1.0, 3.0]), **{**DRAWN, "activation": st.sampled_from(SMOOTH)})
def test_a_smooth_network_obeys_its_modulus(seed, m, activation, log_size, radius):
    before = gaussian_ensemble(m, 1, seeds=(seed,), activation=activation)
    after = moved(before, seed, 10.0**log_size)
    ends = [constant(e, (-radius, radius)) for e in (before, after)]
    found = SmoothModulus(radius).verdict(before, after, (ends[0].upper, ends[1].lower))
    assert found.applies and not found.contradicted, found


@pytest.mark.parametrize("seed", range(12))
def test_a_smooth_network_of_two_inputs_obeys_its_modulus(seed):
    before = gaussian_ensemble(4, 2, seeds=(seed,), activation=SMOOTH[seed % len(SMOOTH)])
    after = moved(before, seed, 10.0 ** (seed / 4 - 2))
    # Any number that is at least Lip on the ball serves as `known`; any sampled gradient is below.
    known = constant(before, Ball([0.0, 0.0], 1.0), rel_gap=0.05).upper
    g = np.random.default_rng(seed)
    points = g.normal(size=(3000, 2))
    points *= (np.sqrt(g.random(3000)) / np.linalg.norm(points, axis=1))[:, None]
    layers = after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0]
    steep = sampled_lower_bound(*layers, points, after.activation)
    assert steep <= SmoothModulus(1.0).bound(before, after, np.array([known]))[0] * UP


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
def test_the_smooth_modulus_is_attained_to_first_order(activation):
    # One neuron at its point of greatest curvature, a tiny domain, a small change of the bias.
    sigma = ACTIVATIONS[activation]
    z = np.linspace(-3, 3, 60001)
    at = float(z[np.argmax(sigma.curvature(z))])
    before, after = (network([1.0], [at + s], [1.0], activation) for s in (0.0, 1e-3))
    ends = [constant(e, (-1e-7, 1e-7), rel_gap=1e-9) for e in (before, after)]
    found = SmoothModulus(1e-7).verdict(before, after, (ends[0].upper, ends[1].lower))
    assert not found.contradicted
    assert (ends[1].lower - ends[0].upper) / (found.bound - ends[0].upper) >= 0.99


def test_on_the_whole_plane_a_smooth_network_has_no_modulus():
    # Negative control: the bound with any fixed B is broken far out.
    for shift in (1e-2, 1e-4):
        before = network([[1.0, 0.0], [1.0, 0.0]], [0.0, 0.0], [1.0, -1.0], "tanh")
        after = network([[1.0, 0.0], [1.0, shift]], [0.0, 0.0], [1.0, -1.0], "tanh")
        far = np.array([[0.0, 10 / shift]])
        layers = after.hidden_weight[0], after.hidden_bias[0], after.output_weight[0]
        steep = sampled_lower_bound(*layers, far, "tanh")
        assert steep > 0.999
        assert SmoothModulus(1.0).bound(before, after, np.zeros(1))[0] < 10 * shift


def test_smooth_verdicts_take_both_values_and_refuse():
    before = gaussian_ensemble(3, 1)
    found = SmoothModulus(1.0).verdict(before, before, (1.0, 1.0))
    assert not found.applies and found.failed.name == "H2" and found.bound is None
    with pytest.raises(
        HypothesisError, match=r"`activation` must have a Lipschitz slope for thm-s"
    ):
        SmoothModulus(1.0).bound(before, before, np.ones(1))
    two = gaussian_ensemble(3, 1, 2, activation="tanh")
    assert SmoothModulus(1.0).verdict(two, two, (1.0, 1.0)).failed.name == "H1"
    with pytest.raises(
        HypothesisError, match=r"`ensemble` must have one output for thm-smooth-mod"
    ):
        SmoothModulus(1.0).bound(two, two, np.ones(1))
    with pytest.raises(
        HypothesisError, match=r"`before` must have one output for thm-modulus \(H1"
    ):
        Modulus("formal").bound(two, two)
    assert Modulus("formal").verdict(two, two).failed.name == "H1"
    broken = network([math.nan], [0.0], [1.0])
    assert Modulus().verdict(broken, broken).failed.name == "H2"
    assert certificates(broken)[0] == math.inf
    with pytest.raises(
        ValueError, match=r"`certificate` must be one of product, formal, sdp. Got 'x"
    ):
        certificates(before, "x")
    with pytest.raises(
        ValueError, match=r"`certificate` must be 'product' or 'sdp' for several inp"
    ):
        certificates(gaussian_ensemble(3, 2), "formal")
    with pytest.raises(ValueError, match=r"`certificate` must be 'product' for several outputs"):
        certificates(two, "sdp")


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
            found = SmoothPromise(start, 1.5).verdict(run, 0, (1.0, 1.0))
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
                found = SmoothPromise(start, 1.5).verdict(run, k, (ends[0].upper, ends[1].lower))
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
    assert SmoothPromise(0, 1.0).verdict(endless, 0, (1.0, 1.0)).failed.name == "H2"
