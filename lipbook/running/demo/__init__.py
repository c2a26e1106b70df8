"""A chapter of one second in a book of its own, for *Re-running this book* to run."""

from __future__ import annotations

import shutil
from pathlib import Path

from lipbook.running.chapters import ChapterFile, load_chapter, path_of

NOTEBOOK = Path(__file__).parent / "demonstration.ipynb"
TOC = "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/demonstration\n"


def demonstration(root: Path) -> ChapterFile:
    """Make a book whose only chapter is the demonstration, and return that chapter.

    Args:
        root: An existing folder, which becomes the root of the book.

    Returns:
        The chapter; it has no stored outputs yet.
    """
    (root / "notebooks").mkdir()
    (root / "_toc.yml").write_text(TOC, encoding="utf-8")
    (root / "_config.yml").write_text("title: A demonstration\n", encoding="utf-8")
    path = path_of(root, "demonstration")
    shutil.copy(NOTEBOOK, path)
    return load_chapter(path)
