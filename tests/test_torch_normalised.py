"""Rates divided by the gradient in a plain PyTorch loop, against the book's own trainer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lipbook.caps.normalised import NormalisedRate
from lipbook.caps.torch_normalised import ModuleNormalisedRate
from lipbook.caps.torch_self_consistent import ModuleSelfConsistent
from lipbook.deep_networks import gaussian_deep_ensemble
from lipbook.deep_training import deep_train
from lipbook.losses import get_loss
from lipbook.schedules import ExponentialRate, make_schedule
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.refusal import HypothesisError
from lipbook.torch_tools import hook

WIDTHS = (2, 5, 4, 1)
STEPS = 60


def module_of(ensemble, activation):
    """The first network as an nn.Sequential with the same numbers."""
    layers = []
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        linear = nn.Linear(weight.shape[2], weight.shape[1]).double()
        with torch.no_grad():
            linear.weight.copy_(weight[0])
            linear.bias.copy_(bias[0])
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


@pytest.fixture
def problem():
    generator = np.random.default_rng(3)
    x = torch.from_numpy(generator.uniform(-1, 1, (12, 2)))
    return x, torch.sin(3 * x.sum(1, keepdim=True))


def trained(model, x, y, rate, cap, tell=False):
    """Train in a plain loop and return the length of every step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    hook(optimizer, model, cap)
    lengths, risks = [], []
    for _ in range(STEPS):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        loss = 0.5 * (model(x) - y).square().mean()
        loss.backward()
        if tell:
            cap.risk = loss.item()
        optimizer.step()
        after = zip(model.parameters(), before, strict=True)
        lengths.append(math.sqrt(sum(float((p.detach() - q).square().sum()) for p, q in after)))
        risks.append(loss.item())
    return np.array(lengths), np.array(risks)


@pytest.mark.parametrize("start", [0, 7])
def test_a_plain_loop_does_what_the_trainer_does(problem, start):
    x, y = problem
    ensemble = gaussian_deep_ensemble(WIDTHS, activation="tanh")
    rate = NormalisedRate.with_total(0.5, ExponentialRate(10.0), start)
    model = module_of(ensemble, nn.Tanh)
    lengths, risks = trained(model, x, y, 0.3, ModuleNormalisedRate(rate))
    schedule = make_schedule("constant", 0.3, n_steps=STEPS)
    run = deep_train(ensemble, x, y, schedule, STEPS, cap=rate)
    assert np.allclose(risks, run.risk[:-1, 0], rtol=1e-9)
    allowed = rate.length * rate.rate_function(np.arange(STEPS - start))
    assert (lengths[start:] <= allowed * (1 + 1e-9)).all()
    assert lengths[start:].sum() <= rate.total * (1 + 1e-9)
    assert (lengths[start:] >= allowed * (1 - 1e-9)).any()  # the cap did something


def test_without_the_cap_the_path_is_longer(problem):
    x, y = problem
    ensemble = gaussian_deep_ensemble(WIDTHS, activation="tanh")
    rate = NormalisedRate.with_total(0.05, ExponentialRate(10.0), start=10_000)
    lengths, _ = trained(module_of(ensemble, nn.Tanh), x, y, 0.3, ModuleNormalisedRate(rate))
    assert lengths.sum() > 2 * rate.total


def test_no_gradient_is_no_limit():
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    cap = ModuleNormalisedRate(NormalisedRate(1.0, ExponentialRate(2.0)))
    assert cap(model, optimizer) == math.inf
    assert cap.step == 1


def test_the_measured_rate_descends_at_any_depth(problem):
    x, y = problem
    ensemble = gaussian_deep_ensemble(WIDTHS, activation="tanh")
    setting = DeepSetting.of(ensemble, x, y, get_loss("mse"))
    model = module_of(ensemble, nn.Tanh)
    _, risks = trained(model, x, y, 1e9, ModuleSelfConsistent(setting), tell=True)
    assert (np.diff(risks) < 0).all()
    _, wild = trained(module_of(ensemble, nn.Tanh), x, y, 30.0, lambda *_: math.inf)
    assert (np.diff(wild) > 0).any()


def test_kinks_are_refused_at_any_depth(problem):
    x, y = problem
    setting = DeepSetting.of(gaussian_deep_ensemble(WIDTHS), x, y, get_loss("mse"))
    with pytest.raises(HypothesisError, match="have a Lipschitz slope for lem-deep-smoothness"):
        ModuleSelfConsistent(setting)
