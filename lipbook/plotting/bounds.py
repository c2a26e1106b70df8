"""Figures of lower bounds, exact constants and upper bounds. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import seaborn
from matplotlib.axes import Axes

from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, UPPER, Mark
from lipbook.wording import fmt


def draw_slope(
    value_axes: Axes,
    slope_axes: Axes,
    x: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
    constant: float,
    steepest: float,
) -> str:
    """Draw a network of one variable above its slope, with ± its Lipschitz constant.

    Args:
        value_axes: for f.
        slope_axes: for f'.
        x: points, (n,).
        value: f(x), (n,).
        slope: f'(x), (n,).
        constant: Lip(f) on the interval of `x`.
        steepest: a point where the slope is ± constant.

    Returns:
        Alt text.
    """
    value_axes.plot(x, value, color=INK)
    value_axes.set(ylabel="network $f(x)$")
    slope_axes.plot(x, slope, color=INK, linewidth=1.0)
    for sign in (-1.0, 1.0):
        label = f"± {EXACT.label} constant" if sign > 0 else None
        slope_axes.axhline(
            sign * constant, color=EXACT.color, linestyle=EXACT.linestyle, label=label
        )
    there = slope[int(np.argmin(np.abs(x - steepest)))]
    slope_axes.plot([steepest], [there], EXACT.marker, color=EXACT.color, label="steepest cell")
    slope_axes.set(xlabel="input $x$", ylabel="slope $f'(x)$")
    slope_axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=2)
    return (
        f"Two panels over the input x from {fmt(x[0])} to {fmt(x[-1])}. Above, the network's "
        f"value, between {fmt(value.min())} and {fmt(value.max())}. Below, its slope, between "
        f"{fmt(slope.min())} and {fmt(slope.max())}, with horizontal lines at plus and minus the "
        f"Lipschitz constant {fmt(constant)} and a dot where it is reached, near "
        f"x = {fmt(steepest)}."
    )


def _mark_of(rung: str) -> Mark:
    return LOWER if rung == "sampled" else EXACT if rung == "exact" else UPPER


def draw_ladder(ax: Axes, rungs: Mapping[str, np.ndarray]) -> str:
    """Draw the ladder of bounds of several networks, each relative to its exact constant.

    Args:
        ax: where to draw.
        rungs: bounds of each network divided by its exact constant, {name: (networks,)}, lowest
            rung first.

    Returns:
        Alt text.
    """
    for height, (name, ratios) in enumerate(rungs.items()):
        mark = _mark_of(name)
        seaborn.stripplot(
            x=ratios,
            y=np.full(len(ratios), height),
            orient="h",
            jitter=False,
            native_scale=True,
            ax=ax,
            color=mark.color,
            marker=mark.marker,
            size=6,
            alpha=0.75,
        )
    ax.set(xscale="log", xlabel="bound / exact constant (1)", ylabel="")
    ax.set_yticks(range(len(rungs)), list(rungs))
    ticks = _ratio_ticks(max(float(np.max(r)) for r in rungs.values()))
    ax.set_xticks(ticks, [fmt(tick) for tick in ticks])
    ax.minorticks_off()
    ax.axvline(1.0, color=EXACT.color, linewidth=1.0, zorder=0)
    parts = [f"{name} {fmt(float(np.median(r)))}" for name, r in rungs.items()]
    return (
        f"Dots on a logarithmic axis, one per network and rung, each bound divided by the "
        f"network's exact constant. Medians from the lowest rung up: {', '.join(parts)}."
    )


def _ratio_ticks(largest: float) -> list[float]:
    ticks = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
    return [tick for tick in ticks if tick <= 1.3 * largest]


def draw_growth(ax: Axes, widths: Sequence[int], curves: Mapping[str, np.ndarray]) -> str:
    """Draw constants and bounds of random networks against the width.

    Args:
        ax: where to draw.
        widths: m, (w,).
        curves: {"exact" or the name of an upper bound: (w, networks)}.

    Returns:
        Alt text.
    """
    parts = []
    for index, (name, values) in enumerate(curves.items()):
        mark = _mark_of(name)
        style = mark.linestyle if index < 2 else (0, (1.0, 1.0))
        for column in values.T:
            ax.plot(widths, column, mark.marker, color=mark.color, markersize=3.5, alpha=0.4)
        ax.plot(widths, np.median(values, axis=1), color=mark.color, linestyle=style, label=name)
        medians = np.median(values, axis=1)
        parts.append(f"{name} from {fmt(medians[0])} to {fmt(medians[-1])}")
    root = np.sqrt(np.asarray(widths) / widths[0]) * float(np.median(curves["product"][0]))
    ax.plot(widths, root, color=PLAIN.color, linewidth=1.0, label="∝ √width", zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="width $m$ (neurons)", ylabel="constant (1)")
    ax.set_xticks(list(widths), [str(width) for width in widths], rotation=45)
    ax.minorticks_off()
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.32), ncols=4)
    return (
        f"Lipschitz constants and bounds of random networks, one dot per network, against width "
        f"from {widths[0]} to {widths[-1]}, both axes logarithmic; lines join the medians. "
        f"Medians: {'; '.join(parts)}."
    )
