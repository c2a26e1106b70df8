"""Digests that tell whether stored outputs were made by the code that stands beside them.

A digest covers a notebook's code cells and the syntax trees, docstrings stripped, of the lipbook
modules that the notebook imported: comments, docstrings and layout of the library may change
freely. The walk over the tree is our own, because `ast.dump` differs between Python versions.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lipbook.running.chapters import code_cells, source_of

# Fields that carry no meaning of their own, or that only some Python versions fill.
SKIPPED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sha256(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a data file; git may change its line ends, which do not count."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def module_digest(path: Path) -> str:
    """Return the digest of a Python file's syntax tree, docstrings stripped.

    Raises:
        SyntaxError: The file is no Python.
    """
    return source_digest(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=512)  # chapters share modules
def source_digest(source: str) -> str:
    """Return the digest of Python source, the same on every Python version that can read it."""
    parts: list[str] = []
    walk(ast.parse(source), parts.append)
    return sha256("".join(parts))


def walk(node: Any, say: Callable[[str], None]) -> None:
    """Say the parts of a canonical text of a syntax tree; empty and default fields are absent."""
    if isinstance(node, ast.AST):
        say(f"({type(node).__name__}")
        for field, value in fields(node):
            say(f" {field}=")
            walk(value, say)
        say(")")
    elif isinstance(node, list):
        say("[")
        for item in node:
            walk(item, say)
            say(",")
        say("]")
    else:
        # Escaped, as by ascii(): which characters count as printable changes between versions.
        say(f"{type(node).__name__}:{node!a}")


def fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a node that mean something."""
    for field in node._fields:
        value: Any = getattr(node, field, None)
        if field == "body" and isinstance(node, DOCUMENTED):
            value = without_docstring(value)
        elif field == "values" and isinstance(node, ast.JoinedStr):
            value = merged(value)
        if field not in SKIPPED and value is not None and value != []:
            yield field, value
        elif value is None and isinstance(node, ast.Constant) and field == "value":
            yield field, None


def without_docstring(body: Any) -> Any:
    """Return the statements of a module, class or function without its docstring."""
    first = body[0] if isinstance(body, list) and body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return body[1:] if isinstance(first.value.value, str) else body
    return body


def merged(values: list[Any]) -> list[Any]:
    """Join neighbouring texts of an f-string, which Python versions split differently."""
    joined: list[Any] = []
    for value in values:
        text = value.value if isinstance(value, ast.Constant) else None
        last = joined[-1].value if joined and isinstance(joined[-1], ast.Constant) else None
        if isinstance(text, str) and isinstance(last, str):
            joined[-1] = ast.Constant(last + text)
        else:
            joined.append(value)
    return joined


def code_digest(notebook: dict[str, Any]) -> str:
    """Return the digest of a notebook's code cells, cell by cell."""
    return sha256(json.dumps([source_of(cell) for cell in code_cells(notebook)]))


def module_file(name: str, root: Path) -> Path | None:
    """Return the file of a lipbook module below `root`, or None if there is none any more."""
    stem = root.joinpath(*name.split("."))
    for candidate in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def library_digest(modules: Iterable[str], root: Path) -> str:
    """Return the digest of the modules named, in the checkout at `root`."""
    lines = []
    for name in sorted(set(modules)):
        file = module_file(name, root)
        lines.append(f"{name} {module_digest(file) if file else 'absent'}")
    return sha256("\n".join(lines))


def chapter_digest(notebook: dict[str, Any], modules: Iterable[str], root: Path) -> str:
    """Return the digest that stored outputs carry: of the notebook's code and of its library."""
    return sha256(f"{code_digest(notebook)} {library_digest(modules, root)}")


def outputs_digest(notebook: dict[str, Any]) -> str:
    """Return the digest of the stored outputs of every code cell, with their numbering."""
    stored = [
        [cell.get("execution_count"), *(normal(output) for output in cell.get("outputs", []))]
        for cell in code_cells(notebook)
    ]
    return sha256(json.dumps(stored, sort_keys=True))


def normal(output: dict[str, Any]) -> dict[str, Any]:
    """Return an output with every text as one string; a file may hold it as a list of lines."""
    return {key: join_lines(value) if key in ("text", "data") else value for key, value in
            output.items()}  # fmt: skip


def join_lines(value: Any) -> Any:
    """Join lists of lines, at the top or in a mapping by mime type."""
    if isinstance(value, dict):
        return {key: join_lines(item) for key, item in value.items()}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "".join(value)
    return value
