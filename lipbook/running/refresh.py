"""Re-execute chapters as they stand and store their outputs, record and digests."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lipbook import records
from lipbook.running.chapters import load_chapter
from lipbook.running.digests import outputs_digest
from lipbook.running.errors import RunFailed
from lipbook.running.execute import (
    QUIET_KERNEL,
    failed_cell,
    kernel_environment,
    library_root,
    sign,
)

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Notebook and cell metadata that editors and runners leave behind.
NOISE = (
    *("papermill", "execution", "widgets", "vscode", "toc", "colab"),
    *("collapsed", "scrolled", "lines_to_next_cell"),
)
CELL_TIMEOUT_S = 600


def refresh(path: Path, root: Path, step: Callable[[int, int], None] | None = None) -> bool:
    """Re-execute one chapter and store what it now shows, all or nothing.

    A second refresh without a change leaves both files as they are, byte for byte: the record keeps
    its provenance as long as its result is the same.

    Args:
        path: The chapter's notebook; its record goes to `records/` beside it.
        root: The checkout whose lipbook the chapter imports.
        step: Called with (cells done, cells in all) after each cell.

    Returns:
        Whether a file changed.

    Raises:
        RunFailed: A cell failed or the record is missing; the stored files are untouched.
    """
    import nbformat

    chapter = load_chapter(path)
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        record_file = Path(folder) / "record.json"
        with kernel_environment(record_file, library_root(root)):
            run_cells(notebook, path, step)
        if not record_file.is_file():
            raise RunFailed(f"{chapter.name} ended without a record: end it with chapter.close().")
        record = sign(record_file, chapter, library_root(root))
    clean(notebook, chapter.name)
    notebook.metadata["lipbook"] = {
        "digest": record["result"]["digest"],
        "outputs": outputs_digest(notebook),
    }
    record["provenance"].pop("host", None)  # a published record names no one's machine
    target = path.parent / "records" / f"{chapter.name}.json"
    target.parent.mkdir(exist_ok=True)
    record_changed = store_record(record, target)
    text = nbformat.writes(notebook)
    return write_if_changed(path, text if text.endswith("\n") else f"{text}\n") or record_changed


def run_cells(notebook: Any, path: Path, step: Callable[[int, int], None] | None) -> None:
    """Execute a notebook's cells in a fresh kernel, in its own folder, replacing its outputs.

    Goes through the cells itself, since nbclient's own loop turns Ctrl-C into a dead kernel.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=list(QUIET_KERNEL),
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.reset_execution_trackers()
    done = 0
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            try:
                client.execute_cell(cell, index)
            except CellExecutionError as error:
                number = client.code_cells_executed
                raise RunFailed(
                    f"{path.stem}: {failed_cell(number, cell.source, error.ename, error.evalue)}"
                ) from None
            except CellTimeoutError:
                slow = f"took longer than {CELL_TIMEOUT_S} s"
                raise RunFailed(
                    f"{path.stem}: {failed_cell('?', cell.source, 'Timeout', slow)}"
                ) from None
            except DeadKernelError:
                raise RunFailed(f"{path.stem}: the kernel died. It may lack memory.") from None
            done += 1
            if step is not None:
                step(done, len(notebook.cells))


def clean(notebook: Any, name: str) -> None:
    """Bring a notebook's metadata into one form, so that only what changed shows in a diff."""
    for key in NOISE:
        notebook.metadata.pop(key, None)
    notebook.metadata["kernelspec"] = dict(KERNELSPEC)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        for key in NOISE:
            cell.metadata.pop(key, None)
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cell.get("id", "")):
            cell["id"] = f"{name[:50]}-{index}"


def store_record(record: dict[str, Any], target: Path) -> bool:
    """Write a record unless the file there holds the same result; return whether it was written."""
    try:
        same = records.load(target)["result"] == record["result"]
    except records.RecordError:
        same = False
    if not same:
        records.dump(record, target)
    return not same


def write_if_changed(path: Path, text: str) -> bool:
    """Write a text file unless it holds that text already; return whether it was written."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    records.write_aside(path, text)
    return True
