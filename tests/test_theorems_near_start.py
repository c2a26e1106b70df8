"""Networks near a start: how far their outputs go, and how many they are to a sample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import ACTIVATIONS, get_activation
from lipbook.generalization.laws import Law
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.near_ball import Ball

EXAMPLES = settings(max_examples=40, derandomize=True, deadline=None)
NAMES = sorted(ACTIVATIONS)
SMOOTH = [name for name in NAMES if ACTIVATIONS[name].slope_lipschitz is not None]
names, seeds = st.sampled_from(NAMES), st.integers(0, 10_000)
widths, dims = st.integers(1, 12), st.sampled_from((1, 2, 5))
ROUND = 1.0 + 1e-9


def network(width: int, dim: int, name: str, seed: int) -> Ensemble:
    return gaussian_ensemble(width, dim, seeds=[seed], activation=name)


def moved(start: Ensemble, radius: float, seed: int) -> Ensemble:
    generator = torch.Generator().manual_seed(seed)
    blocks = [
        torch.randn(b.shape, generator=generator, dtype=torch.float64) for b in start.blocks()
    ]
    length = math.sqrt(sum(float(b.square().sum()) for b in blocks))
    shifted = [b + radius / length * d for b, d in zip(start.blocks(), blocks, strict=True)]
    return Ensemble(*shifted, activation=start.activation)


def linear_part(start: Ensemble, end: Ensemble, x: torch.Tensor) -> torch.Tensor:
    blocks = tuple(start.blocks())
    change = tuple(e - b for e, b in zip(end.blocks(), blocks, strict=True))

    def outputs(*parts: torch.Tensor) -> torch.Tensor:
        return Ensemble(*parts, activation=start.activation)(x)

    return torch.func.jvp(outputs, blocks, change)[1]


@EXAMPLES
@given(names, widths, dims, seeds, st.floats(1e-3, 5.0))
def test_networks_near_the_start_are_as_near_as_promised(
    name: str, width: int, dim: int, seed: int, radius: float
) -> None:
    start = network(width, dim, name, seed)
    end, ball = moved(start, radius, seed), Ball(start, radius)
    x, high = Law("sine", dim).sample(100, seed).x, math.sqrt(dim)
    difference = end(x) - start(x)
    assert float(difference.abs().max()) <= ball.reach(high) * ROUND
    hidden = end.activation.value(end.preactivation(x)) - start.activation.value(
        start.preactivation(x)
    )
    second = torch.einsum("ekm,enm->enk", end.output_weight, hidden)
    assert float(second.abs().max()) <= ball.shift(high) * ROUND


@EXAMPLES
@given(st.sampled_from(SMOOTH), widths, dims, seeds, st.floats(1e-3, 5.0))
def test_what_bends_is_of_second_order(
    name: str, width: int, dim: int, seed: int, radius: float
) -> None:
    start = network(width, dim, name, seed)
    end, ball = moved(start, radius, seed), Ball(start, radius)
    x, high = Law("sine", dim).sample(100, seed).x, math.sqrt(dim)
    rest = end(x) - start(x) - linear_part(start, end, x)
    assert float(rest.abs().max()) <= ball.bend(high) * ROUND + 1e-12
    one = linear_part(start, end, x).abs().max() / radius
    assert float(one) <= ball.slope(high) * ROUND
    growth = math.sqrt(1.0 + width * start.activation.at_zero**2)
    growth += start.activation.lipschitz * math.hypot(1.0, high) * float(start.parameter_norm()[0])
    assert ball.slope(high) <= growth * ROUND


def test_a_kink_does_bend_at_first_order() -> None:
    # Negative control: relu with its slope taken as if it were smooth (any constant, small r).
    start = Ensemble(
        torch.zeros(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64),
        torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64),
        activation=get_activation("relu"),
    )  # fmt: skip
    x, r = torch.ones(1, 1, dtype=torch.float64), 1e-4
    end = Ensemble(start.hidden_weight + r, start.hidden_bias, start.output_weight,
                   start.output_bias, activation=start.activation)  # fmt: skip
    rest = float((end(x) - start(x) - linear_part(start, end, x)).abs().max())
    assert rest == pytest.approx(r)
    assert rest > 100.0 * r * r
    assert Ball(start, r).bend(1.0) == math.inf
    # The shift is attained up to √2, the price of x̃ = (1, 1) against w alone.
    assert Ball(start, r).shift(1.0) == pytest.approx(math.sqrt(2.0) * r, rel=1e-3)
    along = r / math.sqrt(2.0)
    end = Ensemble(start.hidden_weight + along, start.hidden_bias + along, start.output_weight,
                   start.output_bias, activation=start.activation)  # fmt: skip
    assert float(end(x)) == pytest.approx(Ball(start, r).shift(1.0), rel=1e-2)


def test_the_quadratic_form_has_the_eigenvalue_of_the_lemma() -> None:
    kappa, q = sympy.symbols("kappa q", positive=True)
    form = sympy.Matrix([[0, kappa / 2], [kappa / 2, q / 2]])
    largest = (q + sympy.sqrt(q**2 + 4 * kappa**2)) / 4
    assert sympy.simplify((form - largest * sympy.eye(2)).det()) == 0


@pytest.mark.parametrize("name", ["tanh", "relu", "softplus"])
def test_signs_are_fitted_in_the_ball_no_better_than_the_lemma(name: str) -> None:
    law, n, radius = Law("sine", 1), 5, 0.3
    start = network(6, 1, name, 1)
    x = law.sample(n, 4).x
    ends = [moved(start, radius, seed) for seed in range(300)]
    outputs = torch.stack([end(x)[0, :, 0] - start(x)[0, :, 0] for end in ends]).numpy()
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=n)))
    found = (signs @ outputs.T).max(axis=1).mean() / n

    class There(Law):
        input_rms = float(x.square().sum(1).mean().sqrt())  # type: ignore[assignment]

    bound = Ball(start, radius).complexity(There("sine", 1), n)
    assert 0.0 < found <= bound
