"""Output folders: which may be used, and how a finished run gets into one all at once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lipbook.parameters import shown
from lipbook.running.errors import Misuse

FOREIGN = "Choose another folder with -o."


def ours(name: str) -> tuple[str, ...]:
    """Return what a run of this chapter may leave in its folder."""
    return (f"{name}.ipynb", f"{name}.html", "record.json", "site")


def check_out(out: Path, name: str) -> None:
    """Check that a run can go to a folder, without leaving a trace.

    Raises:
        Misuse: It is no folder, not writable, or holds something other than a run of this chapter.
    """
    name_of_out = shown(str(out), 120)
    try:
        exists = out.exists() or out.is_symlink()
        if exists and not out.is_dir():
            raise Misuse(f"`-o` must be a folder. Got {name_of_out}, which is a file.")
        if exists and any(out.iterdir()) and not holds_run(out, name):
            raise Misuse(
                f"`-o` must be absent, empty or hold an earlier run of {name}. "
                f"Got {name_of_out}, which holds other files. {FOREIGN}"
            )
        probe = tempfile.mkdtemp(dir=base_of(out), prefix=".lipbook-")
        os.rmdir(probe)
        if exists:
            probe = tempfile.mkdtemp(dir=out, prefix=".lipbook-")
            os.rmdir(probe)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Misuse(
            f"`-o` must be a folder that can be written. Got {name_of_out} ({reason}). {FOREIGN}"
        ) from None


def base_of(out: Path) -> Path:
    """Return the nearest folder above `out` that exists."""
    return next(folder for folder in out.absolute().parents if folder.exists())


def holds_run(out: Path, name: str) -> bool:
    """Say whether a folder holds a run of this chapter: its record, or its unfinished notebook."""
    record = read_json(out / "record.json")
    if record is not None:
        return isinstance(record.get("result"), dict) and record["result"].get("chapter") == name
    notebook = read_json(out / f"{name}.ipynb")
    return notebook is not None and "parameters" in notebook.get("metadata", {}).get("lipbook", {})


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


@contextlib.contextmanager
def temporary_beside(out: Path, name: str) -> Iterator[Path]:
    """Give a temporary folder on the file system of `out`; it is gone afterwards, come what may.

    Raises:
        Misuse: `out` cannot be used.
    """
    check_out(out, name)
    folder = Path(tempfile.mkdtemp(dir=base_of(out), prefix=f".{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def install(folder: Path, out: Path, name: str) -> None:
    """Move a run into place and remove what an earlier run of the chapter left there.

    Interrupts wait until it is done: it takes milliseconds.
    """
    with interrupts_held():
        folder.chmod(0o755)  # a temporary folder is made for its owner alone
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(out)
            return
        for item in ours(name):
            old = out / item
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
            if (folder / item).exists():
                (folder / item).rename(old)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of a block; only the main thread can."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: held.append(n)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        signal.raise_signal(held[0])
