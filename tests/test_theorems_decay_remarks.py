"""What the page on the decay condition says after its theorems: exponents, smaller masses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from random_runs import batches
from scipy.optimize import minimize_scalar

from lipbook.losses import get_loss
from lipbook.schedules import Schedule, make_schedule
from lipbook.theorems.dichotomy import GeometricRate, relu_problem
from lipbook.theorems.verdict import ROUNDING_FACTOR
from lipbook.training import train

BEST = minimize_scalar(lambda z: -math.log(z - 1) / z, bounds=(2.0, 10.0), method="bounded").x
EXPONENT = math.log(BEST - 1) / BEST


def test_the_best_exponent_is_the_number_on_the_page():
    assert pytest.approx(0.27846, abs=1e-5) == EXPONENT and EXPONENT < 0.2785
    z = np.linspace(0.0, 50.0, 100_001)
    assert (np.maximum(1.0, z - 1.0) <= np.exp(EXPONENT * z) * ROUNDING_FACTOR).all()
    # Negative control.
    assert (np.maximum(1.0, z - 1.0) > np.exp(0.97 * EXPONENT * z)).any()


def output_norms(run):
    """‖(a_t, c_t)‖ at every step, (T+1, K)."""
    return np.array([
        torch.cat([c.output_weight.flatten(1), c.output_bias], 1).norm(dim=1).numpy()
        for c in run.checkpoints
    ])  # fmt: skip


def test_output_weights_obey_the_better_exponent_on_all_random_runs():
    tightest, broken = 0.0, 0
    for batch in batches():
        bound = batch.setting.activation.bound
        if bound is None:
            continue
        gamma = math.sqrt(1.0 + batch.setting.width * bound**2)
        shift = batch.setting.target_rms / (EXPONENT * gamma)
        norms, run = output_norms(batch.run), batch.run
        for index in range(run.ensemble.size):
            last = batch.last_step(index) + 1
            steep = EXPONENT * gamma**2 * run.mass[:last, index]
            with np.errstate(over="ignore"):
                allowed = (norms[0, index] + shift) * np.exp(steep) - shift
                less = (norms[0, index] + shift) * np.exp(0.2 * steep) - shift
            assert (norms[:last, index] <= allowed * ROUNDING_FACTOR).all()
            broken += int((norms[:last, index] > less).any())
            tightest = max(tightest, float((norms[1:last, index] / allowed[1:]).max(initial=0.0)))
    assert tightest > 0.5 and broken > 0  # the second is the negative control


def test_a_clipped_activation_attains_it():
    # ψ = (1, …, 1): each step multiplies (a, c) by 1 − αΓ².
    width = 5
    psi, bar = np.ones(width + 1), np.ones(width + 1)
    gamma = math.sqrt(width + 1)
    mass = 0.0
    for _ in range(6):
        rate = BEST / gamma**2
        bar, mass = bar - rate * psi * (psi @ bar), mass + rate
    assert np.linalg.norm(bar) / gamma == pytest.approx(math.exp(EXPONENT * gamma**2 * mass))


@pytest.mark.parametrize(("size", "explodes"), [(1.26, True), (0.3, False)])
def test_a_smaller_mass_makes_two_relu_neurons_explode(size, explodes):
    v = 100.0
    start, x, y = relu_problem(v)
    rate = Schedule("geometric", size / v**2, GeometricRate(0.25))
    run = train(start, x, y, rate, 12, loss=get_loss("mse"), on_divergence="record")
    assert bool(run.diverged[0]) == explodes
    mass = rate.tail_mass(0)
    assert mass * 40 * v**2 < 68
    steady = train(start, x, y, make_schedule("constant", 1e-9, n_steps=3), 3)
    assert not steady.diverged.any()
