"""What bounds cost and how much of them is air. Each function returns its alt text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from lipbook.benchmark_results import Curve, Hardness
from lipbook.plotting.style import EXACT, INK, LOWER, PLAIN, UPPER
from lipbook.wording import fmt

MARKS = {"lower": LOWER, "exact": EXACT, "upper": UPPER}
# Names beside a panel keep this distance, as a share of its height; names above, of its width.
_APART = 0.075
_ASIDE = 0.055
# Of names above a panel, degrees.
_SLANT = 45.0


def seconds_text(seconds: float) -> str:
    """Return a time with a unit that suits it, "1.4 ms", rounded to two digits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1.0:
            return f"{fmt(seconds * factor, 2)} {unit}"
    return f"{fmt(seconds * 1e6, 2)} µs"


def draw_prices(axes: Sequence[Axes], panels: Mapping[str, Mapping[str, Curve]]) -> str:
    """Draw value / constant against time, one line per tool from its narrowest network to its
    widest.

    Args:
        axes: one per panel.
        panels: {title: {tool: times x, ratios y}}.

    Returns:
        Alt text.
    """
    words = []
    for ax, (title, found) in zip(axes, panels.items(), strict=True):
        ax.axhline(1.0, color=EXACT.color, linewidth=1.0, zorder=0)
        for curve in found.values():
            _line(ax, curve)
        # Above the panel there are names.
        ax.text(0.015, 0.04, title, transform=ax.transAxes)
        ax.set(xscale="log", yscale="log", ylabel="value / constant (1)")
        highest = max((float(c.y.max()) for c in found.values()), default=1.0)
        lowest = min((float(c.y.min()) for c in found.values()), default=1.0)
        ax.set_ylim(0.62 * lowest, 1.3 * highest)
        _ratio_ticks(ax, lowest, highest)
        _time_axis(ax.xaxis, [c.x for c in found.values()])
        _names_above(ax, list(found.values()))
        words.append(f"{title}: {'; '.join(_price_words(c) for c in found.values()) or 'nothing'}")
    axes[-1].set_xlabel("time for one answer")
    _legend(axes[-1])
    return (
        "One panel per number of inputs, both axes logarithmic: each tool's value divided by the "
        "exact constant against its time, joined from the narrowest network to the widest. Of "
        f"each tool the widest: {'. '.join(words)}."
    )


def draw_times(axes: Sequence[Axes], panels: Mapping[str, Mapping[str, Curve]], xlabel: str) -> str:
    """Draw times against a size, one line per tool, with a cross where it stops answering.

    Args:
        axes: one per panel.
        panels: {title: {tool: sizes x, times y}}.
        xlabel: of the horizontal axes.

    Returns:
        Alt text.
    """
    words = []
    for ax, (title, found) in zip(axes, panels.items(), strict=True):
        for curve in found.values():
            _line(ax, curve)
            if curve.stopped is not None:
                _stop(ax, curve, curve.stopped)
        ax.set_title(title, loc="left")
        ax.set(xscale="log", yscale="log", ylabel="time for one answer")
        sizes = sorted({float(size) for curve in found.values() for size in curve.x})
        ax.set_xticks(sizes, [fmt(int(size)) for size in sizes])
        ax.xaxis.minorticks_off()
        _time_axis(ax.yaxis, [c.y for c in found.values()])
        _labels_beside(ax, list(found.values()))
        words.append(f"{title}: {'; '.join(_time_words(c) for c in found.values()) or 'nothing'}")
    axes[-1].set_xlabel(xlabel)
    _legend(axes[-1], stops=True)
    return (
        "Times for one answer against size, both axes logarithmic, one line per tool and a cross "
        f"where it stops answering. {'. '.join(words)}."
    )


