"""The page of a re-run, and the build that makes it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from trial_book import ROOT

from lipbook.running import build, chapters, execute, page
from lipbook.running.errors import RunFailed


@pytest.mark.parametrize(
    ("url", "moved"),
    [
        ("../_static/a.css?v=1", "site/_static/a.css?v=1"),
        ("other.html#part", "site/notebooks/other.html#part"),
        ("../book/index.html", "site/book/index.html"),
        ("#anchor", "#anchor"),
        ("#", "#"),
        ("", ""),
        ("../", "site/"),
        ("trial.html#fig-a", "trial.html#fig-a"),
        ("https://example.org/a", "https://example.org/a"),
        ("//example.org/a", "//example.org/a"),
        ("/a", "/a"),
        ("data:image/png;base64,AA", "data:image/png;base64,AA"),
        ("mailto:a@example.org", "mailto:a@example.org"),
        ("?q=1", "?q=1"),
    ],
)
def test_links_of_a_moved_page(url: str, moved: str) -> None:
    assert page.rebased(url, "site/notebooks", "trial") == moved


def test_only_attributes_are_moved() -> None:
    text = '<a href="b.html?x=1&amp;y=2">href="b.html"</a><html data-content_root="../" lang="en">'
    assert page.rebase(text, "site/notebooks", "trial") == (
        '<a href="site/notebooks/b.html?x=1&amp;y=2">href="b.html"</a>'
        '<html data-content_root="site/" lang="en">'
    )


def test_the_note_of_a_re_run_says_what_differs(book: Path) -> None:
    chapter = chapters.find_chapter(book, "trial")
    values = {each.name: each.default for each in chapter.parameters}
    assert "with the parameters of the published page" in page.note_text(chapter, values)
    note = page.note_text(chapter, {**values, "activation": "tanh", "widths": [3]})
    assert '- `activation` = `"tanh"` (published: `"relu"`), activation σ' in note
    assert "- `widths` = `[3]` (published: `[1, 2]`)" in note
    assert "`width`" not in note and note.endswith(":::")


def test_a_run_s_page_stands_alone(tmp_path: Path) -> None:
    """The real book, with the trial notebook as its only chapter."""
    book = tmp_path / "book"
    page.copy_sources(ROOT, book)
    shutil.rmtree(book / "notebooks")
    (book / "notebooks").mkdir()
    shutil.copy(ROOT / "tests" / "fixtures" / "trial.ipynb", book / "notebooks")
    toc = "format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/trial\n"
    (book / "_toc.yml").write_text(toc)
    chapter = chapters.find_chapter(book, "trial")
    finished = execute.run_chapter(chapter, {"width": 8}, tmp_path / "out", book)
    assert finished.page is not None
    text = finished.page.read_text(encoding="utf-8")
    assert "A re-run, not the published page" in text and "Set for this run" in text
    links = {match["url"].partition("#")[0].partition("?")[0] for match in page.LINK.finditer(text)}
    local = {link for link in links if link and "://" not in link and ":" not in link}
    assert local and all((tmp_path / "out" / link).exists() for link in local)
    assert "re-run-note" not in finished.notebook.read_text()


def test_a_page_that_cannot_be_built_is_told_and_the_rest_kept(book: Path, tmp_path: Path) -> None:
    """The trial book has no first page."""
    out = tmp_path / "out"
    with pytest.raises(RunFailed, match=r"Notebook and record are in .* but the page is not"):
        execute.run_chapter(chapters.find_chapter(book, "trial"), {}, out, book)
    assert {path.name for path in out.iterdir()} == {"trial.ipynb", "record.json"}


def test_a_build_that_fails_lists_its_warnings(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "print('reading'); print('page.md:3: WARNING: no such label'); raise SystemExit(1)"
    monkeypatch.setattr(build, "JUPYTER_BOOK", command)
    seen: list[str] = []
    with pytest.raises(RunFailed) as failure:
        build.build_book(book, watch=seen.append)
    assert str(failure.value) == "The book does not build:\npage.md:3: WARNING: no such label"
    assert seen == ["reading", "page.md:3: WARNING: no such label"]


def test_a_build_starts_from_clean(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (book / "_build" / "html").mkdir(parents=True)
    (book / "_build" / "html" / "index.html").write_text("stale")
    monkeypatch.setattr(build, "JUPYTER_BOOK", "print('done')")
    with pytest.raises(RunFailed, match="The book does not build:\ndone"):
        build.build_book(book)


def test_a_build_that_is_interrupted_stops_its_process(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    command = [sys.executable, "-uc", "import time; print('on'); time.sleep(60)"]
    with pytest.raises(KeyboardInterrupt):
        build.follow(command, tmp_path, interrupt)
