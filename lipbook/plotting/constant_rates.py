"""Figures of runs with a constant rate. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, PROMISE, UPPER
from lipbook.wording import fmt


def draw_quotient(ax: Axes, steps: np.ndarray, mu: np.ndarray, quotient: np.ndarray) -> str:
    """Draw μ from the kernel below the quotient that the descent meets.

    Args:
        ax: where to draw.
        steps: the recorded steps, (s,), drawn as step + 1 on a logarithmic axis.
        mu: at the recorded steps, (s,).
        quotient: ‖∇R_t‖²/(2R_t) at every step from 0 on.

    Returns:
        Alt text.
    """
    every = np.arange(len(quotient)) + 1
    ax.plot(every, quotient, color=EXACT.color, label="quotient of the step")
    ax.plot(
        steps + 1,
        mu,
        color=LOWER.color,
        linestyle=LOWER.linestyle,
        marker=LOWER.marker,
        markersize=4,
        label="µ from the kernel",
    )
    ax.set(xscale="log", yscale="log", xlabel="step + 1")
    ax.legend(loc="best")
    return (
        f"The constant from the kernel stays between {_range(mu)}, the quotient of the steps lies "
        f"between {_range(quotient)}"
    )


def draw_paths(ax: Axes, steps: np.ndarray, path: np.ndarray, bounds: dict[str, float]) -> str:
    """Draw the path walked so far below its bounds for all times.

    Args:
        ax: where to draw.
        steps: (s,).
        path: ℓ_t, (s,).
        bounds: {"measured", "start"}; infinite ones are left out.

    Returns:
        Alt text.
    """
    ax.plot(steps + 1, path, color=EXACT.color, label="path walked")
    words = []
    marks = {"measured": (PROMISE, "bound, µ measured"), "start": (UPPER, "bound from the start")}
    for name, (mark, label) in marks.items():
        if np.isfinite(bounds[name]):
            ax.axhline(bounds[name], color=mark.color, linestyle=mark.linestyle, label=label)
            words.append(f"{label} {fmt(bounds[name])}")
    ax.set(xscale="log", xlabel="step + 1", ylim=(0.0, None))
    ax.legend(loc="best")
    said = "; ".join(words) or "no bound applies"
    return f"the path grows to {fmt(float(np.nanmax(path)))}; {said}"


def draw_edge(
    tops: Sequence[Axes],
    bottoms: Sequence[Axes],
    steps: np.ndarray,
    relative: Sequence[np.ndarray],
    risk: Sequence[np.ndarray],
    shares: Sequence[float],
) -> str:
    """Draw αλ_max/2 over the steps above the risks, one column per rate, one line per network.

    Args:
        tops: for αλ_max/2.
        bottoms: for the risks.
        steps: (s,).
        relative: one array (s, networks) per rate.
        risk: likewise.
        shares: the rates, as shares of the first edge.

    Returns:
        Alt text.
    """
    words = []
    for top, bottom, sharp, loss, share in zip(tops, bottoms, relative, risk, shares, strict=True):
        for column in sharp.T:
            top.plot(steps, column, color=EXACT.color, linewidth=1.0, alpha=0.85)
        for column in loss.T:
            bottom.plot(steps, column, color=INK, linewidth=1.0, alpha=0.8)
        top.axhline(1.0, color=PLAIN.color, linewidth=1.2, zorder=0)
        top.set_title(f"{fmt(share)} of the edge")
        bottom.set(yscale="log", xlabel="step")
        words.append(
            f"at {fmt(share)} of the edge from {fmt(float(np.nanmedian(sharp[0])))} to "
            f"{_last(sharp)}, largest {fmt(float(np.nanmax(sharp)))}"
        )
    return (
        "One column per rate. Above, the sharpness relative to its limit over the steps, with a "
        f"horizontal line at 1: {'; '.join(words)} (medians, and maximum). Below, "
        "the risks on a logarithmic axis."
    )


def draw_steep(
    ax: Axes, x: np.ndarray, curves: dict[str, np.ndarray], at: np.ndarray, targets: np.ndarray
) -> str:
    """Draw functions that agree at the data points, ever steeper in between.

    Args:
        ax: where to draw.
        x: points, (n,).
        curves: {label: values, (n,)}.
        at: inputs of the data.
        targets: targets of the data.

    Returns:
        Alt text.
    """
    styles = ["-", (0, (4.0, 1.5)), (0, (1.0, 1.2)), (0, (5.0, 1.2, 1.0, 1.2))]
    for index, (label, values) in enumerate(curves.items()):
        ax.plot(x, values, color=INK, linestyle=styles[index % 4], label=label)
    ax.plot(at, targets, EXACT.marker, color=EXACT.color, label="data")
    ax.set(xlabel="input $x$", ylabel="network $f(x)$")
    ax.legend(loc="best")
    return (
        f"{len(curves)} S-shaped curves through the same {len(at)} data points, where all of them "
        f"are flat; in between they rise ever more steeply: {', '.join(curves)}."
    )


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return "nothing and nothing (divergence)"
    return f"{fmt(float(finite.min()))} and {fmt(float(finite.max()))}"


def _last(values: np.ndarray) -> str:
    finite = values[-1][np.isfinite(values[-1])]
    return fmt(float(np.median(finite))) if len(finite) else "divergence"
