"""Where the width-free bound is attained in the limit: one sample, one step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decay_cases import column

from lipbook.activations import Activation
from lipbook.losses import get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.schedules import ConstantRate, Schedule
from lipbook.theorems import Setting
from lipbook.theorems.order_of_width import equal_start
from lipbook.theorems.width_free import WidthFree, limit_rise
from lipbook.training import train

IDENTITY = Activation(
    "identity", lambda z: z, torch.ones_like, torch.zeros_like, 1.0, 0.0, None, 0.0, 0.0,
    (1.0, 1.0), None, (), (1.0, 1.0),
)  # fmt: skip


def one_step(start, rate, x, y, form="energy"):
    """One step on one sample under the squared loss: what the theorem says, and the safe steps.

    What is measured is the slope at 0, on a domain that contains 0.
    """
    x = torch.as_tensor(x, dtype=torch.float64).reshape(1, -1)
    run = train(start, x, column(y), Schedule("constant", rate, ConstantRate()), 1, loss="mse")
    theorem = WidthFree(Setting.of(start, x, column(y), run.loss), 1.0, form)
    first, last = (e.jacobian(torch.zeros_like(x)).norm(dim=3)[:, 0, 0]
                   for e in (start, run.ensemble))  # fmt: skip
    said = [theorem.verdict(run, i, float(first[i]), float(last[i])) for i in range(start.size)]
    return said, theorem.safe_steps(run)[-1]


@pytest.mark.parametrize("activation", ["tanh", IDENTITY])
def test_equal_neurons_attain_the_energy_form_in_the_limit(activation):
    shares = []
    for width in (16, 1024, 2**18):
        weight = width**-0.25
        start = equal_start(width, weight, activation=activation)
        height = float(start.activation.value(torch.tensor(weight, dtype=torch.float64)))
        (verdict,), safe = one_step(start, 1.0 / (1.0 + width * height**2), [1.0], 3.0)
        assert verdict.applies and not verdict.contradicted
        shares.append(verdict.measured / verdict.bound)
    assert shares == sorted(shares) and shares[-1] > 0.99 and safe[0] == pytest.approx(2, rel=0.1)
    # For the identity ε need not be small.
    (verdict,), _ = one_step(equal_start(1000, activation=IDENTITY), 1 / 1001, [1.0], 1.0)
    assert verdict.measured / verdict.bound > 0.998


def test_it_is_not_attained_where_the_activation_is_flatter_than_it_could_be():
    # Negative control: σ'(0) = ½ for gelu, far below L_σ.
    width, weight = 2**16, 2.0**-4
    start = equal_start(width, weight, activation="gelu")
    height = float(start.activation.value(torch.tensor(weight, dtype=torch.float64)))
    (verdict,), _ = one_step(start, 1.0 / (1.0 + width * height**2), [1.0], 3.0)
    assert verdict.applies and verdict.measured < 0.6 * verdict.bound


@pytest.mark.parametrize("scale", ["standard", "zero-bias", "mean-field"])
@pytest.mark.parametrize("dim", [1, 3])
def test_a_gaussian_start_attains_the_energy_form_in_the_limit(scale, dim):
    width, radius, target = 100_000, 60.0, 3e4
    start = gaussian_ensemble(width, dim, seeds=(0, 1, 2), activation=IDENTITY, scale=scale)
    x = radius * torch.eye(dim, dtype=torch.float64)[0]
    z = start.hidden_weight @ x + start.hidden_bias
    squares = 1 + z.square().sum(1) + (1 + radius**2) * start.output_weight.square().sum((1, 2))
    shares, limits = [], []
    for index, square in enumerate(squares.tolist()):
        one_start, rate = start.select([index]), (1.0 - 1.0 / width) / square
        (verdict,), safe = one_step(one_start, rate, x, target)
        assert verdict.applies and not verdict.contradicted
        shares.append(verdict.measured / verdict.bound)
        setting = Setting.of(one_start, x[None], column(target), get_loss("mse"))
        rise = limit_rise(setting, float(scale != "zero-bias"), target, float(safe[0]))
        limits.append(verdict.bound / rise)
    assert min(shares) > 0.98
    assert limits == pytest.approx([1.0] * 3, rel=0.02)  # the corollary's bound is the same
    # Negative control: an ordinary sample and target leave the start's own slope and the bias.
    if scale == "standard":
        small = torch.eye(dim, dtype=torch.float64)[0]
        z = start.hidden_weight @ small + start.hidden_bias
        square = 1 + z[0].square().sum() + 2 * start.output_weight[0].square().sum()
        near = one_step(start.select([0]), (1.0 - 1.0 / width) / float(square), small, target)
        assert near[0][0].applies and near[0][0].measured < 0.8 * near[0][0].bound


@pytest.mark.parametrize(("theta", "share"), [(1e-3, 0.99), (0.1, 0.94), (1.0, 0.58)])
def test_the_budget_form_is_attained_to_first_order_in_the_mass(theta, share):
    width = 10**6
    start = equal_start(width, 1.0, 1.0, IDENTITY)
    rate = theta / (1.0 + 2.0 * width**0.5) ** 2
    (verdict,), safe = one_step(start, rate, [1.0], 2.0, "budget")
    assert verdict.applies and safe[0] == pytest.approx(theta)
    reached = verdict.measured / verdict.bound
    assert reached == pytest.approx(theta / np.expm1(theta), rel=5e-3) and reached > share
