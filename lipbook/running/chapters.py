"""The book's chapters as files, read without a kernel and without nbformat."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipbook.parameters import Parameter, ParameterError, closest, parse_cell, shown
from lipbook.running.errors import Misuse
from lipbook.wording import plain


@dataclass(frozen=True)
class ChapterFile:
    """A chapter's notebook on disk: its name, title and declared parameters."""

    name: str
    title: str
    path: Path
    notebook: dict[str, Any]
    parameters: tuple[Parameter, ...]

    def to_dict(self, root: Path) -> dict[str, Any]:
        """Return the chapter as `lipbook chapters --json` prints it."""
        return {
            "name": self.name,
            "title": self.title,
            "path": self.path.relative_to(root).as_posix(),
            "parameters": [parameter.to_dict() for parameter in self.parameters],
        }


def source_of(cell: dict[str, Any]) -> str:
    """Return a cell's source as one string; a file may hold it as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def tags_of(cell: dict[str, Any]) -> list[str]:
    """Return a cell's tags."""
    tags: list[str] = cell.get("metadata", {}).get("tags", [])
    return tags


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a notebook's code cells that have a source, in order."""
    cells = notebook.get("cells", [])
    return [cell for cell in cells if cell.get("cell_type") == "code" and source_of(cell).strip()]


def read_notebook(path: Path) -> dict[str, Any]:
    """Read a notebook file as plain JSON.

    Raises:
        Misuse: The file is missing, or is no notebook of format 4.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Misuse(f"`{path}` must be a readable notebook. Got {error}.") from None
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4:
        raise Misuse(f"`{path}` must be a notebook of format 4. Got another kind of JSON.")
    return notebook


def parameters_of(notebook: dict[str, Any], path: Path) -> tuple[Parameter, ...]:
    """Return the parameters that a notebook's one `parameters` cell declares.

    Raises:
        Misuse: There is no such cell or more than one, or it breaks the grammar.
    """
    cells = [cell for cell in code_cells(notebook) if "parameters" in tags_of(cell)]
    if len(cells) != 1:
        raise Misuse(f"`{path}` must have one cell tagged `parameters`. Got {len(cells)}.")
    try:
        return parse_cell(source_of(cells[0]))
    except ParameterError as error:
        raise Misuse(f"{path}: {error}") from None


def load_chapter(path: Path) -> ChapterFile:
    """Read one chapter from its notebook, in or outside the book's table of contents.

    Raises:
        Misuse: It is no readable notebook with a parameters cell.
    """
    path = path.resolve()
    notebook = read_notebook(path)
    parameters = parameters_of(notebook, path)
    return ChapterFile(path.stem, title_of(notebook) or path.stem, path, notebook, parameters)


def title_of(notebook: dict[str, Any]) -> str:
    """Return the first heading of level one, without markup, or ""."""
    for cell in notebook.get("cells", []):
        if cell.get("cell_type") == "markdown":
            heading = re.search(r"^# +(.+)$", source_of(cell), re.MULTILINE)
            if heading:
                return plain(heading[1]).replace("*", "").strip()
    return ""


def notebooks_in_toc(root: Path) -> list[str]:
    """Return the names of the chapters in the order of `_toc.yml`.

    Raises:
        Misuse: `_toc.yml` cannot be read.
    """
    import yaml

    path = root / "_toc.yml"
    try:
        toc = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise Misuse(f"`{path}` must be a readable table of contents. Got {reason}.") from None
    found = re.compile(r"notebooks/([A-Za-z0-9-]+)(?:\.ipynb)?")
    return [match[1] for entry in files_in(toc) if (match := found.fullmatch(entry))]


def files_in(tree: Any) -> Iterator[str]:
    """Yield the `root` and `file` entries of a table of contents, in order."""
    if isinstance(tree, list):
        for branch in tree:
            yield from files_in(branch)
    elif isinstance(tree, dict):
        for key, branch in tree.items():
            if key in ("root", "file") and isinstance(branch, str):
                yield branch
            else:
                yield from files_in(branch)


def path_of(root: Path, name: str) -> Path:
    """Return the notebook file of a chapter."""
    return root / "notebooks" / f"{name}.ipynb"


def list_chapters(root: Path) -> list[ChapterFile]:
    """Return every chapter in the order of `_toc.yml`."""
    return [load_chapter(path_of(root, name)) for name in notebooks_in_toc(root)]


def find_chapter(root: Path, text: str) -> ChapterFile:
    """Return the chapter that a user names: `two-layer-networks`, or the path of its notebook.

    Raises:
        Misuse: There is no such chapter; the closest names are suggested.
    """
    names = notebooks_in_toc(root)
    name = text
    if text.endswith(".ipynb") and "\0" not in text:
        given = Path(text)
        folders = {(base / given).parent.resolve() for base in (Path.cwd(), root)}
        name = given.stem if root / "notebooks" in folders else text
    if name in names:
        return load_chapter(path_of(root, name))
    hint = closest(Path(text.replace("\0", "")).stem, names)
    known = ", ".join(names) if names else "listed in _toc.yml, which lists none"
    raise Misuse(f"`CHAPTER` must be one of {known}. Got {shown(text)}. {hint}".rstrip())
