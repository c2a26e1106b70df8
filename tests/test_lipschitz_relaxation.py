"""Bounds for given multipliers, and the search for good ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import random_network
from relaxation_oracles import RANGES, count_evaluations, relaxed, slopes_of, worst_pattern

from lipbook.lipschitz.semidefinite import multipliers as multipliers_module
from lipbook.lipschitz.semidefinite.multipliers import best_multipliers
from lipbook.lipschitz.semidefinite.relaxation import (
    largest_eigenvalue_upper,
    relaxation_lower,
    relaxation_upper,
)
from lipbook.lipschitz.semidefinite.row_basis import in_row_basis

# Bounds for given multipliers


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", RANGES)
def test_any_multipliers_bound_every_pattern_and_tightly_so(name, k):
    net = random_network(3, 7, 4, k)
    c, h = slopes_of(*RANGES[name], 7)
    t = np.exp(np.random.default_rng(0).normal(size=(20, 7)))
    bound = relaxation_upper(*net.layers, np.tile(c, (20, 1)), np.tile(h, (20, 1)), t)
    assert (bound >= worst_pattern(*net.layers, *RANGES[name])).all()
    values = [np.linalg.eigvalsh(relaxed(*net.layers, c, h, row))[-1] for row in t]
    assert (np.abs(bound / values - 1.0) < 1e-12).all()
    # The negative control: one part in a million less, and some of them bound nothing.
    assert (bound * (1 - 1e-6) < values).all()


def test_large_batches_and_networks_are_as_tight():
    generator = np.random.default_rng(1)
    net = random_network(0, 300, 60, 4)
    c, h, t = np.exp(generator.normal(size=(3, 5, 300)))
    bound = relaxation_upper(*net.layers, c, h, t)
    values = [
        np.linalg.eigvalsh(relaxed(*net.layers, *rows))[-1] for rows in zip(c, h, t, strict=True)
    ]
    assert (bound >= np.array(values) * (1 - 1e-13)).all()
    assert (bound <= np.array(values) * (1 + 1e-11)).all()
    alone = [relaxation_upper(*net.layers, *rows) for rows in zip(c, h, t, strict=True)]
    np.testing.assert_allclose(bound, alone, rtol=1e-11)
    stacked = [np.tile(layer, (5, 1, 1)) for layer in net.layers]
    np.testing.assert_allclose(bound, relaxation_upper(*stacked, c, h, t), rtol=1e-11)
    assert relaxation_upper(*net.layers, *np.zeros((3, 0, 300))).shape == (0,)


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan, -1.0, 5e-324, 1e308])
def test_useless_multipliers_still_bound(bad):
    net = random_network(3, 5, 3, 2)
    c, h = slopes_of(0.0, 1.0, 5)
    bound = relaxation_upper(*net.layers, c, h, np.full(5, bad))
    assert worst_pattern(*net.layers, 0.0, 1.0) <= bound < math.inf
    fixed = relaxation_upper(*net.layers, c + h, 0.0 * h, np.full(5, bad))
    assert fixed == pytest.approx(np.linalg.norm(net.output_weight @ net.hidden_weight, 2))


def test_what_lapack_fails_at_is_bounded_by_other_means(monkeypatch):
    def fail(matrix):
        raise np.linalg.LinAlgError

    matrix = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, -1.0]])
    exact = np.linalg.eigvalsh(matrix)[-1]
    monkeypatch.setattr(np.linalg, "cholesky", fail)
    assert exact <= largest_eigenvalue_upper(matrix) <= exact * (1 + 1e-13)
    monkeypatch.setattr(np.linalg, "eigvalsh", fail)
    assert largest_eigenvalue_upper(matrix) == pytest.approx(np.linalg.norm(matrix))
    assert largest_eigenvalue_upper(np.zeros((2, 3, 3))).tolist() == [0.0, 0.0]


@given(st.integers(0, 10**6), st.sampled_from(sorted(RANGES)))
@settings(max_examples=40, deadline=None)
def test_whatever_is_suggested_the_bounds_are_in_order(seed, name):
    generator = np.random.default_rng(seed)
    weight, output = (
        generator.integers(-2, 3, (6, 3)) * 1.0,
        generator.integers(-2, 3, (2, 6)) * 1.0,
    )
    c, h = slopes_of(*RANGES[name], 6)
    t, factor = np.exp(2 * generator.normal(size=6)), generator.normal(size=(5, 2))
    upper = relaxation_upper(weight, output, c, h, t)
    assert relaxation_lower(weight, output, c, h, factor) <= upper
    assert worst_pattern(weight, output, *RANGES[name]) <= upper * (1 + 1e-14)


# The search


def test_a_wide_network_needs_a_wider_factor(monkeypatch):
    monkeypatch.setattr(multipliers_module, "_RANK", 2)
    monkeypatch.setattr(multipliers_module, "_FIRST_RANK", 2)
    net = random_network(0, 200, 8)
    c, h = slopes_of(0.0, 1.0, 200)
    found = best_multipliers(*net.layers, c, h)
    assert 2 < found.factor.shape[1] <= 9 and found.gap <= 1e-4
    monkeypatch.setattr(multipliers_module, "_RESTARTS", 0)
    assert best_multipliers(*net.layers, c, h).gap > 1e-2


def test_a_start_saves_steps(monkeypatch):
    net = random_network(0, 100, 6, 2)
    c, h = slopes_of(0.0, 1.0, 100)
    first = best_multipliers(*net.layers, c, h)
    steps = count_evaluations(monkeypatch)
    best_multipliers(*net.layers, c, h)
    cold = len(steps)
    again = best_multipliers(*net.layers, c, h, start=first.factor)
    assert len(steps) - cold < cold / 2 and again.gap < 1e-4
    stacked = best_multipliers(
        *net.layers, np.tile(c, (2, 3, 1)), np.tile(h, (2, 3, 1)), start=first.factor
    )
    assert stacked.multiplier.shape == (2, 3, 100) and (stacked.gap < 1e-4).all()


@pytest.mark.parametrize("columns", [1, 5, 40])
def test_a_start_of_any_width_will_do(columns):
    net = random_network(3, 6, 20, 2)
    c, h = slopes_of(0.0, 1.0, 6)
    start = np.random.default_rng(0).normal(size=(22, columns))
    found = best_multipliers(*net.layers, c, h, start=start)
    assert found.gap < 1e-4 and found.factor.shape[0] == 22
    value = relaxation_upper(*net.layers, c, h, found.multiplier)
    assert relaxation_lower(*net.layers, c, h, found.factor) >= value * (1 - 2e-4)


def test_more_time_gives_better_multipliers():
    net = random_network(3, 40, 5, 2)
    c, h = slopes_of(0.0, 1.0, 40)
    coarse = best_multipliers(*net.layers, c, h, target=1e-2)
    fine = best_multipliers(*net.layers, c, h, target=1e-7)
    bounds = [relaxation_upper(*net.layers, c, h, found.multiplier) for found in (coarse, fine)]
    assert 1e-6 < coarse.gap < 1e-2 and fine.gap < 1e-7
    assert bounds[1] < bounds[0] < bounds[1] * 1.01


# Fewer coordinates


def test_a_row_basis_bounds_what_it_leaves_out():
    weight = random_network(1, 12, 40).hidden_weight * 10.0 ** np.arange(-6, 6)[:, None]
    short, stretch, missing = in_row_basis(weight)
    assert short.shape == (12, 12) and 1.0 <= stretch < 1 + 1e-12
    basis = np.linalg.qr(np.linalg.lstsq(short, weight, rcond=None)[0].T)[0]
    assert basis.shape == (40, 12)
    np.testing.assert_allclose(short @ short.T, weight @ weight.T, rtol=1e-10)
    assert (missing <= 1e-11 * np.linalg.norm(weight, axis=1)).all() and (missing > 0.0).all()
