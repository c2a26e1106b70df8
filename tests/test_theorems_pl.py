"""Short paths under the Polyak–Łojasiewicz inequality: bounds, attained cases, controls."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import batch, batches, kind_of

from lipbook.activations import ACTIVATIONS
from lipbook.kernels import parameter_jacobian
from lipbook.losses import get_loss
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems import HypothesisError
from lipbook.theorems.pl_measured import MeasuredPL
from lipbook.theorems.pl_path import (
    PLPath,
    decrease_factor,
    decrease_factors,
    quotients,
    rate_floor,
    settled_step,
)
from lipbook.training import train

NAMES = sorted(ACTIVATIONS)


def constant(start, rate, n_steps, x=0.0, y=0.0, name="constant"):
    """Train f = c (all other weights zero) on one sample: descent of a parabola with β = μ = 1."""
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    network = Ensemble(zero, zero[0], zero, zero[0] + start, ACTIVATIONS["tanh"])
    data = torch.tensor([[x]], dtype=torch.float64), torch.tensor([[y]], dtype=torch.float64)
    schedule = make_schedule(name, rate, n_steps=n_steps)
    return train(network, *data, schedule, n_steps, on_divergence="record")


# The path ---------------------------------------------------------------------------------------


def prefix_bounds(run, network, mu, eta):
    """The bound of the path at every step before the risk settles."""
    last = settled_step(run, network)
    root = np.sqrt(run.risk[: last + 1, network])
    floor = min(rate_floor(run, network), 1 / (2 * eta * mu))
    whole = PLPath(mu).bound(float(run.risk[0, network]), eta, floor)
    return whole * (1 - root / root[0])


def test_paths_of_all_random_runs_stay_below_the_bound_at_every_step():
    seen, tightest = {"applies": 0, "not": 0}, 0.0
    for each in batches():
        for network in range(each.run.ensemble.size):
            values = quotients(each.run, network)
            mu = float(np.min(values)) if len(values) and np.isfinite(values).all() else 0.0
            found = PLPath(mu).verdict(each.run, network)
            assert not found.contradicted
            seen["applies" if found.applies else "not"] += 1
            kind = kind_of(each.run, network)
            assert found.applies <= (kind == "descending")
            if not found.applies:
                assert found.failed.name == "H1" or kind != "divergent" or not mu > 0
                continue
            last = settled_step(each.run, network)
            bounds = prefix_bounds(each.run, network, mu, decrease_factor(each.run, network))
            path = each.run.path[: last + 1, network]
            # Far down a long path the differences of risks are rounded, as the verdict allows.
            assert (path <= bounds * (1 + 1e-9) + 1e-9 * bounds[-1]).all()
            tightest = max(tightest, path[-1] / bounds[-1] if bounds[-1] > 0 else 0.0)
    assert seen["applies"] >= 60 and seen["not"] >= 60
    assert 0.9 < tightest <= 1 + 1e-9


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0, 1.5, 1.9])
def test_the_path_bound_is_attained_for_every_rate_below_two_over_beta(rate):
    run = constant(3.0, rate, 400)
    found = PLPath(1.0).verdict(run, 0)
    assert found.applies and found.measured == pytest.approx(found.bound, rel=1e-6)
    assert decrease_factor(run, 0) == pytest.approx(1 - rate / 2, rel=1e-9)
    assert PLPath(1.0).for_ever(run, 0) == pytest.approx(3.0 * max(1.0, rate / (2 - rate)))


def test_with_two_curvatures_the_bound_is_not_attained_but_never_beaten():
    ratios = {}
    for mu in (1.0, 0.5, 0.1, 0.01):
        for rate in (0.05, 0.5, 1.0, 1.5, 1.9):
            angles = np.linspace(0.0, math.pi / 2, 1 if mu == 1.0 else 41)
            point, path = np.stack([np.cos(angles), np.sin(angles)]), 0.0
            curvature = np.array([[mu], [1.0]])
            risks = 0.5 * (curvature * point**2).sum(0)
            for _ in range(1500):
                step = rate * curvature * point
                point, path = point - step, path + np.linalg.norm(step, axis=0)
            bounds = [PLPath(mu).bound(float(risk), 1 - rate / 2, rate) for risk in risks]
            best = float((path / np.array(bounds)).max())
            ratios[mu, rate] = best
    assert max(ratios.values()) <= 1 + 1e-9
    assert all(ratios[1.0, rate] == pytest.approx(1.0) for rate in (0.05, 0.5, 1.0, 1.5, 1.9))
    assert max(r for (mu, _), r in ratios.items() if mu < 1) < 0.999


def test_without_decrease_or_with_too_large_a_constant_paths_are_longer():
    # Negative controls: H2 dropped (η = ½ taken on trust), then H3 (μ twice the least quotient).
    long, steep = 0, 0
    for seed in range(12):
        each = batch(seed)
        for network in range(8):
            values = quotients(each.run, network)
            if each.run.diverged[network] or not len(values) or not np.min(values) > 0:
                continue
            risk = float(each.run.risk[0, network])
            trusted = math.sqrt(8 * risk / float(np.min(values)))
            if decrease_factor(each.run, network) < 0.5 and each.run.path[-1, network] > trusted:
                long += 1
    for rate in (0.1, 0.5):
        run = constant(1.0, rate, 200)
        wrong = PLPath(1.5)
        assert wrong.verdict(run, 0).failed.name == "H3"
        steep += run.path[-1, 0] > math.sqrt(2 * run.risk[0, 0] / 1.5)
    assert long >= 3 and steep == 2


def test_the_verdict_takes_both_values_and_says_why():
    assert PLPath(1.0).verdict(constant(1.0, 0.5, 30), 0).applies
    assert PLPath(1.0).verdict(constant(1.0, 2.5, 200), 0).failed.name == "H2"
    assert PLPath(1.0).for_ever(constant(1.0, 2.5, 30), 0) == math.inf
    diverged = constant(1.0, 40.0, 60)
    assert diverged.diverged[0] and PLPath(1.0).verdict(diverged, 0).failed is not None
    assert PLPath(0.0).verdict(constant(1.0, 0.5, 30), 0).failed.name == "H3"
    assert PLPath(1.0, 0.9).verdict(constant(1.0, 0.5, 30), 0).failed.name == "H2"
    resting = PLPath(1.0).verdict(constant(0.0, 0.5, 30), 0)
    assert resting.applies and resting.measured == 0.0 and resting.bound == 0.0


def test_rates_that_fall_to_zero_get_the_larger_factor():
    run = constant(1.0, 0.5, 60, name="exponential")
    for_ever, seen = PLPath(1.0).for_ever(run, 0), PLPath(1.0).verdict(run, 0)
    assert seen.applies and seen.measured <= seen.bound <= for_ever
    # η = ¾ (measured at the first, largest rate) and rates down to 0: the factor is 1/η.
    assert for_ever == pytest.approx(4 / 3)


def test_the_algebra_of_the_factor():
    mu, eta, rate = sympy.symbols("mu eta alpha", positive=True)
    inside = sympy.sqrt(1 - 2 * eta * rate * mu)
    ratio = rate * sympy.sqrt(2 * mu) / (1 - inside)
    claimed = sympy.sqrt(2 / mu) * (1 + inside) / (2 * eta)
    assert sympy.simplify(ratio - claimed) == 0
    slope = sympy.diff((1 + sympy.sqrt(1 - 2 * eta * rate * mu)) / (2 * eta), mu)
    values = {eta: sympy.Rational(3, 4), rate: sympy.Rational(1, 2)}
    assert all(slope.subs({**values, mu: sympy.Rational(k, 4)}) < 0 for k in (1, 2, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 0.5, 0.1), r"`mu` must be positive for thm-pl-path \(H3\). Got 0.0. Take"),
        ((1.0, 1.0, -0.5, 0.1), r"`decrease` must be positive for thm-pl-path \(H2\). Got -0.5."),
        ((9.0, 1.0, 0.5, 1.0), r"`rate` must satisfy 2ηαμ ≤ 1 for thm-pl-path \(H2, H3\). Got 1"),
    ],
)
def test_bounds_outside_of_the_hypotheses_are_refused(arguments, message):
    mu, *rest = arguments
    with pytest.raises(HypothesisError, match=message):
        PLPath(mu).bound(*rest)


# The constant, measured -------------------------------------------------------------------------

CASES = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(NAMES),
    "m": st.integers(1, 12),
    "d": st.integers(1, 3),
    "n": st.integers(1, 6),
    "size": st.sampled_from([0.01, 1.0, 30.0]),
    "loss": st.sampled_from(["mse", "huber"]),
}


def slope_and_risk(ensemble, x, y, loss):
    residual = (ensemble(x) - y)[0, :, 0]
    gradient = parameter_jacobian(ensemble, x)[0].T @ loss.derivative(residual) / len(x)
    return float(gradient.square().sum()), float(loss.risk(residual[:, None]))


@settings(derandomize=True, max_examples=120, deadline=None)
@given(**CASES)
def test_the_kernel_bounds_the_constant(seed, activation, m, d, n, size, loss):
    generator = np.random.default_rng(seed)
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), activation=activation)
    x = torch.from_numpy(generator.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(size * generator.normal(size=(n, 1)))
    objective = get_loss(loss, 0.7)
    mu = MeasuredPL(objective).bound(ensemble, 0, x, y)
    slope, risk = slope_and_risk(ensemble, x, y, objective)
    assert slope >= 2 * mu * risk * (1 - 1e-9)


def test_the_constant_is_attained_by_residuals_along_the_least_eigenvector():
    generator = np.random.default_rng(0)
    ensemble = gaussian_ensemble(9, 2, seeds=(0,), activation="tanh")
    x = torch.from_numpy(generator.uniform(-1, 1, (4, 2)))
    jacobian = parameter_jacobian(ensemble, x)[0]
    least = torch.linalg.eigh(jacobian @ jacobian.T).eigenvectors[:, :1]
    y = ensemble(x)[0] - least
    mu = MeasuredPL(get_loss("mse")).bound(ensemble, 0, x, y)
    slope, risk = slope_and_risk(ensemble, x, y, get_loss("mse"))
    assert slope == pytest.approx(2 * mu * risk, rel=1e-6)


def test_the_huber_share_is_needed_and_attained():
    # Far residuals: with δ = 0.5 and r = 20 the quotient is δ/(2r − δ) of the kernel's eigenvalue.
    x, y = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), -20.0, dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    network = Ensemble(zero, zero[0], zero, zero[0], ACTIVATIONS["tanh"])
    huber = get_loss("huber", 0.5)
    slope, risk = slope_and_risk(network, x, y, huber)
    mu = MeasuredPL(huber).bound(network, 0, x, y)
    assert slope == pytest.approx(2 * mu * risk)
    assert slope < 2 * MeasuredPL(get_loss("mse")).bound(network, 0, x, y) * risk


@pytest.mark.parametrize("residual", [0.0, 0.3, 0.499, 0.5, 0.501, 0.9, 1.0, 1.001, 3.0, 50.0])
def test_the_huber_share_is_the_least_quotient_below_and_above_half_the_threshold(residual):
    # δ/(2r − δ) alone is negative for r < δ/2 and infinite at δ/2: there the share is 1.
    huber = get_loss("huber", 1.0)
    share = MeasuredPL(huber).share(residual)
    assert share == (1.0 if residual <= 1.0 else pytest.approx(1.0 / (2.0 * residual - 1.0)))
    if residual == 0.0:
        return
    r = np.linspace(residual / 1000, residual, 1000)
    value = np.where(r <= 1.0, r**2 / 2, r - 0.5)
    assert share == pytest.approx(float((np.minimum(r, 1.0) ** 2 / (2 * value)).min()))


def test_small_huber_residuals_have_the_constant_of_the_squared_loss():
    generator = np.random.default_rng(1)
    ensemble = gaussian_ensemble(9, 2, seeds=(0,), activation="tanh")
    x = torch.from_numpy(generator.uniform(-1, 1, (4, 2)))
    y = ensemble(x)[0] + 0.3 * torch.from_numpy(generator.uniform(-1, 1, (4, 1)))
    huber = get_loss("huber", 1.0)
    mu = MeasuredPL(huber).bound(ensemble, 0, x, y)
    slope, risk = slope_and_risk(ensemble, x, y, huber)
    assert mu == MeasuredPL(get_loss("mse")).bound(ensemble, 0, x, y) > 0
    assert slope >= 2 * mu * risk * (1 - 1e-9)


@pytest.mark.parametrize("reason", ["duplicates", "more samples than parameters", "dead"])
def test_where_the_constant_is_zero(reason):
    x = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    network = gaussian_ensemble(30, 1, seeds=(0,), activation="relu")
    if reason == "duplicates":
        x = x[[0, 0, 2]]
    elif reason == "dead":
        network = replace(network, hidden_bias=-1e3 * torch.ones_like(network.hidden_bias))
    else:
        x = torch.linspace(-1, 1, 200, dtype=torch.float64)[:, None]
    y = torch.ones(len(x), 1, dtype=torch.float64)
    measured = MeasuredPL(get_loss("mse"))
    assert measured.bound(network, 0, x, y) == 0.0
    run = train(network, x, y, make_schedule("constant", 0.01, n_steps=9), 9)
    assert measured.verdict(run, 0, x, y).failed.name == "H2"
    assert PLPath(0.0).verdict(run, 0).failed.name == "H3"


def test_kernels_of_random_runs_stay_below_the_quotients():
    applies, kinds = 0, set()
    for each in batches()[::4]:
        for network in range(each.run.ensemble.size):
            found = MeasuredPL(each.run.loss).verdict(each.run, network, each.x, each.y)
            assert not found.contradicted
            applies += found.applies
            kinds.add((kind_of(each.run, network), found.applies))
    assert applies >= 10
    assert {kind for kind, said in kinds if not said} == {"divergent", "oscillating", "descending"}


def test_factors_of_a_run_that_diverges_are_not_numbers():
    run = constant(1.0, 40.0, 60)
    assert math.isnan(decrease_factor(run, 0))
    assert not np.isfinite(decrease_factors(run, 0)).all()
