"""The tools on random signs, radii and the distance from a sample to its law."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from scipy.spatial.distance import cdist

from lipbook.theorems.chance import most_violations, violations
from lipbook.theorems.empirical import (
    dyadic_distance,
    finite_complexity,
    linear_complexity,
    peel,
    uniform_gap,
)
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.tools import dyadic_w1_bound, dyadic_w1_rate, w1_deviation

REPEAT = settings(deadline=None, derandomize=True, max_examples=60)
SEEDS = st.integers(0, 10_000)
ROUNDING = 1e-9
SHAPES = (np.abs, np.tanh, np.sin, lambda x: np.maximum(x, 0.0), lambda x: x + 1.0, np.cos)


def signs(n: int) -> np.ndarray:
    """Return all 2ⁿ sequences of signs."""
    return np.array(list(itertools.product((-1.0, 1.0), repeat=n)))


def average(vectors: np.ndarray, absolute: bool = False) -> float:
    """Return the Rademacher average of a finite set by brute force over all signs."""
    sums = signs(vectors.shape[1]) @ vectors.T
    return float((np.abs(sums) if absolute else sums).max(axis=1).mean()) / vectors.shape[1]


# --- random signs


@REPEAT
@given(SEEDS, st.integers(1, 6), st.integers(1, 8))
def test_rules_for_rademacher_averages(seed, n, size):
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(size, n)), rng.normal(size=(3, n))
    value = average(one)
    assert value >= -1e-12
    assert value <= average(np.concatenate([one, other])) + 1e-12
    added = (one[:, None] + other[None]).reshape(-1, n)
    assert average(added) == pytest.approx(value + average(other))
    assert average(one + other[0]) == pytest.approx(value)
    assert average(-2.0 * one) == pytest.approx(2.0 * value)
    mixed = rng.dirichlet(np.ones(size), size=5) @ one
    assert average(np.concatenate([one, mixed])) == pytest.approx(value)
    with_zero = np.concatenate([one, np.zeros((1, n))])
    assert average(with_zero, absolute=True) <= 2.0 * average(with_zero) + 1e-12
    assert value <= finite_complexity(one) + 1e-12
    pair = np.stack([one[0], np.zeros(n)])
    assert average(pair, absolute=True) == pytest.approx(2.0 * average(pair))  # attained


def test_without_zero_absolute_values_cost_more():
    alone = np.ones((1, 4))
    assert average(alone) == 0.0 and average(alone, absolute=True) > 0.3


@REPEAT
@given(SEEDS, st.integers(1, 8), st.integers(1, 4), st.floats(0.0, 3.0))
def test_linear_classes(seed, n, dimension, radius):
    points = np.random.default_rng(seed).normal(size=(n, dimension))
    exact = radius * np.linalg.norm(signs(n) @ points, axis=1).mean() / n
    bound = linear_complexity(points, radius)
    assert exact <= bound * (1 + ROUNDING) + 1e-15
    assert bound <= radius * np.linalg.norm(points, axis=1).max() / math.sqrt(n) * (1 + ROUNDING)
    orthogonal = np.linalg.norm(signs(n) @ np.eye(n), axis=1).mean() / n
    assert orthogonal == pytest.approx(linear_complexity(np.eye(n), 1.0))  # attained


def apply(shapes: list[int], vectors: np.ndarray) -> np.ndarray:
    return np.stack([SHAPES[k](vectors[:, i]) for i, k in enumerate(shapes)], axis=1)


@REPEAT
@given(SEEDS, st.integers(1, 6), st.integers(1, 10), st.data())
def test_contraction(seed, n, size, data):
    rng = np.random.default_rng(seed)
    vectors, sizes = 2.0 * rng.normal(size=(size, n)), rng.exponential(size=n)
    shapes = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    after = sizes * apply(shapes, vectors)
    assert average(after) <= average(sizes * vectors) + 1e-12
    anchored = [k % 4 for k in shapes]  # those that vanish at 0
    after, before = sizes * apply(anchored, vectors), sizes * vectors
    assert average(after, absolute=True) <= 2.0 * average(before, absolute=True) + 1e-12


def test_contraction_is_attained_and_needs_its_hypotheses():
    vectors = np.array([[1.0, 1.0], [-1.0, -1.0]])
    after = np.stack([vectors[:, 0], np.abs(vectors[:, 1])], axis=1)
    assert 2.0 * average(after) == 2.0 * average(vectors) == 1.0
    assert 2.0 * average(after, absolute=True) == 2.0 and average(vectors, absolute=True) == 0.5
    # The controls: a steeper function; with absolute values a function that misses 0.
    assert average(np.sin(3.0 * vectors / 10)) > average(vectors / 10)
    zero = np.zeros((1, 2))
    assert average(np.cos(zero), absolute=True) > 2.0 * average(zero, absolute=True)


@REPEAT
@given(SEEDS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 6))
def test_symmetrisation_exactly(seed, n, n_points, size):
    """A law on few points and a finite class: every sample is enumerated."""
    rng = np.random.default_rng(seed)
    law, functions = rng.dirichlet(np.ones(n_points)), rng.uniform(size=(size, n_points))
    samples = np.array(list(itertools.product(range(n_points), repeat=n)))
    chances = law[samples].prod(axis=1)
    seen = functions[:, samples]  # (size, samples, n)
    gaps = ((functions @ law)[:, None] - seen.mean(axis=2)).max(axis=0)
    averages = np.array([average(seen[:, k]) for k in range(len(samples))])
    assert chances @ gaps <= 2.0 * chances @ averages + 1e-12
    for failure in (0.5, 0.1):
        fixed = uniform_gap(chances @ averages, 1.0, n, failure)
        assert chances @ (gaps > fixed + 1e-12) <= failure
        beyond = [
            gap > uniform_gap(a, 1.0, n, failure, empirical=True)
            for gap, a in zip(gaps, averages, strict=True)
        ]
        assert chances @ np.array(beyond) <= failure


def test_symmetrisation_is_nearly_attained():
    """All functions from 200 points to [0, 1], two samples: the factor 2 is needed."""
    points, n = 200, 2
    twice = 1.0 / points  # the chance of a tie
    gap = (1 - twice) * (1 - n / points) + twice * (1 - 1 / points)
    complexity = (1 - twice) * 0.5 + twice * 0.25  # a tie: the mean of (ε₁ + ε₂)⁺/2
    assert 0.98 * 2.0 * complexity <= gap <= 2.0 * complexity
    assert gap > 1.9 * complexity


# --- radii


def test_peeling_pays_for_radii_seen_later():
    """Gaps of nested classes, independent: which fails is known exactly."""
    failure, classes = 0.1, 40
    radii = [0.7 * 2.0**k for k in range(classes)]
    shares = [peel([r], [1.0], failure)[1] for r in radii]
    assert sum(shares) <= failure  # so a union over the classes fails with at most η
    assert 1.0 - np.prod(1.0 - np.array(shares)) <= failure
    # The control: a bound for a fixed class, used for the class that came out.
    assert 1.0 - (1.0 - failure) ** classes > 9.0 * failure


@REPEAT
@given(st.floats(0.0, 1e6), st.floats(1e-3, 1e3), st.floats(1e-6, 1.0))
def test_peeling_radii(radius, first, failure):
    (reached,), share = peel([radius], [first], failure)
    k = round(math.log2(reached / first))
    assert radius <= reached <= max(first, 2.0 * radius)
    assert share == pytest.approx(failure / ((k + 1) * (k + 2)))
    assert k == 0 if radius <= first else k < 1.0 + math.log2(radius / first) + 1e-9
    two, both = peel([radius, 0.0], [first, 1.0], failure)
    assert two == (reached, 1.0) and both == pytest.approx(share / 2.0)


def test_peeling_refuses():
    with pytest.raises(HypothesisError, match=r"`first` must be positive for lem-peeling"):
        peel([1.0], [0.0], 0.1)
    with pytest.raises(HypothesisError, match=r"`radii` must be finite .*diverged"):
        peel([math.inf], [1.0], 0.1)


# --- from a sample to its law


def exact_w1(x: np.ndarray, y: np.ndarray) -> float:
    """Return W₁ of two samples of equal size: the best pairing."""
    costs = cdist(x, y)
    return float(costs[optimize.linear_sum_assignment(costs)].mean())


def test_pairings_are_optimal_couplings_and_lipschitz_functions_lie_below():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(7, 2)), rng.uniform(size=(7, 2))
    marginals = np.concatenate([np.kron(np.eye(7), np.ones(7)), np.kron(np.ones(7), np.eye(7))])
    program = optimize.linprog(cdist(x, y).ravel(), A_eq=marginals, b_eq=np.full(14, 1 / 7))
    assert program.fun == pytest.approx(exact_w1(x, y))
    dual = optimize.linprog(  # the best Lipschitz function on the 14 points
        np.concatenate([np.full(7, -1 / 7), np.full(7, 1 / 7)]),
        A_ub=np.array([np.eye(14)[i] - np.eye(14)[j] for i in range(14) for j in range(14)]),
        b_ub=cdist(np.concatenate([x, y]), np.concatenate([x, y])).ravel(),
        bounds=(-2, 2),
    )
    assert -dual.fun == pytest.approx(exact_w1(x, y))
    for _ in range(50):
        centre = rng.uniform(-1, 2, size=(1, 2))
        assert abs(cdist(x, centre).mean() - cdist(y, centre).mean()) <= exact_w1(x, y) + 1e-12


@REPEAT
@given(SEEDS, st.integers(1, 3), st.integers(1, 20), st.integers(0, 5))
def test_counting_in_cells_bounds_the_distance(seed, dimension, n, levels):
    rng = np.random.default_rng(seed)
    low, sides = rng.normal(size=dimension), rng.uniform(0.1, 2.0, dimension)
    x, y = low + sides * rng.beta(1, 1 + seed % 5, size=(2, n, dimension))
    exact = exact_w1(x, y)
    assert exact <= dyadic_distance(x, y, low, low + sides, levels) * (1 + ROUNDING)
    if dimension == 1:
        assert exact == pytest.approx(stats.wasserstein_distance(x[:, 0], y[:, 0]))
        grid = np.sort(np.concatenate([x, y])[:, 0])
        areas = [abs((x <= a).mean() - (y <= a).mean()) for a in grid[:-1]]
        assert exact == pytest.approx(areas @ np.diff(grid))


def test_counting_in_cells_is_nearly_attained_and_needs_the_box():
    corners = np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]])
    low, high = np.zeros(2), np.ones(2)
    assert dyadic_distance(*corners, low, high, 0) == pytest.approx(exact_w1(*corners))
    assert dyadic_distance(*corners, low, high, 9) == pytest.approx(math.sqrt(2.0))  # attained
    with pytest.raises(HypothesisError, match=r"`x and y` must lie in the box"):
        dyadic_distance(*corners, low, 0.5 * high, 3)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 10])
def test_closed_forms_lie_above_the_best_sum(dimension):
    for n in [*range(1, 70), 1000, 1023, 1024, 1025, 10**6, 10**9]:
        best, rate = dyadic_w1_bound(n, dimension, 1.0), dyadic_w1_rate(n, dimension, 1.0)
        assert best <= rate * (1 + ROUNDING) and best <= 1.0
        assert best >= dyadic_w1_bound(n + 1, dimension, 1.0) * (1 - ROUNDING)
        if dimension > 1:
            sums = [
                0.5**q + sum(0.5 ** (k + 1) * math.sqrt((2 ** (k * dimension) - 1) / n)
                             for k in range(1, q + 1))
                for q in range(34 // dimension + 2)
            ]  # fmt: skip
            assert best == pytest.approx(min(sums))
    constants = {2: 1.0, 3: 2.0 + 0.5 / (1.0 - math.sqrt(0.5)), 4: 3.0, 10: 2.0 + 8.0 / 15.0}
    if dimension in constants:
        one = dyadic_w1_rate(1, dimension, 1.0)
        assert one == pytest.approx(constants[dimension])


@pytest.mark.parametrize("dimension", [3, 4, 10])
def test_from_how_many_samples_on_the_distance_says_something(dimension):
    """(b) from n > (2^D − 1)/4 on, (c) from n > C^D on: not from 2^D, as a negative control."""
    first = (2**dimension - 1) // 4 + 1
    assert dyadic_w1_bound(first, dimension, 1.0) < 1.0
    assert dyadic_w1_bound(first - 1, dimension, 1.0) == 1.0 if first > 1 else True
    constant = 2.0 + 0.5 / (1.0 - 2.0 ** (1.0 - 0.5 * dimension))
    closed = {3: 51, 4: 82, 10: 10888}[dimension]
    assert closed - 1 <= constant**dimension * (1 + ROUNDING) and constant**dimension < closed
    assert dyadic_w1_rate(closed, dimension, 1.0) < 1.0
    assert dyadic_w1_rate(closed - 1, dimension, 1.0) >= 1.0 - ROUNDING
    assert dyadic_w1_bound(2**dimension, dimension, 1.0) < 1.0
    assert dyadic_w1_rate(2**dimension + 1, dimension, 1.0) > 1.0


def test_on_the_line_exactly():
    """A law with weight p at the ends of [0, 1]: W₁ = |K/n − p| with a binomial K."""
    for n in (1, 2, 5, 50):
        for chance in (0.1, 0.5, 0.8):
            k = np.arange(n + 1)
            mean = float(stats.binom.pmf(k, n, chance) @ np.abs(k / n - chance))
            assert mean <= math.sqrt(chance * (1 - chance) / n) * (1 + ROUNDING)
            assert mean <= dyadic_w1_bound(n, 1, 1.0) * (1 + ROUNDING)
    assert dyadic_w1_bound(1, 1, 1.0) == 0.5  # attained: n = 1, p = ½
    k = np.arange(101)
    mean = float(stats.binom.pmf(k, 100, 0.5) @ np.abs(k / 100 - 0.5))
    assert mean == pytest.approx(0.798 * dyadic_w1_bound(100, 1, 1.0), rel=5e-3)  # √(2/π)


LAWS = {
    2: np.array(list(itertools.product((0.0, 0.5, 1.0, 0.25), repeat=2))),
    3: np.array(list(itertools.product((0.0, 1.0), repeat=3))).repeat(2, axis=0),
    4: np.array(list(itertools.product((0.0, 1.0), repeat=4))),
}


@pytest.mark.parametrize("dimension", sorted(LAWS))
@pytest.mark.parametrize("n", [1, 4, 16])
def test_samples_in_a_cube(dimension, n):
    """A law on 16 points, each sample repeated to 16: the distances are exact."""
    law, diagonal, draws = LAWS[dimension], math.sqrt(dimension), 400
    rng = np.random.default_rng(n)
    picks = rng.integers(16, size=(draws, n))
    distances = np.array([exact_w1(law[pick].repeat(16 // n, axis=0), law) for pick in picks])
    bound = dyadic_w1_bound(n, dimension, diagonal)
    assert distances.mean() - 6.0 * distances.std() / math.sqrt(draws) <= bound
    for failure in (0.5, 0.05):
        beyond = violations(distances, bound + w1_deviation(n, diagonal, failure))
        assert beyond <= most_violations(draws, failure)
    # The control: a quarter of the bound for the side in place of the diagonal.
    small = 0.25 * dyadic_w1_bound(n, dimension, 1.0)
    assert violations(distances, small) > most_violations(draws, 0.5)


def test_deviation_of_the_distance_exactly():
    for n in (1, 10, 200):
        k = np.arange(n + 1)
        chances, distances = stats.binom.pmf(k, n, 0.5), np.abs(k / n - 0.5)
        for failure in (0.5, 0.1, 1e-4):
            reach = chances @ distances + w1_deviation(n, 1.0, failure)
            assert chances @ (distances >= reach) <= failure
    assert w1_deviation(50, 2.0, math.exp(-1.0)) == pytest.approx(0.2)
    # The control: a quarter of the diameter is not enough.
    k = np.arange(201)
    chances, distances = stats.binom.pmf(k, 200, 0.5), np.abs(k / 200 - 0.5)
    failing = chances @ (distances >= chances @ distances + w1_deviation(200, 0.25, 0.1))
    assert failing > 0.1


def test_refusals():
    for call in (
        lambda: dyadic_w1_bound(0, 2, 1.0),
        lambda: dyadic_w1_rate(5, 0, 1.0),
        lambda: w1_deviation(0, 1.0, 0.1),
        lambda: uniform_gap(0.1, 1.0, 0, 0.1),
        lambda: linear_complexity(np.zeros((0, 2)), 1.0),
        lambda: finite_complexity(np.zeros((0, 2))),
    ):
        with pytest.raises(HypothesisError, match=r"must be at least 1 .*Got 0"):
            call()
