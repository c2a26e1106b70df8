"""Figures of training runs. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seaborn
from matplotlib.axes import Axes

from lipbook.medians import finite_median
from lipbook.plotting.style import EXACT, INK, PLAIN, PROMISE, UPPER
from lipbook.wording import fmt


def draw_risk(ax: Axes, steps: np.ndarray, risk: np.ndarray, start: int | None = None) -> str:
    """Draw the empirical risk of several networks over the steps, one line each.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on; drawn as step + 1 on a logarithmic axis.
        risk: (s, networks); NaN after a divergence.
        start: T₀, marked by a vertical line, if given.

    Returns:
        Alt text.
    """
    for column in risk.T:
        ax.plot(steps + 1, column, color=INK, linewidth=1.0, alpha=0.8)
    _mark_start(ax, start)
    ax.set(xscale="log", yscale="log")
    first, last = np.nanmedian(risk[0]), _median(risk[-1])
    return f"risk from {fmt(first)} at the start to {last} at the end (medians)"


def draw_constants(
    ax: Axes,
    steps: np.ndarray,
    exact: np.ndarray,
    product: np.ndarray,
    promise: np.ndarray | None = None,
    start: int | None = None,
) -> str:
    """Draw exact Lipschitz constants, product bounds and a theorem's bound over the steps.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on; drawn as step + 1 on a logarithmic axis.
        exact: (s, networks).
        product: (s, networks).
        promise: the theorem's bound at each step, (s, networks); NaN where it says nothing.
        start: T₀, marked by a vertical line, if given.

    Returns:
        Alt text.
    """
    for mark, values in ((UPPER, product), (EXACT, exact)):
        for column in values.T:
            ax.plot(
                steps + 1,
                column,
                color=mark.color,
                linestyle=mark.linestyle,
                linewidth=1.1,
                alpha=0.85,
            )
    said = "no bound from the theorem"
    if promise is not None and np.isfinite(promise[-1]).any():
        for column in promise.T:
            ax.plot(
                steps + 1, column, color=PROMISE.color, linestyle=PROMISE.linestyle, linewidth=1.1
            )
        said = f"the theorem's bound up to {_median(promise[-1])}"
    _mark_start(ax, start)
    ax.set(xscale="log", yscale="log")
    return (
        f"exact constant from {fmt(np.nanmedian(exact[0]))} to {_median(exact[-1])}, product bound "
        f"to {_median(product[-1])}, {said} (medians)"
    )


def _median(values: np.ndarray) -> str:
    middle = finite_median(values)
    return "divergence" if np.isnan(middle) else fmt(middle)


def _mark_start(ax: Axes, start: int | None) -> None:
    if start is not None:
        ax.axvline(start + 1, color=PLAIN.color, linewidth=1.0, zorder=0)


def legend_below(ax: Axes, *, promise: bool) -> None:
    """Explain the colours of `draw_constants` under the axes.

    Args:
        ax: the axes to hang the legend under.
        promise: whether a theorem's bound was drawn.
    """
    marks = [EXACT, UPPER, *([PROMISE] if promise else [])]
    names = ["exact constant", "product bound", "theorem's bound"]
    handles = [
        ax.plot([], [], color=m.color, linestyle=m.linestyle, label=name)[0]
        for m, name in zip(marks, names, strict=False)
    ]
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def draw_fit(ax: Axes, x: np.ndarray, y: np.ndarray, grid: np.ndarray, fitted: np.ndarray) -> str:
    """Draw observations and the networks that were fitted to them.

    Args:
        ax: where to draw.
        x: observed inputs, (n,).
        y: observed targets, (n,).
        grid: inputs of the curves, (g,).
        fitted: values there, (networks, g).

    Returns:
        Alt text.
    """
    seaborn.scatterplot(x=x, y=y, ax=ax, color=PLAIN.color, s=9, linewidth=0, alpha=0.7)
    for curve in fitted:
        ax.plot(grid, curve, color=INK, linewidth=1.0, alpha=0.9)
    if len(fitted) == 0:
        return f"{len(x)} observations and no fitted network: all diverged"
    spread = float(np.max(fitted.max(axis=0) - fitted.min(axis=0)))
    return (
        f"{len(x)} observations between {fmt(y.min())} and {fmt(y.max())}, and {len(fitted)} "
        f"fitted networks between {fmt(fitted.min())} and {fmt(fitted.max())} that differ by at "
        f"most {fmt(spread)} among each other"
    )


def paired_summary(pairs: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[dict[str, str]]:
    """Summarise what two schedules gave from the same starts, one row per quantity.

    Args:
        pairs: {quantity: (constant, decaying)}, each (networks,); NaN for a diverged network.

    Returns:
        Rows with the median of each schedule and the median and range of the paired ratio
        decaying/constant, as text.
    """
    rows = []
    for name, (constant, decaying) in pairs.items():
        both = np.isfinite(constant) & np.isfinite(decaying) & (constant != 0)
        ratio = decaying[both] / constant[both]
        spread = "no pair" if len(ratio) == 0 else f"{fmt(ratio.min())} to {fmt(ratio.max())}"
        rows.append(
            {
                "quantity": name,
                "constant rate": _median(constant),
                "decaying rate": _median(decaying),
                "ratio, median": _median(ratio),
                "ratio, range": spread,
            }
        )
    return rows
