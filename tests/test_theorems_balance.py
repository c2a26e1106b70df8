"""Balance of homogeneous neurons: conserved by the flow, nearly kept by descent; controls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batches, kind_of

from lipbook.activations import ACTIVATIONS
from lipbook.gradients import risk_and_gradient
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError
from lipbook.theorems.balance import Balance, energy, growth_rate, imbalances, path_norms
from lipbook.training import train

HOMOGENEOUS = [name for name, each in sorted(ACTIVATIONS.items()) if each.is_homogeneous]
CASES = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(HOMOGENEOUS),
    "m": st.integers(1, 10),
    "d": st.integers(1, 3),
    "n": st.integers(1, 6),
    "size": st.sampled_from([0.1, 1.0, 20.0]),
    "loss": st.sampled_from(["mse", "huber"]),
}


def problem(seed, activation, m, d, n, size, loss):
    generator = np.random.default_rng(seed)
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), activation=activation)
    x = torch.from_numpy(generator.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(size * generator.normal(size=(n, 1)))
    return ensemble, x, y, get_loss(loss, 0.7)


def dot(ensemble, gradient, name):
    return float((getattr(ensemble, name) * gradient[name]).sum())


@settings(derandomize=True, max_examples=80, deadline=None)
@given(**CASES)
def test_the_flow_keeps_every_neuron_balanced_and_grows_at_most_at_its_rate(**drawn):
    ensemble, x, y, loss = problem(**drawn)
    _, gradient = risk_and_gradient(ensemble, x, y, loss)
    outer = ensemble.output_weight[0, 0] * gradient["output_weight"][0, 0]
    inner = (ensemble.hidden_weight * gradient["hidden_weight"])[0].sum(1)
    inner = inner + (ensemble.hidden_bias * gradient["hidden_bias"])[0]
    assert torch.allclose(outer, inner, rtol=1e-9, atol=1e-9 * float(outer.abs().max() + 1e-9))
    growth = -2 * sum(dot(ensemble, gradient, name) for name in BLOCKS)
    growth -= 2 * dot(ensemble, gradient, "output_bias")
    assert growth <= growth_rate(y, loss) * (1 + 1e-9)


def test_other_activations_lose_the_balance():
    # Negative control: for tanh the two products differ, so that the flow does change D_j.
    ensemble, x, y, loss = problem(0, "tanh", 4, 2, 3, 1.0, "mse")
    _, gradient = risk_and_gradient(ensemble, x, y, loss)
    outer = ensemble.output_weight[0, 0] * gradient["output_weight"][0, 0]
    inner = (ensemble.hidden_weight * gradient["hidden_weight"])[0].sum(1)
    inner = inner + (ensemble.hidden_bias * gradient["hidden_bias"])[0]
    assert float((outer - inner).abs().max()) > 1e-3


@pytest.mark.parametrize("loss", ["mse", "huber"])
@pytest.mark.parametrize("target", [0.5, 1.3, 5.0])
def test_the_growth_rate_is_attained(loss, target):
    # One ReLU neuron without bias at one sample, f between 0 and the target: scan f.
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), target, dtype=torch.float64)
    objective, best = get_loss(loss, 0.7), 0.0
    for value in np.linspace(0.0, target, 2001):
        root = torch.full((1, 1, 1), math.sqrt(value), dtype=torch.float64)
        zero = torch.zeros(1, 1, dtype=torch.float64)
        network = Ensemble(root, zero, root, zero, ACTIVATIONS["relu"])
        _, gradient = risk_and_gradient(network, x, y, objective)
        best = max(best, -2 * sum(dot(network, gradient, name) for name in BLOCKS))
    assert best <= growth_rate(y, objective) * (1 + 1e-12)
    assert best == pytest.approx(growth_rate(y, objective), rel=1e-3)


def test_all_random_runs_stay_below_both_bounds_at_every_step():
    seen, tightest = {}, 0.0
    for each in batches():
        homogeneous = each.run.ensemble.activation.is_homogeneous
        if homogeneous:
            drift, growth = Balance().bound(each.run), Balance().growth_bound(each.run, each.y)
            first = imbalances(each.run.checkpoints[0])
        for index in range(each.run.ensemble.size):
            found = Balance().verdict(each.run, index)
            grown = Balance().growth_verdict(each.run, index, each.y)
            assert not found.contradicted and not grown.contradicted
            kind = kind_of(each.run, index)
            seen[kind, found.applies] = seen.get((kind, found.applies), 0) + 1
            if not found.applies:
                assert not homogeneous or kind == "divergent"
                continue
            tightest = max(tightest, found.measured / found.bound if found.bound > 0 else 0.0)
            for step, checkpoint in enumerate(each.run.checkpoints):
                size = energy(checkpoint)[index]
                rounding = 1e-14 * (step + 1) * (1.0 + size)
                moved = float((imbalances(checkpoint) - first).abs().sum(1)[index])
                assert moved <= drift[step, index] * (1 + 1e-9) + rounding
                assert size <= growth[step, index] * (1 + 1e-9) + rounding
    assert min(seen.get((kind, True), 0) for kind in ("oscillating", "descending")) >= 10
    assert all(seen.get((k, False), 0) >= 10 for k in ("divergent", "oscillating", "descending"))
    assert 0.3 < tightest <= 1 + 1e-9


def one_step(rate):
    """A neuron with a = 0 and residuals that cancel: only a moves, and with it the balance."""
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    y = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    blocks = [torch.ones(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.zeros(1, 1)]
    network = Ensemble(*[block.double() for block in blocks], activation=ACTIVATIONS["relu"])
    return train(network, x, y, make_schedule("constant", rate, n_steps=1), 1)


@pytest.mark.parametrize("rate", [0.01, 0.5])
def test_the_change_of_balance_is_attained(rate):
    found = Balance().verdict(one_step(rate), 0)
    assert found.applies and found.measured == pytest.approx(found.bound, rel=1e-9)
    # Negative control: half of the bound would be wrong.
    assert found.measured > 0.5 * found.bound


def test_a_falling_risk_bounds_the_change_for_all_times():
    x = torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    ensemble = gaussian_ensemble(12, 1, seeds=(0,))
    y = torch.sin(3 * x)
    schedule = make_schedule("constant", 0.05, n_steps=400)
    run = train(ensemble, x, y, schedule, 400)
    limit, last = Balance().for_ever(run, 0), Balance().verdict(run, 0)
    assert last.measured <= last.bound <= limit < math.inf
    rising = train(ensemble, x, y, make_schedule("constant", 3.0, n_steps=30), 30,
                   on_divergence="record")  # fmt: skip
    assert Balance().for_ever(rising, 0) == math.inf


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_balanced_neurons_have_the_largest_path_norm_for_their_size(seed, m):
    ensemble = gaussian_ensemble(m, 2, seeds=(seed,))
    half = 0.5 * (energy(ensemble)[0] - 2 * float(ensemble.output_bias[0, 0]) ** 2)
    slack = 0.5 * float(imbalances(ensemble).abs().sum())
    assert half - slack <= path_norms(ensemble)[0] * (1 + 1e-12)
    assert path_norms(ensemble)[0] <= half * (1 + 1e-12)
    inner = (ensemble.hidden_weight.square().sum(2) + ensemble.hidden_bias.square()).sqrt()
    even = Ensemble(ensemble.hidden_weight, ensemble.hidden_bias, inner[:, None],
                    ensemble.output_bias, ensemble.activation)  # fmt: skip
    assert float(imbalances(even).abs().max()) < 1e-12
    assert path_norms(even)[0] == pytest.approx(0.5 * energy(even)[0])


def test_the_algebra_of_the_growth():
    f, y, a, v = sympy.symbols("f y a v", real=True)
    assert sympy.expand(-4 * (f - y) * f - (y**2 - (2 * f - y) ** 2)) == 0
    assert sympy.expand((a**2 + v**2) ** 2 - (a**2 - v**2) ** 2 - 4 * a**2 * v**2) == 0


def test_verdicts_and_refusals_outside_of_the_hypotheses():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    schedule = make_schedule("constant", 0.1, n_steps=5)
    smooth = train(gaussian_ensemble(3, 1, activation="tanh"), x, x, schedule, 5)
    found = Balance().verdict(smooth, 0)
    assert found.failed.name == "H2" and found.bound is None
    assert Balance().growth_verdict(smooth, 0, x).bound is None
    for call in (lambda: Balance().bound(smooth), lambda: Balance().growth_bound(smooth, x)):
        with pytest.raises(HypothesisError, match=r"`run` must have a homogeneous activation for"):
            call()
    two = train(gaussian_ensemble(3, 1, 2), x, torch.cat([x, x], 1), schedule, 5)
    assert Balance().verdict(two, 0).failed.name == "H3"
