"""Figures of the decay condition: alt texts say what is drawn, whatever the numbers are."""

from __future__ import annotations

import numpy as np
from matplotlib import pyplot as plt

from lipbook.plotting.decay import draw_bounds_along, draw_explosions, draw_widths, verdict_row

STEPS = np.array([0, 1, 3, 10])


def axes():
    return plt.subplots()[1]


def test_bounds_along_a_run_say_where_they_leave_the_axis():
    ax = axes()
    bounds = {
        "A": np.array([5.0, 6.0, 7.0, 8.0]),
        "B": np.array([5.0, 1e3, 1e9, np.inf]),
        "C": np.full(4, np.nan),
    }
    alt = draw_bounds_along(ax, STEPS, np.array([1.0, 1.5, 1.6, 2.0]), np.full(4, 4.0), bounds)
    assert "exact constant: 1 to 2" in alt and "A ends at 8" in alt
    assert "B leaves the axis after step 1" in alt and "C is above the axis throughout" in alt
    assert ax.get_ylim()[1] == 2e5
    gone = np.full(4, np.nan)
    assert "divergence" in draw_bounds_along(axes(), STEPS, gone, np.ones(4), bounds)
    plt.close("all")


def test_explosions_stop_where_the_numbers_do():
    sizes = {
        "at": np.array([1.0, 4.0, 16.0]),
        "below": np.array([1.0, 1.1, 1.1]),
        "above": np.array([1.0, 9.0, np.inf]),
    }
    alt = draw_explosions(axes(), sizes, np.array([1.0, 4.0, np.nan]))
    assert "at: 16 after 2 steps" in alt and "above: 9 after 1 steps" in alt
    plt.close("all")


def test_widths_name_every_curve_and_bear_missing_ones():
    ax = axes()
    alt = draw_widths(
        ax, [4, 8], {"exact": np.array([[1.0, 3.0], [2.0, 2.0]])},
        {"bound": np.full((2, 2), np.nan)}, {"law": np.array([1.0, 2.0])},
    )  # fmt: skip
    assert "exact from 2 to 2" in alt and "law from 1 to 2" in alt
    assert "bound from not a number" in alt
    assert [t.get_text() for t in ax.texts] == ["exact"]
    plt.close("all")


def test_a_row_without_a_bound_says_so():
    assert verdict_row("C", (0, 3), "H3, step 2", None, 1.5)["bound"] == "none"
    row = verdict_row("D", (3, 3), "", 30.0, 1.5)
    assert row["ratio"] == "20" and row["applies to"] == "3 of 3"
