"""Digests change when code does, and only then."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lipbook.running import digests
from lipbook.running.digests import source_digest

SOURCE = '''"""Module."""
import math as m


class A(B, metaclass=C):
    """Class."""

    x: int = 3

    async def f(self, a, /, b=1, *c, d: str = "é", **e) -> int:
        """Function."""
        match a:
            case {"k": [1, *_]} if b:
                return f"{a!r:>{b}}" "tail" + f"{b}{{}}"
        return [x async for x in a if x][1:None:-2] or (lambda: None)() or {**e, 1: ...} or b"\\xff"
'''

SAME = {
    "comment": SOURCE.replace("x: int = 3", "x: int = 3  # three"),
    "layout": SOURCE.replace("b=1, *c,", "b = 1,\n        *c,"),
    "module docstring": SOURCE.replace('"""Module."""', '"""Other."""'),
    "no docstrings": SOURCE.replace('    """Class."""\n', "").replace('"""Function."""', ""),
    "quotes": SOURCE.replace('"tail"', "'tail'"),
    "f-string joined by hand": SOURCE.replace('}" "tail" + f"{b}', '}tail" + f"{b}'),
}
OTHER = {
    "a number": SOURCE.replace("= 3", "= 4"),
    "a number's type": SOURCE.replace("= 3", "= 3.0"),
    "a name": SOURCE.replace("math as m", "math as n"),
    "a text": SOURCE.replace('"tail"', '"tails"'),
    "a conversion": SOURCE.replace("!r", "!s"),
    "an empty slot": SOURCE.replace("[1:None:-2]", "[1::-2]"),
    "another empty slot": SOURCE.replace("[1:None:-2]", "[None:1:-2]"),
    "an annotation": SOURCE.replace("-> int", "-> str"),
    "an operator": SOURCE.replace('"tail" +', '"tail" *'),
    "None for ...": SOURCE.replace("1: ...", "1: None"),
    "an unpacking": SOURCE.replace("{**e, 1", "{e: 0, 1"),
    "a text that is no docstring": SOURCE.replace("    x: int = 3", '    x: int = 3\n    "text"'),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_no_code_does_not_count(name: str) -> None:
    assert SAME[name] != SOURCE
    assert source_digest(SAME[name]) == source_digest(SOURCE)


@pytest.mark.parametrize("name", OTHER)
def test_what_is_code_counts(name: str) -> None:
    assert OTHER[name] != SOURCE
    assert source_digest(OTHER[name]) != source_digest(SOURCE)


def test_every_python_version_gives_this_digest() -> None:
    """The matrix of CI runs this on each version; the number is from Python 3.11."""
    assert source_digest(SOURCE)[:16] == "de35911d42daae26"


def test_the_library_of_this_book_has_digests() -> None:
    root = Path(__file__).parents[1]
    names = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in (root / "lipbook").rglob("*.py")
        if path.name != "__init__.py"
    ]
    whole = digests.library_digest(names, root)
    assert whole == digests.library_digest(reversed(names), root)
    assert whole != digests.library_digest(names[1:], root)


def test_a_module_s_digest_follows_its_file(tmp_path: Path) -> None:
    package = tmp_path / "lipbook"
    (package / "sub").mkdir(parents=True)
    (package / "a.py").write_text("x = 1")
    (package / "sub" / "__init__.py").write_text("y = 1")
    names = ["lipbook.a", "lipbook.sub"]
    before = digests.library_digest(names, tmp_path)
    (package / "a.py").write_text('"""Doc."""\nx = 1  # one')
    assert digests.library_digest(names, tmp_path) == before
    (package / "sub" / "__init__.py").write_text("y = 2")
    changed = digests.library_digest(names, tmp_path)
    assert changed != before
    (package / "a.py").unlink()
    assert digests.library_digest(names, tmp_path) not in (before, changed)


def notebook() -> dict[str, Any]:
    """Return a notebook with one cell of each kind and one output."""
    output = {"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}
    code = {"cell_type": "code", "source": ["x = 1\n", "x"], "execution_count": 1}
    return {
        "cells": [
            {"cell_type": "markdown", "source": "# Title"},
            {**code, "outputs": [output], "metadata": {"tags": ["a"]}},
            {"cell_type": "code", "source": "", "outputs": [], "execution_count": None},
        ]
    }


def test_only_code_cells_enter_the_code_digest() -> None:
    before, other = notebook(), notebook()
    other["cells"][0]["source"] = "# Another title"
    other["cells"][1]["source"] = "x = 1\nx"
    other["cells"][1]["metadata"] = {}
    other["cells"][1]["outputs"] = []
    assert digests.code_digest(before) == digests.code_digest(other)
    other["cells"][1]["source"] = "x = 1\nx "
    assert digests.code_digest(before) != digests.code_digest(other)


def test_outputs_enter_their_digest_however_the_file_splits_them() -> None:
    before, other = notebook(), notebook()
    other["cells"][1]["outputs"][0]["text"] = "a\nb"
    other["cells"][1]["source"] = "x = 2"
    assert digests.outputs_digest(before) == digests.outputs_digest(other)
    svg = {"output_type": "display_data", "data": {"image/svg+xml": ["<svg>", "</svg>"]}}
    other["cells"][1]["outputs"].append(svg)
    with_svg = digests.outputs_digest(other)
    changed = copy.deepcopy(other)
    changed["cells"][1]["outputs"][1]["data"]["image/svg+xml"] = "<svg> </svg>"
    assert len({digests.outputs_digest(before), with_svg, digests.outputs_digest(changed)}) == 3
    changed["cells"][1]["execution_count"] = 2
    assert digests.outputs_digest(changed) != with_svg


def test_a_chapter_s_digest_needs_both(tmp_path: Path) -> None:
    (tmp_path / "lipbook").mkdir()
    module = tmp_path / "lipbook" / "a.py"
    module.write_text("x = 1")
    first = digests.chapter_digest(notebook(), ["lipbook.a"], tmp_path)
    module.write_text("x = 2")
    second = digests.chapter_digest(notebook(), ["lipbook.a"], tmp_path)
    edited = json.loads(json.dumps(notebook()).replace("x = 1", "x = 3"))
    third = digests.chapter_digest(edited, ["lipbook.a"], tmp_path)
    assert len({first, second, third}) == 3
