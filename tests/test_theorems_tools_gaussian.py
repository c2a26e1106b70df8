"""The tools on Gaussian vectors and bounded differences: they hold, and they can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from lipbook.theorems.arrangement import cell_count_bound
from lipbook.theorems.chance import most_violations, violations
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.tools import (
    davidson_szarek_bound,
    gaussian_tail,
    largest_of_many,
    log_pattern_bound,
    mcdiarmid_deviation,
    mcdiarmid_tail,
    mean_length,
)

REPEAT = settings(deadline=None, derandomize=True, max_examples=80)
ROUNDING = 1e-9


# --- Gaussian vectors


def test_covariance_formula():
    """Cov(F, H) = ∫ E F′(X)H′(Y_s) ds for F = sin(x + 1), H = x³ + e^{x/2}, by quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / math.sqrt(2.0 * math.pi)
    value, slope = np.sin(nodes + 1.0), np.cos(nodes + 1.0)
    other = nodes**3 + np.exp(0.5 * nodes)
    left = weights @ (value * other) - (weights @ value) * (weights @ other)
    shares, lengths = np.polynomial.legendre.leggauss(40)
    right = 0.0
    for s, length in zip(0.5 * (shares + 1), 0.5 * lengths, strict=True):
        y = s * nodes[:, None] + math.sqrt(1 - s * s) * nodes[None, :]
        right += length * (weights * slope) @ (3 * y**2 + 0.5 * np.exp(0.5 * y)) @ weights
    assert left == pytest.approx(right, rel=1e-10)


def largest(n: int) -> float:
    """Return the mean of the largest of n independent standard Gaussians."""
    density = n * stats.norm.pdf(GRID) * stats.norm.cdf(GRID) ** (n - 1)
    return float(integrate.trapezoid(GRID * density, GRID))


GRID = np.linspace(-12.0, 12.0, 48_001)


@REPEAT
@given(st.integers(1, 300), st.floats(0.0, 6.0))
def test_gaussian_concentration_exactly(n, t):
    """Three Lipschitz functions whose laws are known: linear, the length, the largest entry."""
    bound = gaussian_tail(t) * (1 + ROUNDING)
    assert stats.norm.sf(t) <= bound
    mean = mean_length(n)
    assert stats.chi.sf(mean + t, n) <= bound and stats.chi.cdf(mean - t, n) <= bound
    assert -math.expm1(n * stats.norm.logcdf(largest(n) + t)) <= bound + 1e-12
    assert stats.norm.cdf(largest(n) - t) ** n <= bound


def test_gaussian_concentration_has_the_right_exponent_and_needs_its_constant():
    assert stats.norm.logsf(30.0) / math.log(gaussian_tail(30.0)) == pytest.approx(1.0, rel=1e-2)
    assert stats.norm.sf(3.0) > gaussian_tail(3.0, 0.5)  # half the constant
    assert stats.chi2.sf(1.0 + 9.0, 1) > gaussian_tail(9.0)  # x², not Lipschitz


@REPEAT
@given(st.integers(1, 2000), st.floats(0.0, 60.0))
def test_length(n, t):
    mean = mean_length(n)
    assert n / math.sqrt(n + 1) <= mean * (1 + 1e-11) and mean <= math.sqrt(n)
    assert mean * mean_length(n + 1) == pytest.approx(n, rel=1e-10)
    assert mean == pytest.approx(stats.chi.mean(n), rel=1e-9)
    assert stats.chi.sf(math.sqrt(n) + t, n) <= gaussian_tail(t) * (1 + ROUNDING)
    assert stats.chi.cdf(math.sqrt(n) - t, n) <= math.exp(-t * t) * (1 + ROUNDING) + 1e-300


def test_length_is_nearly_attained_and_its_tails_differ():
    assert mean_length(10**6) / 1e3 > 1 - 1e-6
    assert stats.chi.sf(1.0 + 10.0, 1) > math.exp(-100.0)  # the upper tail is not e^{−t²}


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**6])
def test_the_largest_of_many(n):
    assert largest(n) <= largest_of_many(n) + 1e-9
    for failure in (0.5, 0.05, 1e-6):
        reach = largest_of_many(n, 1.0, failure)
        assert reach == pytest.approx(math.sqrt(2.0 * math.log(n / failure)))
        assert reach <= largest_of_many(n) + math.sqrt(2.0 * math.log(1 / failure)) + 1e-12
        assert -math.expm1(n * stats.norm.logcdf(reach)) <= failure
    # The control: Laplace variables of variance 1 are not sub-Gaussian.
    heavy = 1 - stats.laplace.cdf(math.sqrt(2.0) * largest_of_many(n, 1.0, 1e-6)) ** n
    assert heavy > 1e-6


