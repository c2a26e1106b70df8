"""Figures of promises and budgets. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from lipbook.medians import finite_median
from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, PROMISE, UPPER, Mark
from lipbook.wording import fmt

# How each carried certificate is drawn: all are theorem's bounds, told apart by their lines.
CARRIED = {
    "product": Mark(PROMISE.color, "s", "-", "product carried"),
    "formal": Mark(PROMISE.color, "s", PROMISE.linestyle, "formal carried"),
    "exact": Mark(PROMISE.color, "s", (0, (1.0, 1.2)), "exact carried"),
}


def draw_promises(
    ax: Axes,
    steps: np.ndarray,
    exact: np.ndarray,
    formal: np.ndarray,
    promises: Mapping[str, np.ndarray],
) -> str:
    """Draw what one network's constants were, and what had been promised of them at T₀.

    Args:
        ax: where to draw.
        steps: (s,), from T₀ on.
        exact: (s,).
        formal: (s,).
        promises: {key of CARRIED: (s,)}, NaN where there is none.

    Returns:
        Alt text.
    """
    after = steps - steps[0] + 1
    lines = [(EXACT, "exact constant", exact), (UPPER, "formal constant", formal)]
    words = []
    for mark, name, values in lines:
        ax.plot(after, values, color=mark.color, linestyle=mark.linestyle, label=name)
        words.append(f"{name} from {_shown(values[0])} to {_shown(values[-1])}")
    for name, values in promises.items():
        if np.isfinite(values).any():
            mark = CARRIED[name]
            ax.plot(after, values, color=mark.color, linestyle=mark.linestyle, label=mark.label)
            words.append(f"promise with the {mark.label} up to {_shown(values[-1])}")
    ax.set(xscale="log", xlabel="steps after $T_0$, + 1", ylabel="Lipschitz constant (1)")
    ax.set_ylim(bottom=0.0)
    ax.figure.legend(loc="outside lower center", ncols=2)
    return f"Lines over the steps from T₀ on, on a logarithmic axis of steps. {'; '.join(words)}."


def draw_budget(ax: Axes, steps: np.ndarray, curves: Mapping[str, np.ndarray], limit: float) -> str:
    """Draw certificates with and without a budget, under the line of the limit.

    Args:
        ax: where to draw.
        steps: (s,), from 0 on.
        curves: {"free": (s, networks), "budget": (s, networks)}.
        limit: L*.

    Returns:
        Alt text.
    """
    looks = {"free": (PLAIN.color, ":"), "budget": (UPPER.color, UPPER.linestyle)}
    words = []
    for name, values in curves.items():
        color, line = looks[name]
        for index, column in enumerate(values.T):
            label = {"free": "no budget", "budget": "with the budget"}[name]
            ax.plot(steps + 1, column, color=color, linestyle=line, linewidth=1.1,
                    label=label if index == 0 else None)  # fmt: skip
        last = values[-1][np.isfinite(values[-1])]
        top = f"at most {fmt(float(last.max()))}" if len(last) else "nothing finite"
        words.append(f"{label}, {top} at the end")
    ax.axhline(limit, color=PROMISE.color, linestyle=PROMISE.linestyle, label="limit $L^*$")
    ax.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="product bound (1)")
    ax.figure.legend(loc="outside lower center", ncols=3)
    return (
        f"Product bounds of several networks over the steps, logarithmic axes: {'; '.join(words)}. "
        f"A horizontal line at the limit {fmt(limit)}."
    )


def draw_stopping(ax: Axes, rates: np.ndarray, distance: np.ndarray, mass: np.ndarray) -> str:
    """Draw how far budgeted runs stay from the stopped flow, over their rates.

    Args:
        ax: where to draw.
        rates: α, (runs,).
        distance: sup of the distances, (runs,).
        mass: |mass spent − s*|, (runs,).

    Returns:
        Alt text.
    """
    words = []
    series = (
        (EXACT, "largest distance of the weights", distance),
        (LOWER, "error of the mass", mass),
    )
    for mark, name, values in series:
        ax.plot(rates, values, marker=mark.marker, color=mark.color, linestyle="-", label=name)
        words.append(f"{name} from {_shown(values[0])} to {_shown(values[-1])}")
    finite = distance[np.isfinite(distance)]
    if len(finite):
        guide = finite[-1] * rates / rates[-1]
        ax.plot(rates, guide, color=PLAIN.color, linestyle=":", label="proportional to the rate")
    ax.set(xscale="log", yscale="log", xlabel=r"rate $\alpha$ (1)", ylabel="error (1)")
    ax.legend(loc="upper left")
    return (
        f"Errors over the rate from {fmt(float(rates[0]))} down to {fmt(float(rates[-1]))}, "
        f"logarithmic axes: {'; '.join(words)}; a dotted line proportional to the rate."
    )


def draw_methods(ax: Axes, ratios: Mapping[str, np.ndarray]) -> str:
    """Draw the final risk of each method over that of the first, one dot per seed.

    Args:
        ax: where to draw.
        ratios: {method: (networks,)}.

    Returns:
        Alt text.
    """
    words = []
    for height, (name, values) in enumerate(ratios.items()):
        mark = LOWER if name.startswith("throttle") else EXACT
        at = np.full(len(values), height)
        ax.plot(values, at, mark.marker, color=mark.color, markersize=6, alpha=0.7)
        words.append(f"{name} {_shown(finite_median(values))}")
    ax.axvline(1.0, color=INK, linewidth=0.8, zorder=0)
    ax.set_yticks(range(len(ratios)), list(ratios))
    ax.set(xlabel="final risk / that of the first method (1)", xlim=(0.0, None))
    ax.invert_yaxis()
    return f"Dots, one per seed, for each method; medians: {', '.join(words)}."


def _shown(value: float) -> str:
    return fmt(float(value)) if np.isfinite(value) else "nothing finite"
