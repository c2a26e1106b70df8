"""A book of one quick chapter, for the tests of what runs chapters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TRIAL = Path(__file__).parent / "fixtures" / "trial.ipynb"


def make_book(folder: Path) -> Path:
    """Make a checkout whose only chapter is the trial notebook, never yet executed."""
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(TRIAL, folder / "notebooks" / "trial.ipynb")
    toc = "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/trial\n"
    (folder / "_toc.yml").write_text(toc)
    (folder / "_config.yml").write_text("title: Trial\n")
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file in place."""
    tree = json.loads(path.read_text(encoding="utf-8"))
    change(tree)
    path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones too, with its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lipbook(
    *arguments: str, cwd: Path, python: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    return subprocess.run(
        [sys.executable, *python, "-m", "lipbook", *arguments],
        cwd=cwd,
        env={**child_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def child_environment() -> dict[str, str]:
    """Return an environment in which this checkout's lipbook is the one that is imported."""
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH")) if part)
    return {**os.environ, "PYTHONPATH": path}
