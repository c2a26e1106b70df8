"""The Sphinx extension of this book: formulas, figures, records, parameters, pages."""

from __future__ import annotations

from sphinx.application import Sphinx

from . import (
    claims,
    compat,
    figures,
    mathfont,
    mathml,
    pages,
    parametertable,
    rawtex,
    recordrole,
    theoremlist,
)

PARTS = (
    compat,
    mathml,
    mathfont,
    figures,
    recordrole,
    parametertable,
    theoremlist,
    claims,
    rawtex,
    pages,
)


def setup(app: Sphinx) -> dict[str, bool | str]:
    """Register every part of the extension."""
    for part in PARTS:
        part.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
