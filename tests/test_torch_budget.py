"""The Lipschitz budget and rescaling in a plain PyTorch loop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch_cases import (
    FORMATS,
    UP,
    lowest,
    perceptron,
    set_gradients,
    sgd,
)

from lipbook.caps.lipschitz_budget import LipschitzBudget, largest_safe_rate, step_sizes
from lipbook.lipschitz import deep_product_upper_bound
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.refusal import HypothesisError
from lipbook.torch_tools import (
    ModuleBudget,
    hook,
    module_certificate,
    rescale_,
)
from lipbook.training import train

# The budget ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("sizes", [[3, 6, 1], [2, 5, 2], [2, 4, 4, 1], [3, 4, 3, 4, 2]], ids=str)
def test_hostile_gradients_never_overdraw_a_module(sizes, dtype):
    g, used = np.random.default_rng(len(sizes)), 0.0
    for seed in range(3):
        model = perceptron(sizes, dtype=dtype, seed=seed)
        limit = 1.5 * module_certificate(model)
        optimizer = sgd(model, lr=10.0 ** g.uniform(-2, 6))
        hook(optimizer, model, ModuleBudget(limit, g.choice([0.3, 1.0])))
        for _ in range(25):
            set_gradients(model, g, 10.0 ** g.uniform(-5, 4))
            optimizer.step()
            assert lowest(model) <= limit
            assert module_certificate(model) <= limit * UP
        used = max(used, module_certificate(model) / limit)
    assert used > 0.75


def test_rates_that_are_subnormal_in_half_precision_never_overdraw():
    over, moved = 0, 0
    for seed in range(60):
        plain = perceptron([1, 6, 1], dtype=torch.float16, seed=seed)
        with torch.no_grad():
            for p in plain.parameters():
                p.mul_(0.01)
        size = 10.0 ** np.random.default_rng(seed).uniform(4, 4.6)
        budget = ModuleBudget(1.5 * module_certificate(plain), 1.0)
        capped = copy.deepcopy(plain)
        for model in (plain, capped):
            set_gradients(model, np.random.default_rng(seed), size)
        optimizer = sgd(capped)
        kept = hook(optimizer, capped, budget)
        optimizer.step()
        assert lowest(capped) <= budget.limit
        moved += 0 < kept.rate < torch.finfo(torch.float16).tiny
        # Negative control: the cap as it stands, rounded to nearest by the optimiser.
        steps = [step_sizes(p.weight[None], p.weight.grad[None]) for p in (plain[0], plain[2])]
        room = budget.limit - module_certificate(plain)
        sgd(plain, lr=float(largest_safe_rate(1.0, *steps, np.array([room]))[0])).step()
        over += lowest(plain) > budget.limit
    assert moved >= 10 and over >= 5, (moved, over)


# Sizes of the last weight, the first weight's gradient, and the rate.
OVERFLOWING = {torch.float16: (3e-4, 6e4, 1.2), torch.float32: (1e-38, 3e38, 2.0)}


@pytest.mark.parametrize("dtype", OVERFLOWING, ids=str)
@pytest.mark.parametrize("place", range(4))
def test_a_step_that_could_overflow_is_made_shorter(dtype, place):
    last, slope, rate = OVERFLOWING[dtype]
    half = 0.5 * torch.finfo(dtype).max
    for capped in (True, False):  # the second is the negative control
        model = perceptron([1, 1, 1], dtype=dtype)
        parameters = list(model.parameters())
        with torch.no_grad():
            for each, value in zip(parameters, (1.0, 0.0, last, 0.0), strict=True):
                each.fill_(value)
                each.grad = torch.zeros_like(each)
        parameters[place].grad.fill_(-slope)
        optimizer = sgd(model, lr=rate)
        if capped:
            kept = hook(optimizer, model, ModuleBudget(1e6 if dtype == torch.float16 else 1e39))
        optimizer.step()
        largest = max(float(each.detach().abs().max()) for each in parameters)
        if capped:
            assert 0 < kept.rate < rate and 0.99 * half < largest <= half
        else:
            assert largest == np.inf


def test_the_product_bound_of_a_step_that_would_overflow_stays_in_the_budget():
    for dtype, (last, slope, rate) in OVERFLOWING.items():
        model = perceptron([1, 1, 1], dtype=dtype)
        set_gradients(model, np.random.default_rng(0), 0.0)
        with torch.no_grad():
            for each, value in zip(model.parameters(), (1.0, 0.0, last, 0.0), strict=True):
                each.fill_(value)
        model[0].weight.grad.fill_(slope)
        optimizer = sgd(model, lr=rate)
        hook(optimizer, model, ModuleBudget(100.0))
        optimizer.step()
        assert model[0].weight < -1e4 and module_certificate(model) <= 100.0


def test_a_parameter_above_half_the_largest_number_stands_still():
    model = perceptron([1, 2, 1], dtype=torch.float16)
    set_gradients(model, np.random.default_rng(0), 1.0)
    with torch.no_grad():
        model[2].bias.fill_(4e4)
    before = copy.deepcopy(model.state_dict())
    optimizer = sgd(model)
    kept = hook(optimizer, model, ModuleBudget(1e3))
    optimizer.step()
    assert kept.rate == 0 and all(torch.equal(v, before[n]) for n, v in model.state_dict().items())


def test_without_the_hook_hostile_gradients_pass_any_limit():
    # Negative control.
    model = perceptron([3, 6, 1])
    limit, optimizer = 1.5 * module_certificate(model), sgd(model, lr=1.0)
    set_gradients(model, np.random.default_rng(0), 10.0)
    optimizer.step()
    assert lowest(model) > 10 * limit


def test_without_room_for_rounding_float32_overdraws():
    # Negative control: the exact rate for one layer, in float32 and with nothing to spare.
    over = 0
    for seed in range(40):
        model = perceptron([1, 6, 1], dtype=torch.float32, seed=seed)
        weight, output = model[0].weight, model[2].weight
        x, y = (float(torch.linalg.matrix_norm(w.detach(), ord=2)) for w in (weight, output))
        limit = 1.5 * x * y
        model[0].weight.grad = -weight.detach().clone() * 7.3
        sgd(model, lr=(limit - x * y) / (y * 7.3 * x)).step()
        over += lowest(model) > limit
    assert over >= 5, over


def plain_loop(model, x, y, n_steps, lr, limit=None, share=0.5, certificate="product"):
    optimizer = sgd(model, lr=lr)
    if limit is not None:
        hook(optimizer, model, ModuleBudget(limit, share, certificate))
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss = 0.5 * nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("certificate", ["product", "sdp"])
def test_a_plain_loop_and_the_book_train_alike(certificate):
    x = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
    y = torch.sin(3 * x)
    start = gaussian_ensemble(6, 1, seeds=(3,), activation="tanh")
    model = perceptron([1, 6, 1])
    with torch.no_grad():
        for parameter, block in zip(model.parameters(), start.blocks(), strict=True):
            parameter.copy_(block[0])
    limit = 1.15 * module_certificate(model, certificate)
    plain_loop(model, x, y, 150, 0.2, limit, certificate=certificate)
    plan = make_schedule("constant", 0.2, n_steps=150)
    run = train(start, x, y, plan, 150, cap=LipschitzBudget(limit, 0.5, certificate))
    assert (run.learning_rates[-1] < 0.2).all()  # the budget binds
    for parameter, block in zip(model.parameters(), run.ensemble.blocks(), strict=True):
        assert torch.allclose(parameter, block[0], rtol=1e-6, atol=1e-9)
    assert module_certificate(model, certificate) <= limit * UP


def test_real_training_in_float32_stays_within_the_budget():
    x = torch.linspace(-1, 1, 32)[:, None]
    y = torch.sin(6 * x)
    for sizes, activation in (([1, 16, 1], nn.ReLU), ([1, 8, 8, 1], nn.SiLU)):
        model = perceptron(sizes, activation, torch.float32)
        limit = 1.2 * module_certificate(model)
        plain_loop(model, x, y, 150, 0.3, limit)
        assert module_certificate(model) <= limit * UP


def test_parameters_without_gradients_and_several_groups_are_fine():
    model = perceptron([2, 4, 1])
    model[0].weight.requires_grad_(False)
    groups = [{"params": [model[2].weight], "lr": 5.0}, {"params": [model[0].bias], "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    limit = 1.5 * module_certificate(model)
    hook(optimizer, model, ModuleBudget(limit))
    for _ in range(20):
        model[2].weight.grad = -model[2].weight.detach().clone()
        optimizer.step()
    assert 0.9 * limit < module_certificate(model) <= limit * UP
    assert [group["lr"] for group in optimizer.param_groups] == [5.0, 0.1]


def test_a_layer_that_comes_twice_counts_twice():
    shared = nn.Linear(3, 3).double()
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(3, 1).double())
    limit = 1.5 * module_certificate(model)
    optimizer = sgd(model, lr=10.0)
    hook(optimizer, model, ModuleBudget(limit, 1.0))
    set_gradients(model, np.random.default_rng(0), 1.0)
    optimizer.step()
    assert module_certificate(model) <= limit * UP
    rescale_(model, 0.1)
    assert module_certificate(model) <= 0.1


def test_budgets_refuse_modules_they_do_not_speak_about():
    model = perceptron([2, 4, 1])
    with pytest.raises(
        HypothesisError, match=r"`module` must start below the limit 0.001 for thm-bu"
    ):
        hook(sgd(model), model, ModuleBudget(0.001))
    odd = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"`module` must hold Linear layers and one of"):
        hook(sgd(odd), odd, ModuleBudget(1e6))
    deep = perceptron([2, 4, 4, 1])
    with pytest.raises(
        ValueError, match=r"`module` must be Linear, activation, Linear with one out"
    ):
        hook(sgd(deep), deep, ModuleBudget(1e6, certificate="sdp"))
    line = nn.Sequential(nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"`module` must have an activation between its layers"):
        hook(sgd(line), line, ModuleBudget(1e6))
    with pytest.raises(ValueError, match=r"`certificate` must be 'product' or 'sdp'. Got 'formal'"):
        ModuleBudget(1.0, certificate="formal")
    with pytest.raises(ValueError, match=r"`limit` must be a positive number"):
        ModuleBudget(-1.0)
    # A refusal leaves no hook behind.
    optimizer = sgd(model)
    with pytest.raises(HypothesisError):
        hook(optimizer, model, ModuleBudget(0.001))
    set_gradients(model, np.random.default_rng(0), 1.0)
    before = model[0].weight.detach().clone()
    optimizer.step()
    assert not torch.equal(before, model[0].weight)


def test_certificates_of_modules_agree_with_the_deep_bounds():
    for sizes in ([2, 5, 1], [3, 4, 4, 2]):
        model = perceptron(sizes)
        assert module_certificate(model) == pytest.approx(deep_product_upper_bound(model))
    ended = nn.Sequential(*perceptron([2, 4, 2]), nn.Tanh())
    assert module_certificate(ended) == pytest.approx(deep_product_upper_bound(ended))


# Rescaling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("sizes", [[1, 5, 1], [2, 4, 3, 1]], ids=str)
def test_rescaling_reaches_the_limit_in_every_format(sizes, dtype):
    model = perceptron(sizes, dtype=dtype)
    limit = 0.3 * module_certificate(model)
    factor = rescale_(model, limit)
    assert 0 < factor < 1 and lowest(model) <= module_certificate(model) <= limit
    assert module_certificate(model) >= limit * (0.9 if dtype == torch.bfloat16 else 0.98)
    assert rescale_(model, limit) == 1.0
    with pytest.raises(ValueError, match=r"`limit` must be a positive number"):
        rescale_(model, 0.0)


def test_rescaling_serves_any_optimiser():
    model = perceptron([1, 8, 1])
    x = torch.linspace(-1, 1, 16, dtype=torch.float64)[:, None]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), torch.sin(5 * x)).backward()
        optimizer.step()
        rescale_(model, 2.0)
        assert module_certificate(model) <= 2.0
