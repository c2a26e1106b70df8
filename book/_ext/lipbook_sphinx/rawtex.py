"""TeX that reached the reader: a formula that no parser recognised.

`$$` right under a line of text inside a theorem is one way to it, and Sphinx sees nothing wrong.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# Code may hold dollars and backslashes; what MathML holds went through TeX.
SKIPPED = frozenset({"code", "pre", "math", "script", "style", "kbd", "samp"})
READ_ALOUD = frozenset({"alt", "aria-label", "title"})
TEX = re.compile(r"\$|\\[()\[\]]|\\[A-Za-z]{2,}")


class _Text(HTMLParser):
    """Collects what a reader sees or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = 0
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in SKIPPED:
            self.depth += 1
        self.found += [value for name, value in attrs if name in READ_ALOUD and value]

    def handle_endtag(self, tag: str) -> None:
        if tag in SKIPPED and self.depth:
            self.depth -= 1

    def handle_data(self, data: str) -> None:
        if not self.depth:
            self.found.append(data)


def raw_tex(html: str) -> list[str]:
    """Return the surroundings of every piece of TeX in the text of a page."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    pieces = []
    for text in parser.found:
        match = TEX.search(text)
        if match:
            start = max(match.start() - 20, 0)
            pieces.append(" ".join(text[start : match.end() + 40].split()))
    return pieces


def check(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Warn of TeX left on a page: a strict build then fails."""
    for piece in raw_tex(context.get("body") or ""):
        logger.warning(
            "TeX left in the text of the page: %r. Put an empty line before and after $$, and a "
            "backslash before a dollar that is a dollar, in code.",
            piece,
            location=pagename,
            type="mathml",
            subtype="raw",
        )


def setup(app: Sphinx) -> None:
    """Check every page as it is written."""
    app.connect("html-page-context", check, priority=950)
