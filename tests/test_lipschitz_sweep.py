"""Exact constants of piecewise-linear networks of two inputs: linear programs, rational counts."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lipschitz_oracles import CASES, KINKS, Network, encloses, exact_square, random_network
from lipschitz_planes import (
    DOMAINS,
    NETS,
    encloses_largest,
    grams,
    is_right,
    lattice,
    networks,
    plane,
    problem_of,
    swept,
)
from scipy.optimize import linprog

from lipbook.lipschitz import Ball, bracket
from lipbook.lipschitz.jacobians import gradient_norms_lower, witness_at
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.regions import drawn_points
from lipbook.lipschitz.sweeping.sweep import exact_two_inputs, sweep_bracket, why_not_sweep


@pytest.mark.parametrize("activation", KINKS)
@pytest.mark.parametrize("name", NETS)
def test_equals_the_count_of_all_cells_in_rational_arithmetic(name, activation):
    for domain in DOMAINS:
        problem = problem_of(NETS[name], activation, domain)
        found, cells = sweep_bracket(problem, Options()), grams(problem)
        assert found.exact and found.verified and found.method == "sweep"
        assert encloses_largest(cells, found.lower, found.upper), domain
        # Negative control: the count sees a bound that is too low or too high.
        if found.lower > 0.0:
            assert not encloses_largest(cells, 0.0, found.lower * (1 - 1e-9)), domain
            assert not encloses_largest(cells, found.upper * (1 + 1e-9), 1e300), domain


def by_linear_programs(problem: Problem, low, high) -> float:
    """max ‖J‖ over the patterns that some point of a box has with a margin."""
    weight, bias = problem.hidden_weight, problem.hidden_bias
    size, largest = np.linalg.norm(weight, axis=1), 0.0
    left, right = problem.activation.kink_slopes
    for signs in product((1.0, -1.0), repeat=len(bias)):
        s = np.array(signs)
        rows = np.column_stack([-s[:, None] * weight, size])
        answer = linprog(
            [0, 0, -1], rows, s * bias, bounds=[(low, high), (low, high), (0, 1)], method="highs"
        )
        if answer.status == 0 and answer.x[2] > 1e-7:
            slopes = np.where(s > 0, right, left)
            jacobian = (problem.output_weight * slopes) @ weight
            largest = max(largest, np.linalg.norm(jacobian, 2))
    return largest


@pytest.mark.parametrize("seed", range(6))
def test_equals_linear_programs_over_all_patterns(seed):
    net = random_network(seed, 5, 2, k=1 + seed % 3)
    activation = list(KINKS)[seed % 3]
    for domain in [(-1.0, 1.0), (-1e3, 1e3)]:
        problem = problem_of(net, activation, domain)
        expected = by_linear_programs(problem, *domain)
        assert sweep_bracket(problem, Options()).lower == pytest.approx(expected, rel=1e-9)
    # All patterns that occur do so within ±1000 here.
    assert swept(net, activation).lower == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("net", "domain", "expected"),
    [
        (NETS["one neuron"], None, 10.0),
        (NETS["one neuron"], (1.0, 2.0), 10.0),
        (NETS["one neuron"], (-2.0, -1.0), 0.0),
        (NETS["one neuron"], Ball(0.0, 0.2), 10.0),
        (NETS["one neuron"], Ball((-0.12, -0.16), 1e-9), 10.0),
        (NETS["one neuron"], Ball((-0.52, -0.56), 0.4), 0.0),
        (NETS["constant"], None, 0.0),
        (NETS["affine"], None, math.sqrt(20.0)),
        (NETS["vanishes"], None, 0.0),
        # relu(x) + relu(y) + relu(−x−y): steepest with two neurons on, on the axes' quadrants.
        (plane([[1, 0], [0, 1], [-1, -1]], [0, 0, 0], [1, 1, 1]), None, math.sqrt(2.0)),
        # The wedge x > 0, y > 0 begins at a corner of the box, or only beyond it.
        (plane([[1, 0], [0, 1]], [0, 0], [3, 4]), (-1.0, 0.0), 0.0),
        (plane([[1, 0], [0, 1]], [0, 0], [3, 4]), ((-1.0, -1.0), (0.0, 1.0)), 4.0),
        (plane([[1, 0], [0, 1]], [0, 0], [3, 4]), (-1.0, 1e-300), 5.0),
        (plane([[3, 0], [4, 0]], [1, 1], [[1, 0], [0, 1]]), None, 5.0),
    ],
)
def test_closed_forms(net, domain, expected):
    found = swept(net, domain=domain)
    assert found.lower <= expected * (1 + 1e-15) and expected <= found.upper * (1 + 1e-15)
    assert found.upper - found.lower <= 1e-11 and found.exact


@pytest.mark.parametrize("activation", KINKS)
@pytest.mark.parametrize("name", CASES)
def test_a_second_column_of_zeros_gives_the_constant_of_one_input(name, activation):
    net = CASES[name]
    flat = replace(net, hidden_weight=np.column_stack([net.hidden_weight, 0 * net.hidden_bias]))
    turned = replace(flat, hidden_weight=flat.hidden_weight[:, ::-1])
    for domain in (None, (-1.0, 1.0), (0.0, 2.5)):
        expected = exact_square(net, activation, domain)
        for two in (flat, turned):
            found = swept(two, activation, domain)
            assert encloses(found.lower, found.upper, expected)
            assert found.exact


def test_inputs_that_nothing_depends_on_are_left_out():
    w, b, a = random_network(8, 9, 2, k=2).parts
    wide = np.zeros((9, 4))
    wide[:, [3, 1]] = w
    center = (0.5, -0.2, 7.0, 0.1)
    for two, four in [
        (None, None),
        (((-1, -2), (1, 3)), ((5, -2, 5, -1), (6, 3, 6, 1))),
        (Ball((0.1, -0.2), 1.5), Ball(center, 1.5)),
    ]:
        here = exact_two_inputs(w, b, a, domain=two)
        there = exact_two_inputs(wide, b, a, domain=four)
        assert there.lower == pytest.approx(here.lower, rel=1e-12)
        assert there.certificate.proof.fault(there.certificate.problem, there.upper) is None
        assert witness_at(there.certificate.problem, np.array(there.witness.point)) is not None


def test_rows_without_output_do_not_use_inputs():
    net = plane([[1, 2], [3, 4]], [0, 1], [1, 1])
    weight = np.column_stack([net.hidden_weight, [0.0, 0.0]])
    weight = np.concatenate([weight, [[5.0, 5.0, 5.0]]])
    found = exact_two_inputs(weight, [0, 1, 2], [1, 1, 0])
    assert found.lower == swept(net).lower and found.witness.pattern.shape == (3,)
    assert why_not_sweep(checked_problem(weight, [0, 1, 2], [1, 1, 1])) is not None


# Invariances


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("domain", [None, (-1.0, 1.0), Ball(0.0, 1.0)])
def test_invariances(name, domain):
    net = NETS[name]
    w, b, a = net.parts
    here = swept(net, "leaky relu", domain)
    order = np.random.default_rng(0).permutation(len(b))
    s = 2.0 ** np.random.default_rng(1).integers(-8, 9, len(b))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    others = {
        "permuted": Network(w[order], b[order], a[:, order]),
        "rescaled": Network(w * s[:, None], b * s, a / s),
        "turned": Network(w @ turn, b, a),
        "mirrored": Network(w[:, ::-1], b, a),
        "split": Network(np.repeat(w, 2, axis=0), np.repeat(b, 2), np.repeat(a, 2, axis=1) / 2),
        "sign": Network(w, b, -a),
    }
    for what, other in others.items():
        there = swept(other, "leaky relu", domain)
        assert there.lower <= here.upper and here.lower <= there.upper, what
        assert there.exact


def test_translations_by_whole_numbers():
    net = lattice(3, 14, 4)
    w, b, a = net.parts
    moved = Network(w, b - w @ np.array([3.0, -5.0]), a)
    for here, there in [
        (None, None),
        (((-2, -1), (1, 2)), ((1, -6), (4, -3))),
        (Ball(0.0, 2.0), Ball((3.0, -5.0), 2.0)),
    ]:
        first, second = swept(net, domain=here), swept(moved, domain=there)
        assert (first.lower, first.upper) == (second.lower, second.upper)


def test_a_larger_domain_has_a_larger_constant():
    net = random_network(9, 40, 2)
    # Ball, box, ball, box, …: each inside the next.
    sizes = [
        swept(net, domain=domain).lower
        for r in (0.1, 0.5, 2.0, 50.0)
        for domain in (Ball(0.0, r), (-r, r))
    ]
    assert all(x <= y * (1 + 1e-9) for x, y in pairwise(sizes))
    assert sizes[-1] <= swept(net).upper and sizes[0] < 0.9 * sizes[-1]


# Traps


def test_unbounded_cells_count():
    # Steep only far out: relu(x) + relu(y − 100) + relu(x + y − 300).
    net = plane([[1, 0], [0, 1], [1, 1]], [0, -100, -300], [1, 1, 1])
    assert swept(net).lower == pytest.approx(math.sqrt(8.0))
    assert swept(net, domain=(-1.0, 1.0)).upper == pytest.approx(1.0)
    for turn in range(3):
        c, s = np.cos(2 * turn), np.sin(2 * turn)
        turned = replace(net, hidden_weight=net.hidden_weight @ np.array([[c, -s], [s, c]]))
        assert swept(turned).lower == pytest.approx(math.sqrt(8.0))


def test_lines_through_one_point_are_crossed_at_once():
    # No point has x > 0, y > 0 and x + y < 0; crossed one by one, the lines would let one through.
    net = plane([[1, 0], [0, 1], [-1, -1]], [0, 0, 0], [1, 1, -1])
    one_by_one = np.linalg.norm(net.output_weight @ net.hidden_weight)
    assert one_by_one > 2.8 > swept(net).upper == pytest.approx(math.sqrt(5.0))
    apart = replace(net, hidden_bias=np.array([0.0, 0.0, 5e-324]))
    assert swept(apart).lower == pytest.approx(one_by_one)


def test_coincident_lines_switch_together():
    # 3relu(x) − 2relu(−x) on one line: slopes 3 and 2, never 5 or 1.
    net = plane([[1, 0], [-1, 0], [0, 1]], [0, 0, 0], [3, -2, 1])
    assert swept(net).lower == pytest.approx(math.sqrt(10.0))
    apart = replace(net, hidden_bias=np.array([0.1, 0.1, 0.0]))
    assert swept(apart).lower == pytest.approx(math.sqrt(26.0))


def test_a_cell_that_holds_no_float_counts():
    # x > 1/3, y > 1/3, x + y < c: a triangle far below the spacing of floats if c > 2/3, or none.
    below = 2.0 / 3.0
    assert Fraction(below) < Fraction(2, 3)
    for c, steepest in [(below, math.sqrt(29.0)), (math.nextafter(below, 1.0), math.sqrt(50.0))]:
        net = plane([[3, 0], [0, 3], [-1, -1]], [-1, -1, c], [1, 1, -2])
        found = swept(net)
        assert is_right(problem_of(net), found)
        assert found.lower == pytest.approx(steepest)
    assert found.witness.pattern.all() and found.witness.point == pytest.approx((1 / 3, 1 / 3))
    assert witness_at(problem_of(net), np.array(found.witness.point)) is None


def test_a_ball_that_ends_on_a_crossing():
    # Lines x = 3 and y = 4 cross on the circle of radius 5: the wedge beyond is outside.
    net = plane([[1, 0], [0, 1]], [-3, -4], [5, 12])
    on_it = swept(net, domain=Ball(0.0, 5.0))
    assert on_it.upper == pytest.approx(12.0)
    assert on_it.certificate.proof.fault(on_it.certificate.problem, on_it.upper) is None
    beyond = swept(net, domain=Ball(0.0, math.nextafter(5.0, 6.0)))
    assert beyond.lower == pytest.approx(13.0)
    assert swept(net, domain=Ball(0.0, 3.0)).upper == 0.0  # x = 3 only touches it
    assert swept(net, domain=Ball(0.0, 3.5)).lower == pytest.approx(5.0)
    assert swept(net, domain=Ball((6.0, 8.0), 5.0)).lower == pytest.approx(13.0)


def test_a_box_that_ends_on_a_crossing():
    net = plane([[1, 0], [0, 1], [1, -1]], [-0.5, -0.25, 0], [1, 1, 5])
    for low, high in product((-1.0, 0.25, 0.5), (0.75, 1.0)):
        for box in [(low, high), ((low, -high), (high, -low)), ((0.25, 0.25), (0.5, high))]:
            problem = problem_of(net, "relu", box)
            found = sweep_bracket(problem, Options())
            assert is_right(problem, found), box
            assert found.certificate.proof.fault(problem, found.upper) is None, box


# Random networks


@settings(derandomize=True, max_examples=120, deadline=None)
@given(networks(), st.sampled_from(list(KINKS)), st.sampled_from([*DOMAINS, (0.0, 1 / 3)]))
@example(NETS["star"], "relu", Ball((1.0, 0.0), 1.0))
def test_property_encloses_the_exact_constant(net, activation, domain):
    problem = problem_of(net, activation, domain)
    found = sweep_bracket(problem, Options())
    assert is_right(problem, found)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("seed", range(3))
def test_samples_stay_below(seed, domain):
    problem = problem_of(random_network(seed, 80, 2, k=1 + seed), "leaky relu", domain)
    found = sweep_bracket(problem, Options())
    norms = gradient_norms_lower(problem, drawn_points(problem, 4000, seed))
    assert 0.5 * found.lower < norms.max() <= found.upper
    assert found.upper <= bracket(
        problem.hidden_weight, problem.hidden_bias, problem.output_weight, "leaky relu", domain,
        method="product",
    ).upper  # fmt: skip
