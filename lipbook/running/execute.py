"""Re-run one chapter with other parameters, through papermill, into a folder of its own."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lipbook
from lipbook import records
from lipbook.parameters import resolve
from lipbook.running.chapters import ChapterFile, notebooks_in_toc, path_of
from lipbook.running.checkout import find_root
from lipbook.running.digests import chapter_digest, outputs_digest
from lipbook.running.errors import Misuse, RunFailed
from lipbook.running.folders import install, temporary_beside

# A kernel tells stderr, at every start, that it uses the loopback device, and, when stopped, that
# its sockets closed; what a cell prints there is an output and not concerned.
QUIET_KERNEL = ("--IPKernelApp.log_level=CRITICAL",)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Run:
    """What a finished run left behind."""

    out: Path
    notebook: Path
    page: Path | None
    record: dict[str, Any]
    differences: list[records.Difference] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the run as `lipbook run --json` prints it."""
        found = self.differences
        return {
            "out": str(self.out),
            "notebook": str(self.notebook),
            "page": None if self.page is None else str(self.page),
            "record": str(self.out / "record.json"),
            "parameters": self.record["result"]["parameters"],
            "differences": None if found is None else [each.to_dict() for each in found],
        }


def run_chapter(
    chapter: ChapterFile,
    given: Mapping[str, Any],
    out: Path,
    root: Path | None = None,
    page: bool = True,
    progress: bool = False,
    watch: Callable[[str], None] | None = None,
) -> Run:
    """Run a chapter with the parameters given and put notebook, page and record into a folder.

    Everything is made in a temporary folder beside `out` and moved into place at the end, so that
    an interrupted run leaves nothing half-written.

    Args:
        chapter: The chapter.
        given: Parameter values by name; the others keep their defaults.
        out: The folder, absent, empty or with an earlier run of this chapter.
        root: The checkout, needed for the page; the one lipbook runs from if None.
        page: Whether to make the HTML page too.
        progress: Whether to show a progress bar on stderr.
        watch: Called with every line that the page's build prints.

    Returns:
        The `Run`.

    Raises:
        ParameterError: A parameter is unknown or a value not allowed; nothing was started.
        Misuse: `out` cannot be used; nothing was started.
        RunFailed: A cell failed; the partly executed notebook lies in `out`.
    """
    values = resolve(chapter.parameters, given)
    if page:
        check_in_book(chapter, root)
    injected = {name: values[name] for name in given}
    with temporary_beside(out, chapter.name) as folder:
        notebook = folder / f"{chapter.name}.ipynb"
        failure = execute(chapter, injected, notebook, folder / "record.json", root, progress)
        record_file = folder / "record.json"
        if failure is None and not record_file.is_file():
            failure = "The chapter ended without a record: its last cell must be chapter.close()."
        if failure is not None:
            record_file.unlink(missing_ok=True)
            finish_notebook(notebook, injected, None)
            install(folder, out, chapter.name)
            raise RunFailed(f"{failure} The notebook up to there: {out / notebook.name}")
        record = sign(record_file, chapter, library_root(root))
        finish_notebook(notebook, injected, record["result"]["digest"])
        trouble = try_page(chapter, notebook, record, root, watch) if page else None
        install(folder, out, chapter.name)
    if trouble is not None:
        raise RunFailed(f"Notebook and record are in {out}, but the page is not. {trouble}")
    html = out / f"{chapter.name}.html" if page else None
    return Run(out, out / notebook.name, html, record, differences(chapter, record))


def try_page(
    chapter: ChapterFile,
    notebook: Path,
    record: dict[str, Any],
    root: Path | None,
    watch: Callable[[str], None] | None,
) -> str | None:
    """Make the page beside an executed notebook; return None, or what went wrong."""
    from lipbook.running.page import make_page

    try:
        make_page(chapter, notebook, record, root or find_root(), watch)
    except RunFailed as failure:
        return str(failure)
    return None


def check_in_book(chapter: ChapterFile, root: Path | None) -> None:
    """Check that a page can be made of a chapter.

    Raises:
        Misuse: It is no chapter of the book, whose pages need the book around them.
    """
    home = root or find_root()
    if chapter.path != path_of(home, chapter.name) or chapter.name not in notebooks_in_toc(home):
        raise Misuse(
            f"`page` must be False for a notebook outside the book. Got {chapter.path.name}, "
            "which _toc.yml does not list. Use page=False, or --no-page."
        )


