"""Build the book with Jupyter Book, as a process of its own."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from lipbook.running.errors import Misuse, RunFailed

# Jupyter Book 1 cannot be run as a module, and its script need not be on the PATH.
JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"
TROUBLE = ("WARNING", "ERROR", "CRITICAL", "Traceback", "Exception", "Error:")


def check_builder() -> None:
    """Check that Jupyter Book 1 is installed.

    Raises:
        Misuse: It is not.
    """
    if importlib.util.find_spec("jupyter_book") is None:
        raise Misuse(
            "`build` must find Jupyter Book 1. Got none. Install the book's requirements: "
            "pip install -c constraints.txt -e '.[book]'"
        )


def build_book(
    root: Path,
    out: Path | None = None,
    strict: bool = True,
    watch: Callable[[str], None] | None = None,
) -> Path:
    """Build the book from clean and return the path of its first page.

    Args:
        root: The checkout, or a copy of its sources.
        out: The folder that gets `_build`; the root if None.
        strict: Whether a warning or an unresolved reference fails the build.
        watch: Called with every line that the build prints.

    Returns:
        The path of `index.html`.

    Raises:
        Misuse: Jupyter Book is not installed.
        RunFailed: The build failed; the message lists its warnings and errors.
    """
    check_builder()
    base = (out or root).resolve()
    for stale in ("html", ".doctrees"):
        shutil.rmtree(base / "_build" / stale, ignore_errors=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", str(root)]
    command += ["--path-output", str(base)]
    command += ["-W", "-n", "--keep-going"] if strict else []
    lines, code = follow(command, root, watch)
    index = base / "_build" / "html" / "index.html"
    if code != 0 or not index.is_file():
        trouble = [line for line in lines if any(word in line for word in TROUBLE)]
        told = list(dict.fromkeys(trouble)) or lines[-20:]
        raise RunFailed("The book does not build:\n" + "\n".join(told))
    return index


def follow(
    command: list[str], folder: Path, watch: Callable[[str], None] | None
) -> tuple[list[str], int]:
    """Run a command and return its output, line by line, and its exit status."""
    lines = []
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if watch is not None:
                    watch(lines[-1])
        except BaseException:
            process.terminate()
            raise
    return lines, process.returncode
