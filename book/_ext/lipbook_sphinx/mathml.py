"""The book's formulas as native MathML: a Sphinx math renderer without a script on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from .typesetting import Formula, Typeset, Typesetter

logger = logging.getLogger(__name__)

_ENVIRONMENT = re.compile(r"\\begin\{([a-zA-Z]+\*?)\}.*?\\end\{\1\}", re.DOTALL)
_GROUP = re.compile(r"\{[^{}]*\}")


def formula_of(node: nodes.math | nodes.math_block) -> Formula:
    """Return what MathJax shall set for a math node, rows aligned as Sphinx promises."""
    tex = node.astext().strip()
    if isinstance(node, nodes.math):
        return Formula(tex, display=False)
    if node.get("nowrap"):
        return Formula(tex, display=True)
    parts = [_with_rows(part.strip()) for part in tex.split("\n\n") if part.strip()]
    if len(parts) > 1:
        rows = r" \\ ".join(parts)
        return Formula(rf"\begin{{gathered}}{rows}\end{{gathered}}", display=True)
    return Formula(parts[0] if parts else "", display=True)


def _with_rows(tex: str) -> str:
    """Wrap TeX that breaks its line outside every environment and group in `split`."""
    outside = _ENVIRONMENT.sub("", tex)
    while _GROUP.search(outside):
        outside = _GROUP.sub("", outside)
    return rf"\begin{{split}}{tex}\end{{split}}" if r"\\" in outside else tex


def math_nodes(env: BuildEnvironment, docname: str) -> Iterator[nodes.math | nodes.math_block]:
    """Yield every formula of one document."""
    for node in env.get_doctree(docname).findall(nodes.Element):
        if isinstance(node, nodes.math | nodes.math_block):
            yield node


def memory(app: Sphinx) -> Path:
    """Return the folder for what one build may take over from another: `_build/.typeset`."""
    return Path(app.outdir).parent / ".typeset"


def start(app: Sphinx) -> None:
    """Make the typesetter."""
    app.lipbook_typesetter = Typesetter(  # type: ignore[attr-defined]
        app.config.lipbook_tex_macros, memory(app) / "mathml.json"
    )
    app.lipbook_characters = set()  # type: ignore[attr-defined]


def typeset_book(app: Sphinx, env: BuildEnvironment) -> None:
    """Set all formulas of the book at once and report TeX's complaints where they stand."""
    if app.builder.format != "html":
        return
    found = [node for docname in sorted(env.found_docs) for node in math_nodes(env, docname)]
    answers = app.lipbook_typesetter.typeset(map(formula_of, found))  # type: ignore[attr-defined]
    for node, answer in zip(found, answers, strict=True):
        app.lipbook_characters.update(answer.characters)  # type: ignore[attr-defined]
        if answer.error:
            _complain(node, answer)


def _complain(node: nodes.Element, answer: Typeset) -> None:
    source = " ".join(node.astext().split())
    logger.warning(
        "TeX: %s, in %r", answer.error, source[:120], location=node, type="mathml", subtype="tex"
    )


def _set(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> str:
    """Return the MathML of a node; one that came with a post-transform is set on its own."""
    app = translator.builder.app
    [answer] = app.lipbook_typesetter.typeset([formula_of(node)])  # type: ignore[attr-defined]
    app.lipbook_characters.update(answer.characters)  # type: ignore[attr-defined]
    if answer.error:
        return f"<code>{translator.encode(node.astext())}</code>"
    return answer.mathml


def visit_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write an inline formula."""
    written = _set(self, node)
    if node.get("ids") or node.get("classes"):
        written = f"{self.starttag(node, 'span', '')}{written}</span>"
    self.body.append(written)
    raise nodes.SkipNode


def visit_math_block(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula in a box that scrolls by itself, its number at the right."""
    self.body.append(self.starttag(node, "div", CLASS="equation"))
    self.body.append(f'<div class="equation-box">{_set(self, node)}</div>')
    if node.get("number"):
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the renderer `mathml` and the book's macros."""
    app.add_config_value("lipbook_tex_macros", {}, "env")
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("builder-inited", start)
    # "env-updated" comes before any page is written and after every page is read.
    app.connect("env-updated", typeset_book)