def execute(
    chapter: ChapterFile,
    injected: Mapping[str, Any],
    target: Path,
    record_file: Path,
    root: Path | None,
    progress: bool,
) -> str | None:
    """Execute a chapter through papermill; return None, or one line on what failed."""
    import logging

    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    for name in ("papermill", "traitlets"):  # what they report, we report in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with kernel_environment(record_file, library_root(root)):
            papermill.execute_notebook(
                braced(chapter.path),
                braced(target),
                parameters=dict(injected),
                kernel_name="python3",
                progress_bar=progress,
                cwd=str(chapter.path.parent),
                extra_arguments=list(QUIET_KERNEL),
            )
    except PapermillExecutionError as error:
        return failed_cell(error.exec_count, error.source, error.ename, error.evalue)
    except DeadKernelError:
        return "The kernel died: it may have run out of memory, or the chapter ended it."
    return None


def braced(path: Path) -> str:
    """Return a path as papermill wants it: it reads braces in a path as its own parameters."""
    return str(path).replace("{", "{{").replace("}", "}}")


def failed_cell(number: object, source: str, name: str, message: str) -> str:
    """Return one line on a failed cell: its number, its first line and the error."""
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(("#", "%"))] or lines or [""]
    error = " ".join(ANSI.sub("", f"{name}: {message}" if message else name).split())
    return f"Cell [{number}] failed, which begins `{code[0]}`. {error}"


@contextlib.contextmanager
def kernel_environment(record_file: Path, library: Path) -> Iterator[None]:
    """Set, for the kernel started meanwhile, where its record goes and which lipbook it imports."""
    path = [str(library), os.environ.get("PYTHONPATH", "")]
    changes: dict[str, str | None] = {
        "LIPBOOK_RECORD": str(record_file),
        "LIPBOOK_RECORD_DIR": None,
        # A "python3" kernel that another environment installed for the user must not win.
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
    }
    if not (library / "pyproject.toml").is_file():
        del changes["PYTHONPATH"]  # an installed lipbook is found without help
    before = {name: os.environ.get(name) for name in changes}
    set_environment(changes)
    try:
        yield
    finally:
        set_environment(before)


def set_environment(changes: Mapping[str, str | None]) -> None:
    """Set environment variables; None unsets one."""
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def library_root(root: Path | None) -> Path:
    """Return the folder that holds the package `lipbook`: the checkout's own if it has one."""
    if root is not None and (root / "lipbook" / "__init__.py").is_file():
        return root
    return Path(lipbook.__file__).resolve().parents[1]


def sign(record_file: Path, chapter: ChapterFile, library: Path) -> dict[str, Any]:
    """Fill the chapter's digest into a fresh record, and return the record."""
    record = records.load(record_file)
    modules = record["result"]["modules"]
    record["result"]["digest"] = chapter_digest(chapter.notebook, modules, library)
    records.dump(record, record_file)
    return record


def finish_notebook(path: Path, injected: Mapping[str, Any], digest: str | None) -> None:
    """Strip paths and times that papermill wrote into a notebook, and say whose run it is."""
    import nbformat

    if not path.is_file():
        return
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
    notebook.metadata.pop("papermill", None)
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata["lipbook"] = {
        "digest": digest,
        "outputs": outputs_digest(notebook),
        "parameters": dict(injected),
    }
    records.write_aside(path, nbformat.writes(notebook) + "\n")


def published_record(chapter: ChapterFile) -> Path:
    """Return the file of a chapter's published record, which need not exist."""
    return chapter.path.parent / "records" / f"{chapter.name}.json"


def differences(chapter: ChapterFile, record: dict[str, Any]) -> list[records.Difference] | None:
    """Compare a run with the published one; None if none was published."""
    path = published_record(chapter)
    return records.compare(records.load(path), record) if path.is_file() else None


def default_out(chapter: ChapterFile, values: Mapping[str, Any]) -> Path:
    """Return where a run goes unless told: `runs/NAME-<8 hex of the parameters' digest>`."""
    import hashlib
    import json

    text = json.dumps(values, sort_keys=True)
    return Path("runs") / f"{chapter.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
