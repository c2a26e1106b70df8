"""Every page as readers get it: repaired, described, with the book's own head."""

from __future__ import annotations

from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.jinja2glue import BuiltinTemplateLoader

from .repairs import finished

LONGEST = 160  # characters of a description: what a search engine shows


class Templates(BuiltinTemplateLoader):
    """Sphinx's templates; what comes out of a whole page passes through the repairs."""

    def render(self, template: str, context: dict[str, Any]) -> str:  # type: ignore[override]
        """Render a template; leave anything but a whole page alone."""
        text = super().render(template, context)
        if text.lstrip()[:15].lower() != "<!doctype html>":
            return text
        return finished(text, searches=context.get("pagename") == "search")


def first_words(doctree: nodes.document) -> str:
    """Return the first paragraph as plain text without its formulas, cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            copy = paragraph.deepcopy()
            for formula in list(copy.findall(nodes.math)):
                formula.parent.remove(formula)
            text = " ".join(copy.astext().split())
            if len(text) > LONGEST:
                text = text[:LONGEST].rpartition(" ")[0] + " …"
            if text:
                return text
    return ""


def describe(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Give a page without a description of its own its first words."""
    if 'name="description"' in context.get("metatags", ""):
        return
    words = first_words(doctree) if doctree is not None else ""
    words = words or f"{context.get('title', '')}: {app.config.html_title}"
    context["metatags"] = (
        context.get("metatags", "") + f'<meta name="description" content="{escape(words)}" />'
    )


def use_templates(app: Sphinx, config: Config) -> None:
    """Name the templates to Sphinx."""
    config.template_bridge = f"{__name__}.Templates"


def setup(app: Sphinx) -> None:
    """Put the repairs between the templates and the files."""
    app.connect("config-inited", use_templates)
    app.connect("html-page-context", describe, priority=900)
