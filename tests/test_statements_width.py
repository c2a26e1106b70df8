"""Statements about many neurons: trends over widths that can be seen, and be seen to fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from test_theorems_decay_costs_attained import one_step

from lipbook.losses import get_loss
from lipbook.networks import gaussian_ensemble
from lipbook.theorems import Setting
from lipbook.theorems.after_path import lipschitz_after, norms
from lipbook.theorems.bounded_activation import BoundedActivation
from lipbook.theorems.bounded_pull import BoundedPull
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.order_of_width import equal_start
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.width_free import rise_after
from lipbook.theorems.width_limits import FormCosts, WidthFreeAttained, WidthFreeLimit

WIDTHS = (64, 256, 1024, 4096)
DATA = torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None]


def starts(m, activation="tanh"):
    return gaussian_ensemble(m, 1, seeds=range(15), activation=activation)


def setting_of(m, loss="mse", activation="tanh"):
    return Setting.of(starts(m, activation), DATA, torch.sin(3 * DATA), get_loss(loss))


@pytest.mark.parametrize("form", ["energy", "budget"])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_the_rise_comes_closer_to_its_limit(form, activation):
    theta, pull, rises = 0.5, 0.8, {}
    for m in WIDTHS:
        setting, start = setting_of(m, activation=activation), starts(m, activation)
        u = norms(start)[0]
        if form == "energy":
            path = pull * math.sqrt(theta) / setting.growth(u)
        else:
            mass = theta / setting.growth(u) ** 2
            path = MseBudget(setting).path(u, np.full(15, pull), mass)
        rises[m] = float(np.median(rise_after(start, path, 1.0)))
    theorem = WidthFreeLimit(setting_of(8, activation=activation), 1.0, pull, theta, form)
    found = theorem.verdict(rises)
    assert found.applies and not found.contradicted
    assert found.measured < 0.5 * found.bound and found.measured < 0.02
    # Negative control: twice the limit is no limit.
    double = WidthFreeLimit(theorem.setting, 1.0, 2 * pull, theta, form)
    assert double.verdict(rises).measured > 0.3


def test_too_few_widths_show_nothing():
    theorem = WidthFreeLimit(setting_of(8), 1.0, 1.0, 1.0)
    assert theorem.verdict({8: 1.0, 16: 1.0}).failed.name == "H1"
    assert theorem.verdict({8: 1.0, 16: 1.0, 17: 1.0}).failed.name == "H1"
    assert FormCosts("energy").verdict({8: 1.0}).bound is None


def test_equal_neurons_lose_less_and_less():
    found = {}
    for m in (16, 256, 4096):
        start = equal_start(m, m**-0.25, activation="tanh")
        height = math.tanh(m**-0.25)
        (found[m],), _ = one_step(start, 1.0 / (1.0 + m * height**2), [1.0], 3.0)
    verdict = WidthFreeAttained().verdict(found, "tanh")
    assert verdict.applies and not verdict.contradicted and verdict.measured < 0.1
    # Negative control: where the activation is flatter the share lost stays.
    flat = {}
    for m in (16, 256, 4096):
        start = equal_start(m, m**-0.25, activation="gelu")
        value = float(start.activation.value(torch.tensor(m**-0.25, dtype=torch.float64)))
        (flat[m],), _ = one_step(start, 1.0 / (1.0 + m * value**2), [1.0], 3.0)
    assert WidthFreeAttained().verdict(flat).measured > 0.3


def bounds_of(form, scaled):
    """Medians of a form's bound over the widths, at the mass 1 or 1/√m."""
    found = {}
    for m in WIDTHS:
        loss = "huber" if form == "huber" else "mse"
        setting, start = setting_of(m, loss), starts(m)
        mass = np.full(15, 1.0 / math.sqrt(m) if scaled else 1.0)
        if form in ("adaptive", "energy"):
            values = lipschitz_after(start, np.ones(15))
        elif form == "budget":
            u = norms(start)[0]
            path = MseBudget(setting).path(u, np.full(15, 0.8), 0.5 / setting.growth(u) ** 2)
            values = lipschitz_after(start, path)
        elif form == "huber":
            values = BoundedPull(setting).bound(start, mass)
        else:
            values = BoundedActivation(setting).bound(start, mass, np.full(15, True))
        found[m] = float(np.median(values))
    return found


@pytest.mark.parametrize("form", ["adaptive", "energy", "budget", "huber", "bounded"])
@pytest.mark.parametrize("scaled", [False, True])
def test_every_form_grows_by_its_power_of_the_width(form, scaled):
    found = FormCosts(form, scaled).verdict(bounds_of(form, scaled))
    assert found.applies and not found.contradicted
    assert found.measured < 0.05


@pytest.mark.parametrize("form", ["huber", "bounded"])
def test_at_a_fixed_mass_the_order_is_higher(form):
    # Negative control: the order of mass S/√m is not that of mass S.
    found = FormCosts(form, scaled=True).verdict(bounds_of(form, scaled=False))
    assert found.measured > 0.4


def test_unknown_forms_are_refused():
    with pytest.raises(HypothesisError, match=r"`form` must be one of adaptive, .* prop-costs"):
        FormCosts("mass")
    with pytest.raises(HypothesisError, match=r"`form` must be 'energy' or 'budget' for cor-width"):
        WidthFreeLimit(setting_of(8), 1.0, 1.0, 1.0, "mass")
