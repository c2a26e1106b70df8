"""Make the page of a re-run: the book's own build, with that one notebook replaced.

A single page cannot be built alone: its theorems, citations and cross-references belong to the
book. So the whole book is built from a copy of its sources, and handed out beside the page.
"""

from __future__ import annotations

import html
import json
import posixpath
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lipbook import records
from lipbook.running.build import build_book
from lipbook.running.chapters import ChapterFile, read_notebook, source_of, tags_of
from lipbook.running.errors import RunFailed

LINK = re.compile(
    r'(?P<before>\s(?:href|src|action|poster|data-content_root)=)(?P<q>["\'])(?P<url>[^"\']*)(?P=q)'
)


def make_page(
    chapter: ChapterFile,
    notebook: Path,
    record: dict[str, Any],
    root: Path,
    watch: Callable[[str], None] | None = None,
) -> None:
    """Build the page of an executed notebook, into the folder that holds the notebook.

    Args:
        chapter: The chapter as published.
        notebook: The executed notebook; `NAME.html` and `site/` are put beside it.
        record: The record of the run.
        root: The checkout.
        watch: Called with every line that the build prints.

    Raises:
        RunFailed: The book does not build with the notebook in it.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "book"
        copy_sources(root, copy)
        shown = for_readers(chapter, read_notebook(notebook), record["result"]["parameters"])
        target = copy / "notebooks" / f"{chapter.name}.ipynb"
        target.write_text(json.dumps(shown, ensure_ascii=False), encoding="utf-8")
        (copy / "notebooks" / "records").mkdir(exist_ok=True)
        records.dump(record, copy / "notebooks" / "records" / f"{chapter.name}.json")
        site = build_book(copy, Path(temporary) / "out", strict=False, watch=watch).parent
        page = site / "notebooks" / f"{chapter.name}.html"
        if not page.is_file():
            raise RunFailed(f"The book was built without the page of {chapter.name}.")
        text = rebase(page.read_text(encoding="utf-8"), "site/notebooks", chapter.name)
        (site / ".buildinfo").unlink(missing_ok=True)
        shutil.move(site, notebook.parent / "site")
    records.write_aside(notebook.with_suffix(".html"), text)


def copy_sources(root: Path, copy: Path) -> None:
    """Copy what the book is built from: the files at the root, `book/` and `notebooks/`."""
    copy.mkdir()
    for file in root.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_build")
    for folder in ("book", "notebooks"):
        if (root / folder).is_dir():
            shutil.copytree(root / folder, copy / folder, ignore=skip)


def for_readers(
    chapter: ChapterFile, notebook: dict[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an executed notebook as its page shows it.

    A note below the title says what was changed, and so does the cell that papermill put in.
    """
    cells = [
        {**cell, "source": source_of(cell).replace("# Parameters", "# Set for this run", 1)}
        if "injected-parameters" in tags_of(cell)
        else cell
        for cell in notebook["cells"]
    ]
    note = {"cell_type": "markdown", "id": "re-run-note", "metadata": {}}
    cells.insert(1, {**note, "source": note_text(chapter, values)})
    return {**notebook, "cells": cells}


def note_text(chapter: ChapterFile, values: Mapping[str, Any]) -> str:
    """Return the note at the top of a re-run's page."""
    changed = [each for each in chapter.parameters if values[each.name] != each.default]
    lines = [":::{admonition} A re-run, not the published page", ":class: important"]
    if changed:
        lines.append("Made by `lipbook run` with other parameters than the published page:")
        lines.append("")
        lines += [
            f"- `{each.name}` = `{literal(values[each.name])}` (published: "
            f"`{literal(each.default)}`), {each.help}"
            for each in changed
        ]
    else:
        lines.append("Made by `lipbook run` with the parameters of the published page.")
    lines += [
        "",
        "Figures, numbers and verdicts are those of this run; the sentences between them were "
        "written for the published one.",
        ":::",
    ]
    return "\n".join(lines)


def literal(value: Any) -> str:
    """Return a value as it would be written in the parameters cell."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def rebase(page: str, folder: str, name: str) -> str:
    """Return a page whose relative links start from two folders further up.

    Args:
        page: The HTML of `folder/name.html`.
        folder: Where the page was, seen from where it goes: "site/notebooks".
        name: The page's name; links to itself stay with the moved page.
    """

    def moved(match: re.Match[str]) -> str:
        url = html.unescape(match["url"])
        return f"{match['before']}{match['q']}{html.escape(rebased(url, folder, name))}{match['q']}"

    return LINK.sub(moved, page)


def rebased(url: str, folder: str, name: str) -> str:
    """Return one link as seen from where the page goes; absolute links and anchors stay."""
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or not parts.path or url.startswith("/"):
        return url
    path = posixpath.normpath(posixpath.join(folder, parts.path))
    if path == f"{folder}/{name}.html":
        path = f"{name}.html"
    slash = "/" if parts.path.endswith("/") and not path.endswith("/") else ""
    return parts._replace(path=path + slash).geturl()
