"""The self-consistent rates in the training loop that everybody writes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from convergence_cases import (
    HUGE,
    SMOOTH,
    draw,
)

from lipbook.caps.self_consistent import SelfConsistent, SelfConsistentRate
from lipbook.caps.torch_self_consistent import ModuleSelfConsistent
from lipbook.networks import Ensemble
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.smoothness import smoothness
from lipbook.torch_tools import hook, lr_scheduler
from lipbook.training import train

# ---- plain PyTorch


def as_module(ensemble: Ensemble) -> torch.nn.Sequential:
    """The same network as torch would have it."""
    m, d = ensemble.hidden_weight[0].shape
    model = torch.nn.Sequential(torch.nn.Linear(d, m), torch.nn.Tanh(), torch.nn.Linear(m, 1))
    with torch.no_grad():
        for parameter, block in zip(model.double().parameters(), ensemble.blocks(), strict=True):
            parameter.copy_(block[0])
    return model


def plain_loop(model, x, y, n_steps, optimizer, before=None, after=None):
    """The training loop that everybody writes."""
    risks = []
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = 0.5 * torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        risks.append(loss.item())
        if before is not None:
            before(loss)
        optimizer.step()
        if after is not None:
            after()
    return np.array(risks)


def tell(cap):
    """What the loop does between backward and step."""
    return lambda loss: setattr(cap, "risk", loss.item())


def test_the_rates_serve_a_plain_torch_loop():
    start, x, y, setting = draw(5, 6, "mse", "zero-bias", 1.0, "tanh")
    run = train(start, x, y, HUGE, 50, cap=SelfConsistent(setting))
    known = (float(start.parameter_norm()[0]), float(run.risk[0, 0]))
    schedule = SelfConsistentRate(setting, *known).schedule()
    model = as_module(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = lr_scheduler(optimizer, schedule)
    risks = plain_loop(model, x, y, 50, optimizer, after=scheduler.step)
    assert risks == pytest.approx(run.risk[:-1, 0], rel=1e-10)


def test_the_measured_cap_serves_a_plain_torch_loop():
    start, x, y, setting = draw(5, 6, "mse", "zero-bias", 1.0, "tanh")
    run = train(start, x, y, HUGE, 50, cap=SelfConsistent(setting, measured=True))
    model, cap = as_module(start), ModuleSelfConsistent(setting)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e9)
    hooked = hook(optimizer, model, cap)
    risks = plain_loop(model, x, y, 50, optimizer, tell(cap))
    assert risks == pytest.approx(run.risk[:-1, 0], rel=1e-10)
    assert hooked.rate == pytest.approx(run.learning_rates[-1, 0], rel=1e-9)
    # Each step needs its loss anew.
    with pytest.raises(ValueError, match=r"`risk` must be the loss of this step.*Set cap.risk"):
        optimizer.step()


def test_the_rate_of_the_user_stays_an_upper_limit():
    start, x, y, setting = draw(5, 6, "mse", "zero-bias", 1.0, "tanh")
    model, cap = as_module(start), ModuleSelfConsistent(setting)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    hooked = hook(optimizer, model, cap)
    plain_loop(model, x, y, 2, optimizer, tell(cap))
    assert hooked.rate == 1e-9


def test_every_step_descends_whatever_the_size_of_the_data():
    # In float32, up to the rounding of the loss.
    for seed in range(6):
        start, x, y, setting = draw(seed, 6, "mse", "standard", 10.0 ** (seed - 3), "tanh")
        model, cap = as_module(start).float(), ModuleSelfConsistent(setting)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
        hook(optimizer, model, cap)
        risks = plain_loop(model, x.float(), y.float(), 40, optimizer, tell(cap))
        assert (np.diff(risks) <= 1e-5 * risks[:-1]).all() and risks[-1] < risks[0]
        # Control: the same loop with the cap lifted does not descend.
        free = as_module(start).float()
        wild = plain_loop(free, x.float(), y.float(), 4, torch.optim.SGD(free.parameters(), lr=30))
        assert not (wild[1:] <= wild[:-1]).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: torch.optim.Adam(p), r"must be torch.optim.SGD. Got Adam"),
        (lambda p: torch.optim.SGD(p, lr=1, momentum=0.9), r"momentum=0. Got momentum=0.9"),
        (lambda p: torch.optim.SGD(p, lr=1, weight_decay=0.1), r"weight_decay=0"),
        (lambda p: torch.optim.SGD(p[:3], lr=1), r"must hold all parameters of the network. Got"),
        (
            lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 2.0}], lr=1.0),
            r"must have one rate for all parameters. Got \[1.0, 2.0\]",
        ),
    ],
)
def test_an_optimiser_that_does_something_else_is_refused(make, says):
    start, _, _, setting = draw(5, 6, "mse", "zero-bias", 1.0, "tanh")
    model = as_module(start)
    with pytest.raises(ValueError, match=says):
        hook(make(list(model.parameters())), model, ModuleSelfConsistent(setting))


def test_the_cap_refuses_a_kink():
    setting = draw(5, 6, "mse", "zero-bias", 1.0, "relu")[3]
    with pytest.raises(HypothesisError, match=r"must have a Lipschitz slope for lem-smoothness"):
        ModuleSelfConsistent(setting)


def test_smooth_names_are_those_with_a_lipschitz_slope():
    assert set(SMOOTH) == {"tanh", "sigmoid", "softplus", "gelu", "silu"}
    setting = draw(0, 3, "huber", "zero-bias", 100.0, "tanh")[3]
    # Under Huber's loss λ stops at δ, so β stops growing with the risk.
    assert smoothness(setting, 1.0, 1e6) == smoothness(setting, 1.0, 1e9)
