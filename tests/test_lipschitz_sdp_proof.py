"""The proof of the semidefinite bound: it confirms what is true and refuses what is not."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import CASES, KINKS, SMOOTH, random_network

from lipbook.lipschitz import Ball
from lipbook.lipschitz.exact_slopes import exact_slope_ranges
from lipbook.lipschitz.problem import Options, checked_problem
from lipbook.lipschitz.semidefinite import exact_semidefinite as exact_module
from lipbook.lipschitz.semidefinite import sdp as sdp_module
from lipbook.lipschitz.semidefinite import sdp_proof as proof_module
from lipbook.lipschitz.semidefinite.exact_semidefinite import as_integers, is_semidefinite
from lipbook.lipschitz.semidefinite.sdp import sdp_bracket, sdp_bracket_on
from lipbook.lipschitz.semidefinite.sdp_proof import Multipliers
from lipbook.lipschitz.slope_intervals import slope_intervals

ACTIVATION_NAMES = (*KINKS, *SMOOTH)
DOMAINS = [None, (-1.0, 1.0), ((-1.0, 0.0, -3.0), (0.5, 0.1, 3.0)), Ball((1.0, 0.0, -1.0), 0.7)]
# How the three ways of checking are chosen: by elimination, by a factor in integers, in floats.
WAYS = {
    "elimination": (exact_module, "LARGEST_ELIMINATION", 24),
    "factor": (exact_module, "LARGEST_ELIMINATION", 0),
    "floats": (proof_module, "_LARGEST_EXACT", 0),
}


def choose(monkeypatch, way):
    monkeypatch.setattr(*WAYS[way])
    # These tests are about upper bounds.
    monkeypatch.setattr(sdp_module, "ascent_witness", lambda problem, options: None)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_the_bound_is_confirmed_and_nothing_smaller(monkeypatch, domain, activation):
    net = random_network(3, 20, 3, 2)
    for way in WAYS:
        choose(monkeypatch, way)
        found = sdp_bracket_on(checked_problem(*net.parts, activation, domain), Options())
        problem, proof = found.certificate.problem, found.certificate.proof
        assert proof.fault(problem, found.upper) is None, way
        assert proof.fault(problem, math.inf) is None
        for wrong in (found.upper * (1 - 1e-7), 0.5 * found.upper, 0.0):
            assert "is not proved to be at most" in proof.fault(problem, wrong)
        monkeypatch.undo()


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_cases_is_confirmed(monkeypatch, name):
    for way in WAYS:
        choose(monkeypatch, way)
        found = sdp_bracket(*CASES[name].layers)
        proof = found.certificate.proof
        assert proof.fault(found.certificate.problem, found.upper) is None, way
        monkeypatch.undo()


@pytest.mark.parametrize("size", [(1, 1, 1), (40, 25, 3), (9, 60, 1), (400, 4, 1), (30, 2, 40)])
def test_all_sizes_are_confirmed(size):
    for seed in range(2):
        found = sdp_bracket(*random_network(seed, *size).layers, "gelu")
        problem, proof = found.certificate.problem, found.certificate.proof
        assert proof.fault(problem, found.upper) is None
        assert proof.fault(problem, found.upper * (1 - 1e-6)) is not None


@pytest.mark.parametrize("power", [100, -100])
@pytest.mark.parametrize("way", WAYS)
def test_badly_scaled_rows_are_confirmed(monkeypatch, way, power):
    net = random_network(2, 9, 3, 2)
    scale = 10.0 ** (power * np.array([1, -1, 0, 1, 0.5, -0.5, 0, 0.08, -0.08]))
    choose(monkeypatch, way)
    found = sdp_bracket(net.hidden_weight * scale[:, None], net.output_weight / scale)
    assert found.certificate.proof.fault(found.certificate.problem, found.upper) is None


@pytest.mark.parametrize("way", WAYS)
def test_zero_and_infinite_multipliers_stand_for_balance(monkeypatch, way):
    net = random_network(2, 6, 3)
    problem = checked_problem(*net.parts)
    balanced = 2.0 ** (
        np.frexp(np.abs(net.output_weight).max(axis=0))[1]
        - np.frexp(np.abs(net.hidden_weight).max(axis=1))[1]
    )
    root = np.sqrt(balanced)
    stacked = np.hstack(
        [net.hidden_weight * root[:, None], net.output_weight.T / root[:, None]],
    )
    value = 0.5 * np.linalg.norm(stacked, 2) ** 2
    choose(monkeypatch, way)
    proof = Multipliers(np.array([0.0, math.inf, *balanced[2:]]))
    assert proof.fault(problem, value * (1 + 1e-9)) is None
    assert proof.fault(problem, value * (1 - 1e-9)) is not None


def test_another_network_is_not_covered():
    net = random_network(1, 12, 3, 2)
    problem = checked_problem(*net.parts, "relu", (-0.3, 0.3))
    found = sdp_bracket_on(problem, Options())
    proof = found.certificate.proof
    others = [
        replace(problem, domain=(-0.6, 0.6)),
        replace(problem, domain=None),
        replace(problem, hidden_weight=problem.hidden_weight * 1.01),
        checked_problem(*net.parts, "abs", (-0.3, 0.3)),
    ]
    assert proof.fault(problem, found.upper) is None
    assert all(proof.fault(other, found.upper) is not None for other in others)


def test_what_cannot_be_a_proof_is_refused():
    problem = checked_problem(*random_network(1, 3, 2).parts)
    assert Multipliers(np.ones(2)).fault(problem, 9.0) == "there are 2 multipliers for 3 neurons"
    for bad in (-1.0, math.nan):
        fault = Multipliers(np.array([1.0, bad, 1.0])).fault(problem, 9.0)
        assert fault == "a multiplier is negative or not a number"
    for bad in (-1.0, math.nan, -math.inf):
        fault = Multipliers(np.ones(3)).fault(problem, bad)
        assert fault == "the upper bound is negative or not a number"


@pytest.mark.parametrize("way", WAYS)
def test_neurons_too_small_to_count_do_no_harm(monkeypatch, way):
    net = random_network(2, 6, 3)
    weight = net.hidden_weight * np.array([1.0, 1e-300, 1.0, 1e-160, 1.0, 1e-200])[:, None]
    output = net.output_weight * np.array([1.0, 1.0, 1e-300, 1e-160, 1e100, 1e-100])
    choose(monkeypatch, way)
    found = sdp_bracket(weight, output)
    assert found.certificate.proof.fault(found.certificate.problem, found.upper) is None
    idle = checked_problem(weight, -1e9 * np.ones(6), output, "relu", (-1.0, 1.0))
    nothing = sdp_bracket_on(idle, Options())
    assert nothing.upper == 0.0 and nothing.certificate.proof.fault(idle, 0.0) is None


def test_extreme_multipliers_are_refused_in_floats(monkeypatch):
    problem = checked_problem([[1.0, 2.0]], [0.0], [1.0])
    choose(monkeypatch, "floats")
    assert Multipliers(np.array([1e200])).fault(problem, 1e250) is not None
    monkeypatch.undo()
    assert Multipliers(np.array([1e200])).fault(problem, 1e250) is None


# Semidefinite matrices


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(0, 8))
@settings(max_examples=80, deadline=None)
def test_elimination_decides(seed, n, rank):
    generator = np.random.default_rng(seed)
    factor = generator.integers(-3, 4, (n, rank))
    factor[generator.integers(n)] *= generator.integers(2)
    matrix = (factor @ factor.T).astype(object)
    assert is_semidefinite(matrix)
    matrix[0, 0] -= generator.integers(0, 40)
    # Integers of this size are exact in floating point, and so is the sign of a determinant.
    least = np.linalg.eigvalsh(matrix.astype(np.float64))[0]
    if abs(least) > 1e-9:
        assert is_semidefinite(matrix) == (least > 0.0)


def test_elimination_of_singular_matrices():
    assert is_semidefinite(np.zeros((3, 3), dtype=object))
    assert is_semidefinite(np.array([[0, 0], [0, 5]], dtype=object))
    assert is_semidefinite(np.array([[4, 6], [6, 9]], dtype=object))
    assert not is_semidefinite(np.array([[0, 1], [1, 5]], dtype=object))
    assert not is_semidefinite(np.array([[4, 6], [6, 8]], dtype=object))
    assert not is_semidefinite(np.array([[1, 0], [0, -1]], dtype=object))


@pytest.mark.parametrize("big", [1, 10**400])
def test_a_factor_proves_large_matrices(big):
    generator = np.random.default_rng(0)
    factor = generator.integers(-9, 10, (30, 40))
    matrix = big * (factor @ factor.T).astype(object)
    assert is_semidefinite(matrix)
    eigenvalue, vector = np.linalg.eigh((factor @ factor.T).astype(float))
    sunk = np.rint(np.ldexp(np.outer(vector[:, 0], vector[:, 0]), 40)).astype(np.int64)
    for share, proved in ((0.5, True), (1.5, False)):
        depth = int(share * eigenvalue[0] * 2**20)
        assert is_semidefinite((matrix << 60) - big * depth * sunk.astype(object)) is proved
    assert not is_semidefinite(-np.eye(30).astype(int).astype(object))
    assert is_semidefinite(np.zeros((30, 30), dtype=object))


def test_floats_become_integers_exactly():
    values = np.array([[0.1, -3.0, 0.0], [1e-300, 1e300, 5e-324], [0.0, 0.0, 0.0]])
    whole, power = as_integers(values)
    for row, e, expected in zip(whole.tolist(), power.tolist(), values.tolist(), strict=True):
        assert [x * Fraction(2) ** e for x in row] == [Fraction(x) for x in expected]


# Slopes


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("domain", DOMAINS)
def test_exact_slopes_lie_within_those_of_the_search(domain, activation):
    problem = checked_problem(*random_network(2, 20, 3).parts, activation, domain)
    centre, half_width = slope_intervals(problem)
    ranges = exact_slope_ranges(problem)
    for (low, high), c, h in zip(ranges, centre.tolist(), half_width.tolist(), strict=True):
        assert Fraction(c) - Fraction(h) <= low <= high <= Fraction(c) + Fraction(h)
        assert high - low >= Fraction(2 * h) - Fraction(1, 10**12)


def test_slopes_at_the_edge_of_a_domain():
    # z = x ∈ (0, 1): positive inside; z = x − 1: negative inside; z = 3x₁ + 4x₂ + 5 on the ball.
    problem = checked_problem([[1.0], [1.0]], [0.0, -1.0], [1.0, 1.0], "relu", (0.0, 1.0))
    assert exact_slope_ranges(problem) == [(1, 1), (0, 0)]
    for bias, slopes in ((5.0, (1, 1)), (-5.0, (0, 0)), (4.999, (0, 1))):
        problem = checked_problem([[3.0, 4.0]], [bias], [1.0], "relu", Ball(0.0, 1.0))
        assert exact_slope_ranges(problem) == [slopes]
    problem = checked_problem([[1.0, 1.0]], [math.sqrt(2.0)], [1.0], "relu", Ball(0.0, 1.0))
    # The float nearest to √2 is above it.
    assert Fraction(math.sqrt(2.0)) ** 2 > 2 and exact_slope_ranges(problem) == [(1, 1)]
