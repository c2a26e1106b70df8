"""Bounded activations at any depth: polynomials of the pull bound every layer of every run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
import torch
from deep_runs import UP, each_run
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble, gaussian_deep_ensemble
from lipbook.deep_training import deep_train
from lipbook.lipschitz.deep import deep_product_upper_bound
from lipbook.losses import get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.bounded_activation import BoundedActivation
from lipbook.theorems.deep_bounded import DeepBounded
from lipbook.theorems.deep_path import weight_norms
from lipbook.theorems.deep_setting import DeepSetting

NAMES, LOSSES = st.sampled_from(["tanh", "sigmoid"]), st.sampled_from(["mse", "huber"])


def run_of(activation, depth, loss, log_rate, seed, target=3.0, reach=1.0):
    g = np.random.default_rng([seed, depth])
    widths = (2, *(int(m) for m in g.integers(1, 5, depth - 1)), 1)
    networks = gaussian_deep_ensemble(widths, seeds=(seed,), activation=activation)
    x = torch.from_numpy(g.normal(size=(6, 2)) * reach)
    y = torch.from_numpy(g.normal(size=(6, 1)) * target)
    names = ("constant", "exponential", "power", "cosine")
    plan = make_schedule(names[seed % 4], 10.0**log_rate, n_steps=25)
    run = deep_train(networks, x, y, plan, 25, loss=loss, huber_delta=0.4, steps=range(26),
                     on_divergence="record")  # fmt: skip
    return run, DeepSetting.of(networks, x, y, run.loss), x, y


def pulls(run, x, y):
    """Σα_t·(1/n)Σ|φ'(r_i)| at every step, of one network, recomputed from its weights."""
    found = [float(run.loss.derivative(each(x)[0] - y).abs().mean()) for each in run.checkpoints]
    return np.concatenate([[0.0], np.cumsum(run.learning_rates[:, 0] * found[:-1])])


# The polynomials -----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_the_polynomials_are_the_page_s_and_their_degrees_double(depth):
    p, slope = sp.symbols("p L_sigma")
    w = sp.symbols([f"w_{layer}" for layer in range(1, depth + 1)])
    gamma = sp.symbols([f"Gamma_{layer}" for layer in range(depth)])
    page = [w[-1] + gamma[-1] * p]
    for layer in range(depth - 1, 0, -1):
        speed = sp.expand(gamma[layer - 1] * slope ** (depth - layer) * sp.prod(page))
        page.insert(0, w[layer - 1] + sp.integrate(speed, p))
    widths = (3, 2, 5)[: depth - 1]
    setting = DeepSetting(ACTIVATIONS["sigmoid"], widths, 1.5, 1.0, get_loss("mse"))
    theorem, norms = DeepBounded(setting), np.array([0.3, 2.0, 1.0, 0.7])[:depth]
    gammas = [3.25**0.5, *((1.0 + m) ** 0.5 for m in widths)]
    assert theorem.gammas == pytest.approx(gammas, rel=1e-14, abs=0.0)
    found = theorem.layer_bounds(norms)
    assert [x.degree() for x in found] == [2**k for k in range(depth)][::-1]
    for ours, wanted in zip(found, page, strict=True):
        assert sp.degree(wanted, p) == ours.degree()
        exact = sp.lambdify((p, slope, *w, *gamma), wanted)
        for at in (0.0, 0.1, 1.3, 20.0):
            assert ours(at) == pytest.approx(exact(at, 0.25, *norms, *gammas), rel=1e-12, abs=0.0)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.integers(0, 10_000), NAMES, LOSSES, st.integers(1, 12), st.floats(-3, 0.3))
def test_two_layers_are_bounded_at_least_as_well_as_before(seed, name, loss, width, log_mass):
    flat = gaussian_ensemble(width, 2, seeds=(seed,), activation=name)
    g = np.random.default_rng(seed)
    x, y = torch.from_numpy(g.normal(size=(4, 2))), torch.from_numpy(g.normal(size=(4, 1)) * 5.0)
    old = Setting.of(flat, x, y, get_loss(loss, 0.3))
    w, b, a, c = flat.blocks()
    c = c + float(g.normal())
    flat = replace(flat, output_bias=c)
    start = DeepEnsemble((w, a), (b, c), flat.activation)
    mass = np.array([10.0**log_mass])
    deep = DeepBounded(DeepSetting.of_two_layers(old)).bound(start, mass)
    assert (deep <= BoundedActivation(old).bound(flat, mass) * UP).all()
    assert DeepBounded(DeepSetting.of_two_layers(old)).bound(start, 0.0 * mass) == pytest.approx(
        old.activation.lipschitz * weight_norms(start).prod(), rel=1e-12
    )


# Runs ----------------------------------------------------------------------------------------


def test_the_bound_holds_at_every_step_of_all_runs_and_no_verdict_is_contradicted():
    applied, others = 0, 0
    for b, k in each_run():
        last, theorem = b.last_step(k), DeepBounded(b.setting)
        step = int(np.nanargmax(b.products[: last + 1, k]))
        layers = b.run.checkpoints[step].layers(k)
        verdict = theorem.verdict(b.run, k, deep_product_upper_bound(layers, b.setting.activation))
        assert not verdict.contradicted, verdict.line()
        if b.setting.activation.bound is None:
            assert {h.name for h in verdict.hypotheses if not h.holds} >= {"H2"}
            assert verdict.bound is None
            others += 1
            continue
        bounds = theorem.bounds(b.run)[:, k]
        assert (b.products[: last + 1, k] <= bounds[: last + 1] * UP).all()
        assert verdict.applies == (not b.run.diverged[k])
        applied += verdict.applies
    assert applied >= 25 and others >= 100


