"""Check in seconds, without a kernel, that notebooks are clean and their outputs not stale."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipbook import records
from lipbook.running.chapters import (
    ChapterFile,
    code_cells,
    load_chapter,
    notebooks_in_toc,
    source_of,
    tags_of,
    title_of,
)
from lipbook.running.digests import chapter_digest, file_digest, join_lines, outputs_digest
from lipbook.running.errors import Misuse
from lipbook.running.execute import library_root

MAX_LINES = 15
UNLIMITED = frozenset({"parameters", "hide-input", "hide-cell", "remove-input"})
LEFT_BEHIND = frozenset({"injected-parameters", "papermill-error-cell-tag"})
ABSOLUTE = re.compile(
    r"(?<![\w.:/~-])/(?:home|Users|root|tmp|private|var|mnt|media|opt|srv|work|usr)/[\w.@-]+"
    r"|\b[A-Za-z]:\\\\?[\w.-]+|file:///"
)
PROGRESS = re.compile(r"\r[^\n]|\d+%\||\d(?:it/s|s/it)\b")
BITMAPS = ("image/png", "image/jpeg", "image/gif")


@dataclass(frozen=True)
class Fault:
    """One fault of one file, with its remedy in the message."""

    file: str
    message: str

    def __str__(self) -> str:
        """Return the fault as one line."""
        return f"{self.file}: {self.message}"


def check_book(root: Path) -> list[Fault]:
    """List the faults of every chapter of the book, in the order of `_toc.yml`.

    Args:
        root: The checkout.

    Returns:
        The faults; none if the book is clean.
    """
    names = notebooks_in_toc(root)
    faults = []
    for name in names:
        file = f"notebooks/{name}.ipynb"
        path = root / file
        if not path.is_file():
            faults.append(Fault(file, "is in _toc.yml but absent. Write it, or take it out."))
            continue
        try:
            chapter = load_chapter(path)
        except Misuse as error:
            faults.append(Fault(file, str(error).replace(f"{root}/", "")))
            continue
        faults += [Fault(file, message) for message in check_chapter(chapter)]
        faults += check_stored(chapter, root)
    return faults + strays(root, names)


def strays(root: Path, names: list[str]) -> list[Fault]:
    """List notebooks and records that belong to no chapter of `_toc.yml`."""
    folder = root / "notebooks"
    found = [*folder.glob("*.ipynb"), *(folder / "records").glob("*.json")]
    return [
        Fault(path.relative_to(root).as_posix(), "belongs to no chapter of _toc.yml. Remove it.")
        for path in sorted(found)
        if path.stem not in names
    ]


def check_chapter(chapter: ChapterFile) -> Iterator[str]:
    """Yield the faults of a notebook that show without its record."""
    cells = chapter.notebook.get("cells", [])
    if not title_of(chapter.notebook):
        yield "has no title: begin with a heading `# Title`."
    for number, cell in enumerate(code_cells(chapter.notebook), start=1):
        yield from (f"cell [{number}] {fault}" for fault in check_cell(cell, number))
    for cell in cells:
        if ABSOLUTE.search(source_of(cell)):
            yield f"`{first_line(cell)}` holds the absolute path of some machine."
        if LEFT_BEHIND & set(tags_of(cell)):
            yield f"`{first_line(cell)}` was left behind by papermill. Delete the cell."
        if cell.get("cell_type") == "code" and not source_of(cell).strip():
            yield "has an empty code cell. Delete it."
    yield from check_order(cells)


def check_cell(cell: dict[str, Any], number: int) -> Iterator[str]:
    """Yield the faults of one code cell."""
    lines = [line for line in source_of(cell).splitlines() if line.strip()]
    if len(lines) > MAX_LINES and not UNLIMITED & set(tags_of(cell)):
        yield f"has {len(lines)} lines. Split it, or move code to lipbook: {MAX_LINES} at most."
    if cell.get("execution_count") != number:
        count = cell.get("execution_count")
        yield f"was run as number {count}. Run `lipbook refresh`, which runs the cells in order."
    for output in cell.get("outputs", []):
        yield from check_output(output)


def check_output(output: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of one stored output."""
    if output.get("output_type") == "error":
        yield f"stores an error, {output.get('ename')}."
        return
    if output.get("name") == "stderr":
        yield f"stores a message on stderr: {text_of(output)[:60]!r}."
    data = {**output.get("data", {}), "stream": output.get("text", "")}
    for mime, content in data.items():
        text = json.dumps(content) if isinstance(content, dict) else str(join_lines(content))
        if mime.endswith("widget-view+json") or (mime == "stream" and PROGRESS.search(text)):
            yield "stores a progress bar. Show none where nobody attends."
        if mime in BITMAPS:
            yield f"stores a figure as {mime}. Show it with chapter.figure."
        elif ABSOLUTE.search(text):
            yield "stores the absolute path of some machine."
    if "image/svg+xml" in data:
        yield from check_svg(output)


