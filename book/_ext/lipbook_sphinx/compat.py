"""Small repairs of other packages, each with the fault that it cures."""

from __future__ import annotations

import hashlib
import re
from itertools import cycle
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

_DOLLARS = re.compile(r"\$([^$]+)\$")


def merge_singlehtml_handlers(app: Sphinx) -> None:
    """Let the single page use every handler that was registered for html.

    sphinx-exercise registers some nodes for `singlehtml`, and Sphinx then looks up no other
    package's html handlers for that builder: the build stops at the first such node.
    """
    handlers = app.registry.translation_handlers
    handlers["singlehtml"] = {**handlers.get("html", {}), **handlers.get("singlehtml", {})}


def name_equations(app: Sphinx, doctree: nodes.document) -> None:
    """Give numbered LaTeX environments anchors that are the same in every build.

    myst-parser labels `\\begin{align}` by a random number, and no two builds were alike.
    """
    docname = app.env.docname
    known = app.env.get_domain("math").data["objects"]
    blocks = [n for n in doctree.findall(nodes.math_block) if "amsmath" in n["classes"]]
    for count, block in enumerate((n for n in blocks if n.get("label")), start=1):
        old, new = block["label"], f"{nodes.make_id(docname)}-{count}"
        known[new] = known.pop(old)
        block["label"] = new
        was, now = (nodes.make_id(f"equation-{label}") for label in (old, new))
        for node in doctree.findall(nodes.Element):
            if was in node["ids"]:
                node["ids"] = [now if each == was else each for each in node["ids"]]
            if node.get("refid") == was:
                node["refid"] = now


def set_bibliography_math(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Turn $...$ in the titles of references into formulas, and drop the dollars from tooltips.

    sphinxcontrib-bibtex hands them on as they stand in the .bib file.
    """
    for citation in list(doctree.findall(nodes.citation)):
        for text in list(citation.findall(nodes.Text)):
            pieces = _DOLLARS.split(text.astext())
            if len(pieces) > 1:
                text.parent.replace(
                    text,
                    [
                        nodes.math(piece, piece) if odd else nodes.Text(piece)
                        for odd, piece in zip(cycle((0, 1)), pieces, strict=False)
                    ],
                )
    for reference in doctree.findall(nodes.reference):
        if "$" in reference.get("reftitle", ""):
            reference["reftitle"] = _DOLLARS.sub(r"\1", reference["reftitle"])


def fingerprint() -> str:
    """Return a digest of this extension: a change of it rebuilds every page."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.[pj][ys]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def note_fingerprint(app: Sphinx, config: Config) -> None:
    """Put the digest where Sphinx compares it with the previous build's."""
    config.lipbook_fingerprint = fingerprint()


def setup(app: Sphinx) -> None:
    """Apply the repairs."""
    app.add_config_value("lipbook_fingerprint", "", "env")
    app.connect("config-inited", note_fingerprint)
    app.connect("doctree-read", name_equations)
    app.connect("doctree-resolved", set_bibliography_math)
    app.connect("builder-inited", merge_singlehtml_handlers)
