"""Icons drawn in the page, so that no icon font and no icon script is loaded.

The shapes are those of the theme's own Font Awesome copy (Font Awesome Free, CC BY 4.0).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pydata_sphinx_theme

_SCRIPT = (
    Path(pydata_sphinx_theme.__file__).parent
    / "theme/pydata_sphinx_theme/static/scripts/fontawesome.js"
)
_ELEMENT = re.compile(
    r'<(?P<tag>i|span) class="(?P<classes>[^"]*\bfa-(?P<name>(?!solid|lg)[a-z-]+)[^"]*)"'
    r"(?P<rest>[^>]*)>\s*</(?P=tag)>"
)
_LABELS = re.compile(r'\s(?:title|aria-hidden)="[^"]*"')


@cache
def shape(name: str) -> tuple[str, str]:
    """Return the view box and the path of a solid icon.

    Raises:
        KeyError: The theme has no such icon.
    """
    pattern = rf'[,{{]"?{re.escape(name)}"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]'
    found = re.findall(pattern, _script())
    if not found:
        raise KeyError(name)
    width, height, path = found[-1]  # the outlined variant of an icon, if any, comes before it
    return f"0 0 {width} {height}", path


@cache
def _script() -> str:
    return _SCRIPT.read_text(encoding="utf-8")


def draw(html: str) -> str:
    """Replace every icon element of a page by its drawing; classes and data stay."""
    return _ELEMENT.sub(_drawing, html)


def _drawing(match: re.Match[str]) -> str:
    box, path = shape(match["name"])
    kept = [c for c in match["classes"].split() if not re.fullmatch(r"fas?|fa-.*", c)]
    classes = " ".join([*kept, "icon"])
    rest = _LABELS.sub("", match["rest"]).rstrip()
    return (
        f'<svg class="{classes}"{rest} viewBox="{box}" aria-hidden="true"><path d="{path}"/></svg>'
    )