def check_svg(output: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of a stored figure."""
    metadata = output.get("metadata", {}).get("image/svg+xml", {})
    for key in ("name", "caption", "alt"):
        if not str(metadata.get(key, "")).strip():
            yield f"stores a figure without {key}. Show it with chapter.figure."
    if "<svg" not in join_lines(output["data"]["image/svg+xml"]):
        yield "stores an empty figure."


def check_order(cells: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a fault unless the first verdict stands before the heading "Where it breaks"."""
    breaks = verdict = None
    for index, cell in enumerate(cells):
        source = source_of(cell)
        heading = re.search(r"^#+ .*where it breaks", source, re.MULTILINE | re.IGNORECASE)
        if cell.get("cell_type") == "markdown" and heading and breaks is None:
            breaks = index
        if cell.get("cell_type") == "code" and ".verdict(" in source and verdict is None:
            verdict = index
    if breaks is None:
        yield 'has no heading "Where it breaks".'
    elif verdict is not None and verdict > breaks:
        yield 'shows its first verdict after "Where it breaks".'


def check_stored(chapter: ChapterFile, root: Path) -> Iterator[Fault]:
    """Yield the faults of the stored digests and the record."""
    file = f"notebooks/{chapter.name}.ipynb"
    record_file = f"notebooks/records/{chapter.name}.json"
    remedy = f"Run `lipbook refresh {chapter.name}`."
    try:
        result = records.load(root / record_file)["result"]
    except records.RecordError as error:
        yield Fault(record_file, f"{str(error).replace(f'{root}/', '')} {remedy}")
        return
    stored = chapter.notebook.get("metadata", {}).get("lipbook", {})
    now = chapter_digest(chapter.notebook, result["modules"], library_root(root))
    if stored.get("digest") != now:
        yield Fault(file, f"stored outputs were made by other code ({ages(stored, now)}). {remedy}")
    if stored.get("outputs") != outputs_digest(chapter.notebook):
        yield Fault(file, f"stored outputs were changed by hand or by another program. {remedy}")
    if result["digest"] != stored.get("digest"):
        yield Fault(record_file, f"does not belong to the stored outputs. {remedy}")
    if result["chapter"] != chapter.name:
        yield Fault(record_file, f"is the record of {result['chapter']!r}. {remedy}")
    if result["parameters"] != {each.name: each.default for each in chapter.parameters}:
        yield Fault(record_file, f"was made with parameters other than the defaults. {remedy}")
    for key, verdict in result["verdicts"].items():
        if verdict.get("contradicted"):
            yield Fault(record_file, f"verdict {key} is contradicted: a fault in book or code.")
    yield from check_files(result["values"], chapter, remedy)


def check_files(values: dict[str, Any], chapter: ChapterFile, remedy: str) -> Iterator[Fault]:
    """Yield a fault for each data file that is not the one which the chapter was made from."""
    for entry in values.values():
        if "file" not in entry:
            continue
        file, path = f"notebooks/{entry['file']}", chapter.path.parent / entry["file"]
        if not path.is_file():
            yield Fault(file, f"is absent; {chapter.name} reads it. Restore it.")
        elif file_digest(path) != entry["value"]:
            yield Fault(file, f"changed after {chapter.name} had read it. {remedy}")


def ages(stored: dict[str, Any], now: str) -> str:
    """Return "digest ab12… stored, cd34… now"."""
    digest = stored.get("digest")
    return f"digest {f'{digest[:8]}…' if digest else 'not'} stored, {now[:8]}… now"


def first_line(cell: dict[str, Any]) -> str:
    """Return the first line of a cell, cut to a readable length."""
    lines = source_of(cell).strip().splitlines()
    return lines[0][:60] if lines else ""


def text_of(output: dict[str, Any]) -> str:
    """Return the text of a stream output."""
    return str(join_lines(output.get("text", "")))
