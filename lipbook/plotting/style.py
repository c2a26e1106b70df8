"""The one style of every figure: colours, markers and lines that keep their meaning book-wide."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib
import seaborn

# Whatever is drawn in this colour follows the page's own ink, in light and dark mode alike.
INK = "#1b1b1d"


@dataclass(frozen=True)
class Mark:
    """How one kind of number is drawn, everywhere.

    Attributes:
        color: legible on white and on near-black, distinct for colour-blind readers.
        marker: of points.
        linestyle: of lines.
        label: in legends.
    """

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]
    label: str


# Mid-tones near the colour-blind-safe palette of Okabe and Ito, each at least 3:1 on white and on
# the page's dark grounds.
LOWER = Mark("#0087c1", "^", (0, (1.0, 1.2)), "lower bound")
EXACT = Mark("#c05a00", "o", "-", "exact")
UPPER = Mark("#0a8f6b", "v", (0, (4.0, 1.5)), "upper bound")
PROMISE = Mark("#b0569c", "s", (0, (5.0, 1.2, 1.0, 1.2)), "theorem's bound")
PLAIN = Mark("#7d7d85", "o", "-", "")


def use_style() -> None:
    """Set matplotlib's defaults for the book: thin spines, narrow figures that a phone can show."""
    seaborn.set_theme(
        style="ticks",
        rc={
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": 10,
            "axes.titlecolor": INK,
            "axes.grid": True,
            "grid.color": "#8888884d",
            "grid.linewidth": 0.6,
            "figure.figsize": (5.4, 3.4),
            "font.size": 10,
            "axes.labelsize": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "legend.labelcolor": INK,
            "lines.linewidth": 1.5,
            "patch.edgecolor": "none",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "figure.constrained_layout.use": True,
            "svg.fonttype": "none",
            "font.family": "DejaVu Sans",
        },
    )
    matplotlib.rcParams["svg.hashsalt"] = "lipbook"
