"""Figures of the decay condition. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from lipbook.medians import finite_median
from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, PROMISE, UPPER
from lipbook.wording import fmt

# The axis ends this many times above the largest exact constant; what is beyond is not drawn.
_HEIGHT = 1e5
# Letters on a curve stand this many grid points apart.
_LETTERS = 5


def draw_bounds_along(
    ax: Axes,
    steps: np.ndarray,
    exact: np.ndarray,
    product: np.ndarray,
    bounds: Mapping[str, np.ndarray],
) -> str:
    """Draw the exact constant of one network over the steps, under the bounds of several theorems.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on; drawn as step + 1 on a logarithmic axis.
        exact: (s,); NaN after a divergence.
        product: product bounds, (s,).
        bounds: {letter of a theorem: (s,)}; NaN or infinite where it says nothing.

    Returns:
        Alt text.
    """
    ax.plot(steps + 1, product, color=UPPER.color, linestyle=UPPER.linestyle, linewidth=1.3)
    finite = exact[np.isfinite(exact)]
    top = _HEIGHT * max(float(finite.max()) if len(finite) else 1.0, 1e-9)
    words = []
    for index, (letter, values) in enumerate(bounds.items()):
        seen = np.where(np.isfinite(values) & (values <= top), values, np.nan)
        ax.plot(steps + 1, seen, color=PROMISE.color, linestyle=PROMISE.linestyle, linewidth=0.9)
        places = np.flatnonzero(np.isfinite(seen))[index % _LETTERS :: _LETTERS]
        ax.plot(
            (steps + 1)[places], seen[places], linestyle="none", color=PROMISE.color,
            marker=f"$\\mathrm{{{letter}}}$", markersize=7,
        )  # fmt: skip
        words.append(f"{letter} {_ends(steps, values, top)}")
    ax.plot(steps + 1, exact, color=EXACT.color, linestyle=EXACT.linestyle, linewidth=1.8)
    low = float(finite.min()) if len(finite) and finite.min() > 0 else top / _HEIGHT / 10.0
    ax.set(xscale="log", yscale="log", ylim=(low / 3.0, top))
    course = "divergence" if len(finite) == 0 else f"{fmt(finite[0])} to {fmt(finite[-1])}"
    return (
        f"exact constant: {course}; product bound up to {fmt(float(np.nanmax(product)))}; the "
        f"theorems' bounds: {'; '.join(words)}"
    )


def _ends(steps: np.ndarray, values: np.ndarray, top: float) -> str:
    """Say in words where a bound ends."""
    inside = np.isfinite(values) & (values <= top)
    if not inside.any():
        return "is above the axis throughout"
    last = int(np.flatnonzero(inside)[-1])
    if last == len(values) - 1:
        return f"ends at {fmt(float(values[-1]))}"
    return f"leaves the axis after step {int(steps[last])}"


def draw_explosions(ax: Axes, sizes: Mapping[str, np.ndarray], bound: np.ndarray) -> str:
    """Draw the size of the weights of exploding and settling descents, step by step.

    Args:
        ax: where to draw.
        sizes: {name: v_t² / v_0², (steps,)}; infinite where the numbers end.
        bound: the theorem's bound for the first of them, (steps,).

    Returns:
        Alt text.
    """
    styles = [(EXACT.color, "-"), (LOWER.color, (0, (1.0, 1.2))), (UPPER.color, (0, (4.0, 1.5)))]
    words = []
    for (name, values), (color, line) in zip(sizes.items(), styles, strict=True):
        finite = values[np.isfinite(values)]
        ax.plot(finite, color=color, linestyle=line, label=name, marker="o", markersize=3.5)
        words.append(f"{name}: {fmt(float(finite[-1]))} after {len(finite) - 1} steps")
    ax.plot(bound, "s", color=PROMISE.color, markersize=7, fillstyle="none", label="bound")
    ax.set(yscale="log", ylim=(0.05, 1e16))
    ax.figure.legend(loc="outside lower center", ncols=2)
    return f"squared weights over the steps, logarithmic vertical axis. {'; '.join(words)}"


def draw_widths(
    ax: Axes,
    widths: Sequence[int],
    measured: Mapping[str, np.ndarray],
    bounds: Mapping[str, np.ndarray],
    laws: Mapping[str, np.ndarray],
) -> str:
    """Draw constants and bounds over the width, both axes logarithmic.

    Args:
        ax: where to draw.
        widths: m, (w,).
        measured: {name: exact constants, (w, networks)}.
        bounds: {name: a theorem's bounds, (w, networks)}.
        laws: {name: (w,)}, thin lines.

    Returns:
        Alt text.
    """
    words = []
    for kinds, mark in ((measured, EXACT), (bounds, PROMISE)):
        for name, values in kinds.items():
            middle = np.array([finite_median(row) for row in values])
            ax.plot(widths, middle, color=mark.color, linestyle=mark.linestyle, linewidth=1.4)
            for column in values.T:
                ax.plot(widths, column, mark.marker, color=mark.color, markersize=3, alpha=0.5)
            last = np.flatnonzero(np.isfinite(middle))
            if len(last):
                ax.annotate(
                    name, (widths[last[-1]], middle[last[-1]]), xytext=(5, 0), color=mark.color,
                    textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
                )  # fmt: skip
            words.append(f"{name} from {fmt(middle[0])} to {fmt(middle[-1])}")
    for name, values in laws.items():
        ax.plot(widths, values, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
        words.append(f"{name} from {fmt(float(values[0]))} to {fmt(float(values[-1]))}")
    ax.axhline(1.0, color=PLAIN.color, linewidth=0.6, zorder=0)
    ax.set(xscale="log", yscale="log")
    return f"over the widths {widths[0]} to {widths[-1]} (medians): {'; '.join(words)}"


def verdict_row(
    words: str, applies: tuple[int, int], failed: str, bound: float | None, measured: float
) -> dict[str, str]:
    """Summarise what a theorem says of several networks as one row of a table.

    Args:
        words: names the row.
        applies: to how many networks the theorem applies, and how many there are.
        failed: the hypothesis that fails first for the first network, or "".
        bound: its bound where the theorem applies to it, else None.
        measured: what is bounded.

    Returns:
        The row, as text.
    """
    said = bound is not None
    return {
        "form": words,
        "applies to": fmt(applies),
        "fails first": failed,
        "bound": fmt(bound) if said else "none",
        "largest constant": fmt(measured),
        "ratio": fmt(bound / measured) if bound is not None and measured else "",
    }
