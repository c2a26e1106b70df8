"""The Sphinx extension of this book: formulas, figures, records, parameters, pages."""

from __future__ import annotations

from sphinx.application import Sphinx

from . import mathml


def setup(app: Sphinx) -> dict[str, bool | str]:
    """Register every part of the extension."""
    for part in (mathml,):
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
