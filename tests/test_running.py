"""What runs chapters, from Python: finding them, executing them, and folders for the results."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trial_book import ROOT, edit, files_below

from lipbook.parameters import ParameterError
from lipbook.running import chapters, checkout, execute, folders
from lipbook.running.errors import Misuse, RunFailed
from lipbook.running.refresh import refresh, run_cells

# ---- finding


def test_a_checkout_is_found_from_below_and_from_elsewhere(book: Path, tmp_path: Path) -> None:
    deep = book / "notebooks" / "deep"
    deep.mkdir()
    assert checkout.find_root(deep) == book.resolve()
    assert checkout.find_root(tmp_path) == ROOT


@pytest.mark.parametrize("missing", ["_toc.yml", "_config.yml"])
def test_half_a_checkout_is_none(book: Path, missing: str) -> None:
    (book / missing).unlink()
    assert not checkout.is_root(book)


def test_chapters_come_in_the_order_of_the_toc(book: Path) -> None:
    shutil.copy(book / "notebooks" / "trial.ipynb", book / "notebooks" / "another.ipynb")
    entries = "".join(f"  - file: {file}\n" for file in ("notebooks/trial", "book/notation"))
    later = "  - file: notebooks/another.ipynb\n    sections:\n    - url: https://example.org\n"
    (book / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/index\nchapters:\n{entries}{later}"
    )
    assert [each.name for each in chapters.list_chapters(book)] == ["trial", "another"]


@pytest.mark.parametrize("text", ["trial", "trial.ipynb", "notebooks/trial.ipynb", "ABSOLUTE"])
def test_a_chapter_has_a_name_and_a_path(
    book: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(book / "notebooks")
    path = book / "notebooks" / "trial.ipynb"
    assert chapters.find_chapter(book, str(path) if text == "ABSOLUTE" else text).path == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda nb: nb.update(nbformat=3), "must be a notebook of format 4"),
        (lambda nb: nb["cells"].pop(1), "must have one cell tagged `parameters`. Got 0."),
        (lambda nb: nb["cells"].append(nb["cells"][1]), "tagged `parameters`. Got 2."),
        (
            lambda nb: nb["cells"][1].update(source="# Parameters of this chapter\nx = 3"),
            "`line 2` must read",
        ),
    ],
)
def test_a_notebook_that_is_no_chapter_is_refused(
    book: Path, change: Callable[[Any], object], message: str
) -> None:
    path = book / "notebooks" / "trial.ipynb"
    edit(path, change)
    with pytest.raises(Misuse) as refusal:
        chapters.load_chapter(path)
    assert message in str(refusal.value) and "trial.ipynb" in str(refusal.value)


def test_files_that_cannot_be_read_are_refused(book: Path) -> None:
    path = book / "notebooks" / "trial.ipynb"
    path.write_text("{")
    with pytest.raises(Misuse, match="must be a readable notebook"):
        chapters.load_chapter(path)
    (book / "_toc.yml").write_text("a: [")
    with pytest.raises(Misuse, match="must be a readable table of contents"):
        chapters.list_chapters(book)


# ---- folders


def test_a_run_moves_into_place_and_clears_what_was_ours(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    for text in ("first", "second"):
        with folders.temporary_beside(out, "trial") as folder:
            (folder / "site").mkdir()
            (folder / "site" / f"{text}.html").write_text(text)
            record = {"result": {"chapter": "trial"}, "text": text}
            (folder / "record.json").write_text(json.dumps(record))
            if text == "first":
                (folder / "trial.html").write_text("stale")
            folders.install(folder, out, "trial")
        assert list(out.parent.iterdir()) == [out]
        assert out.stat().st_mode & 0o777 == 0o755
    assert set(files_below(out)) == {"record.json", "site/second.html"}
    assert b"second" in (out / "record.json").read_bytes()


def test_a_run_keeps_other_files_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"result": {"chapter": "trial"}}')
    (tmp_path / "notes.txt").write_text("mine")
    with folders.temporary_beside(tmp_path, "trial") as folder:
        (folder / "record.json").write_text("{}")
        folders.install(folder, tmp_path, "trial")
    assert files_below(tmp_path) == {"record.json": b"{}", "notes.txt": b"mine"}


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"result": {"chapter": "other"}}'])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(Misuse, match="must be absent, empty or hold an earlier run of trial"):
        folders.check_out(tmp_path, "trial")


def test_a_failed_run_leaves_no_temporary_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folders.temporary_beside(tmp_path / "out", "trial"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_waits_for_the_end() -> None:
    import signal

    finished = False
    with pytest.raises(KeyboardInterrupt), folders.interrupts_held():
        signal.raise_signal(signal.SIGINT)
        finished = True
    assert finished


def test_in_another_thread_nothing_can_be_held() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with folders.interrupts_held():
                pass
        except BaseException as error:  # reported below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failures == []


# ---- executing


def test_the_environment_of_a_kernel_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPBOOK_RECORD_DIR", "before")
    monkeypatch.delenv("LIPBOOK_RECORD", raising=False)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), execute.kernel_environment(tmp_path / "r", ROOT):
        assert os.environ["LIPBOOK_RECORD"] == str(tmp_path / "r")
        assert os.environ["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)
        assert "LIPBOOK_RECORD_DIR" not in os.environ
        _ = 1 / 0
    assert dict(os.environ) == before


def test_an_installed_lipbook_is_left_to_python(tmp_path: Path) -> None:
    """A site-packages folder on PYTHONPATH would stand before the standard library."""
    before = os.environ.get("PYTHONPATH")
    with execute.kernel_environment(tmp_path / "r", tmp_path):
        assert os.environ.get("PYTHONPATH") == before


def test_a_failed_cell_is_one_line() -> None:
    line = execute.failed_cell(
        3, "# why\n%matplotlib inline\n\nx = 1\ny", "E", "\x1b[31ma\nb\x1b[0m"
    )
    assert line == "Cell [3] failed, which begins `x = 1`. E: a b"
    assert execute.failed_cell(1, "# only", "E", "") == "Cell [1] failed, which begins `# only`. E"


def test_run_chapter_refuses_before_it_starts(book: Path, tmp_path: Path) -> None:
    chapter = chapters.find_chapter(book, "trial")
    before = files_below(tmp_path)
    with pytest.raises(ParameterError, match=r"`width` must be an int in 1..64"):
        execute.run_chapter(chapter, {"width": 0}, tmp_path / "out", book)
    with pytest.raises(Misuse, match="must be absent, empty or hold an earlier run"):
        execute.run_chapter(chapter, {}, book, book, page=False)
    elsewhere = tmp_path / "trial.ipynb"
    shutil.copy(chapter.path, elsewhere)
    stray = chapters.load_chapter(elsewhere)
    with pytest.raises(Misuse, match="`page` must be False for a notebook outside the book"):
        execute.run_chapter(stray, {}, tmp_path / "out", book)
    elsewhere.unlink()
    assert files_below(tmp_path) == before


def test_a_notebook_outside_the_book_runs_from_python(tmp_path: Path) -> None:
    chapter = chapters.load_chapter(ROOT / "tests" / "fixtures" / "trial.ipynb")
    finished = execute.run_chapter(chapter, {"widths": [3, 4]}, tmp_path / "out", page=False)
    assert finished.differences is None and finished.page is None
    assert finished.record["result"]["parameters"]["widths"] == [3, 4]
    assert len(finished.record["result"]["digest"]) == 64
    stored = json.loads(finished.notebook.read_text())
    assert stored["metadata"]["lipbook"]["parameters"] == {"widths": [3, 4]}
    assert "papermill" not in json.dumps(stored["metadata"])


def test_refresh_reports_every_cell(book: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = book / "notebooks" / "trial.ipynb"
    assert not refresh(path, book, lambda done, total: steps.append((done, total)))
    assert steps == [(n, 7) for n in range(1, 8)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("exit", "trial: the kernel died. It may lack memory."),
        ("silent", "trial ended without a record"),
        ("sleep", "Timeout: took longer than 1 s"),
    ],
)
def test_refresh_reports_what_went_wrong(
    book: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setattr("lipbook.running.refresh.CELL_TIMEOUT_S", 1)
    path = book / "notebooks" / "trial.ipynb"
    path.write_text(
        path.read_text().replace('fault: str = \\"none\\"', f'fault: str = \\"{fault}\\"')
    )
    before = files_below(book)
    with pytest.raises(RunFailed, match=message):
        refresh(path, book)
    assert files_below(book) == before


def test_a_refresh_cleans_what_editors_leave(book: Path) -> None:
    path = book / "notebooks" / "trial.ipynb"
    clean = path.read_bytes()

    def litter(notebook: dict[str, Any]) -> None:
        notebook["metadata"] |= {"widgets": {}, "language_info": {"version": "3.12"}}
        notebook["metadata"]["kernelspec"]["display_name"] = "My kernel"
        notebook["cells"][1]["metadata"] |= {"execution": {"shell.execute_reply": "now"}}
        notebook["cells"][1]["execution_count"] = 7
        notebook["cells"][1]["outputs"] = [
            {"output_type": "stream", "name": "stdout", "text": "stale"}
        ]

    edit(path, litter)
    assert refresh(path, book)
    assert path.read_bytes() == clean


def test_run_cells_is_what_a_test_can_call(book: Path, tmp_path: Path) -> None:
    import nbformat

    path = book / "notebooks" / "trial.ipynb"
    notebook = nbformat.read(path, as_version=4)
    with execute.kernel_environment(tmp_path / "record.json", ROOT):
        run_cells(notebook, path, None)
    assert (tmp_path / "record.json").is_file()