@settings(derandomize=True, max_examples=45, deadline=None)
@given(NAMES, st.integers(1, 5), LOSSES, st.floats(-2, 5), st.integers(0, 10_000),
       st.sampled_from([0, 7]))  # fmt: skip
def test_pull_and_every_layer_stay_below_their_bounds(name, depth, loss, log_rate, seed, start):
    run, setting, x, y = run_of(name, depth, loss, log_rate, seed)
    last = run.n_steps if run.diverged_at[0] < 0 else int(run.diverged_at[0]) - 1
    theorem = DeepBounded(setting, start)
    bounds = theorem.bounds(run)[:, 0]
    assert np.isnan(bounds[:start]).all()
    if last < start:
        return
    assert not np.isnan(bounds[start : last + 1]).any()
    kept, spent = run.checkpoints[start], pulls(run, x, y)
    allowed = theorem.pull_path(kept, run.mass - run.mass[start])[:, 0]
    walked = spent - spent[start]
    seen = slice(start, last + 1)
    assert (walked[seen] <= allowed[seen] * UP + 1e-12 * spent[seen]).all()
    layers = theorem.layer_bounds(weight_norms(kept)[:, 0])
    slope = setting.activation.lipschitz ** (depth - 1)
    for step in range(start, last + 1):
        norms = weight_norms(run.checkpoints[step])[:, 0]
        # With the pull as it was: sharper than with its bound.
        sharp = np.array([each(walked[step]) for each in layers])
        rounding = 1e-12 * spent[step] / max(walked[step], 1e-300) if step > start else 0.0
        assert (norms <= sharp * UP * (1.0 + rounding)).all()
        assert slope * norms.prod() <= bounds[step] * UP


def exceeded(run, setting, last):
    """Tell whether some layer of a run grew beyond its polynomial at some step."""
    theorem, start = DeepBounded(setting), run.checkpoints[0]
    pull = theorem.pull_path(start, run.mass)[:, 0]
    layers = theorem.layer_bounds(weight_norms(start)[:, 0])
    norms = [weight_norms(each)[:, 0] for each in run.checkpoints[: last + 1]]
    bounds = np.stack([each(pull[: last + 1]) for each in layers], axis=1)
    return bool((np.array(norms) > bounds * UP).any())


@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_wrong_bound_of_activation_targets_or_loss_is_seen(depth, loss):
    broken = [0, 0]
    for seed in range(8):
        run, setting, *_ = run_of("abs", depth, loss, -4.0, seed, target=1e3, reach=30.0)
        last = 25 if run.diverged_at[0] < 0 else int(run.diverged_at[0]) - 1
        fake = replace(setting, activation=replace(setting.activation, bound=1e-3))
        broken[0] += exceeded(run, fake, last)
        # Targets a hundred times as far as is said, and Huber's δ a hundred times as large.
        run, setting, *_ = run_of("tanh", depth, loss, -2.0, seed, target=30.0)
        assert not exceeded(run, setting, 25)
        fake = replace(setting, target_rms=0.01 * setting.target_rms)
        broken[1] += exceeded(run, replace(fake, loss=get_loss(loss, 0.004)), 25)
    assert min(broken) >= 2, broken


def test_one_layer_nearly_attains_the_bound_under_huber():
    # f = wx + b, x = 50 and a far target: every step pulls at δ, w grows by δx a unit of mass.
    networks = DeepEnsemble(
        (torch.ones(1, 1, 1).double(),), (torch.zeros(1, 1).double(),), ACTIVATIONS["tanh"]
    )
    x, y = torch.tensor([[50.0]]).double(), torch.tensor([[1e6]]).double()
    run = deep_train(networks, x, y, make_schedule("constant", 1.0, n_steps=9), 9, loss="huber",
                     huber_delta=0.4)  # fmt: skip
    found = DeepBounded(DeepSetting.of(networks, x, y, run.loss)).verdict(
        run, 0, float(run.ensemble.weights[0].item())
    )
    assert found.applies and not found.contradicted and found.measured > 0.999 * found.bound


def test_unbounded_activations_are_refused_and_huge_masses_bound_nothing():
    networks = gaussian_deep_ensemble((2, 3, 3, 1), activation="relu")
    setting = DeepSetting(networks.activation, (3, 3), 1.0, 1.0, get_loss("mse"))
    message = r"`activation` must be bounded for thm-deep-bounded \(H2\)\. Got 'relu'\. Use tanh"
    theorem = DeepBounded(setting)
    for ask in (
        lambda: theorem.gammas,
        lambda: theorem.pull_path(networks, np.array([1.0])),
        lambda: theorem.layer_bounds(np.ones(3)),
        lambda: theorem.bound(networks, np.array([1.0])),
    ):
        with pytest.raises(HypothesisError, match=message):
            ask()
    networks = gaussian_deep_ensemble((2, 3, 3, 1), activation="tanh")
    theorem = DeepBounded(replace(setting, activation=networks.activation))
    mass = np.array([[0.0], [1.0], [1e3], [np.inf], [np.nan]])
    found = theorem.bound(networks, mass)[:, 0]
    assert np.isfinite(found[:2]).all() and found[0] < found[1]
    assert (found[2:4] == np.inf).all() and np.isnan(found[4])
    # Huber's δS stays finite where the exponential does not.
    calm = DeepBounded(replace(theorem.setting, loss=get_loss("huber", 0.4)))
    found = calm.bound(networks, mass)[:, 0]
    assert np.isfinite(found[:3]).all() and found[3] == np.inf
    assert calm.pull_path(networks, mass)[2, 0] == pytest.approx(400.0)