def draw_hardness(ratio_axes: Axes, time_axes: Axes, kinds: Sequence[Hardness]) -> str:
    """Draw, for several kinds of networks, how tight the semidefinite bound is and how long the
    exact search took.

    Args:
        ratio_axes: for bound / constant.
        time_axes: for the times.
        kinds: one line of the figure each, the lowest first.

    Returns:
        Alt text.
    """
    for height, kind in enumerate(kinds):
        for least, most in zip(kind.least[~kind.closed], kind.most[~kind.closed], strict=True):
            ratio_axes.plot([least, most], [height, height], color=UPPER.color, linewidth=3)
        known = kind.most[kind.closed]
        at = np.full(len(known), height)
        ratio_axes.plot(known, at, UPPER.marker, color=UPPER.color, markersize=5, alpha=0.8)
        for done, face in ((True, EXACT.color), (False, "none")):
            times = kind.seconds[kind.closed == done]
            at = np.full(len(times), height)
            time_axes.plot(times, at, EXACT.marker, color=EXACT.color, markerfacecolor=face)
    ratio_axes.axvline(1.0, color=EXACT.color, linewidth=1.0, zorder=0)
    ratio_axes.set_yticks(range(len(kinds)), [kind.words for kind in kinds])
    ratio_axes.set(xscale="log", xlabel="SDP bound / constant (1)")
    spans = [end for kind in kinds for end in (kind.least, kind.most) if len(end)]
    _ratio_ticks(ratio_axes, 1.0, max(float(s.max()) for s in spans), horizontal=True)
    time_axes.set(xscale="log", xlabel="time of the search")
    time_axes.tick_params(labelleft=False)
    _time_axis(time_axes.xaxis, [kind.seconds for kind in kinds], most=3)
    return (
        "Two panels with a line per kind of network. Left, the semidefinite bound divided by the "
        "constant, a dot where the constant is known and a bar where only a bracket is. Right, the "
        "time of the exact search, hollow where it left its bracket open. "
        f"{'; '.join(_hardness_words(kind) for kind in kinds)}."
    )


def draw_scaling(ax: Axes, spreads: np.ndarray, bounds: Mapping[str, np.ndarray]) -> str:
    """Draw bounds of one function whose neurons are rescaled ever more unevenly.

    Args:
        ax: where to draw.
        spreads: powers of ten over which the factors spread, (n,).
        bounds: {name: bound / exact constant, (n,)}.

    Returns:
        Alt text.
    """
    styles = ("-", (0, (4.0, 1.5)), (0, (1.0, 1.0)), (0, (5.0, 1.2, 1.0, 1.2)))
    for (name, ratios), style in zip(bounds.items(), styles, strict=False):
        ax.plot(spreads, ratios, UPPER.marker, color=UPPER.color, linestyle=style)
        ax.annotate(
            name,
            (spreads[-1], ratios[-1]),
            xytext=(7, -2),
            textcoords="offset points",
            color=UPPER.color,
            va="bottom",  # clear of the line at 1
            fontsize=9,
        )
    ax.axhline(1.0, color=EXACT.color, linewidth=1.0, zorder=0)
    ax.set(yscale="log", xlabel="powers of ten between the neurons' scales")
    ax.set_ylabel("bound / exact constant (1)")
    ax.margins(x=0.12)
    parts = [f"{name} from {fmt(r[0])} to {fmt(r[-1])}" for name, r in bounds.items()]
    return (
        "Bounds divided by the exact constant, on a logarithmic axis, against the powers of ten "
        f"over which the neurons of one function are rescaled, from {fmt(float(spreads[0]))} to "
        f"{fmt(float(spreads[-1]))}: {'; '.join(parts)}."
    )


def _line(ax: Axes, curve: Curve) -> None:
    """Draw one tool: coloured by the kind of its answer, filled if it is ours."""
    mark = MARKS[curve.what]
    ax.plot(
        curve.x,
        curve.y,
        marker=mark.marker,
        color=mark.color,
        markerfacecolor=mark.color if curve.ours else "none",
        linestyle=mark.linestyle,
        linewidth=1.1,
        markersize=5,
    )


def _stop(ax: Axes, curve: Curve, stopped: tuple[float, float]) -> None:
    mark = MARKS[curve.what]
    ends = [[curve.x[-1], stopped[0]], [curve.y[-1], stopped[1]]]
    ax.plot(*ends, color=mark.color, linestyle=mark.linestyle, linewidth=0.7)
    ax.plot(*stopped, "x", color=mark.color, markersize=7, markeredgewidth=1.6)


def _names_above(ax: Axes, found: Sequence[Curve]) -> None:
    """Name every tool above the panel, slanted, with a line down to its last point.

    Tools of one height differ in time, so that the lines stay apart.
    """
    # Set, so that what is drawn later does not move them.
    left, right = np.log10(ax.set_xlim(ax.get_xlim()))
    order = np.argsort([curve.x[-1] for curve in found], kind="stable")
    wanted = np.array([(np.log10(found[i].x[-1]) - left) / (right - left) for i in order])
    for place, i in zip(_spread(wanted, _ASIDE), order, strict=True):
        color = MARKS[found[i].what].color
        ax.annotate(
            found[i].words,
            xy=(found[i].x[-1], found[i].y[-1]),
            xytext=(place, 1.03),
            textcoords="axes fraction",
            rotation=_SLANT,
            rotation_mode="anchor",
            va="center",
            color=color,
            fontsize=8,
            arrowprops=_leader(color) | {"relpos": (0.0, 0.0)},
        )


