"""Pictures of cells, boxes, rungs and searches: the alt text says what is drawn."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from lipbook.networks import gaussian_ensemble
from lipbook.plotting.arrangement import draw_boxes, draw_cells
from lipbook.plotting.rungs import draw_ladders, draw_rungs, draw_search
from lipbook.theorems.arrangement import cut_square, gradient_norms
from lipbook.theorems.box_search import search_boxes, smooth_network
from lipbook.theorems.ladder_sdp import path_multiplier, weights_of
from lipbook.theorems.pattern_search import patterns_of, search_patterns


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_the_picture_of_the_cells_says_what_it_shows():
    ensemble = gaussian_ensemble(5, 2)
    network = weights_of(ensemble, 0)
    cells = cut_square(*network[:2], 3.0)
    norms = gradient_norms(*network, (0.0, 1.0), np.array([cell.mean(axis=0) for cell in cells]))
    samples = np.array([[0.5, 0.25], [1.0, -1.0]])
    _, ax = plt.subplots()
    alt = draw_cells(ax, cells, norms, 3.0, np.array([1.0, 2.0]), samples, 1)
    assert f"{len(cells)} cells" in alt and "(1, 2)" in alt and "(1, -1)" in alt
    alt = draw_cells(plt.subplots()[1], cells, norms, 3.0, None, samples, 0)
    assert "with a dot" not in alt
    flat = draw_cells(plt.subplots()[1], cells, np.zeros(len(cells)), 3.0, None, samples, 0)
    assert "from 0 to 0" in flat


def test_the_picture_of_the_boxes_says_what_it_shows():
    search = search_boxes(smooth_network(gaussian_ensemble(4, 2, activation="tanh"), 0), 2.0, 0.1)
    alt = draw_boxes(plt.subplots()[1], search.low, search.high, search.bound, 2.0, search.point)
    assert f"{len(search.bound)} boxes" in alt and "-2 to 2" in alt


def test_rungs_with_equal_numbers_share_a_label():
    rungs = {"sampled": 0.5, "exact": 1.0, "formal": 2.0, "SDP": 2.0, "product": 3.0}
    _, ax = plt.subplots()
    alt = draw_rungs(ax, np.array([0.0, 1.0]), np.array([0.4, 1.0]), rungs)
    assert "formal and SDP 2" in alt and "exact 1" in alt
    assert "formal = SDP" in [text.get_text() for text in ax.texts]


def test_the_pictures_of_a_search_and_of_ladders_say_what_they_show():
    ensemble = gaussian_ensemble(6, 2)
    weight, _, output = weights_of(ensemble, 0)
    t = path_multiplier(weight, output)
    search = search_patterns(patterns_of(ensemble, 0, (0.0, 1.0), t, 3.0))
    nodes = {fate: (search.depths[fate], search.bounds[fate]) for fate in search.depths}
    _, axes = plt.subplots(2)
    alt = draw_search(*axes, search.n_nodes, search.lower, search.upper, nodes)
    assert f"over {search.n_nodes[-1]} nodes" in alt and "branched" in alt
    assert "an empty one by its parent's" in alt
    _, axes = plt.subplots(2)
    ladders = {"one input": {"sampled": np.array([0.5]), "exact": np.ones(1)}, "flat": {}}
    alt = draw_ladders(list(axes), ladders)
    assert "one input: sampled 0.5, exact 1" in alt and "flat: no network" in alt
