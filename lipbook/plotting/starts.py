"""Figures of paths, and of networks at their random start. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from lipbook.plotting.style import EXACT, INK, PROMISE, UPPER
from lipbook.wording import fmt

# How the curves of `draw_widths` are told apart, besides their colour.
_DASHES = {"formal": (0, (4.0, 1.5)), "product": (0, (1.0, 1.0))}


def draw_walk(ax: Axes, steps: np.ndarray, displacement: np.ndarray, path: np.ndarray) -> str:
    """Draw how far the weights of several networks got and how far they went.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on; drawn as step + 1 on a logarithmic axis.
        displacement: (s, networks); NaN after a divergence.
        path: (s, networks); NaN after a divergence.

    Returns:
        Alt text.
    """
    for mark, values in ((UPPER, path), (EXACT, displacement)):
        for column in values.T:
            ax.plot(steps + 1, column, color=mark.color, linestyle=mark.linestyle, linewidth=1.1)
    ax.set(xscale="log", yscale="log")
    if not np.isfinite(path[-1]).any():
        return "every network diverged"
    ends = fmt(float(np.nanmedian(displacement[-1]))), fmt(float(np.nanmedian(path[-1])))
    return f"displacement up to {ends[0]} and path up to {ends[1]} (medians)"


def explain_walk(ax: Axes) -> None:
    """Explain the colours of `draw_walk` under the axes.

    Args:
        ax: the axes to hang the legend under.
    """
    handles = [
        ax.plot([], [], color=mark.color, linestyle=mark.linestyle, label=name)[0]
        for mark, name in ((EXACT, "displacement"), (UPPER, "path"))
    ]
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=2)


def draw_widths(
    ax: Axes,
    widths: Sequence[int],
    constants: Mapping[str, np.ndarray],
    promises: Mapping[str, np.ndarray],
) -> str:
    """Draw constants and bounds of random networks, and what theorems say of them, by width.

    Args:
        ax: where to draw.
        widths: m, (w,), increasing.
        constants: {"exact", "formal" or "product": (w, networks)}.
        promises: {name of a theorem's bound: (w,)}; not drawn where it is not positive.

    Returns:
        Alt text.
    """
    words = []
    for name, values in constants.items():
        mark = EXACT if name == "exact" else UPPER
        medians = np.median(values, axis=1)
        for column in values.T:
            ax.plot(widths, column, mark.marker, color=mark.color, markersize=3, alpha=0.35)
        ax.plot(widths, medians, color=mark.color, linestyle=_DASHES.get(name, "-"), label=name)
        words.append(f"{name} from {fmt(medians[0])} to {fmt(medians[-1])}")
    for number, (name, values) in enumerate(promises.items()):
        shown = np.where(values > 0.0, values, np.nan)
        style = PROMISE.linestyle if number == 0 else (0, (1.5, 1.5))
        ax.plot(widths, shown, color=PROMISE.color, linestyle=style, label=name)
        words.append(f"{name} from {fmt(float(values[0]))} to {fmt(float(values[-1]))}")
    ax.set(xscale="log", yscale="log", xlabel="width $m$ (neurons)")
    ax.set_xticks(list(widths), [str(width) for width in widths], rotation=45)
    ax.minorticks_off()
    return f"{'; '.join(words)}"


def draw_law(
    ax: Axes, constants: np.ndarray, grid: np.ndarray, limit: np.ndarray | None, xlabel: str
) -> str:
    """Draw the share of random networks with at most a constant, and the limit of that share.

    Args:
        ax: where to draw.
        constants: of the networks, (networks,).
        grid: where the limit is known, (g,), increasing.
        limit: its distribution function there, (g,), or None.
        xlabel: what the axis shows.

    Returns:
        Alt text.
    """
    ordered = np.sort(constants)
    shares = np.arange(1, len(ordered) + 1) / len(ordered)
    ax.step(ordered, shares, where="post", color=EXACT.color, label="random networks")
    words = "no limit is known"
    if limit is not None:
        ax.plot(grid, limit, color=PROMISE.color, linestyle=PROMISE.linestyle, label="limit, m → ∞")
        half = float(np.interp(0.5, limit, grid))
        words = f"the limit has its median at {fmt(half)}"
    ax.axhline(0.5, color=INK, linewidth=0.5, alpha=0.4, zorder=0)
    ax.set(xlabel=xlabel, ylabel="share of networks (1)", ylim=(0.0, 1.02))
    ax.legend(loc="lower right")
    return (
        f"A staircase that rises from 0 to 1: the share of {len(ordered)} random networks whose "
        f"exact constant is at most the number on the axis, from {fmt(float(ordered[0]))} to "
        f"{fmt(float(ordered[-1]))}, median {fmt(float(np.median(ordered)))}; {words}."
    )