def _leader(color: str) -> dict[str, Any]:
    """Return how the line from a name to its point is drawn."""
    return {"arrowstyle": "-", "color": color, "linewidth": 0.4, "alpha": 0.6}


def _labels_beside(ax: Axes, found: Sequence[Curve]) -> None:
    """Name every tool at the right edge, near the height where it ends."""
    low, high = np.log10(ax.set_ylim(ax.get_ylim()))
    ends = [(curve.stopped or (curve.x[-1], curve.y[-1])) for curve in found]
    order = np.argsort([y for _, y in ends], kind="stable")
    wanted = np.array([(np.log10(ends[i][1]) - low) / (high - low) for i in order])
    for place, i in zip(_spread(wanted, _APART), order, strict=True):
        color = MARKS[found[i].what].color
        ax.annotate(
            found[i].words,
            xy=ends[i],
            xytext=(1.04, place),
            textcoords="axes fraction",
            color=color,
            fontsize=8,
            va="center",
            arrowprops=_leader(color),
        )


def _spread(places: np.ndarray, apart: float) -> np.ndarray:
    """Return increasing places so far apart at least, pushed up, then down from 1."""
    placed = places.copy()
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + apart)
    for index in range(len(placed) - 1, -1, -1):
        roof = 1.0 if index == len(placed) - 1 else placed[index + 1] - apart
        placed[index] = min(placed[index], roof)
    return placed


def _legend(ax: Axes, stops: bool = False) -> None:
    """Say what colours, fillings and crosses mean."""
    entries = []
    for label, mark in MARKS.items():
        (line,) = ax.plot([], [], mark.marker, color=mark.color, linestyle=mark.linestyle)
        entries.append((line, label))
    (hollow,) = ax.plot([], [], PLAIN.marker, color=PLAIN.color, markerfacecolor="none")
    entries.append((hollow, "hollow: peers"))
    if stops:
        (cross,) = ax.plot([], [], "x", color=INK)
        entries.append((cross, "no answer"))
    lines, labels = zip(*entries, strict=True)
    ax.legend(
        lines, labels, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3 if stops else 4
    )


def _time_axis(axis: object, times: Sequence[np.ndarray], most: int = 6) -> None:
    """Label an axis of times with units, at so many places at most."""
    every = np.concatenate([each for each in times if len(each)] or [np.ones(1)])
    low, high = np.floor(np.log10(every.min())), np.ceil(np.log10(every.max()))
    step = -(-int(high - low + 1) // most)
    ticks = 10.0 ** np.arange(low, high + 1, step)
    axis.set_ticks(ticks, [seconds_text(float(tick)) for tick in ticks])  # type: ignore[attr-defined]
    axis.set_tick_params(which="minor", size=0)  # type: ignore[attr-defined]


def _ratio_ticks(ax: Axes, lowest: float, highest: float, horizontal: bool = False) -> None:
    round_numbers = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
    ticks = [tick for tick in round_numbers if 0.8 * lowest <= tick <= 1.5 * highest]
    axis = ax.xaxis if horizontal else ax.yaxis
    axis.set_ticks(ticks, [fmt(tick) for tick in ticks])
    axis.minorticks_off()


def _price_words(curve: Curve) -> str:
    width = "" if curve.sizes is None else f" at m = {fmt(int(curve.sizes[-1]))}"
    return f"{curve.words} {fmt(float(curve.y[-1]))} in {seconds_text(float(curve.x[-1]))}{width}"


def _time_words(curve: Curve) -> str:
    ends = f"{seconds_text(float(curve.y[0]))} to {seconds_text(float(curve.y[-1]))}"
    last = f" at {fmt(int(curve.x[-1]))}"
    end = last if curve.stopped is None else f"{last}, no answer at {fmt(int(curve.stopped[0]))}"
    return f"{curve.words} {ends}{end}"


def _hardness_words(kind: Hardness) -> str:
    known, parts = kind.closed, []
    if known.any():
        ends = f"{fmt(float(kind.least[known].min()))} to {fmt(float(kind.most[known].max()))}"
        parts.append(f"bound over constant {ends} on the {int(known.sum())} that are closed")
    if not known.all():
        ends = f"{fmt(float(kind.least[~known].min()))} and {fmt(float(kind.most[~known].max()))}"
        parts.append(f"between {ends} on the {int((~known).sum())} that are open")
    return f"{kind.words}: {', '.join(parts)}"
