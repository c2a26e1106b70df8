"""What code, tests and records know of each numbered statement; nothing is imported for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lipbook import records

CODE = ("lipbook/theorems", "lipbook/generalization")


@dataclass
class Entry:
    """Hold what is known of one statement.

    Attributes:
        code: dotted names of the classes whose `label` it is.
        tests: test files that use one of them.
        verdicts: (chapter, verdict) for every verdict in a record.
    """

    code: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    verdicts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def hypotheses(self) -> list[tuple[str, str]]:
        """Return name and statement of each hypothesis, as the verdicts give them."""
        found: dict[str, str] = {}
        for _, verdict in self.verdicts:
            for hypothesis in verdict["hypotheses"]:
                found.setdefault(hypothesis["name"], hypothesis["statement"])
        return sorted(found.items())


def labels_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (class, label) for each class with a `label = "…"` in its body."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for line in node.body:
                target = line.targets[0] if isinstance(line, ast.Assign) else None
                if isinstance(target, ast.Name) and target.id == "label":
                    value = ast.literal_eval(line.value)  # type: ignore[union-attr]
                    yield node.name, str(value)


def names_in(path: Path) -> set[str]:
    """Return every identifier of a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def catalogue(root: Path) -> dict[str, Entry]:
    """Return, by label, what the repository at `root` knows of each statement."""
    found: dict[str, Entry] = {}
    classes: dict[str, str] = {}
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for name, label in labels_in(ast.parse(path.read_text(encoding="utf-8"))):
                found.setdefault(label, Entry()).code.append(f"{module}.{name}")
                classes[name] = label
    for path in sorted((root / "tests").glob("test_*.py")):
        for name in sorted(names_in(path) & set(classes)):
            tests = found[classes[name]].tests
            if path.name not in tests:
                tests.append(path.name)
    for path in sorted((root / "notebooks" / "records").glob("*.json")):
        for verdict in records.load(path)["result"]["verdicts"].values():
            found.setdefault(verdict["theorem"], Entry()).verdicts.append((path.stem, verdict))
    return found