def test_the_largest_of_many_is_nearly_attained():
    assert largest(10**6) / largest_of_many(10**6) > 0.9


def test_pattern_count():
    for m in range(1, 60):
        for d in range(1, m + 1):
            assert math.log(cell_count_bound(m, d)) <= log_pattern_bound(m, d)
    with pytest.raises(HypothesisError, match=r"`input_dim` must lie between 1 and the width"):
        log_pattern_bound(3, 4)
    assert math.log(cell_count_bound(3, 12)) > 12 * (1 + math.log(3 / 12))  # so it is needed


def test_union_over_patterns():
    rng = np.random.default_rng(0)
    family = rng.normal(size=(40, 3, 6))
    operator = np.linalg.norm(family, 2, axis=(1, 2)).max()
    frobenius = np.linalg.norm(family, axis=(1, 2)).max()
    draws = np.linalg.norm(family @ rng.normal(size=(6, 2000)), axis=1).max(axis=0)
    failure = 0.2
    bound = frobenius + largest_of_many(40, operator, failure)
    assert violations(draws, bound) <= most_violations(2000, failure)
    # The control: without the term of the operator norm.
    assert violations(draws, frobenius) > most_violations(2000, failure)


def test_increments_of_the_two_processes():
    a, b = sympy.symbols("a b")
    assert sympy.expand((4 - 2 * a - 2 * b) - (2 - 2 * a * b) - 2 * (1 - a) * (1 - b)) == 0
    p, q, r = sympy.symbols("p q r")  # the softmax identity, for three variables
    matrix = sympy.Matrix(3, 3, lambda i, j: sympy.Symbol(f"D{min(i, j)}{max(i, j)}"))
    share = sympy.Matrix([p, q, 1 - p - q])
    left = sum(matrix[i, i] * share[i] for i in range(3)) - (share.T * matrix * share)[0]
    right = sum(
        share[i] * share[j] * (matrix[i, i] + matrix[j, j] - 2 * matrix[i, j])
        for i in range(3)
        for j in range(3)
    )
    assert sympy.expand(left - right / 2) == 0 and r not in left.free_symbols


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 20), (5, 3), (60, 40)])
def test_davidson_szarek(rows, columns):
    rng = np.random.default_rng(rows)
    norms = np.linalg.norm(rng.normal(size=(1000, rows, columns)), 2, axis=(1, 2))
    spread = 6.0 * norms.std() / math.sqrt(1000)
    sharper = mean_length(rows) + mean_length(columns)
    assert norms.mean() - spread <= sharper < davidson_szarek_bound(rows, columns)
    for failure in (0.5, 0.1):
        bound = davidson_szarek_bound(rows, columns, failure)
        assert violations(norms, bound) <= most_violations(1000, failure)
    # The controls: entries of variance 16; one of the two roots forgotten.
    bound = davidson_szarek_bound(rows, columns, 0.1)
    assert violations(4.0 * norms, bound) > most_violations(1000, 0.1)
    if rows == 60:
        assert norms.mean() / davidson_szarek_bound(rows, columns) > 0.94
        assert norms.mean() > 1.5 * math.sqrt(rows)


# --- bounded differences


@REPEAT
@given(st.floats(0.0, 1.0), st.floats(-20.0, 20.0))
def test_hoeffding(chance, xi):
    """Two-point laws on [0, 1]; at most the parabola, attained to second order at ½."""
    centred = chance * math.exp(xi * (1 - chance)) + (1 - chance) * math.exp(-xi * chance)
    assert centred <= math.exp(xi * xi / 8) * (1 + ROUNDING)


@REPEAT
@given(st.integers(1, 400), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_mcdiarmid_for_coins(n, chance, excess):
    differences = np.full(n, 1.0 / n)
    tail = stats.binom.sf(math.ceil(n * (chance + excess) - 1e-9) - 1, n, chance)
    assert tail <= mcdiarmid_tail(excess, differences) * (1 + 1e-6)
    failure = mcdiarmid_tail(excess, differences)
    if failure > 1e-300:
        assert mcdiarmid_deviation(differences, failure) == pytest.approx(excess, abs=1e-7)


def test_mcdiarmid_has_the_right_exponent_and_needs_its_differences():
    n, x = 10**6, 5.0
    tail = stats.binom.logsf(n // 2 + x * math.sqrt(n) - 1, n, 0.5)
    assert tail / math.log(mcdiarmid_tail(x / math.sqrt(n), np.full(n, 1 / n))) < 1.1
    assert stats.binom.sf(59, 100, 0.5) > mcdiarmid_tail(0.1, np.full(100, 0.005))
