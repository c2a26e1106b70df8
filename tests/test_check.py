"""`lipbook check` sees every fault that it names, and none in a clean book."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trial_book import ROOT, edit

from lipbook.running.check import check_book
from lipbook.running.digests import file_digest


def cell(notebook: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a code cell by its number."""
    found: dict[str, Any] = [c for c in notebook["cells"] if c["cell_type"] == "code"][number - 1]
    return found


def add_output(notebook: dict[str, Any], **output: Any) -> None:
    """Add an output to the second code cell."""
    kind = {"output_type": "display_data", "metadata": {}}
    cell(notebook, 2)["outputs"].append({**kind, **output})


HOME = "/" + "home"  # split, since no file of this repository names a folder of some machine
SVG = {"image/svg+xml": "<svg></svg>"}
LONG = "\n".join(f"x = {n}" for n in range(16))
FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "no title": (lambda nb: nb["cells"].pop(0), "has no title"),
    "order": (lambda nb: cell(nb, 2).update(execution_count=9), "cell [2] was run as number 9."),
    "not run": (lambda nb: cell(nb, 2).update(execution_count=None), "was run as number None"),
    "long": (lambda nb: cell(nb, 2).update(source=LONG), "cell [2] has 16 lines. Split it"),
    "empty": (lambda nb: cell(nb, 3).update(source=" \n"), "has an empty code cell"),
    "error": (
        lambda nb: add_output(nb, output_type="error", ename="ValueError"),
        "cell [2] stores an error, ValueError.",
    ),
    "stderr": (
        lambda nb: add_output(nb, output_type="stream", name="stderr", text=["careful\n"]),
        "cell [2] stores a message on stderr: 'careful",
    ),
    "progress": (
        lambda nb: add_output(nb, output_type="stream", name="stdout", text="\r 40%|####"),
        "cell [2] stores a progress bar",
    ),
    "widget": (
        lambda nb: add_output(nb, data={"application/vnd.jupyter.widget-view+json": {"a": 1}}),
        "cell [2] stores a progress bar",
    ),
    "path in output": (
        lambda nb: add_output(nb, data={"text/plain": f"see {HOME}/me/book"}),
        "cell [2] stores the absolute path of some machine",
    ),
    "path in source": (
        lambda nb: nb["cells"][0].update(source="# T\n`C:\\Users\\me`"),
        "`# T` holds the absolute path of some machine",
    ),
    "bitmap": (
        lambda nb: add_output(nb, data={"image/png": "AAAA"}),
        "cell [2] stores a figure as image/png. Show it with chapter.figure.",
    ),
    "no alt": (
        lambda nb: add_output(
            nb, data=SVG, metadata={"image/svg+xml": {"name": "fig-a", "caption": "c", "alt": " "}}
        ),
        "cell [2] stores a figure without alt",
    ),
    "no caption": (lambda nb: add_output(nb, data=SVG), "cell [2] stores a figure without caption"),
    "empty figure": (
        lambda nb: add_output(nb, data={"image/svg+xml": ""}),
        "cell [2] stores an empty figure",
    ),
    "papermill": (
        lambda nb: cell(nb, 2)["metadata"].update(tags=["injected-parameters"]),
        "was left behind by papermill",
    ),
    "breaks": (
        lambda nb: nb["cells"].pop(5),
        'has no heading "Where it breaks"',
    ),
    "late verdict": (
        lambda nb: cell(nb, 5).update(source="chapter.verdict(v, key='a')"),
        'shows its first verdict after "Where it breaks"',
    ),
    "code": (
        lambda nb: cell(nb, 4).update(source="pass"),
        "stored outputs were made by other code (digest ",
    ),
    "unsigned": (
        lambda nb: nb["metadata"].pop("lipbook"),
        "stored outputs were made by other code (digest not stored, ",
    ),
    "output": (
        lambda nb: cell(nb, 4)["outputs"][0]["data"].update({"text/plain": "The risk is 2."}),
        "stored outputs were changed by hand or by another program. Run `lipbook refresh trial`.",
    ),
    "figure": (
        lambda nb: add_output(
            nb, data=SVG, metadata={"image/svg+xml": {"name": "a", "caption": "c", "alt": "a"}}
        ),
        "stored outputs were changed by hand",
    ),
    "grammar": (
        lambda nb: cell(nb, 1).update(source="# Parameters of this chapter\nx = 3"),
        "`line 2` must read",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_check_finds_a_fault_of_the_notebook(book: Path, name: str) -> None:
    change, message = FAULTS[name]
    assert check_book(book) == []
    edit(book / "notebooks" / "trial.ipynb", change)
    found = [str(fault) for fault in check_book(book)]
    assert any(line.startswith("notebooks/trial.ipynb: ") and message in line for line in found)
    assert str(book) not in "".join(found)


RECORD_FAULTS: dict[str, tuple[Callable[[Any], object], str]] = {
    "digest": (lambda r: r["result"].update(digest="0"), "does not belong to the stored outputs"),
    "chapter": (lambda r: r["result"].update(chapter="b"), "is the record of 'b'"),
    "parameters": (
        lambda r: r["result"]["parameters"].update(width=5),
        "was made with parameters other than the defaults",
    ),
    "verdict": (
        lambda r: r["result"]["verdicts"].update(path={"contradicted": True}),
        "verdict path is contradicted",
    ),
    "schema": (lambda r: r.update(schema=0), "must be a record of schema 1"),
}


@pytest.mark.parametrize("name", RECORD_FAULTS)
def test_check_finds_a_fault_of_the_record(book: Path, name: str) -> None:
    change, message = RECORD_FAULTS[name]
    edit(book / "notebooks" / "records" / "trial.json", change)
    found = [str(fault) for fault in check_book(book)]
    assert any(
        line.startswith("notebooks/records/trial.json: ") and message in line for line in found
    )
    assert str(book) not in "".join(found)


def test_check_finds_a_data_file_that_changed_or_went(book: Path) -> None:
    data = book / "notebooks" / "results" / "times.json"
    data.parent.mkdir()
    data.write_bytes(b"[1,\n2]")
    entry = {"file": "results/times.json", "value": file_digest(data)}
    edit(
        book / "notebooks" / "records" / "trial.json",
        lambda r: r["result"]["values"].update({"file-times": entry}),
    )
    assert check_book(book) == []
    data.write_bytes(b"[1,\r\n2]")
    assert check_book(book) == []
    data.write_bytes(b"[1,\n3]")
    (fault,) = check_book(book)
    assert str(fault).startswith("notebooks/results/times.json: changed after trial had read it")
    data.unlink()
    (fault,) = check_book(book)
    assert "results/times.json: is absent; trial reads it. Restore it." in str(fault)


def test_check_finds_outputs_of_an_older_library(book: Path) -> None:
    """The checkout's own lipbook counts: here one that lost all its modules but one."""
    (book / "lipbook").mkdir()
    (book / "lipbook" / "__init__.py").touch()
    shutil.copy(ROOT / "lipbook" / "parameters.py", book / "lipbook")
    (fault,) = check_book(book)
    assert "stored outputs were made by other code" in fault.message


def test_check_finds_missing_and_stray_files(book: Path) -> None:
    notebook = book / "notebooks" / "trial.ipynb"
    shutil.copy(notebook, book / "notebooks" / "copy.ipynb")
    notebook.rename(book / "notebooks" / "trail.ipynb")
    assert [str(fault) for fault in check_book(book)] == [
        "notebooks/trial.ipynb: is in _toc.yml but absent. Write it, or take it out.",
        "notebooks/copy.ipynb: belongs to no chapter of _toc.yml. Remove it.",
        "notebooks/trail.ipynb: belongs to no chapter of _toc.yml. Remove it.",
    ]


def test_addresses_of_the_web_are_no_paths_of_a_machine(book: Path) -> None:
    def change(notebook: dict[str, Any]) -> None:
        text = f"# T\nSee https://example.org{HOME}/me, ..{HOME}/me, ~{HOME}/x and s{HOME}/x."
        notebook["cells"][0]["source"] = text

    edit(book / "notebooks" / "trial.ipynb", change)
    assert check_book(book) == []
