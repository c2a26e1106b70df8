"""Figures of paths and of starts: what is drawn, and what their alt texts say."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt

from lipbook.plotting.starts import draw_law, draw_walk, draw_widths, explain_walk

matplotlib.use("Agg")


@pytest.fixture
def ax():
    fig, axes = plt.subplots()
    yield axes
    plt.close(fig)


def test_a_walk_says_where_it_ends(ax):
    steps, path = np.array([0, 1, 10]), np.array([[0.1, 0.2], [1.0, 1.0], [2.0, 4.0]])
    assert draw_walk(ax, steps, 0.5 * path, path) == (
        "displacement up to 1.5 and path up to 3 (medians)"
    )
    explain_walk(ax)
    assert len(ax.lines) == 6


def test_a_walk_that_diverged_says_so(ax):
    gone = np.array([[1.0], [np.nan]])
    assert draw_walk(ax, np.array([0, 1]), gone, gone) == "every network diverged"


def test_widths_show_medians_and_promises_where_they_are_positive(ax):
    constants = {"exact": np.array([[1.0, 3.0], [2.0, 2.0]]), "formal": np.full((2, 2), 5.0)}
    promises = {"exact at most": np.array([9.0, 8.0]), "formal at least": np.array([-1.0, 4.0])}
    alt = draw_widths(ax, [8, 32], constants, promises)
    assert alt == (
        "exact from 2 to 2; formal from 5 to 5; exact at most from 9 to 8; "
        "formal at least from -1 to 4"
    )
    assert np.isnan(ax.lines[-1].get_ydata()[0]) and ax.lines[-1].get_ydata()[1] == 4.0


def test_a_law_is_drawn_with_and_without_its_limit(ax):
    grid, limit = np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5, 1.0])
    alt = draw_law(ax, np.array([2.0, 1.0, 3.0]), grid, limit, "constant")
    assert "from 1 to 3, median 2" in alt and "median at 1" in alt
    assert "no limit is known" in draw_law(ax, np.array([1.0]), grid, None, "constant")
