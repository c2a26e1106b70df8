"""Tangent kernels and second derivatives against automatic differentiation and exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS
from lipbook.kernels import (
    Curvature,
    exact_sharpness,
    lanczos_pair,
    lanczos_sharpness,
    least_eigenvalue,
    parameter_jacobian,
    tangent_kernel,
)
from lipbook.losses import get_loss
from lipbook.networks import BLOCKS, Ensemble, gaussian_ensemble

NAMES = sorted(ACTIVATIONS)
CASES = {
    "seed": st.integers(0, 10_000),
    "activation": st.sampled_from(NAMES),
    "m": st.integers(1, 6),
    "d": st.integers(1, 3),
    "n": st.integers(1, 5),
    "loss": st.sampled_from(["mse", "huber"]),
}


def problem(seed, activation, m, d, n, loss="mse", size=1):
    generator = np.random.default_rng(seed)
    ensemble = gaussian_ensemble(m, d, seeds=range(seed, seed + size), activation=activation)
    x = torch.from_numpy(generator.uniform(-1.5, 1.5, (n, d)))
    y = torch.from_numpy(generator.normal(size=(n, 1)))
    return ensemble, x, y, get_loss(loss, 0.7)


def blocks_of(ensemble, parameters):
    """One network, as a function of its parameters in one vector."""
    pieces, at = {}, 0
    for name, block in zip(BLOCKS, ensemble.blocks(), strict=True):
        pieces[name] = parameters[at : at + block[0].numel()].view_as(block[:1])
        at += block[0].numel()
    return Ensemble(**pieces, activation=ensemble.activation)


def vector_of(ensemble):
    return torch.cat([block[0].flatten() for block in ensemble.blocks()])


@settings(derandomize=True, max_examples=60, deadline=None)
@given(**CASES)
def test_closed_forms_agree_with_automatic_differentiation(seed, activation, m, d, n, loss):
    ensemble, x, y, objective = problem(seed, activation, m, d, n, loss)
    at = vector_of(ensemble)
    automatic = torch.autograd.functional.jacobian(lambda v: blocks_of(ensemble, v)(x)[0, :, 0], at)
    jacobian = parameter_jacobian(ensemble, x)
    assert torch.allclose(jacobian[0], automatic, atol=1e-12)
    assert torch.allclose(tangent_kernel(ensemble, x), jacobian @ jacobian.transpose(1, 2))
    hessian = torch.autograd.functional.hessian(
        lambda v: objective.risk(blocks_of(ensemble, v)(x) - y).sum(), at
    )
    curvature = Curvature.of(ensemble, x, y, objective)
    assert torch.allclose(curvature.matrix()[0], hessian, atol=1e-10)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(**CASES)
def test_lanczos_agrees_with_all_second_derivatives(seed, activation, m, d, n, loss):
    ensemble, x, y, objective = problem(seed, activation, m, d, n, loss, size=3)
    curvature = Curvature.of(ensemble, x, y, objective)
    exact = exact_sharpness(curvature)
    found, residual = lanczos_sharpness(curvature, 60)
    assert np.allclose(found, exact, rtol=1e-9, atol=1e-12)
    assert (residual <= 1e-6 * (1.0 + exact)).all()
    assert (found <= exact * (1 + 1e-12) + 1e-13).all()
    _, vector, _ = lanczos_pair(curvature, 60)
    assert torch.allclose(vector.norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_few_steps_of_lanczos_bound_from_below_and_say_by_how_much():
    ensemble, x, y, objective = problem(0, "tanh", 6, 3, 5)
    curvature = Curvature.of(ensemble, x, y, objective)
    exact = exact_sharpness(curvature)[0]
    found = [lanczos_sharpness(curvature, k) for k in (2, 3, 5, 8)]
    values = [float(value[0]) for value, _ in found]
    assert values == sorted(values) and values[-1] <= exact * (1 + 1e-12)
    assert values[0] < 0.999 * exact  # two steps are not enough: the residual shows it
    assert found[0][1][0] > 1e-3 * exact > found[-1][1][0]


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    activation=st.sampled_from(["relu", "leaky relu", "abs"]),
    m=st.integers(1, 4),
    n=st.integers(1, 3),
    close=st.sampled_from([1.0, 1e-3, 1e-6, 1e-8]),
)
def test_the_least_eigenvalue_is_enclosed(seed, activation, m, n, close):
    # Exact arithmetic: weights and inputs are floats, and σ is piecewise linear, so that J, JJᵀ and
    # the signs of det(JJᵀ − λ) are rational numbers that can be computed without any error.
    generator = np.random.default_rng(seed)
    ensemble = gaussian_ensemble(m, 1, seeds=(seed,), activation=activation)
    x = torch.from_numpy(0.3 + close * generator.uniform(-1.0, 1.0, (n, 1)))
    found = least_eigenvalue(ensemble, 0, x)
    assert 0.0 <= found.lower <= found.value <= found.upper and found.error >= 0.0
    kernel = exact_kernel(ensemble, x)
    assert count_below(kernel, Fraction(found.lower)) == 0
    assert count_below(kernel, Fraction(found.upper) + Fraction(1, 10**300)) >= 1
    if close == 1.0 and n <= 2 and found.value > 1e-6:
        assert found.error <= 1e-9 * found.value


def exact_kernel(ensemble, x):
    low, high = (Fraction(s) for s in ensemble.activation.kink_slopes)
    weight, bias, output = (
        [Fraction(float(v)) for v in block.flatten()]
        for block in (ensemble.hidden_weight, ensemble.hidden_bias, ensemble.output_weight)
    )
    rows = []
    for point in (Fraction(float(v)) for v in x[:, 0]):
        row = [Fraction(1)]
        for w, b, a in zip(weight, bias, output, strict=True):
            z = w * point + b
            slope = high if z > 0 else low
            row += [a * slope * point, a * slope, slope * z]
        rows.append(row)
    return [[sum(p * q for p, q in zip(r, s, strict=True)) for s in rows] for r in rows]


def count_below(kernel, level):
    """How many eigenvalues of a symmetric rational matrix are < level, by its LDLᵀ inertia."""
    n = len(kernel)
    rows = [[kernel[i][k] - (level if i == k else 0) for k in range(n)] for i in range(n)]
    count = 0
    for i in range(n):
        pivot = rows[i][i]
        if pivot == 0:  # an eigenvalue of a leading block: nudge, the tests' levels are generic
            pivot = Fraction(1, 10**400)
        count += pivot < 0
        for r in range(i + 1, n):
            share = rows[r][i] / pivot
            rows[r] = [p - share * q for p, q in zip(rows[r], rows[i], strict=True)]
    return count


def test_the_enclosure_sees_a_wrong_value():
    # Negative control: the exact count tells a lower end that is a little too high.
    ensemble = gaussian_ensemble(4, 1, seeds=(0,))
    x = torch.tensor([[-0.5], [0.4]], dtype=torch.float64)
    found = least_eigenvalue(ensemble, 0, x)
    kernel = exact_kernel(ensemble, x)
    assert count_below(kernel, Fraction(found.upper * (1 + 1e-9))) == 1
    assert count_below(kernel, Fraction(found.lower * (1 - 1e-9))) == 0


def test_kernels_without_a_positive_eigenvalue():
    ensemble = gaussian_ensemble(1, 1, seeds=(0,), activation="tanh")
    many = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    assert least_eigenvalue(ensemble, 0, many).upper == 0.0  # 5 samples, 4 parameters
    wide = gaussian_ensemble(20, 1, seeds=(0,), activation="tanh")
    twice = torch.tensor([[0.2], [0.2], [0.7]], dtype=torch.float64)
    found = least_eigenvalue(wide, 0, twice)
    assert found.lower == 0.0 and found.upper < 1e-20
    broken = Ensemble(*[block * np.nan for block in wide.blocks()], activation=wide.activation)
    assert least_eigenvalue(broken, 0, twice).lower == 0.0


def test_several_outputs_are_refused():
    ensemble = gaussian_ensemble(3, 1, 2)
    x = torch.zeros(1, 1, dtype=torch.float64)
    for each in (parameter_jacobian, tangent_kernel):
        with pytest.raises(ValueError, match="`ensemble` must have one output for a tangent"):
            each(ensemble, x)
