"""How fast gradients turn at any depth: against Hessians and measured changes, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from deep_runs import SMOOTH, UP, drawn_problem, odd_chain
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import deep_train
from lipbook.losses import get_loss
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError, Setting
from lipbook.theorems.deep_descent import (
    DeepDescent,
    DeepSelfConsistentRate,
    DeepSmoothness,
    deep_mass_smoothness,
    deep_smoothness,
    deep_turning,
)
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.dichotomy import IDENTITY
from lipbook.theorems.smoothness import smoothness, turning

MSE = get_loss("mse")


def scaled(networks, factor):
    """The same networks, all parameters times a factor."""
    return replace(
        networks,
        weights=tuple(w * factor for w in networks.weights),
        biases=tuple(b * factor for b in networks.biases),
    )


def hessian_norm(networks, x):
    """‖∇²_Θ f(x)‖ of one network with one output, by automatic differentiation."""
    blocks = [block[0] for block in networks.blocks()]
    sizes = [block.numel() for block in blocks]

    def output(flat):
        parts = [p.view(b.shape) for p, b in zip(flat.split(sizes), blocks, strict=True)]
        hidden = x
        for layer in range(networks.depth):
            hidden = parts[2 * layer] @ hidden + parts[2 * layer + 1]
            if layer + 1 < networks.depth:
                hidden = networks.activation.value(hidden)
        return hidden[0]

    flat = torch.cat([block.flatten() for block in blocks])
    found = torch.autograd.functional.hessian(output, flat)
    return float(torch.linalg.matrix_norm(found, ord=2))


def chain(weights, x):
    """One neuron a layer, σ = id, biases 0, and its setting for the one input x."""
    blocks = tuple(torch.tensor([[[w]]], dtype=torch.float64) for w in weights)
    zero = torch.zeros(1, 1, dtype=torch.float64)
    networks = DeepEnsemble(blocks, (zero,) * len(weights), IDENTITY)
    return networks, DeepSetting(IDENTITY, (1,) * (len(weights) - 1), x, 1.0, MSE)


# How fast the gradient of the network turns --------------------------------------------------


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.sampled_from(SMOOTH), st.floats(-1.5, 1.0))
def test_no_hessian_is_larger_than_the_turning(seed, depth, activation, log_norm):
    networks, x, y, loss = drawn_problem(seed, depth, activation, "mse", 0.0)
    norm = 10.0**log_norm
    networks = scaled(networks, norm / float(networks.parameter_norm()[0]))
    setting = DeepSetting.of(networks, x[:1], y[:1], loss)
    bound = deep_turning(setting, norm)
    assert hessian_norm(networks, x[0]) <= bound * UP
    assert bound <= deep_turning(setting, 1.001 * norm)


@pytest.mark.parametrize("name", SMOOTH)
def test_with_two_layers_the_turning_is_the_older_one_and_with_one_it_is_zero(name):
    old = Setting(ACTIVATIONS[name], 7, 2, 5, 1.7, 1.0, 1.0, get_loss("huber", 0.4))
    new = DeepSetting.of_two_layers(old)
    for norm in (0.0, 0.2, 5.0, 300.0):
        assert deep_turning(new, norm) == pytest.approx(turning(old, norm), rel=1e-12, abs=0.0)
        for risk in (0.0, 0.1, 9.0):
            wanted = float(smoothness(old, norm, risk))
            assert deep_smoothness(new, norm, risk) == pytest.approx(wanted, rel=1e-12, abs=0.0)
    assert deep_turning(replace(new, hidden_widths=()), 5.0) == 0.0
    assert deep_smoothness(new, math.inf, 1.0) == math.inf


def test_the_turning_is_attained_and_needs_norm_radius_and_curvature():
    # f = w₂(w₁x + b₁) + b₂ has the Hessian of a product: ‖∇²f‖ = √(1 + x²) = κ, whatever U.
    networks, setting = chain((3.0, 0.0), 4.0)
    found = hessian_norm(networks, torch.tensor([4.0]).double())
    assert found == pytest.approx(deep_turning(setting, 3.0), rel=1e-12, abs=0.0)
    assert found > deep_turning(setting.bounded_by(3.5), 3.0)
    # Three layers, all of the norm in the middle: about half of the bound, and more than at U/3.
    networks, setting = chain((0.0, 30.0, 0.0), 4.0)
    found = hessian_norm(networks, torch.tensor([4.0]).double())
    assert 0.49 <= found / deep_turning(setting, 30.0) <= 1.0
    assert found > deep_turning(setting, 10.0)
    # One tanh neuron where |σ''| is largest: without L_σ' the bound fails.
    z = math.asinh(1 / math.sqrt(2))
    w, a = torch.tensor([[[z]]]).double(), torch.tensor([[[9.0]]]).double()
    zero = torch.zeros(1, 1).double()
    networks = DeepEnsemble((w, a), (zero, zero), ACTIVATIONS["tanh"])
    setting = replace(chain((1.0, 1.0), 1.0)[1], activation=networks.activation)
    found, norm = hessian_norm(networks, torch.ones(1).double()), math.hypot(z, 9.0)
    assert 0.97 < found / deep_turning(setting, norm) <= 1.0
    flat = replace(networks.activation, slope_lipschitz=0.0)
    assert found > deep_turning(replace(setting, activation=flat), norm)


# How fast the gradient of the risk turns -----------------------------------------------------


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from(SMOOTH),
       st.sampled_from(["mse", "huber"]), st.floats(-1, 0.7), st.floats(-6, 1))  # fmt: skip
def test_gradients_change_no_faster_than_the_smoothness(
    seed, depth, activation, loss, scale, log_step
):
    here, x, y, phi = drawn_problem(seed, depth, activation, loss, scale)
    g = np.random.default_rng(seed)

    def moved(block):
        return block + 10.0**log_step * torch.from_numpy(g.normal(size=tuple(block.shape)))

    there = DeepEnsemble(
        tuple(map(moved, here.weights)), tuple(map(moved, here.biases)), here.activation
    )
    setting = DeepSetting.of(here, x, y, phi)
    found = DeepSmoothness().verdict(setting, here, there, (x, y), "a pair")
    assert found.applies and not found.contradicted and found.subject == "a pair"
    back = DeepSmoothness().verdict(setting, there, here, (x, y))
    assert back.bound == found.bound and back.measured == pytest.approx(found.measured)
    still = DeepSmoothness().verdict(setting, here, here, (x, y))
    assert still.measured == 0.0 and not still.contradicted


def test_the_smoothness_is_attained_by_one_layer_and_needs_the_pull():
    networks, x, y = odd_chain(1, 2.0, 0.0)
    setting = DeepSetting.of(networks, x, y, MSE)
    found = DeepSmoothness().verdict(setting, networks, scaled(networks, 0.5), (x, y))
    # The gradient moves by x² = 1 a unit, the bound is 1 + x² = 2: a bias would take the rest.
    assert (found.measured, found.bound) == (pytest.approx(1.0), pytest.approx(2.0))
    one = DeepEnsemble((torch.ones(1, 1, 1).double(),), (torch.ones(1, 1).double(),), IDENTITY)
    data = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    found = DeepSmoothness().verdict(setting, one, scaled(one, 0.5), data)
    assert found.measured == pytest.approx(found.bound, rel=1e-12, abs=0.0)
    # A far target: with the pull as if the risk were 0 the bound fails.
    networks, x, y = odd_chain(3, 1.0, 1000.0)
    far = replace(networks, weights=(*networks.weights[:2], networks.weights[2] * 1.001))
    found = DeepSmoothness().verdict(DeepSetting.of(networks, x, y, MSE), networks, far, (x, y))
    norm = float(far.parameter_norm()[0])
    assert not found.contradicted
    assert found.measured > deep_smoothness(DeepSetting.of(networks, x, y, MSE), norm, 0.0)


def test_kinks_are_refused_by_name():
    networks, x, y, phi = drawn_problem(3, 3, "relu", "mse", 0.0)
    setting = DeepSetting.of(networks, x, y, phi)
    found = DeepSmoothness().verdict(setting, networks, scaled(networks, 2.0), (x, y))
    assert (found.failed.name, found.bound) == ("H1", None) and "does not apply" in found.line()
    message = (
        r"`activation` must have a Lipschitz slope for lem-deep-smoothness \(H1\)\. Got 'relu'"
    )
    for ask in (
        lambda: deep_turning(setting, 1.0),
        lambda: deep_smoothness(setting, 1.0, 1.0),
        lambda: deep_mass_smoothness(setting, 1.0, 1.0, 1.0),
        lambda: DeepSelfConsistentRate(setting, 1.0, 1.0).schedule(),
        lambda: DeepDescent().steps_between(setting, 1.0, 1.0, 1.0),
    ):
        with pytest.raises(HypothesisError, match=message):
            ask()
    run = deep_train(networks, x, y, make_schedule("constant", 1e-3, n_steps=3), 3)
    found = DeepDescent().verdict(run, 0, setting)
    assert [h.name for h in found.hypotheses] == ["H1", "H2"] and found.failed.name == "H1"
