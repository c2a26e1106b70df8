"""The built book: complete, self-contained, free of raw TeX; and a faulty one does not build."""

from __future__ import annotations

import io
import re
import shutil
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT, build
from fontTools.ttLib import TTFont
from html_pages import Page, broken_links, is_external, read_book, read_page
from lipbook_sphinx.rawtex import raw_tex

FURNITURE = ("genindex.html", "search.html")  # made by Sphinx, no pages of the book


@pytest.fixture(scope="module")
def pages(book_html: Path) -> dict[Path, Page]:
    return read_book(book_html)


@pytest.fixture(scope="module")
def written(pages: dict[Path, Page]) -> list[Page]:
    return [page for path, page in pages.items() if path.name not in FURNITURE]


def toc_files() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


def test_every_file_of_the_contents_is_a_page(pages: dict[Path, Page], book_html: Path) -> None:
    missing = [name for name in toc_files() if book_html / f"{name}.html" not in pages]
    assert missing == []


def test_every_page_and_notebook_is_in_the_contents() -> None:
    found = [*(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]
    names = {path.relative_to(ROOT).with_suffix("").as_posix() for path in found}
    assert names - set(toc_files()) == set()


def test_front_page_redirects_into_the_book(book_html: Path) -> None:
    assert "book/index.html" in (book_html / "index.html").read_text(encoding="utf-8")


def test_no_tex_reaches_the_reader(pages: dict[Path, Page]) -> None:
    left = {path.name: raw_tex(path.read_text(encoding="utf-8")) for path in pages}
    assert {name: pieces for name, pieces in left.items() if pieces} == {}


def test_links_and_anchors_resolve(pages: dict[Path, Page], book_html: Path) -> None:
    assert broken_links(pages, book_html) == []


def test_ids_are_unique(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        twice = {each for each in page.ids if page.ids.count(each) > 1}
        assert not twice, f"{path.name}: {twice}"


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page], book_html: Path) -> None:
    for path, page in pages.items():
        assert [url for url in page.assets if is_external(url)] == [], path.name
    for css in book_html.rglob("*.css"):
        text = css.read_text(encoding="utf-8")
        urls = re.findall(r"(?:url\(|@import\s+)[\"']?(https?:|//)[^)\"']*", text)
        assert urls == [], css.name


def test_no_script_blocks_a_page(written: list[Page]) -> None:
    for page in written:
        assert page.blocking == [], page.path.name


def test_no_script_sets_the_formulas(book_html: Path) -> None:
    for path in book_html.rglob("*.html"):
        assert not re.search(r"mjx|mathjax", path.read_text(encoding="utf-8"), re.I), path.name
    assert not [path for path in book_html.rglob("*") if "mathjax" in path.name.lower()]


