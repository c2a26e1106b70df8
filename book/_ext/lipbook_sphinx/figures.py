"""Figures of chapters: SVG inside the page, numbered, captioned, never without a description."""

from __future__ import annotations

import re
from html import escape
from typing import Any, ClassVar

from docutils import nodes
from myst_nb.core.render import (
    MimeData,
    NbElementRenderer,
    create_figure_context,
    load_mime_renders,
)
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

logger = logging.getLogger(__name__)

SVG = "image/svg+xml"
_REMEDY = "Give one: show the figure with Chapter.figure(..., alt=...), or write :alt: in Markdown."


class drawing(nodes.General, nodes.Inline, nodes.Element):
    """An SVG element with its description."""


class FigureRenderer:
    """Turns an SVG output with the metadata {name, caption, alt} into a numbered figure."""

    mime_priority_overrides: ClassVar[list[tuple[str, str, int | None]]] = [("*", SVG, 1)]

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """Return the figure, or None for an output of another type."""
        if data.mime_type != SVG or inline:
            return None
        about: dict[str, Any] = data.output_metadata.get(SVG, {})
        node = drawing(svg=data.string, alt=str(about.get("alt", "")).strip())
        holder = nodes.Element()
        parser = renderer.renderer
        options = {key: about[key] for key in ("name", "caption") if about.get(key)}
        with (
            parser.current_node_context(holder),
            create_figure_context(parser, options or None, data.line or 0),
        ):
            parser.current_node.append(node)
        for each in holder.findall():
            each.source, each.line = parser.document["source"], data.line
        return holder.children


def labelled(svg: str, alt: str) -> str:
    """Return the SVG element with `alt` as its accessible name, whatever it said before."""
    opening = re.search(r"<svg\b[^>]*>", svg)
    if not opening:
        return ""
    tag = re.sub(r'\s(?:role|aria-label|aria-hidden)="[^"]*"', "", opening[0])
    tag = f'{tag[:-1].rstrip()} role="img" aria-label="{escape(alt)}">'
    return tag + without_idle_ids(svg[opening.end() :])


def without_idle_ids(svg: str) -> str:
    """Drop the ids that nothing in the drawing refers to: most of them, and they weigh."""
    used = set(re.findall(r"""(?:href="|url\(['"]?)#([^"')]+)""", svg))
    return re.sub(r'\sid="([^"]+)"', lambda match: match[0] if match[1] in used else "", svg)


def visit_drawing(self: HTML5Translator, node: drawing) -> None:
    """Write the SVG into the page, where it takes the colour of the text around it."""
    self.body.append(f'<div class="drawing">{labelled(node["svg"], node["alt"])}</div>\n')
    raise nodes.SkipNode


def visit_described(self: nodes.NodeVisitor, node: drawing) -> None:
    """Write the description where no SVG can stand (plain text, manual pages, LaTeX)."""
    self.visit_Text(nodes.Text(f"[Figure: {node['alt']}]"))
    raise nodes.SkipNode


def check_descriptions(app: Sphinx, doctree: nodes.document) -> None:
    """Warn of every picture without a description: a strict build then fails."""
    for node in doctree.findall(nodes.Element):
        if isinstance(node, drawing | nodes.image) and not str(node.get("alt", "")).strip():
            message = "figure without a description (alt text). " + _REMEDY
            logger.warning(message, location=node, type="figures", subtype="alt")


def setup(app: Sphinx) -> None:
    """Register the renderer with myst-nb and the node with the writers."""
    renderers = load_mime_renders()  # one list for the process, meant for installed plugins
    if FigureRenderer not in renderers:
        renderers.append(FigureRenderer)
    described = (visit_described, None)
    app.add_node(
        drawing,
        html=(visit_drawing, None),
        text=described,
        man=described,
        texinfo=described,
        latex=described,
    )
    app.connect("doctree-read", check_descriptions)
