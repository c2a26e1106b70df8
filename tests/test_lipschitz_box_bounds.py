"""What the enclosure on boxes is built from, against 50-digit arithmetic and sampling."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_box_oracles import precise_norm
from lipschitz_oracles import SMOOTH, precise_curvature, random_network

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball
from lipbook.lipschitz.merging import merged
from lipbook.lipschitz.problem import checked_problem
from lipbook.lipschitz.smooth.box_bounds import BoxBounds
from lipbook.lipschitz.smooth.box_trees import LEAF, SplitTree, halved
from lipbook.lipschitz.smooth.cube_quadratics import largest_on_cube
from lipbook.lipschitz.smooth.jacobian_sums import jacobian_sum, region
from lipbook.lipschitz.smooth.polynomial_norms import Coefficients, Constraint, norms_upper
from lipbook.lipschitz.smooth.slope_expansions import (
    THIRD_ERROR,
    THIRD_SLOPES,
    expanded,
    third_slope,
)


@pytest.mark.parametrize("activation", SMOOTH)
def test_third_slopes_are_as_accurate_as_the_proof_assumes(activation):
    sigma = ACTIVATIONS[activation]
    z = np.concatenate([np.random.default_rng(0).normal(size=60) * 3.0, [0.0, 40.0, -40.0, 1e-9]])
    found = expanded(sigma, z, np.full_like(z, 0.1)).third
    with mpmath.workdps(50):
        for point, third in zip(z, found, strict=True):
            exact = mpmath.diff(lambda t: precise_curvature(activation, t), mpmath.mpf(point))
            assert abs(exact - third) <= THIRD_ERROR / 4


@pytest.mark.parametrize("activation", SMOOTH)
def test_fourth_slopes_stay_below_their_stated_bounds(activation):
    known, h = THIRD_SLOPES[activation], 1e-4
    sigma = ACTIVATIONS[activation]
    z = np.linspace(-45.0, 45.0, 90_001)
    thirds = [expanded(sigma, z + s, np.zeros_like(z)).third for s in (-h, h)]
    fourth = np.abs(thirds[1] - thirds[0]) / (2.0 * h)
    assert fourth.max() <= known.largest <= fourth.max() * (1 + 1e-6) + 1e-8
    # Beyond about |z| = 15 the difference quotient is rounding errors.
    near = np.abs(z) < 15.0
    assert (fourth <= known.scale * np.exp(-known.decay * np.abs(z)) + 1e-9)[near].all()


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.sampled_from(SMOOTH),
    st.floats(-12, 12),
    st.floats(-8, 1.5).map(lambda e: 10.0**e),
    st.floats(-1, 1),
    st.booleans(),
)
def test_property_remainders_hold(activation, z, reach, share, known):
    sigma = ACTIVATIONS[activation]
    sigma = sigma if known else replace(sigma, name="mine")
    assert (third_slope(sigma) is None) != known
    found = expanded(sigma, np.array([z]), np.array([reach]))
    delta = share * reach
    slopes = (found.slope[0], found.curvature[0], 0.5 * found.third[0])
    polynomial = slopes[0] + slopes[1] * delta + slopes[2] * delta**2
    rounding = 1e-14 * (1 + reach**2)
    moved = float(sigma.slope(np.float64(z + delta)))
    assert abs(moved - polynomial) <= found.remainder[0] * (1 + 1e-6) + rounding


def test_a_wrong_bound_of_the_fourth_slope_is_seen(monkeypatch):
    # Negative control of the property above.
    liar = replace(THIRD_SLOPES["tanh"], largest=0.1)
    monkeypatch.setitem(THIRD_SLOPES, "tanh", liar)
    found = expanded(ACTIVATIONS["tanh"], np.array([0.3]), np.array([0.5]))
    taylor = found.slope[0] + 0.5 * found.curvature[0] + 0.125 * found.third[0]
    assert abs(1 / math.cosh(0.8) ** 2 - taylor) > found.remainder[0]


@pytest.mark.parametrize("activation", [*SMOOTH, "relu"])
def test_merging_leaves_the_jacobian_alone(activation):
    weight = np.array([[1, 2], [-1, -2], [1, 2], [0, -3], [0, 3], [2, 0], [1, -1]], dtype=float)
    bias = np.array([0.5, -0.5, 0.5, -1, 1, 0, 0])
    output = np.random.default_rng(0).normal(size=(7, 2))
    sigma = ACTIVATIONS[activation]
    w, b, a, constant = merged(weight, bias, output, sigma)
    assert len(w) == (4 if activation in SMOOTH else 6)

    def jacobian(x, w, b, a):
        return np.einsum("m,mk,md->kd", sigma.slope(w @ x + b), a, w)

    for x in np.random.default_rng(1).normal(size=(20, 2)):
        before = jacobian(x, weight, bias, output)
        assert jacobian(x, w, b, a) + constant == pytest.approx(before, abs=1e-13)


def test_merging_knows_no_mirrors_of_an_activation_of_ones_own():
    mine = replace(ACTIVATIONS["tanh"], slope=lambda z: np.exp(-z * z))
    weight, bias = np.array([[1.0, 2], [-1, -2]]), np.array([0.5, -0.5])
    assert len(merged(weight, bias, np.ones((2, 1)), mine)[0]) == 2


def quadratics(seed: int, d: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    square = generator.normal(size=(n, d, d))
    square = square + np.swapaxes(square, 1, 2) + generator.normal(size=(n, 1, 1)) * 4 * np.eye(d)
    return generator.normal(size=(n, d)) * 2, square


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_quadratics_stay_below_their_bounds(d):
    linear, square = quadratics(d, d)
    bound, point = largest_on_cube(linear, square)
    s = np.random.default_rng(9).uniform(-1, 1, size=(4000, d))
    s = np.concatenate([s, np.sign(s), point])
    values = s @ linear.T + np.einsum("pi,nij,pj->pn", s, square, s)
    assert (values.max(axis=0) <= bound).all()
    assert np.abs(point).max() <= 1.0


@pytest.mark.parametrize("d", [1, 2, 3])
def test_concave_quadratics_are_bounded_by_their_maximum(d):
    linear, square = quadratics(d, d)
    square = -square @ square - 0.1 * np.eye(d)
    bound, point = largest_on_cube(linear, square)
    value = np.einsum("ni,ni->n", linear, point) + np.einsum("ni,nij,nj->n", point, square, point)
    assert (bound >= value).all()
    # Coordinate ascent may stop early on the boundary, but not where the maximiser lies inside.
    inside = np.abs(np.linalg.solve(square, -0.5 * linear[:, :, None])).max(axis=(1, 2)) < 1.0
    assert inside.sum() > 5 and (bound - value)[inside].max() <= 1e-10
    assert np.median(bound - value) <= 0.2 * np.median(value)
    exact = 2.0 / 3.0
    found = largest_on_cube(np.array([[2.0, 0.0]]), np.array([[[-1.5, 0], [0, -1.0]]]))[0][0]
    assert exact <= found <= exact + 1e-12


def test_directions_that_are_almost_flat_are_no_trouble():
    linear = np.array([[1e-200, 1.0], [1e200, -1e-300]])
    square = np.array([[[-1e-320, 0], [0, -1.0]], [[-1e-310, 1e-5], [1e-5, -1e200]]])
    with np.errstate(all="ignore"):
        bound, point = largest_on_cube(linear, square)
    assert bound == pytest.approx([0.25, 1e200], rel=1e-9) and np.isfinite(point).all()


def test_what_is_not_finite_has_no_bound():
    linear, square = quadratics(0, 2, n=3)
    linear[0, 0], square[1, 0, 1] = np.inf, np.nan
    bound = largest_on_cube(linear, square)[0]
    assert np.isinf(bound[:2]).all() and np.isfinite(bound[2])


def polynomials(seed: int, k: int, d: int, scale: float, n: int = 12) -> Coefficients:
    generator = np.random.default_rng(seed)
    square = generator.normal(size=(n, k, d, d, d)) * scale**2
    return Coefficients(
        generator.normal(size=(n, k, d)),
        generator.normal(size=(n, k, d, d)) * scale,
        square + np.swapaxes(square, 3, 4),
    )


def sampled(coefficients: Coefficients, s: np.ndarray) -> np.ndarray:
    """‖P(s)‖ at points of the cube, (n, points)."""
    value = np.einsum("nkli,pi->npkl", coefficients.linear, s)
    value += 0.5 * np.einsum("nklij,pi,pj->npkl", coefficients.square, s, s)
    return np.linalg.norm(coefficients.constant[:, None] + value, ord=2, axis=(2, 3))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.1, 1.0])
@pytest.mark.parametrize(("k", "d"), [(1, 2), (1, 3), (2, 2), (3, 2), (5, 2), (3, 3), (2, 4)])
def test_polynomial_norms_hold_and_converge(k, d, scale):
    coefficients = polynomials(k + 10 * d, k, d, scale)
    upper, point = norms_upper(coefficients, None)
    s = np.random.default_rng(1).uniform(-1, 1, size=(500, d))
    s = np.concatenate([s, np.sign(s), np.zeros((1, d))])
    norms = sampled(coefficients, s)
    assert (norms.max(axis=1) <= upper).all() and np.abs(point).max() <= 1.0
    assert np.median(upper / norms.max(axis=1)) - 1 <= 20 * scale**2 + 1e-13


def test_equal_singular_values_are_no_trouble():
    constant = np.broadcast_to(np.eye(3), (2, 3, 3)).copy()
    linear = np.zeros((2, 3, 3, 3))
    linear[1] = np.random.default_rng(0).normal(size=(3, 3, 3)) * 1e-3
    coefficients = Coefficients(constant, linear, np.zeros((2, 3, 3, 3, 3)))
    upper = norms_upper(coefficients, None)[0]
    assert 1.0 <= upper[0] <= 1.0 + 1e-13
    norms = sampled(coefficients, np.random.default_rng(1).uniform(-1, 1, size=(500, 3)))
    assert norms[1].max() <= upper[1] <= 1.02


def test_a_ball_cuts_off_what_lies_beyond_it():
    # ‖(1 + s₁/100, 0)‖ on the part of the cube with s₁ ≤ ½, which a ball of radius 100 nearly is.
    linear = np.zeros((1, 1, 2, 2))
    linear[0, 0, 0, 0] = 0.01
    coefficients = Coefficients(np.array([[[1.0, 0.0]]]), linear, np.zeros((1, 1, 2, 2, 2)))
    radius, ones = 100.0, np.ones(1)
    offset = np.array([[radius - 0.5, 0.0]])
    constraint = Constraint(
        constant=ones * (radius**2 - (radius - 0.5) ** 2),
        linear=-2.0 * offset,
        square=np.ones((1, 2)),
        slack=np.zeros(1),
        active=np.ones(1, dtype=bool),
    )
    assert norms_upper(coefficients, None)[0][0] >= 1.01
    assert 1.005 <= norms_upper(coefficients, constraint)[0][0] <= 1.0051
    idle = replace(constraint, active=np.zeros(1, dtype=bool))
    assert norms_upper(coefficients, idle)[0][0] >= 1.01


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("k", [1, 2])
def test_every_box_bound_holds_in_fifty_digits(activation, k):
    net = random_network(3, 6, d=2, k=k)
    problem = checked_problem(*net.parts, activation, (-6.0, 6.0))
    area = region(problem)
    terms = jacobian_sum(problem, area.exponents)
    generator = np.random.default_rng(1)
    width = np.ldexp(10.0 ** generator.uniform(-9, 1, (16, 2)), -area.exponents)
    low = generator.uniform(-0.5, 0.5, (16, 2))
    found = BoxBounds(terms, area).evaluate(low, low + width)
    scale = mpmath.mpf(2) ** terms.value_exponent
    with mpmath.workdps(50):
        for i in range(len(low)):
            shares = np.concatenate([np.eye(2), np.ones((1, 2)), generator.random((3, 2))])
            inside = np.clip([low[i] + s * width[i] for s in shares], low[i], low[i] + width[i])
            points = area.points(np.concatenate([inside, found.point[i : i + 1]]))
            norms = [precise_norm(net, activation, x) / scale for x in points]
            assert max(norms) <= found.upper[i]
            # Narrow boxes leave no room for a bound that is merely safe.
            if width[i].max() < 1e-4:
                assert found.upper[i] <= max(norms) * (1 + 1e-2)


def test_a_wrong_constant_of_the_activation_is_seen():
    # Negative control: without its hypothesis on σ''' the Taylor bound misses the steep end.
    def bound(sigma):
        problem = checked_problem([[1.0, 0.0]], [0.0], [1.0], sigma, ((0.5, 0.0), (3.5, 1.0)))
        area = region(problem)
        terms = jacobian_sum(problem, area.exponents)
        found = BoxBounds(terms, area).evaluate(area.low[None], area.high[None])
        return math.ldexp(found.upper[0], terms.value_exponent)

    mine = replace(ACTIVATIONS["tanh"], name="mine")
    assert bound(mine) >= 1.0 / math.cosh(0.5) ** 2
    assert bound(replace(mine, curvature_lipschitz=1e-9)) < 1.0 / math.cosh(0.5) ** 2


def test_boxes_beyond_a_ball_do_not_count():
    problem = checked_problem(*random_network(1, 5, d=2).parts, "tanh", Ball((1.0, 2.0), 3.0))
    area = region(problem)
    bounds = BoxBounds(jacobian_sum(problem, area.exponents), area)
    low = np.array([area.low, 0.5 * (area.low + area.high)])
    high = np.array([area.low + 0.29 * (area.high - area.low) / 2, area.high])
    upper = bounds.evaluate(low, high).upper
    assert upper[0] == 0.0 < upper[1]


def test_halves_share_their_middle_and_are_neighbours():
    low, high = np.array([[0.1, -1.0], [3.0, 0.0]]), np.array([[0.7, 1.0], [4.0, 8.0]])
    lows, highs = halved(low, high, np.array([0, 1]))
    assert (lows[::2] == low).all() and (highs[1::2] == high).all()
    assert highs[0, 0] == lows[1, 0] == 0.5 * 0.1 + 0.5 * 0.7 and highs[2, 1] == lows[3, 1] == 4.0
    assert (lows[:, 1][:2] == -1.0).all() and (highs[:, 0][2:] == 4.0).all()


def test_a_tree_lists_its_boxes_generation_by_generation():
    tree = SplitTree()
    first = tree.cut(np.array([0]), np.array([1]))
    second = tree.cut(first[1:], np.array([0]))
    assert tree.levels() == (bytes([1]), bytes([LEAF, 0]), bytes([LEAF, LEAF]))
    for _ in range(12):  # beyond the first allocation
        second = tree.cut(second, np.zeros(len(second), dtype=int))
    assert len(tree.levels()[-1]) == 2**13 and tree.size == sum(map(len, tree.levels()))
