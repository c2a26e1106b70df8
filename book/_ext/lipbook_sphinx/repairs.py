"""Repairs of the finished page: what the theme gets wrong or loads in vain, as text to text."""

from __future__ import annotations

import re
from collections.abc import Callable

from .icons import draw

Repair = Callable[[str], str]

# Each pair is a fault and its cure.
ACCESSIBILITY: tuple[tuple[str, str], ...] = (
    # The visible words must be the label, else speech control cannot find the button.
    (r'(<button class="btn search-button-field[^>]*?) title="Search" aria-label="Search"', r"\1"),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # A list needs list items; the role for entries of a bibliography is deprecated.
    (r'role="doc-biblioentry"', 'role="listitem"'),
    # The corner of a pandas table is no header of anything.
    (r"<th></th>", "<td></td>"),
    # The book's title stands outside every landmark.
    (
        r'(<a class="navbar-brand logo"[^>]*>)(.*?</a>)',
        r'<section aria-label="Book title">\1\2</section>',
    ),
    # sphinx-proof and sphinx-exercise give one id to the bodies of all theorems of a page ...
    (r' id="(?:proof|exercise|solution)-content"', ""),
    # ... and the id "proof" to all proofs; a class tells them from the theorems.
    (r'class="proof admonition" id="proof"', 'class="proof argument admonition"'),
    # A second <h1>, for a printed list of contents that repeats the page.
    (r'<div id="jb-print-docs-body".*?(?=<div id="searchbox">)', ""),
)
DEAD_WEIGHT: tuple[tuple[str, str], ...] = (
    # 1.5 MB of script that draws icons; see icons.py.
    (r"\s*<!-- So that users can add custom icons -->", ""),
    (r"\s*<script[^>]*fontawesome\.js[^>]*></script>", ""),
    # Both are loaded deferred at the end; a preload only takes them before the style sheets.
    (r'\s*<link rel="preload" as="script"[^>]*>', ""),
    (r"\s*<!-- Pre-loaded scripts that we'll load fully later -->", ""),
    (r'\s*<meta name="docsearch:[^>]*>', ""),
    (r'(<meta name="viewport"[^>]*>)\s*<meta name="viewport"[^>]*>', r"\1"),
    (r" class=\"tex2jax_ignore mathjax_ignore\"", ""),
)
SEARCH: tuple[tuple[str, str], ...] = (
    # Only search.html searches; every other page sends its form there.
    (r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>', ""),
    # Options that nothing on the page reads, before the script that defines them is there.
    (r"\s*<script>DOCUMENTATION_OPTIONS\.[^<]*</script>", ""),
)
# A script is left out of a page without what it serves.
SERVES = {
    "copybutton": re.compile('class="highlight'),
    "clipboard": re.compile('class="highlight'),
    "togglebutton": re.compile(r'class="(?=[^"]*\badmonition\b)[^"]*\bdropdown\b|class="toggle\b'),
    "design-tabs": re.compile("sd-tab-set"),
}
_HEAD_SCRIPT = re.compile(r'\s*<script(?P<attributes>[^>]*) src="(?P<src>[^"]+)"[^>]*></script>')
_FORMULA_HEADER = re.compile(
    r"<th[^>]*>(?:<p>)?(?P<formula><math>(?:(?!</?math>).)*</math>)(?:</p>)?</th>", re.DOTALL
)
_GLUED = re.compile(
    r"(?P<before>[(\[“]?)(?P<math><math>(?:(?!</?math>).)*</math>)(?P<after>[,.;:!?)\]”’…-]*)",
    re.DOTALL,
)


def substitute(pairs: tuple[tuple[str, str], ...]) -> Repair:
    """Return a repair that applies every pair of pattern and replacement."""
    compiled = [(re.compile(pattern, re.DOTALL), by) for pattern, by in pairs]

    def repair(html: str) -> str:
        for pattern, by in compiled:
            html = pattern.sub(by, html)
        return html

    return repair


def defer_scripts(html: str) -> str:
    """Let no script of the head block the page, and drop those that serve nothing on it."""
    head, mark, body = html.partition("</head>")

    def deferred(match: re.Match[str]) -> str:
        name = match["src"].rpartition("/")[2].partition(".")[0]
        wanted = SERVES.get(name)
        if wanted and not wanted.search(body):
            return ""
        rest = match["attributes"].replace(' defer="defer"', "")
        return f'\n    <script defer{rest} src="{match["src"]}"></script>'

    return _HEAD_SCRIPT.sub(deferred, head) + mark + body


def glue_punctuation(html: str) -> str:
    """Keep a formula and the punctuation around it on one line.

    Browsers may break a line before and after a formula, even before a comma.
    """

    def glued(match: re.Match[str]) -> str:
        if not match["before"] and not match["after"]:
            return match[0]
        return f'<span class="glued">{match[0]}</span>'

    return _GLUED.sub(glued, html)


def name_headers(html: str) -> str:
    """Give a table header that is one formula a name: tools do not read it off the MathML."""

    def named(match: re.Match[str]) -> str:
        name = re.sub(r"<[^>]*>|\s+", "", match["formula"])
        return match[0].replace("<math>", f'<math aria-label="{name}">')

    return _FORMULA_HEADER.sub(named, html)


def finished(html: str, searches: bool = False) -> str:
    """Return a page as readers get it.

    Args:
        html: The page that Sphinx and the theme made.
        searches: Whether this is the search page, whose scripts must run in their order.
    """
    repairs: list[Repair] = [substitute(ACCESSIBILITY + DEAD_WEIGHT), draw]
    repairs += [name_headers, glue_punctuation]
    if not searches:
        repairs += [substitute(SEARCH), defer_scripts]
    for repair in repairs:
        html = repair(html)
    return html
