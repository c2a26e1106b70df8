"""A small reader of HTML pages: ids, links, assets, headings, text. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ASSETS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "object": "data"}


@dataclass
class Page:
    """What the tests ask of one page."""

    path: Path
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    assets: list[str] = field(default_factory=list)
    undescribed: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    lang: str = ""
    title: str = ""
    description: str = ""
    blocking: list[str] = field(default_factory=list)
    math_text: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page = page
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        page, given = self.page, {name: value or "" for name, value in attrs}
        self.open.append(tag)
        page.tags.add(tag)
        page.classes.update(given.get("class", "").split())
        page.ids += [given["id"]] if "id" in given else []
        if tag == "html":
            page.lang = given.get("lang", "")
        elif tag == "a" and "href" in given:
            page.links.append(given["href"])
        elif tag == "meta" and given.get("name") == "description":
            page.description = given.get("content", "")
        elif tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            page.headings.append(tag)
        self._asset(tag, given)
        self._described(tag, given)

    def _asset(self, tag: str, given: dict[str, str]) -> None:
        rel = given.get("rel", "").split()
        if tag == "link" and {"stylesheet", "icon", "preload", "manifest"} & set(rel):
            self.page.assets.append(given["href"])
        elif tag in ASSETS and given.get(ASSETS[tag]):
            self.page.assets.append(given[ASSETS[tag]])
        if tag == "script" and "src" in given and not {"defer", "async"} & set(given):
            self.page.blocking.append(given["src"])

    def _described(self, tag: str, given: dict[str, str]) -> None:
        hidden = given.get("aria-hidden") == "true"
        if (tag == "img" and not given.get("alt")) or (
            tag == "svg" and not hidden and not given.get("aria-label")
        ):
            self.page.undescribed.append(self.get_starttag_text() or tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["title"] and "svg" not in self.open:
            self.page.title += data
        if "math" in self.open and data.strip():
            self.page.math_text.append(data)


def read_page(path: Path) -> Page:
    """Read one HTML file."""
    page = Page(path)
    reader = _Reader(page)
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    return page


def read_book(root: Path) -> dict[Path, Page]:
    """Read every page below a folder, the redirect of the front page left out."""
    paths = sorted(path for path in root.rglob("*.html") if "_static" not in path.parts)
    pages = {path: read_page(path) for path in paths}
    return {path: page for path, page in pages.items() if "body" in page.tags}


def is_external(url: str) -> bool:
    """Whether a URL leaves the book."""
    parts = urlsplit(url)
    return bool(parts.netloc) or parts.scheme in ("http", "https")


def broken_links(pages: dict[Path, Page], root: Path) -> list[str]:
    """Return every internal link whose file or anchor does not exist."""
    broken = []
    for path, page in pages.items():
        for url in page.links + page.assets:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            anchor = unquote(parts.fragment)
            inside = target == root or root in target.parents
            if not inside or not target.is_file():
                broken.append(f"{path.relative_to(root)}: {url}")
            elif anchor and target in pages and anchor not in pages[target].ids:
                broken.append(f"{path.relative_to(root)}: {url} (no such anchor)")
    return broken
