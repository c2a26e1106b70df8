"""Cells, boxes and the searches over them: brackets at every moment, certificates, controls."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lipbook.activations import get_activation
from lipbook.lipschitz import bracket
from lipbook.networks import Ensemble, gaussian_ensemble
from lipbook.theorems.arrangement import (
    SweptCells,
    areas,
    cell_count_bound,
    cut_square,
    gradient_norms,
    reach_of_crossings,
)
from lipbook.theorems.box_search import SteepnessOnBoxes, search_boxes, smooth_network
from lipbook.theorems.ladder_sdp import (
    HalfSquareBound,
    RelaxationLoss,
    path_multiplier,
    weights_of,
)
from lipbook.theorems.pattern_search import (
    BracketAtEveryMoment,
    Patterns,
    patterns_of,
    search_patterns,
)
from lipbook.theorems.rungs import with_activation

SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "silu")
KINKED = ("relu", "leaky relu", "abs")
PROPERTY = settings(derandomize=True, max_examples=60, deadline=None)
SEEDS = st.integers(0, 10_000)


def ensemble_of(weight, bias, output, activation):
    parts = [
        torch.as_tensor(np.asarray(each, dtype=float))[None] for each in (weight, bias, output)
    ]
    shift = torch.zeros(1, parts[2].shape[1], dtype=torch.float64)
    return Ensemble(*parts, shift, get_activation(activation))


# Cells ---------------------------------------------------------------------------------------


def test_cell_counts_are_those_of_the_cake_numbers():
    assert [cell_count_bound(m, 1) for m in range(5)] == [1, 2, 3, 4, 5]
    assert [cell_count_bound(m, 2) for m in range(6)] == [1, 2, 4, 7, 11, 16]
    assert [cell_count_bound(m, 3) for m in range(6)] == [1, 2, 4, 8, 15, 26]
    assert cell_count_bound(5, 9) == 2**5


@PROPERTY
@given(seed=SEEDS, m=st.integers(1, 9))
def test_lines_in_general_position_make_as_many_cells_as_can_be(seed, m):
    generator = np.random.default_rng(seed)
    weight, bias = generator.normal(size=(m, 2)), generator.normal(size=m)
    reach = reach_of_crossings(weight, bias)
    cells = cut_square(weight, bias, reach)
    assert len(cells) == cell_count_bound(m, 2)
    assert areas(cells).sum() == pytest.approx(4 * reach**2) and areas(cells).min() > 0
    centres = np.array([cell.mean(axis=0) for cell in cells])
    patterns = {tuple(row) for row in centres @ weight.T + bias > 0}
    assert len(patterns) == len(cells)
    assert len(cut_square(weight, bias, 0.5)) <= len(cells)


def test_coincident_parallel_and_zero_rows():
    weight = np.array([[1.0, 0], [2.0, 0], [-1.0, 0], [1.0, 0], [0, 0], [0, 1.0]])
    bias = np.array([0.0, 0.0, 0.0, -1.0, 3.0, 0.0])
    cells = cut_square(weight, bias, reach_of_crossings(weight, bias))
    assert len(cells) == 6
    assert reach_of_crossings(np.zeros((2, 2)), np.ones(2)) == 1.0
    assert len(cut_square(np.zeros((2, 2)), np.ones(2), 1.0)) == 1


@pytest.mark.parametrize("name", KINKED)
@pytest.mark.parametrize("domain", [None, (-1.0, 1.0)])
def test_cells_cut_naively_agree_with_the_module(name, domain):
    for seed, scale, k in itertools.product(range(2), ("standard", "zero-bias"), (1, 2)):
        ensemble = gaussian_ensemble(9, 2, k, seeds=(seed,), activation=name, scale=scale)
        known = bracket(*weights_of(ensemble, 0), name, domain)
        found = SweptCells().verdict(ensemble, 0, known)
        assert found.applies and not found.contradicted
        assert found.measured == pytest.approx(known.lower, rel=2e-6)


def test_the_sweep_speaks_of_two_inputs_and_one_kink():
    for d, name, failed in ((2, "relu", None), (3, "relu", "H1"), (2, "tanh", "H2")):
        ensemble = gaussian_ensemble(4, d, activation=name)
        known = bracket(*weights_of(ensemble, 0), name, (-1.0, 1.0), rel_gap=0.1, time_limit=5.0)
        found = SweptCells().verdict(ensemble, 0, known)
        assert (found.failed.name if found.failed else None) == failed
        assert (found.measured is None) is (failed is not None)


def test_a_pattern_between_two_coincident_lines_is_too_steep():
    # Negative control: at the crossing itself both neurons count as inactive.
    network = np.array([[1.0, 0], [1, 0], [-1, 0]]), np.array([1.0, 0, 0]), np.array([[3.0, -2, 2]])
    assert gradient_norms(*network, (0.0, 1.0), np.zeros((1, 2)))[0] == pytest.approx(3.0)
    assert bracket(*network, "relu").upper == pytest.approx(2.0)


# Searches ------------------------------------------------------------------------------------


def patterns(seed, m, d, k=1, name="relu", scale="standard", half_width=3.0):
    ensemble = gaussian_ensemble(m, d, k, seeds=(seed,), activation=name, scale=scale)
    weight, _, output = weights_of(ensemble, 0)
    t = path_multiplier(weight, output)
    return ensemble, patterns_of(ensemble, 0, ensemble.activation.kink_slopes, t, half_width)


@pytest.mark.parametrize("half_width", [None, 3.0])
@pytest.mark.parametrize(
    ("m", "d", "k", "name", "scale"),
    [
        (10, 1, 1, "relu", "standard"),
        (10, 2, 2, "leaky relu", "standard"),
        (9, 3, 1, "abs", "standard"),
        (8, 3, 1, "relu", "zero-bias"),
        (4, 6, 1, "relu", "standard"),
    ],
)
def test_the_constant_is_in_the_bracket_at_every_moment(m, d, k, name, scale, half_width):
    for seed in range(2):
        ensemble, problem = patterns(seed, m, d, k, name, scale, half_width)
        domain = None if half_width is None else (-half_width, half_width)
        known = bracket(*weights_of(ensemble, 0), name, domain)
        search = search_patterns(problem)
        assert max(search.lower) <= known.upper * (1 + 1e-9)
        assert min(search.upper) >= known.lower * (1 - 1e-9)
        assert search.lower == sorted(search.lower) and search.upper[-1] <= search.upper[0]
        assert search.upper[-1] <= search.lower[-1] * (1 + 2e-6) and "open" not in search.depths
        bound = 1 + 2 * m * cell_count_bound(m, d)
        assert search.n_nodes[-1] == sum(map(len, search.depths.values())) <= bound
        found = BracketAtEveryMoment().verdict(ensemble, search, known)
        assert found.applies and not found.contradicted


def test_a_search_that_is_stopped_keeps_its_bracket():
    ensemble, problem = patterns(2, 16, 3)
    known = bracket(*weights_of(ensemble, 0), "relu", (-3.0, 3.0))
    search = search_patterns(problem, max_steps=4)
    assert search.lower[-1] <= known.upper and known.lower <= search.upper[-1]
    assert len(search.lower) == 5 and search.depths["open"]


def test_dropping_a_cell_that_is_not_empty_is_seen():
    # Negative control: a search that drops undecided cells ends below the constant.
    class Careless(Patterns):
        def inner_point(self, signs):
            return np.zeros(2), False

        def distances(self, point):
            return np.where(np.arange(len(self.hidden_bias)) % 2 == 0, 1.0, -1.0)

    seen = 0
    for seed in range(5):
        ensemble, problem = patterns(seed, 8, 2)
        known = bracket(*weights_of(ensemble, 0), "relu", (-3.0, 3.0))
        search = search_patterns(Careless(**vars(problem)))
        found = BracketAtEveryMoment().verdict(ensemble, search, known)
        seen += found.contradicted
    assert seen >= 3


def test_a_dropped_cell_without_a_certificate_fails_its_hypothesis():
    ensemble, problem = patterns(0, 8, 2)
    search = search_patterns(problem)
    known = bracket(*weights_of(ensemble, 0), "relu", (-3.0, 3.0))
    search.n_certificates -= 1
    assert BracketAtEveryMoment().verdict(ensemble, search, known).failed.name == "H2"
    smooth = with_activation(ensemble, 0, "tanh")
    assert BracketAtEveryMoment().verdict(smooth, search, known).failed.name == "H1"


def test_certificates_on_the_plane_and_on_a_square():
    # x₁ > 0, x₂ > 0, −x₁ − x₂ > 0 is empty; x₁ > 2 is empty on (−1, 1)² alone.
    rows, offset = np.array([[1.0, 0], [0, 1.0], [-1.0, -1.0]]), np.zeros(3)
    plane = Patterns(rows, offset, np.ones((1, 3)), (0.0, 1.0), np.ones(3), None)
    square = Patterns(rows, offset, np.ones((1, 3)), (0.0, 1.0), np.ones(3), 1.0)
    assert plane.is_certificate(np.ones(3), rows, offset)
    assert not plane.is_certificate(np.array([1.0, 1.0, 0.0]), rows, offset)
    assert not plane.is_certificate(np.zeros(3), rows, offset)
    assert not plane.inner_point(np.array([1, 1, 1]))[1]
    assert plane.inner_point(np.array([1, 1, -1]))[1]
    far = np.array([-2.0, 0.0, 0.0])
    assert square.is_certificate(np.array([1.0, 0.0, 0.0]), rows, far)
    assert not plane.is_certificate(np.array([1.0, 0.0, 0.0]), rows, far)
    shifted = {**vars(square), "hidden_bias": far}
    assert not Patterns(**shifted).inner_point(np.array([1, 1, 0]))[1]
    assert Patterns(**{**shifted, "half_width": None}).inner_point(np.array([1, 1, 0]))[1]


def star(copies):
    """Copies of three neurons at 120°, each in a plane of its own: the worst case of the page."""
    angles, n = 2 * np.pi * np.arange(3) / 3, 3 * copies
    weight = np.kron(np.eye(copies), np.column_stack([np.cos(angles), np.sin(angles)]))
    parts = weight, np.zeros(n), np.ones((1, n)), (-1.0, 1.0)
    return Patterns(*parts, np.full(n, math.sqrt(2 * copies)))


def test_copies_of_a_small_network_need_exponentially_many_nodes():
    for copies in (1, 2):
        search = search_patterns(star(copies), rel_gap=0.01, max_steps=500)
        assert search.upper[0] == pytest.approx(math.sqrt(4.5 * copies))
        assert search.lower[-1] == pytest.approx(2 * math.sqrt(copies))
        assert search.n_nodes[-1] >= 2**copies and "open" not in search.depths
    assert search.n_nodes[-1] > 50


def test_dead_neurons_are_left_out_of_the_search():
    weight = np.array([[1.0, 0.5], [0, 0], [1.0, -1.0]])
    ensemble = ensemble_of(weight, [0.1, 5.0, -0.2], [[1.0, 1.0, 0.0]], "relu")
    problem = patterns_of(ensemble, 0, (0.0, 1.0), np.ones(3), 2.0)
    assert problem.hidden_weight.shape == (1, 2)
    assert search_patterns(problem).upper[-1] == pytest.approx(math.hypot(1, 0.5))


@PROPERTY
@given(
    seed=SEEDS,
    m=st.integers(1, 8),
    d=st.integers(1, 3),
    k=st.integers(1, 2),
    name=st.sampled_from(SMOOTH),
    size=st.sampled_from([1e-3, 0.1, 1.0, 5.0]),
)
def test_the_bound_on_a_box_holds_and_its_excess_is_of_second_order(seed, m, d, k, name, size):
    network = smooth_network(gaussian_ensemble(m, d, k, seeds=(seed,), activation=name), 0)
    generator = np.random.default_rng(seed)
    centre, half = generator.normal(size=d), size * generator.uniform(0.2, 1.0, d)
    bound = network.taylor_bound(centre, half)
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=d)))
    inside = np.concatenate([corners, generator.uniform(-1, 1, (50, d))])
    steepest = max(network.gradient(centre + x * half) for x in inside)
    assert steepest <= bound * (1 + 1e-9)
    reach = np.abs(network.hidden_weight) @ half
    sizes = np.linalg.norm(network.output_weight, axis=0)
    sizes = sizes * np.linalg.norm(network.hidden_weight, axis=1)
    excess = network.activation.curvature_lipschitz * (reach**2 * sizes).sum()
    assert bound <= steepest + excess + 1e-12


def test_without_the_remainder_the_bound_on_a_box_fails():
    # Negative control: at the bend of tanh the linear part alone is too small.
    network = smooth_network(ensemble_of([[1.0]], [-2.0], [[1.0]], "tanh"), 0)
    centre, half = np.array([0.5]), np.array([1.0])
    rest = 0.5 * network.activation.curvature_lipschitz
    assert network.taylor_bound(centre, half) - rest < network.gradient(np.array([1.5]))


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("d", [1, 2])
def test_searching_boxes_agrees_with_the_module(name, d):
    ensemble = gaussian_ensemble(7, d, seeds=(4,), activation=name)
    known = bracket(*weights_of(ensemble, 0), name, (-2.0, 2.0), rel_gap=1e-3, time_limit=20.0)
    search = search_boxes(smooth_network(ensemble, 0), 2.0, rel_gap=0.02)
    assert search.lower <= known.upper and known.lower <= search.upper
    assert search.upper <= 1.02 * search.lower
    assert (search.high - search.low).prod(axis=1).sum() == pytest.approx(4.0**d)
    found = SteepnessOnBoxes().verdict(ensemble, search, known)
    assert found.applies and not found.contradicted


def test_boxes_need_a_smooth_activation_and_a_bounded_domain():
    ensemble = gaussian_ensemble(5, 2, activation="relu")
    with pytest.raises(ValueError, match=r"`ensemble` must have a smooth.*Got 'relu'"):
        smooth_network(ensemble, 0)
    known = bracket(*weights_of(ensemble, 0), "relu", (-1.0, 1.0))
    assert SteepnessOnBoxes().verdict(ensemble, None, known).failed.name == "H1"
    smooth = gaussian_ensemble(5, 2, activation="tanh")
    everywhere = bracket(*weights_of(smooth, 0), "tanh", None, time_limit=2.0)
    assert SteepnessOnBoxes().verdict(smooth, None, everywhere).failed.name == "H2"


# Titles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "theorem",
    [HalfSquareBound, RelaxationLoss, SweptCells, BracketAtEveryMoment, SteepnessOnBoxes],
)
def test_a_verdict_has_the_title_of_its_theorem(theorem):
    name = "how-to-know-a-lipschitz-constant.ipynb"
    page = json.loads((Path(__file__).parents[1] / "notebooks" / name).read_text(encoding="utf-8"))
    text = "".join("".join(cell["source"]) for cell in page["cells"])
    assert f"{{prf:theorem}} {theorem.title}\n:label: {theorem.label}\n" in text
