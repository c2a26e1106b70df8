"""The book's rates in a plain PyTorch loop: schedules and caps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch_cases import (
    perceptron,
    set_gradients,
    sgd,
)

from lipbook.schedules import SCHEDULES, make_schedule
from lipbook.torch_tools import (
    ModuleBudget,
    hook,
    lr_scheduler,
)

# Rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduler_gives_the_rates_of_the_schedule(name):
    plan = make_schedule(name, 0.3, n_steps=50, start=20)
    optimizer = sgd(perceptron([1, 3, 1]), lr=99.0)
    scheduler, seen = lr_scheduler(optimizer, plan), []
    for _ in range(50):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(plan.rates(50).tolist(), rel=1e-12)
    assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]


def test_a_scheduler_goes_on_from_a_saved_state():
    plan = make_schedule("power", 0.3, n_steps=50)
    first = lr_scheduler(sgd(perceptron([1, 3, 1])), plan)
    for _ in range(7):
        first.optimizer.step()
        first.step()
    state = first.state_dict()
    assert "schedule" not in state  # a function is no state
    second = lr_scheduler(sgd(perceptron([1, 3, 1])), plan)
    second.load_state_dict(state)
    second.optimizer.step()
    second.step()
    assert second.get_last_lr() == pytest.approx([plan.rates(9)[8]])


def test_a_scheduler_serves_any_optimiser():
    model = perceptron([1, 3, 1])
    lr_scheduler(torch.optim.Adam(model.parameters()), make_schedule("cosine", 0.3, n_steps=5))


# Hooks ---------------------------------------------------------------------------------------


def test_a_hook_lowers_the_rate_of_the_step_and_puts_it_back():
    model, x = perceptron([2, 5, 1]), torch.ones(4, 2, dtype=torch.float64)
    optimizer = sgd(model, lr=0.5)
    chained = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    capped = hook(optimizer, model, lambda module, opt: 1e-3)
    assert math.isnan(capped.rate)
    for step in range(3):
        before = [p.detach().clone() for p in model.parameters()]
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.9**step)
        for p, old in zip(model.parameters(), before, strict=True):
            assert torch.allclose(p, old - 1e-3 * p.grad, rtol=1e-12)
        chained.step()
    assert capped.rate == 1e-3
    capped.remove()
    optimizer.step()
    assert capped.rate == 1e-3 and optimizer.param_groups[0]["lr"] == pytest.approx(0.5 * 0.9**3)


class Renamed(torch.optim.SGD):
    """Looks like SGD, and might do anything."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: torch.optim.Adam(p), r"must be torch.optim.SGD. Got Adam, whose"),
        (lambda p: torch.optim.AdamW(p), r"must be torch.optim.SGD. Got AdamW"),
        (lambda p: Renamed(p, lr=0.1), r"must be torch.optim.SGD. Got Renamed"),
        (lambda p: torch.optim.SGD(p, momentum=0.9), r"must have momentum=0. Got momentum=0.9"),
        (lambda p: torch.optim.SGD(p, dampening=0.5), r"must have dampening=0. Got dampening=0.5"),
        (lambda p: torch.optim.SGD(p, weight_decay=0.1), r"must have weight_decay=0. Got weight"),
        (lambda p: torch.optim.SGD(p, nesterov=True, momentum=0.9), r"must have momentum=0. Got"),
        (lambda p: torch.optim.SGD(p, maximize=True), r"must have maximize=False. Got maximize=T"),
    ],
)
def test_hooks_refuse_what_is_not_plain_descent(make, message):
    model = perceptron([1, 3, 1])
    with pytest.raises(ValueError, match="`optimizer` " + message):
        hook(make(model.parameters()), model, ModuleBudget(1e6))


def test_nesterov_alone_is_refused_too():
    model = perceptron([1, 3, 1])
    optimizer = sgd(model)
    optimizer.param_groups[0]["nesterov"] = True
    with pytest.raises(
        ValueError, match=r"`optimizer` must have nesterov=False. Got nesterov=True"
    ):
        hook(optimizer, model, ModuleBudget(1e6))


def test_hooks_refuse_steps_that_they_cannot_judge():
    model = perceptron([1, 3, 1])
    optimizer = sgd(model)
    hook(optimizer, model, ModuleBudget(1e6))
    set_gradients(model, np.random.default_rng(0), 1.0)
    for call in (lambda f: optimizer.step(f), lambda f: optimizer.step(closure=f)):
        with pytest.raises(ValueError, match=r"`optimizer.step` must be called without a closure"):
            call(lambda: 0.0)
    before = model[0].weight.detach().clone()
    model[0].weight.grad[0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"`gradient` must be finite before `optimizer.step"):
        optimizer.step()
    assert torch.equal(before, model[0].weight)
    model[0].weight.grad[0, 0] = 0.0
    optimizer.param_groups[0]["momentum"] = 0.9  # changed behind the hook's back
    with pytest.raises(ValueError, match=r"`optimizer` must have momentum=0"):
        optimizer.step()
    other = sgd(perceptron([1, 3, 1]))
    hook(other, model, lambda module, opt: -1.0)
    with pytest.raises(ValueError, match=r"`cap` must return a rate that is at least 0. Got -1.0"):
        other.step()
