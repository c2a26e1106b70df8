"""Figures of convergence and of what hinders it. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from lipbook.plotting.style import INK, LOWER, PLAIN, PROMISE, UPPER
from lipbook.wording import fmt

DASHED = (0, (4.0, 1.6))
DOTTED = (0, (1.0, 1.2))


def median(values: np.ndarray) -> np.ndarray:
    """Return the median over the last axis, NaN left out (NaN where nothing is left)."""
    some = np.isfinite(values).any(axis=-1)
    finite = np.where(np.isfinite(values) | ~some[..., None], values, np.nan)
    kept = np.where(some[..., None], finite, 0.0)
    return np.where(some, np.nanmedian(kept, axis=-1), np.nan)


def _word(value: float) -> str:
    return fmt(float(value)) if np.isfinite(value) else "no value"


def draw_smallest(
    ax: Axes,
    steps: np.ndarray,
    sides: Mapping[str, np.ndarray],
    promises: Mapping[str, np.ndarray],
    start: int | None = None,
) -> str:
    """Draw the smallest squared gradient so far under two schedules, and what is promised of it.

    Args:
        ax: where to draw.
        steps: numbers of steps done, (s,), from 1 on.
        sides: "constant" and "decaying", each (s, networks).
        promises: the bounds, by the same names, (s, networks); NaN where there is none.
        start: T₀, marked by a vertical line, if given.

    Returns:
        Alt text.
    """
    lines = {"constant": "-", "decaying": DASHED}
    words = []
    for side, values in sides.items():
        for column in values.T:
            ax.plot(steps, column, color=INK, linestyle=lines[side], linewidth=0.8, alpha=0.5)
        bound = median(promises[side])
        ax.plot(steps, bound, color=PROMISE.color, linestyle=lines[side], linewidth=1.4)
        words.append(
            f"{side} rate down to {_word(median(values)[-1])}, promised {_word(bound[-1])}"
        )
    if start is not None:
        ax.axvline(start, color=PLAIN.color, linewidth=1.0, zorder=0)
    ax.set(xscale="log", yscale="log")
    return f"smallest squared gradient so far, medians at the end: {'; '.join(words)}"


def draw_mass(
    ax: Axes,
    steps: np.ndarray,
    masses: Mapping[str, np.ndarray],
    lower: np.ndarray,
    upper: np.ndarray,
) -> str:
    """Draw the mass of some schedules over the steps, between two bounds of the first.

    Args:
        ax: where to draw.
        steps: numbers of steps done, (s,), from 1 on.
        masses: by name, each (s, networks); at most four.
        lower: lower bound of the first, (s,).
        upper: upper bound of the first, (s,).

    Returns:
        Alt text.
    """
    ax.plot(steps, upper, color=UPPER.color, linestyle=UPPER.linestyle, label="upper bound")
    styles = ("-", DASHED, DOTTED, (0, (6.0, 1.5, 1.0, 1.5)))
    words = []
    for style, (name, values) in zip(styles, masses.items(), strict=False):
        middle = median(values)
        ax.plot(steps, middle, color=INK, linestyle=style, linewidth=1.2, label=name)
        words.append(f"{name} {_word(middle[-1])}")
    ax.plot(steps, lower, color=LOWER.color, linestyle=LOWER.linestyle, label="lower bound")
    ax.set(xscale="log", yscale="log")
    return f"mass at the end, medians: {', '.join(words)}; bounds {_word(lower[-1])} and " + _word(
        upper[-1]
    )


def draw_freeze(
    ax: Axes, steps: np.ndarray, gradient: np.ndarray, floor: np.ndarray, start: int | None = None
) -> str:
    """Draw gradient norms of a decaying run and the floor that each step puts under all later ones.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on.
        gradient: norms, (s, networks).
        floor: lower bounds of the limit's norm, (s, networks); NaN where there is none.
        start: T₀, marked by a vertical line, if given.

    Returns:
        Alt text.
    """
    for column in gradient.T:
        ax.plot(steps, column, color=INK, linewidth=0.9, alpha=0.7)
    for column in floor.T:
        ax.plot(steps, column, color=LOWER.color, linestyle=LOWER.linestyle, linewidth=1.2)
    if start is not None:
        ax.axvline(start, color=PLAIN.color, linewidth=1.0, zorder=0)
    finite = gradient[np.isfinite(gradient) & (gradient > 0)]
    least = float(finite.min()) if len(finite) else 1e-6
    # The first floors are astronomically small; the axis shows those that say something.
    most = float(finite.max()) if len(finite) else 1.0
    ax.set(yscale="log", ylim=(1e-3 * least, 2.0 * most))
    return (
        f"gradient norm {_word(median(gradient)[-1])} at the end, and the floor under all later "
        f"ones {_word(median(floor)[-1])} (medians)"
    )


def draw_falls(
    ax: Axes,
    steps: np.ndarray,
    falls: Mapping[str, np.ndarray],
    predicted: Mapping[str, np.ndarray],
) -> str:
    """Draw the relative fall of the risk per step under several schedules, and straight lines.

    Args:
        ax: where to draw.
        steps: steps, (s,), positive.
        falls: by label, each (s, networks); NaN where there is none.
        predicted: lines of the predicted slope by label, each (s,).

    Returns:
        Alt text.
    """
    words = []
    for label, values in falls.items():
        for column in values.T:
            ax.plot(steps, column, color=INK, linewidth=0.8, alpha=0.6)
        line = predicted[label]
        ax.plot(steps, line, color=PROMISE.color, linestyle=PROMISE.linestyle, linewidth=1.4)
        if np.isfinite(line).any():
            last = np.flatnonzero(np.isfinite(line))[-1]
            ax.annotate(
                label, (steps[last], line[last]), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=9,
            )  # fmt: skip
        words.append(f"{label}: {_word(median(values)[-1])}")
    ax.set(xscale="log", yscale="log")
    ax.margins(x=0.14)
    # Less than two decades would have labels at every minor tick, one over the other.
    ax.xaxis.set_minor_formatter(NullFormatter())
    return f"relative fall of the risk in the last step, medians: {'; '.join(words)}"
