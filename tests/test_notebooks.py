"""The chapters: what they store is what they compute, and each is built as the book promises."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trial_book import ROOT, child_environment, edit

from lipbook import records
from lipbook.running.chapters import (
    ChapterFile,
    code_cells,
    list_chapters,
    load_chapter,
    notebooks_in_toc,
    path_of,
    source_of,
    tags_of,
)
from lipbook.running.check import check_book
from lipbook.running.execute import kernel_environment
from lipbook.running.refresh import run_cells

NAMES = notebooks_in_toc(ROOT)
# Stored texts are promised to the letter where they are made; elsewhere numbers within tolerance.
STRICT = sys.platform == "linux" and platform.machine() == "x86_64"
SLOWEST_S = 300


def nbval(notebook: Path, record: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Re-execute a notebook with nbval and compare every stored output with the new one."""
    options = ["--nbval", "--nbval-current-env", "-p", "no:cacheprovider", "-c", os.devnull]
    sanitizer = ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval_sanitize.cfg")]
    environment = {**child_environment(), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment.pop("LIPBOOK_RECORD_DIR", None)
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *sanitizer, "--rootdir", ".", str(notebook)],
        cwd=notebook.parent.parent,
        env={**environment, "LIPBOOK_RECORD": str(record), **variables},
        capture_output=True,
        text=True,
        timeout=SLOWEST_S,
        check=False,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_gives_its_stored_outputs_again(name: str, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    path = path_of(ROOT, name)
    if STRICT:
        done = nbval(path, record)
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    else:
        import nbformat

        with kernel_environment(record, ROOT):
            run_cells(nbformat.read(path, as_version=4), path, None)
    published = records.load(path.parent / "records" / f"{name}.json")
    new = records.load(record)
    assert [str(difference) for difference in records.compare(published, new)] == []
    assert new["result"]["modules"] == published["result"]["modules"]


VECTOR_WIDTHS = {
    "no vectors": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"},
    "two threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
}


@pytest.mark.slow
@pytest.mark.skipif(not STRICT, reason="stored texts are promised on Linux x86-64")
@pytest.mark.parametrize("variant", VECTOR_WIDTHS)
def test_training_gives_the_same_outputs_at_other_vector_widths(
    variant: str, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    path = path_of(ROOT, "constant-or-decaying")
    done = nbval(path, record, **VECTOR_WIDTHS[variant])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    published = records.load(path.parent / "records" / "constant-or-decaying.json")
    found = records.compare(published, records.load(record))
    assert [str(difference) for difference in found] == []


def test_the_book_is_clean() -> None:
    assert [str(fault) for fault in check_book(ROOT)] == []


# ---- negative controls: these tests can see what they are for


@pytest.mark.skipif(not STRICT, reason="stored texts are promised on Linux x86-64")
def test_nbval_sees_a_changed_text(refreshed: Path, tmp_path: Path) -> None:
    book = tmp_path / "book"
    shutil.copytree(refreshed, book)
    path = book / "notebooks" / "trial.ipynb"
    assert nbval(path, tmp_path / "record.json").returncode == 0
    text = path.read_text(encoding="utf-8")
    assert text.count("The risk is 1 with") == 2
    path.write_text(text.replace("The risk is 1 with", "The risk is 2 with"), encoding="utf-8")
    done = nbval(path, tmp_path / "record.json")
    assert done.returncode == 1 and "The risk is 2 with" in done.stdout


def copy_of_the_book(folder: Path) -> Path:
    """Copy the notebooks and what names them."""
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for file in ("_toc.yml", "_config.yml"):
        shutil.copy(ROOT / file, folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_touched_figure_and_a_stale_digest_are_seen(name: str, tmp_path: Path) -> None:
    book = copy_of_the_book(tmp_path)
    path = path_of(book, name)
    before = check_book(book)

    def touch(notebook: dict[str, Any]) -> None:
        data = next(
            output["data"]
            for cell in code_cells(notebook)
            for output in cell["outputs"]
            if "image/svg+xml" in output.get("data", {})
        )
        data["image/svg+xml"] = "".join(data["image/svg+xml"]).replace("<path ", "<path  ", 1)

    edit(path, touch)
    (fault,) = (each for each in check_book(book) if each not in before)
    assert fault.file == f"notebooks/{name}.ipynb"
    assert "stored outputs were changed by hand" in fault.message

    def age(notebook: dict[str, Any]) -> None:
        notebook["metadata"]["lipbook"]["digest"] = "0" * 64

    edit(path, age)
    assert any("made by other code (digest 00000000…" in str(fault) for fault in check_book(book))


def test_an_edited_library_makes_the_outputs_stale(tmp_path: Path) -> None:
    book = copy_of_the_book(tmp_path)
    shutil.copytree(ROOT / "lipbook", book / "lipbook")
    before = check_book(book)
    module = book / "lipbook" / "wording.py"
    module.write_text(f"{module.read_text(encoding='utf-8')}\n# a comment\n", encoding="utf-8")
    assert check_book(book) == before
    module.write_text(f"{module.read_text(encoding='utf-8')}\nx = 1\n", encoding="utf-8")
    stale = [each for each in check_book(book) if "made by other code" in each.message]
    assert {fault.file for fault in stale} == {f"notebooks/{name}.ipynb" for name in NAMES}


# ---- records and verdicts


@pytest.mark.parametrize("name", NAMES)
def test_published_verdicts_are_consistent(name: str) -> None:
    result = records.load(ROOT / "notebooks" / "records" / f"{name}.json")["result"]
    for key, verdict in result["verdicts"].items():
        holds = [hypothesis["holds"] for hypothesis in verdict["hypotheses"]]
        assert verdict["applies"] is all(holds), key
        assert not verdict["contradicted"], key
        assert (verdict["failed"] is None) is verdict["applies"], key
        bound, measured = (records.decode(verdict[side]) for side in ("bound", "measured"))
        if verdict["applies"] and bound is not None and measured is not None:
            assert measured <= bound * (1 + 1e-9), key


@pytest.mark.parametrize("name", NAMES)
def test_published_parameters_are_the_defaults(name: str) -> None:
    result = records.load(ROOT / "notebooks" / "records" / f"{name}.json")["result"]
    chapter = load_chapter(path_of(ROOT, name))
    assert result["chapter"] == name
    assert result["parameters"] == {each.name: each.default for each in chapter.parameters}
    assert "seed" in result["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_a_record_names_no_machine(name: str) -> None:
    record = records.load(ROOT / "notebooks" / "records" / f"{name}.json")
    assert "host" not in record["provenance"]
    assert record["provenance"]["duration_s"] > 0


def test_record_keys_are_said_once_in_the_book() -> None:
    """Two chapters may not give one figure the same anchor."""
    names = [
        f"fig-{figure}"
        for name in NAMES
        for figure in records.load(ROOT / "notebooks" / "records" / f"{name}.json")["result"][
            "figures"
        ]
    ]
    assert len(set(names)) == len(names)


# ---- the order of a chapter


def chapters() -> list[ChapterFile]:
    """Return the book's chapters."""
    return list_chapters(ROOT)


def headings(chapter: ChapterFile) -> list[str]:
    """Return a chapter's headings of level two."""
    found = []
    for cell in chapter.notebook["cells"]:
        if cell["cell_type"] == "markdown":
            found += re.findall(r"^## +(.+)$", source_of(cell), re.MULTILINE)
    return found


def prose(chapter: ChapterFile) -> str:
    """Return a chapter's Markdown, without code blocks."""
    cells = chapter.notebook["cells"]
    text = "\n\n".join(source_of(cell) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"^```(?!`|\{).*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_a_chapter_begins_and_ends_as_every_chapter(chapter: ChapterFile) -> None:
    cells = chapter.notebook["cells"]
    assert cells[0]["cell_type"] == "markdown" and source_of(cells[0]).startswith("# ")
    code = code_cells(chapter.notebook)
    assert "hide-input" in tags_of(code[0]) and "import" in source_of(code[0])
    assert tags_of(code[1]) == ["parameters"]
    assert f'chapter = Chapter("{chapter.name}")' in source_of(code[2])
    assert source_of(code[-1]).strip() == "chapter.close()"
    titles = headings(chapter)
    assert titles.index("Where it breaks") < titles.index("Exercises")
    assert "**Further reading.**" in prose(chapter)


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_a_chapter_has_its_boxes(chapter: ChapterFile) -> None:
    text = prose(chapter)
    assert "{admonition} Takeaway" in text
    labels = re.findall(r"\{exercise\}[^\n]*\n:label: (\S+)", text)
    solved = re.findall(r"\{solution\} (\S+)\n:class: dropdown", text)
    assert len(labels) >= 3 and labels == solved


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_every_declared_parameter_is_used(chapter: ChapterFile) -> None:
    cells = code_cells(chapter.notebook)[2:]
    code = "\n".join(source_of(cell) for cell in cells)
    unused = [each.name for each in chapter.parameters if not re.search(rf"\b{each.name}\b", code)]
    assert unused == []


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_a_cell_that_sets_or_measures_is_shown(chapter: ChapterFile) -> None:
    """Plumbing and plotting may be folded; a verdict never is."""
    for cell in code_cells(chapter.notebook):
        if {"hide-input", "remove-input", "hide-cell"} & set(tags_of(cell)):
            assert ".verdict(" not in source_of(cell)
            assert "Chapter(" not in source_of(cell)
        assert "remove-cell" not in tags_of(cell)
        assert not re.search(r"\btime\.|perf_counter|%%?time", source_of(cell))


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
@pytest.mark.parametrize(
    "phrase", ["easy to see", "obviously", "clearly", "trivially", "of course"]
)
def test_prose_does_not_wave_its_hands(chapter: ChapterFile, phrase: str) -> None:
    assert phrase not in prose(chapter).lower()


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.name)
def test_every_figure_says_what_it_shows(chapter: ChapterFile) -> None:
    for cell in code_cells(chapter.notebook):
        for output in cell["outputs"]:
            if "image/svg+xml" in output.get("data", {}):
                metadata = output["metadata"]["image/svg+xml"]
                assert len(metadata["alt"]) > 40 and metadata["alt"] != metadata["caption"]
                assert output["data"]["text/plain"] == f"Figure: {metadata['alt']}" or isinstance(
                    output["data"]["text/plain"], list
                )


@pytest.mark.parametrize("name", NAMES)
def test_stored_notebooks_are_in_one_form(name: str) -> None:
    text = path_of(ROOT, name).read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert set(notebook["metadata"]["lipbook"]) == {"digest", "outputs"}
    assert text == json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
