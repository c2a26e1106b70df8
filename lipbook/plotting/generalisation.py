"""Figures of bounds of the generalisation gap. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from lipbook.plotting.style import EXACT, INK, PLAIN, PROMISE, UPPER
from lipbook.wording import fmt

# (colour, marker, line) of each route, in the order in which they come.
LINES = (
    (EXACT.color, EXACT.marker, EXACT.linestyle),
    (UPPER.color, UPPER.marker, UPPER.linestyle),
    (PROMISE.color, PROMISE.marker, PROMISE.linestyle),
    (INK, "D", (0, (1.0, 1.0))),
    (INK, "P", "-"),
)


def draw_ratios(
    ax: Axes,
    axis: np.ndarray,
    bounds: Mapping[str, np.ndarray],
    gap: np.ndarray,
    ceiling: np.ndarray,
    name: str,
) -> str:
    """Draw each bound, and the largest possible loss, as a multiple of the typical gap.

    Args:
        ax: where to draw.
        axis: widths or numbers of samples, (q,).
        bounds: {route: (q,)}; values that are not finite are left out.
        gap: the typical gap, (q,).
        ceiling: the largest possible loss, (q,).
        name: of the axis, in words.

    Returns:
        Alt text.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(gap > 0, ceiling / gap, np.nan)
        ratios = {
            route: np.where(gap > 0, values / gap, np.nan) for route, values in bounds.items()
        }
    ax.plot(axis, _finite(share), color=PLAIN.color, linewidth=3.0, alpha=0.6, label="largest loss")
    words = [f"the largest loss from {_ends(share)}"]
    for (color, marker, line), (route, values) in zip(LINES, ratios.items(), strict=False):
        shown = _finite(values)
        ax.plot(
            axis, shown, color=color, marker=marker, markersize=4.0, linestyle=line,
            linewidth=1.2, label=route,
        )  # fmt: skip
        if np.isfinite(shown).any():
            words.append(f"{route} from {_ends(shown)}")
    ax.set_xscale("log")
    if any(np.isfinite(line.get_ydata()).any() for line in ax.lines):  # a log scale needs numbers
        ax.set_yscale("log")
    return f"in multiples of the typical gap, over the {name}: {', '.join(words)}"


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values) & (values < 1e30), values, np.nan)


def _ends(values: np.ndarray) -> str:
    return f"{fmt(float(values[0]))} to {fmt(float(values[-1]))}"


def legend_of_routes(ax: Axes) -> None:
    """Explain the lines of `draw_ratios` under the figure.

    Args:
        ax: axes on which every route was drawn.
    """
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=2)