def test_no_icon_script(book_html: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert not [url for url in page.assets if "fontawesome" in url], path.name


def test_pictures_are_described(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert page.undescribed == [], path.name


def test_every_page_says_what_it_is(written: list[Page]) -> None:
    for page in written:
        name = page.path.name
        assert page.lang == "en", name
        assert page.title.strip(), name
        assert 20 <= len(page.description) <= 320, f"{name}: {page.description!r}"
        assert page.headings.count("h1") == 1, name
    titles = [page.title for page in written]
    assert len(set(titles)) == len(titles)


def test_headings_skip_no_level(written: list[Page]) -> None:
    for page in written:
        levels = [int(heading[1]) for heading in page.headings]
        assert all(after <= before + 1 for before, after in pairwise(levels)), (
            f"{page.path.name}: {levels}"
        )


def test_font_has_every_character_of_the_formulas(written: list[Page], book_html: Path) -> None:
    font = TTFont(io.BytesIO((book_html / "_static/math.woff2").read_bytes()))
    known = set(map(chr, font.getBestCmap()))
    for page in written:
        used = set("".join(page.math_text)) - set("\n")
        assert used <= known, f"{page.path.name}: {sorted(used - known)}"
    assert "MATH" in font


def copy_book(target: Path, files: dict[str, str]) -> Path:
    """Make a small book of these files with this book's configuration and extension."""
    (target / "book").mkdir(parents=True)
    shutil.copy(ROOT / "_config.yml", target)
    for name in ("_ext", "_static", "_vendor"):
        (target / "book" / name).symlink_to(ROOT / "book" / name)
    shutil.copy(ROOT / "book" / "references.bib", target / "book")
    chapters = "\n".join(f"  - file: {name}" for name in files if name != "book/index")
    toc = f"format: jb-book\nroot: book/index\nchapters:\n{chapters}\n"
    (target / "_toc.yml").write_text(toc, encoding="utf-8")
    for name, text in files.items():
        path = target / (name if name.endswith(".ipynb") else f"{name}.md")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return target


def notebook_with(metadata: dict[str, str], svg: str = "<svg viewBox='0 0 1 1'></svg>") -> str:
    """Return a notebook whose one cell shows an SVG with this metadata."""
    output = nbformat.v4.new_output(
        "display_data", {"image/svg+xml": svg}, metadata={"image/svg+xml": metadata}
    )
    cell = nbformat.v4.new_code_cell("show()", outputs=[output], execution_count=1)
    title = nbformat.v4.new_markdown_cell("# A figure\n\nSee {numref}`fig-one`.")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(nbformat.v4.new_notebook(cells=[title, cell], metadata=kernel))


SOUND = {
    "book/index": "# Sound\n\nSee {prf:ref}`thm-one` and {numref}`fig-one`, {eq}`eq-one`.\n",
    "book/theorem": (
        "# A theorem\n\n:::{prf:theorem} Of $x$\n:label: thm-one\nThen\n\n$$\n\\norm{x} \\ge 0\n$$"
        " (eq-one)\n:::\n\n:::{exercise} Of $y$\n:label: ex-one\nShow it.\n:::\n"
    ),
    "book/list": "# All theorems\n\n```{theorem-list}\n```\n",
    "notebooks/figure.ipynb": notebook_with(
        {"name": "fig-one", "caption": "Of $z$.", "alt": "An empty square."}
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = copy_book(tmp_path_factory.mktemp("sound") / "src", SOUND)
    done = build(source, source)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return source / "_build" / "html"


def test_a_sound_small_book_builds(sound: Path) -> None:
    index = (sound / "book/index.html").read_text(encoding="utf-8")
    assert "Theorem 1" in index and "Fig. 1" in index and "(1)" in index
    listed = (sound / "book/list.html").read_text(encoding="utf-8")
    assert re.search(r'href="theorem.html#thm-one">Theorem 1</a> \(Of .*<mi>x</mi>', listed)


def test_a_figure_is_numbered_described_and_part_of_the_page(sound: Path) -> None:
    page = (sound / "notebooks/figure.html").read_text(encoding="utf-8")
    assert re.search(r'<figure[^>]* id="fig-one">\s*<div class="drawing"><svg viewBox', page)
    assert 'role="img" aria-label="An empty square."' in page
    assert re.search(r"Fig\. 1 *</span><span class=\"caption-text\">Of .*<mi>z</mi>", page)


FAULTS = {
    "reference": ("# A\n\nSee {ref}`nowhere`.\n", "undefined label"),
    "theorem": ("# B\n\nSee {prf:ref}`thm-nowhere`.\n", "thm-nowhere"),
    "citation": ("# C\n\nSee {cite}`nobody1900`.\n", "nobody1900"),
    "trap": (
        "# D\n\n:::{prf:theorem}\n:label: thm-trap\nA line of text\n$$\na = b\n$$ (eq-trap)\n:::\n",
        "TeX left in the text of the page",
    ),
    "dollar": ("# D2\n\nA dollar \\$x and \\\\frac.\n", "TeX left in the text of the page"),
    "tex": ("# E\n\nIt is $\\frac{1}$.\n", r"TeX: .*\frac"),
    "macro": (
        "# F\n\nIt is\n\n$$\n\\nosuchmacro\n$$\n",
        r"Undefined control sequence \nosuchmacro",
    ),
    "image": ("# G\n\n![](picture.svg)\n", "figure without a description"),
    "first": ("(label-twice)=\n# H\n\nText.\n", "duplicate label label-twice"),
    "second": ("(label-twice)=\n# I\n\nText.\n", "duplicate label label-twice"),
    "record": ("# J\n\nIt is {record}`nothing:value`.\n", "there is no record nothing.json"),
    "level": ("# K\n\n### L\n\nText.\n", "Non-consecutive header level"),
}


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> str:
    files = {"book/index": "# Faulty\n\nEvery other page has one fault.\n"}
    files |= {f"book/{name}": text for name, (text, _) in FAULTS.items()}
    files["notebooks/nodescription.ipynb"] = notebook_with({"name": "fig-one", "caption": "C"})
    source = copy_book(tmp_path_factory.mktemp("faulty") / "src", files)
    (source / "book/picture.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>', encoding="utf-8"
    )
    done = build(source, source)
    assert done.returncode == 1
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_fails_the_build_and_is_named(complaints: str, name: str) -> None:
    told = [line for line in complaints.splitlines() if "WARNING" in line and f"/{name}" in line]
    pattern = FAULTS[name][1]
    pattern = pattern if ".*" in pattern else re.escape(pattern)
    pattern = pattern.replace(r"\frac", r"\\frac")
    others = [line for line in complaints.splitlines() if "WARNING" in line]
    assert any(re.search(pattern, line) for line in told), "\n".join(told or others)


def test_a_figure_without_description_fails_the_build(complaints: str) -> None:
    told = [line for line in complaints.splitlines() if "/nodescription.ipynb" in line]
    assert any("figure without a description" in line for line in told), told


def test_reader_of_pages_sees_faults(tmp_path: Path) -> None:
    page = tmp_path / "a.html"
    page.write_text(
        '<html><body><h1 id="x">T</h1><a href="#y">a</a><a href="b.html">b</a><img src="a.html">'
        '<svg></svg><svg aria-hidden="true"></svg><script src="https://x.org/a.js"></script>',
        encoding="utf-8",
    )
    read = read_page(page)
    assert len(read.undescribed) == 2
    assert len(broken_links({page: read}, tmp_path)) == 2
    assert [url for url in read.assets if is_external(url)] == read.blocking
