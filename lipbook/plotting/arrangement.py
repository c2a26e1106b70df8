"""Pictures of the plane cut into cells or boxes. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import BoundaryNorm, Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lipbook.plotting.style import EXACT, LOWER
from lipbook.wording import fmt

# A handful of greys: blue, orange and green marks stay legible on each of them.
_LEVELS = 8


def _greys(n: int) -> Colormap:
    return ListedColormap(matplotlib.colormaps["Greys"](np.linspace(0.2, 0.72, n)))


def _levels(values: np.ndarray) -> np.ndarray:
    """Return round boundaries of at most a handful of steps from the least to the largest value."""
    least, most = float(values.min()), float(values.max())
    margin = 0.05 * abs(most) or 0.5
    ends = (least, most) if most - least > 1e-9 * abs(most) else (least - margin, most + margin)
    return np.asarray(MaxNLocator(_LEVELS).tick_values(*ends))


def _fill(
    ax: Axes, polygons: Sequence[np.ndarray], values: np.ndarray, label: str, edge: float
) -> None:
    """Fill polygons in steps of grey, with a colour bar below."""
    levels = _levels(values)
    steps = len(levels) - 1
    filled = PolyCollection(
        [np.asarray(polygon) for polygon in polygons],
        array=values,
        cmap=_greys(steps),
        norm=BoundaryNorm(levels, steps),
        edgecolors="white",
        linewidths=edge,
    )
    ax.add_collection(filled)
    figure = ax.figure
    assert isinstance(figure, Figure)
    bar = figure.colorbar(filled, ax=ax, location="bottom", shrink=0.8, aspect=30, pad=0.02)
    bar.set_label(label)
    bar.set_ticks([float(level) for level in levels[:: max(1, steps // 5)]])
    bar.outline.set_visible(False)


def _square(ax: Axes, half_width: float) -> None:
    ends = (-half_width, half_width)
    ax.set(xlim=ends, ylim=ends, aspect="equal", xlabel="input $x_1$", ylabel="input $x_2$")
    ax.grid(False)


def draw_cells(
    ax: Axes,
    cells: Sequence[np.ndarray],
    norms: np.ndarray,
    half_width: float,
    witness: np.ndarray | None,
    samples: np.ndarray,
    best: int,
) -> str:
    """Draw the cells of a network of two inputs, each in the grey of its gradient norm.

    Args:
        ax: where to draw.
        cells: polygons, each (corners, 2).
        norms: ‖J‖ on each, (cells,).
        half_width: B of the square (−B, B)² that is shown.
        witness: a point of the steepest cell of the domain, (2,); None if there is none.
        samples: sampled points, (n, 2).
        best: which of them is the steepest.

    Returns:
        Alt text.
    """
    _fill(ax, cells, norms, r"gradient norm $\|J\|$ of the cell (1)", 0.4)
    steepest = int(np.argmax(norms))
    corners = np.concatenate([cells[steepest], cells[steepest][:1]])
    ax.plot(*corners.T, color=EXACT.color, linewidth=2.0, label="steepest cell")
    ax.plot(*samples.T, LOWER.marker, color=LOWER.color, markersize=3, label="sampled points")
    ax.plot(*samples[best], LOWER.marker, color=LOWER.color, markersize=9, label="steepest sample")
    _square(ax, half_width)
    shown = witness is not None and bool(np.abs(witness).max() <= half_width)
    if witness is not None and shown:
        ax.plot(*witness, EXACT.marker, color=EXACT.color, markersize=6, label="witness")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    place = (
        f", with a dot in it at ({fmt(witness[0])}, {fmt(witness[1])})"
        if witness is not None and shown
        else ""
    )
    return (
        f"The square from {fmt(-half_width)} to {fmt(half_width)} in both inputs, cut by lines "
        f"into {len(cells)} cells, each in a grey that darkens with its gradient norm, from "
        f"{fmt(norms.min())} to {fmt(norms.max())}. The steepest cell is outlined{place}. Of "
        f"{len(samples)} sampled points, marked by triangles, the steepest is at "
        f"({fmt(samples[best][0])}, {fmt(samples[best][1])})."
    )


def draw_boxes(
    ax: Axes,
    low: np.ndarray,
    high: np.ndarray,
    bounds: np.ndarray,
    half_width: float,
    steepest: np.ndarray,
) -> str:
    """Draw the boxes that a search in the plane left unsplit, each in the grey of its bound.

    Args:
        ax: where to draw.
        low: lower left corners, (boxes, 2).
        high: upper right corners, (boxes, 2).
        bounds: of the gradient norm on each, (boxes,).
        half_width: B of the square that was searched.
        steepest: the steepest point found, (2,).

    Returns:
        Alt text.
    """
    corners = [low, np.stack([high[:, 0], low[:, 1]], axis=1), high]
    corners.append(np.stack([low[:, 0], high[:, 1]], axis=1))
    _fill(ax, list(np.stack(corners, axis=1)), bounds, r"bound of $\|J\|$ on the box (1)", 0.6)
    ax.plot(*steepest, EXACT.marker, color=EXACT.color, markersize=6, label="steepest point found")
    _square(ax, half_width)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0))
    sizes = (high - low).prod(axis=1)
    return (
        f"The square from {fmt(-half_width)} to {fmt(half_width)} in both inputs, divided into "
        f"{len(bounds)} boxes, the largest {fmt(float(sizes.max() / sizes.min()))} times as large "
        f"as the smallest, each in a grey that darkens with its bound, from {fmt(bounds.min())} "
        f"to {fmt(bounds.max())}. A dot marks the steepest point found, at "
        f"({fmt(steepest[0])}, {fmt(steepest[1])})."
    )
