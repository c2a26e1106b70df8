"""Lines, cells and certificates: gradients along a line, counts of cells, cells without a point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import get_activation
from lipbook.lipschitz import Ball, bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.arrangement import (
    areas,
    cell_count_bound,
    cut_square,
    gradient_norms,
    reach_of_crossings,
)
from lipbook.theorems.cell_lists import CellCount, arrangement_of, cells_of
from lipbook.theorems.empty_cells import EmptyCell
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.line_view import SeenAlongLine
from lipbook.theorems.refusal import HypothesisError

PROPERTY = settings(derandomize=True, max_examples=40, deadline=None)
KINKED = st.sampled_from(["relu", "leaky relu", "abs"])
SEEDS = st.integers(0, 10_000)
DOMAINS = (None, (-2.0, 2.0), Ball(0.5, 2.0), ((-1.0,) * 3, (0.5, 2.0, 3.0)))


def ensemble_of(weight, bias, output, activation):
    parts = [torch.as_tensor(np.asarray(e, dtype=float))[None] for e in (weight, bias, output)]
    shift = torch.zeros(1, parts[2].shape[1], dtype=torch.float64)
    return Ensemble(*parts, shift, get_activation(activation))


def known_of(ensemble, domain=None):
    return bracket(*weights_of(ensemble, 0), ensemble.activation, domain)


# --- prop-line


def line(seed, d):
    generator = np.random.default_rng([seed, 5])
    return SeenAlongLine(generator.uniform(-0.9, 0.4, d), generator.normal(size=d))


@PROPERTY
@given(
    seed=SEEDS, name=KINKED, m=st.integers(1, 9), d=st.integers(1, 3), k=st.integers(1, 2),
    domain=st.sampled_from(DOMAINS),
)  # fmt: skip
def test_no_gradient_along_a_line_exceeds_the_constant(seed, name, m, d, k, domain):
    d = 3 if domain == DOMAINS[3] else d
    ensemble, theorem = gaussian_ensemble(m, d, k, seeds=(seed,), activation=name), line(seed, d)
    known = known_of(ensemble, domain)
    found = theorem.verdict(ensemble, 0, known)
    assert found.applies and not found.contradicted
    pieces = theorem.pieces(ensemble, 0)
    assert len(pieces.cuts) == m == len(pieces.jacobians) - 1
    # One gradient for each piece, asked for at its middle.
    ends = np.concatenate([[pieces.cuts[0] - 2.0], pieces.cuts, [pieces.cuts[-1] + 2.0]])
    middles = np.array(theorem.point) + 0.5 * (ends[1:] + ends[:-1])[:, None] * theorem.direction
    asked = ensemble.jacobian(torch.from_numpy(middles))[0].numpy()
    np.testing.assert_allclose(pieces.jacobians, asked, atol=1e-9)
    if domain is None and d == 1:  # the line is the domain
        assert found.measured == pytest.approx(known.upper, rel=1e-9)


def test_coincident_lines_are_crossed_at_once():
    weight, bias = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], [1.0, 0.0, 0.0]
    ensemble = ensemble_of(weight, bias, [[3.0, -2.0, 2.0]], "relu")
    known = known_of(ensemble)
    found = SeenAlongLine((0.3, 0.2), (0.7, 0.1)).verdict(ensemble, 0, known)
    assert found.measured == pytest.approx(known.upper) == pytest.approx(2.0)
    # Negative control: a line inside their hyperplane sees a gradient that no cell has.
    inside = SeenAlongLine((0.0, 0.0), (0.0, 1.0))
    assert np.linalg.norm(inside.pieces(ensemble, 0).jacobians[0], 2) == pytest.approx(3.0)
    found = inside.verdict(ensemble, 0, known)
    assert found.failed.name == "H2" and found.measured is None


def test_pieces_outside_of_the_domain_do_not_count():
    # Negative control: |x| is nowhere as steep on (2, 3) as relu(x) + relu(−x − 1)·5 is on ℝ.
    ensemble = ensemble_of([[1.0], [-1.0]], [0.0, -1.0], [[1.0, 5.0]], "relu")
    known, theorem = known_of(ensemble, (2.0, 3.0)), SeenAlongLine((2.5,), (1.0,))
    found = theorem.verdict(ensemble, 0, known)
    assert found.applies and found.measured == pytest.approx(1.0) == pytest.approx(known.upper)
    assert np.abs(theorem.pieces(ensemble, 0).jacobians).max() == pytest.approx(5.0)
    corner = SeenAlongLine((1.0, 1.0), (1.0, -1.0))
    plane = gaussian_ensemble(3, 2)
    touching = corner.verdict(plane, 0, known_of(plane, (-1.0, 1.0)))
    assert touching.applies and touching.measured is None


@pytest.mark.parametrize("domain", [(-1.0, 1.0), Ball(0.0, 1.0)])
def test_a_line_speaks_of_one_kink_and_a_domain_that_it_meets(domain):
    smooth = gaussian_ensemble(3, 2, activation="tanh")
    known = bracket(*weights_of(smooth, 0), "tanh", domain, rel_gap=0.1)
    found = SeenAlongLine((0.0, 0.0), (1.0, 2.0)).verdict(smooth, 0, known)
    assert found.failed.name == "H1" and found.measured is None
    ensemble = gaussian_ensemble(3, 2)
    found = SeenAlongLine((4.0, 0.0), (1.0, 2.0)).verdict(ensemble, 0, known_of(ensemble, domain))
    assert found.failed.name == "H3" and found.measured is None
    flat = ensemble_of(np.zeros((2, 2)), [1.0, 0.0], [[1.0, 1.0]], "relu")
    found = SeenAlongLine((0.0, 0.0), (1.0, 2.0)).verdict(flat, 0, known_of(flat, domain))
    assert found.applies and found.measured == 0.0 == found.bound


def test_what_is_no_line_is_refused():
    for point, direction in (((0.0,), (0.0,)), ((0.0,), (1.0, 2.0)), ((0.0,), (np.inf,))):
        with pytest.raises(HypothesisError, match=r"`direction` must be finite, not zero.*ν ≠ 0"):
            SeenAlongLine(point, direction)
    theorem = SeenAlongLine((0.0, 0.0), (1.0, 0.0))
    with pytest.raises(HypothesisError, match=r"`ensemble` must have 2 inputs, as the line has"):
        theorem.pieces(gaussian_ensemble(3, 3), 0)
    with pytest.raises(HypothesisError, match=r"`ensemble` must have an activation that is linear"):
        theorem.pieces(gaussian_ensemble(3, 2, activation="tanh"), 0)


# --- thm-cells


def every_pattern(patterns):
    """Those of all 2^m patterns that have a point, one linear programme each."""
    found = []
    for signs in itertools.product((-1, 1), repeat=len(patterns.hidden_weight)):
        point, _ = patterns.inner_point(np.array(signs))
        if (np.array(signs) * patterns.distances(point)).min() > 1e-9:
            found.append(signs)
    return found


@settings(PROPERTY, max_examples=20)
@given(
    seed=SEEDS, m=st.integers(1, 5), d=st.integers(1, 4),
    half_width=st.sampled_from([None, 0.3, 2.0]), zero_bias=st.booleans(),
)  # fmt: skip
def test_there_are_no_more_cells_than_the_theorem_allows(seed, m, d, half_width, zero_bias):
    scale = "zero-bias" if zero_bias else "standard"
    ensemble = gaussian_ensemble(m, d, seeds=(seed,), scale=scale)
    found = CellCount(half_width).verdict(ensemble, 0)
    assert found.applies and not found.contradicted
    patterns = arrangement_of(ensemble, 0, half_width)
    signs, points = cells_of(patterns)
    assert sorted(map(tuple, signs)) == sorted(every_pattern(patterns))
    assert found.measured == len(signs) and found.bound == cell_count_bound(m, d)
    if half_width is None and not zero_bias:  # general position
        assert found.slack == 0
    # Formula (5): the steepest of the cells is the constant.
    domain = None if half_width is None else (-half_width, half_width)
    norms = gradient_norms(*weights_of(ensemble, 0), (0.0, 1.0), points)
    assert norms.max() == pytest.approx(known_of(ensemble, domain).upper, rel=2e-6)


@pytest.mark.parametrize("seed", range(3))
def test_two_ways_to_cut_a_square_agree(seed):
    ensemble = gaussian_ensemble(10, 2, seeds=(seed,))
    hidden, bias, _ = weights_of(ensemble, 0)
    reach = reach_of_crossings(hidden, bias)
    for half_width in (0.5, reach):
        cells = cut_square(hidden, bias, half_width)
        large = int((areas(cells) > 1e-12).sum())
        assert CellCount(half_width).verdict(ensemble, 0).measured == large


def test_in_fewer_dimensions_the_count_would_be_too_low():
    # Negative control: lines in general position make more cells than points on a line do.
    found = CellCount().verdict(gaussian_ensemble(6, 2, seeds=(3,)), 0)
    assert found.measured == 22 > cell_count_bound(6, 1) == 7


def test_an_empty_domain_has_no_cells_and_large_counts_are_not_measured():
    ensemble = gaussian_ensemble(5, 2)
    found = CellCount(0.0).verdict(ensemble, 0)
    assert found.failed.name == "H1" and found.measured is None
    many = CellCount().verdict(gaussian_ensemble(40, 3), 0)
    assert many.applies and many.measured is None and many.bound == 10_701
    flat = ensemble_of(np.zeros((2, 2)), [1.0, 0.0], [[1.0, 1.0]], "relu")
    assert CellCount().verdict(flat, 0).measured == 1.0


# --- thm-farkas


@settings(PROPERTY, max_examples=150)
@given(
    seed=SEEDS, m=st.integers(1, 8), d=st.integers(1, 3), domain=st.sampled_from(DOMAINS),
)  # fmt: skip
def test_a_cell_has_a_point_or_a_certificate(seed, m, d, domain):
    d = 3 if domain == DOMAINS[3] else d
    ensemble = gaussian_ensemble(m, d, seeds=(seed,))
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1, 0, 1], m, p=[0.4, 0.2, 0.4])
    signs[0] = signs[0] or 1
    theorem = EmptyCell(tuple(signs.tolist()), domain)
    found = theorem.verdict(ensemble, 0, points=generator.uniform(-2, 2, (20, d)))
    assert not found.contradicted
    assert found.applies == (found.measured == 0.0)
    if found.applies:
        omega = theorem.search(ensemble, 0).multipliers.switches
        assert theorem.largest_sum(ensemble, 0, omega) <= 1e-9 * omega.sum()
        assert found.bound == 0.0


def test_a_sampled_point_refutes_every_certificate():
    # Negative control: whatever the multipliers are, none is accepted for a cell with a point.
    ensemble = gaussian_ensemble(5, 2, seeds=(1,))
    generator = np.random.default_rng(0)
    for domain in (None, (-1.0, 1.0), Ball(0.0, 1.0)):
        point = generator.uniform(-0.6, 0.6, 2)
        heights = ensemble.preactivation(torch.from_numpy(point)[None])[0, 0]
        theorem = EmptyCell(tuple(int(s) for s in heights.sign()), domain)
        assert theorem.depth(ensemble, 0, point) == pytest.approx(float(heights.abs().min()))
        for _ in range(20):
            omega = np.exp(3 * generator.normal(size=5))
            assert theorem.largest_sum(ensemble, 0, omega) > 0
            found = theorem.verdict(ensemble, 0, omega, [point])
            assert found.failed.name == "H3" and found.measured > 0 and found.bound is None


@pytest.mark.parametrize(
    ("weight", "bias", "domain", "omega", "supremum"),
    [
        # The exercise of the page: three lines through 0, and two on a square.
        ([[1, 0], [0, 1], [-1, -1]], [0, 0, 0], None, [1, 1, 1], 0.0),
        ([[1, 0], [0, 1], [-1, -1]], [0, 0, -1], None, [2, 2, 2], -2.0),
        ([[1, 0], [0, 1]], [-2, 0], (-1.0, 1.0), [1, 0], -1.0),
        ([[1, 0], [0, 1]], [-2, 0], Ball(0.0, 1.0), [3, 0], -3.0),
        ([[1, 0], [0, 1]], [-1, -1], Ball(0.0, 1.0), [1, 1], -2 + 2**0.5),
    ],
)
def test_certificates_of_the_page(weight, bias, domain, omega, supremum):
    ensemble = ensemble_of(weight, bias, np.ones((1, len(bias))), "relu")
    theorem, given_omega = EmptyCell((1,) * len(bias), domain), np.array(omega, dtype=float)
    assert theorem.largest_sum(ensemble, 0, given_omega) == pytest.approx(supremum)
    for each in (given_omega, None):
        found = theorem.verdict(ensemble, 0, each)
        assert found.applies and not found.contradicted and found.measured == 0.0
    assert theorem.verdict(ensemble, 0, -given_omega).failed.name == "H2"
    assert theorem.verdict(ensemble, 0, 0 * given_omega).failed.name == "H2"


def test_on_the_plane_the_cell_of_the_exercise_has_a_point():
    ensemble = ensemble_of([[1, 0], [0, 1]], [-2, 0], [[1, 1]], "relu")
    theorem = EmptyCell((1, 1))
    assert theorem.depth(ensemble, 0, (3.0, 1.0)) == 1.0
    assert EmptyCell((1, 1), (-1.0, 1.0)).depth(ensemble, 0, (3.0, 1.0)) == 0.0
    assert theorem.largest_sum(ensemble, 0, np.ones(2)) == np.inf
    found = theorem.verdict(ensemble, 0)
    assert not found.applies and found.measured > 0


def test_a_certificate_needs_hyperplanes_and_fixed_signs():
    flat = ensemble_of([[0.0, 0.0], [1.0, 0.0]], [1.0, 0.0], [[1.0, 1.0]], "relu")
    found = EmptyCell((1, 1)).verdict(flat, 0)
    assert found.failed.name == "H1" and found.measured is None
    for signs in ((), (0, 0), (2, 0)):
        with pytest.raises(HypothesisError, match=r"`signs` must be −1, 0 or 1.*I not empty"):
            EmptyCell(signs)
    with pytest.raises(HypothesisError, match=r"`signs` must be 2, one for each neuron.*\(ε\)"):
        EmptyCell((1, 1, 1)).verdict(flat, 0)


def test_a_point_of_a_cell_said_to_be_empty_is_a_contradiction(monkeypatch):
    monkeypatch.setattr(EmptyCell, "is_proved", lambda *given: True)
    ensemble = gaussian_ensemble(2, 1, seeds=(1,))
    for domain in (None, (-3.0, 3.0)):
        found = EmptyCell((1, 0), domain).verdict(ensemble, 0, np.ones(1))
        assert found.applies and found.contradicted
