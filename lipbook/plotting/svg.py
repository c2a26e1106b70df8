"""Turn a matplotlib figure into an SVG for a page, light or dark: the same bytes every time."""

from __future__ import annotations

import io
import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# lipbook.plotting draws axes, ticks and text in this colour, which nothing else uses; on the page
# it becomes the colour of the surrounding text, light or dark.
INK = "#1b1b1d"
DROPPED = re.compile(
    r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>",
    re.DOTALL,
)
NUMBER = re.compile(r"-?\d+\.\d{3,}")
GEOMETRY = re.compile(r'(?<=\s)(d|x|y)="[^"]*"')


def figure_svg(fig: Figure, name: str, alt: str = "") -> str:
    """Draw a figure as an SVG element that can stand inside a page.

    The text stays text, ids carry the figure's name (two figures on one page would share theirs),
    the ink becomes `currentColor`, coordinates are rounded to 0.01 pt, and neither date nor
    version enters, so that one figure always gives the same bytes.

    Args:
        fig: The figure; it is not closed.
        name: The figure's name in its chapter: letters, digits and hyphens.
        alt: What the figure shows, for those who cannot see it.

    Returns:
        One `<svg>` element.

    Raises:
        ValueError: `name` holds other characters.
    """
    import matplotlib

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(f"`name` must be letters, digits and hyphens. Got {name!r}.")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        fig.savefig(
            buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None}
        )
    return tidy(buffer.getvalue(), f"fig-{name}-", alt)


def tidy(svg: str, prefix: str, alt: str) -> str:
    """Strip, prefix, recolour and label the text of an SVG file that matplotlib wrote."""
    svg = DROPPED.sub("", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r'(?:xlink:)?href="#([^"]+)"', rf'href="#{prefix}\1"', svg)
    svg = svg.replace("url(#", f"url(#{prefix}")
    svg = svg.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    svg = re.sub(INK, "currentColor", svg, flags=re.IGNORECASE)
    svg = GEOMETRY.sub(lambda match: NUMBER.sub(_rounded, match[0]), svg)
    svg = re.sub(r"<svg\b[^>]*>", lambda match: _opening(match[0], alt), svg, count=1)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip())


def _rounded(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")


def _opening(tag: str, alt: str) -> str:
    """Return the opening tag with the drawn width as an upper limit, and a role and label.

    Matplotlib's style sheet sets two properties on `*`, which would reach every element of the
    page; as attributes of the root they reach this figure only.
    """
    width = re.search(r'\bwidth="([^"]+)"', tag)
    tag = re.sub(r'\s(?:width|height|version)="[^"]*"', "", tag)
    size = f"width: {width[1]}; " if width else ""
    label = f' role="img" aria-label="{escape(alt)}"' if alt else ' aria-hidden="true"'
    return (
        f'{tag[:-1]} style="{size}max-width: 100%; height: auto"'
        f' stroke-linejoin="round" stroke-linecap="butt"{label}>'
    )
