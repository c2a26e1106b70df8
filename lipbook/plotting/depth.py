"""Figures over the number of layers. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from lipbook.medians import finite_median
from lipbook.plotting.style import INK, LOWER, PLAIN, PROMISE, UPPER, Mark
from lipbook.wording import fmt

# How far apart, in layers, the marks of one depth stand.
SPREAD = 0.12
STYLES = ("-", (0, (4.0, 1.6)), (0, (1.0, 1.2)), (0, (6.0, 1.5, 1.0, 1.5)), (0, (2.0, 2.0)))


def draw_rungs(ax: Axes, rungs: Mapping[str, Mapping[int, np.ndarray]]) -> str:
    """Draw bounds of a Lipschitz constant over the depth, one mark per start.

    Args:
        ax: where to draw.
        rungs: by name, from the lowest to the highest: depth ↦ values, (networks,).

    Returns:
        Alt text.
    """
    marks = (
        LOWER,
        UPPER,
        Mark(PLAIN.color, "o", "-", ""),
        PROMISE,
        Mark(INK, "D", "-", ""),
    )
    offsets = SPREAD * (np.arange(len(rungs)) - 0.5 * (len(rungs) - 1))
    words = []
    for mark, offset, (name, values) in zip(marks, offsets, rungs.items(), strict=False):
        for depth, found in values.items():
            x = np.full(len(found), depth + offset)
            label = name if depth == min(values) else None
            ax.plot(x, found, mark.marker, color=mark.color, markersize=4.5, label=label)
        medians = ", ".join(
            f"{depth}: {fmt(finite_median(found))}" for depth, found in values.items()
        )
        words.append(f"{name} {medians}")
    depths = sorted({depth for values in rungs.values() for depth in values})
    ax.set(yscale="log", xlabel="weight layers $L$ (1)")
    ax.xaxis.set_major_locator(FixedLocator(depths))
    ax.xaxis.set_minor_locator(NullLocator())
    return f"medians by depth: {'; '.join(words)}"


def draw_chains(ax: Axes, chains: Mapping[str, np.ndarray]) -> str:
    """Draw the size of a weight over the steps for chains of several depths.

    Args:
        ax: where to draw.
        chains: by name, |v_t|, (T+1,); infinite where it is past the largest double.

    Returns:
        Alt text.
    """
    words = []
    for style, (name, values) in zip(STYLES, chains.items(), strict=False):
        shown = np.where(np.isfinite(values), values, np.nan)
        ax.plot(shown, color=INK, linestyle=style, linewidth=1.3, label=name)
        last = shown[np.isfinite(shown)][-1]
        gone = "" if np.isfinite(values).all() else ", then past the largest double"
        words.append(f"{name} from {fmt(float(shown[0]))} to {fmt(float(last))}{gone}")
    ax.set(yscale="log", xlabel="step $t$ (1)")
    return "; ".join(words)


def draw_laws(
    ax: Axes, steps: Mapping[int, np.ndarray], masses: np.ndarray, dots: Mapping[int, Sequence]
) -> str:
    """Draw the mass of self-consistent rates over the steps, one line per depth.

    Args:
        ax: where to draw.
        steps: depth ↦ the number of steps by which each mass is spent, (s,).
        masses: S, (s,).
        dots: depth ↦ (steps, masses) of rates that were computed one by one.

    Returns:
        Alt text.
    """
    words = []
    for style, (depth, count) in zip(STYLES, steps.items(), strict=False):
        label = f"L = {depth}"
        ax.plot(count, masses, color=PROMISE.color, linestyle=style, linewidth=1.2, label=label)
        ax.plot(*dots[depth], ".", color=INK, markersize=4)
        slope = np.log(masses[-1] / masses[-2]) / np.log(count[-1] / count[-2])
        words.append(f"{depth} layers {fmt(float(slope))}")
    ax.set(xscale="log", yscale="log")
    return "; ".join(words)
