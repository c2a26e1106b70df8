"""The math font, cut down to the characters of the book's formulas and served with it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from .mathml import memory

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).parents[2] / "_vendor" / "fonts" / "STIXTwoMath-Regular.woff2"
FAMILY = "Book Math"
FILE = "_static/math.woff2"
# Asked for first of all, the font is there when the page is first drawn: no line breaks anew.
HEAD = (
    '<link rel="preload" href="{url}" as="font" type="font/woff2" crossorigin />'
    '<style>@font-face{{font-family:"{family}";src:url("{url}") format("woff2");'
    "font-display:swap}}</style>"
)
# Script sizes (ssty) are the one feature that browsers apply to MathML on their own.
FEATURES = ["ssty"]


def cut(characters: str) -> bytes:
    """Return the math font as WOFF2 with `characters` and all that their growing needs.

    Glyphs for stretched fences, big operators and script sizes are reached through the tables
    MATH and GSUB, which the subsetter follows.
    """
    font = TTFont(SOURCE)
    missing = [c for c in characters if ord(c) not in font.getBestCmap()]
    if missing:
        listed = ", ".join(f"{c} U+{ord(c):04X}" for c in missing)
        logger.warning("the math font has no %s", listed, type="mathml", subtype="font")
    even_out_radicals(font)
    options = subset.Options(
        layout_features=FEATURES,
        hinting=False,
        notdef_outline=True,
        name_IDs=[0, 1, 2, 5, 13, 14],
        ignore_missing_unicodes=True,
    )
    cutter = subset.Subsetter(options)
    cutter.populate(text=characters)
    cutter.subset(font)
    font.flavor = "woff2"
    written = io.BytesIO()
    font.save(written)
    return written.getvalue()


def even_out_radicals(font: TTFont) -> None:
    """Give the root signs of all sizes the width of the smallest.

    MathML Core reserves the width of the widest one for every root: with this font's own widths
    each root is followed by a gap of 0.4 em.
    """
    signs = font["MATH"].table.MathVariants
    root = font.getBestCmap()[ord("√")]
    construction = signs.VertGlyphConstruction[signs.VertGlyphCoverage.glyphs.index(root)]
    sizes = {record.VariantGlyph for record in construction.MathGlyphVariantRecord}
    sizes |= {part.glyph for part in construction.GlyphAssembly.PartRecords}
    width = font["hmtx"][root][0]
    for name in sizes - {root}:
        factor = width / font["hmtx"][name][0]
        glyph = font["glyf"][name]
        glyph.coordinates.scale((factor, 1))
        glyph.coordinates.toInt()
        glyph.recalcBounds(font["glyf"])
        font["hmtx"][name] = (width, glyph.xMin)


def version(app: Sphinx) -> str:
    """Return a short word that changes with the characters in the font."""
    characters = "".join(sorted(app.lipbook_characters))  # type: ignore[attr-defined]
    return hashlib.sha256(characters.encode()).hexdigest()[:10]


def note_version(app: Sphinx, env: BuildEnvironment) -> None:
    """Fix the version once the book's formulas are known, so that every page names the same."""
    app.lipbook_font_version = version(app)  # type: ignore[attr-defined]


def declare(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], _: Any) -> None:
    """Declare the font in the page's head."""
    version = app.lipbook_font_version  # type: ignore[attr-defined]
    url = f"{context['pathto'](FILE, resource=True)}?v={version}"
    context["metatags"] = context.get("metatags", "") + HEAD.format(family=FAMILY, url=url)


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the font beside the pages; one already cut for these characters is kept."""
    if exception or app.builder.format != "html":
        return
    characters = "".join(sorted(app.lipbook_characters))  # type: ignore[attr-defined]
    made_by = app.config.lipbook_fingerprint[:10]
    stored = memory(app) / f"math-{version(app)}-{made_by}.woff2"
    if not stored.exists():
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(cut(characters))
    target = Path(app.outdir) / FILE
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(stored.read_bytes())


def setup(app: Sphinx) -> None:
    """Cut the font once all formulas are typeset."""
    app.connect("env-updated", note_version, priority=600)
    app.connect("html-page-context", declare)
    app.connect("build-finished", write)
