"""The rungs of the ladder of bounds, and searches that climb them. Each returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, UPPER, Mark
from lipbook.wording import fmt

_LOWER = ("sampled", "climbed")
# Labels at the right edge keep this distance, as a share of the height.
_APART = 0.065

# What can become of a node, in the order of the legend.
FATES = {
    "branched": ("branched", Mark(PLAIN.color, "o", "-", "")),
    "empty": ("empty, certified", Mark(INK, "x", "-", "")),
    "closed": ("closed by its bound", UPPER),
    "open": ("still open", LOWER),
}


def mark_of(rung: str) -> Mark:
    """Return how a rung is drawn: as a lower bound, as exact, or as an upper bound."""
    return LOWER if rung in _LOWER else EXACT if rung == "exact" else UPPER


def _merged(rungs: Mapping[str, float]) -> list[tuple[list[str], float]]:
    """Join the names of rungs whose numbers agree to four digits, lowest rung first."""
    merged: list[tuple[list[str], float]] = []
    for name, value in sorted(rungs.items(), key=lambda item: item[1]):
        same = merged and abs(value - merged[-1][1]) <= 1e-4 * abs(value)
        if same and mark_of(name) == mark_of(merged[-1][0][0]):
            merged[-1][0].append(name)
        else:
            merged.append(([name], value))
    return merged


def _spread(heights: np.ndarray, apart: float) -> np.ndarray:
    """Return increasing heights moved up as little as it takes to keep them apart."""
    placed = heights.copy()
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + apart)
    return placed


def draw_rungs(ax: Axes, x: np.ndarray, slope: np.ndarray, rungs: Mapping[str, float]) -> str:
    """Draw the slope of a network of one input, with every rung of the ladder as a line.

    Args:
        ax: where to draw.
        x: points, (n,), increasing.
        slope: ‖f'(x)‖, (n,).
        rungs: {name: bound or constant}.

    Returns:
        Alt text.
    """
    ax.plot(x, slope, color=INK, linewidth=1.0)
    lines = _merged(rungs)
    top = 1.08 * max(value for _, value in lines) or 1.0
    labels = _spread(np.array([value for _, value in lines]), _APART * top)
    for (names, value), height in zip(lines, labels, strict=True):
        mark = mark_of(names[0])
        ax.axhline(value, color=mark.color, linestyle=mark.linestyle, linewidth=1.4)
        ax.annotate(
            " = ".join(names),
            xy=(1.0, value),
            xytext=(1.03, height),
            xycoords=ax.get_yaxis_transform(),
            textcoords=ax.get_yaxis_transform(),
            color=mark.color,
            fontsize=9,
            va="center",
            arrowprops={"arrowstyle": "-", "color": mark.color, "linewidth": 0.6},
        )
    ax.set(xlim=(x[0], x[-1]), ylim=(0.0, top), xlabel="input $x$")
    ax.set_ylabel(r"slope $\|f'(x)\|$ (1)")
    parts = [f"{' and '.join(names)} {fmt(value)}" for names, value in lines]
    return (
        f"The size of a network's slope over the input from {fmt(x[0])} to {fmt(x[-1])}, between "
        f"{fmt(slope.min())} and {fmt(slope.max())}, under horizontal lines, from the lowest: "
        f"{', '.join(parts)}."
    )


def draw_search(
    bracket_axes: Axes,
    tree_axes: Axes,
    n_nodes: Sequence[int],
    lower: Sequence[float],
    upper: Sequence[float],
    nodes: Mapping[str, tuple[Sequence[int], Sequence[float]]],
) -> str:
    """Draw how a search closed its bracket, and its nodes by depth and bound.

    Args:
        bracket_axes: for the bracket.
        tree_axes: for the nodes.
        n_nodes: nodes made so far, (steps,).
        lower: lower end at each step, (steps,).
        upper: upper end, (steps,).
        nodes: what became of nodes, {a key of FATES: (depths, bounds)}; an empty one has its
            parent's bound.

    Returns:
        Alt text.
    """
    _draw_bracket(bracket_axes, n_nodes, lower, upper)
    counts = _draw_nodes(tree_axes, nodes)
    tree_axes.axvline(lower[-1], color=EXACT.color, linewidth=1.2, zorder=0)
    return (
        f"Two panels. Above, a bracket narrows from [{fmt(lower[0])}, {fmt(upper[0])}] to "
        f"[{fmt(lower[-1])}, {fmt(upper[-1])}] over {n_nodes[-1]} nodes. Below, every node by its "
        f"bound, an empty one by its parent's, and the number of neurons that it fixes: "
        f"{', '.join(counts) or 'the root alone'}; a vertical line at the final lower end."
    )


def _draw_bracket(
    ax: Axes, n_nodes: Sequence[int], lower: Sequence[float], upper: Sequence[float]
) -> None:
    """Draw both ends of a bracket as steps, and shade what lies between."""
    for mark, ends in ((UPPER, upper), (LOWER, lower)):
        ax.step(
            n_nodes,
            ends,
            where="post",
            color=mark.color,
            linestyle=mark.linestyle,
            label=mark.label,
        )
    ax.fill_between(n_nodes, lower, upper, step="post", color=PLAIN.color, alpha=0.18, linewidth=0)
    ax.set(xlabel="nodes made", ylabel="constant (1)")
    ax.legend(loc="upper right", ncols=2)


def _draw_nodes(ax: Axes, nodes: Mapping[str, tuple[Sequence[int], Sequence[float]]]) -> list[str]:
    """Draw nodes by bound and depth; return how many there are of each kind, in words."""
    counts = []
    for fate, (words, mark) in FATES.items():
        depths, bounds = nodes.get(fate, ((), ()))
        if len(depths):
            drawn = ax.plot(bounds, depths, mark.marker, color=mark.color, label=words)[0]
            drawn.set(markersize=4.5, alpha=0.8)
            counts.append(f"{len(depths)} {words}")
    ax.invert_yaxis()
    ax.set(xlabel="bound of the node (1)", ylabel="fixed neurons")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return counts


def draw_ladders(axes: Sequence[Axes], ladders: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """Draw, one panel per number of inputs, bounds of several networks over their constants.

    Args:
        axes: one per panel.
        ladders: {title of a panel: {rung: (networks,), divided by the exact constant}}.

    Returns:
        Alt text.
    """
    words = []
    for ax, (title, rungs) in zip(axes, ladders.items(), strict=True):
        for height, (name, ratios) in enumerate(rungs.items()):
            mark = mark_of(name)
            at = np.full(len(ratios), height)
            ax.plot(ratios, at, mark.marker, color=mark.color, markersize=5, alpha=0.65)
        ax.axvline(1.0, color=EXACT.color, linewidth=1.0, zorder=0)
        ax.set_yticks(range(len(rungs)), list(rungs))
        ax.set_title(title, loc="left")
        medians = [f"{name} {fmt(float(np.median(r)))}" for name, r in rungs.items() if len(r)]
        words.append(f"{title}: {', '.join(medians) or 'no network'}")
    _ratio_axis(axes[-1], [r for rungs in ladders.values() for r in rungs.values() if len(r)])
    return (
        "One panel per number of inputs, dots on a logarithmic axis, one per network and rung, "
        "each bound divided by the network's exact constant. Medians from the lowest rung up. "
        f"{'. '.join(words)}."
    )


def _ratio_axis(ax: Axes, ratios: Sequence[np.ndarray]) -> None:
    """Make the shared axis logarithmic, with ticks at round ratios."""
    ax.set(xscale="log", xlabel="bound / exact constant (1)")
    least = min((float(r.min()) for r in ratios), default=0.9)
    most = max((float(r.max()) for r in ratios), default=1.1)
    round_numbers = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
    ticks = [tick for tick in round_numbers if 0.8 * least <= tick <= 1.25 * most]
    ax.set_xticks(ticks, [fmt(tick) for tick in ticks])
    ax.minorticks_off()
