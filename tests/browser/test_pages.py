"""Every page in a real browser: complete, quiet, within its window, and accessible.

The book is served by a plain static server under a sub-path, as a project page is.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from html_pages import is_external, read_book
from lipbook_sphinx.rawtex import raw_tex

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
# No sandbox within a container, and nothing that would ask the network by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
AXE = "axe_playwright_python"  # ships axe.min.js
# A page is opened in the first colour scheme and then switched to the second.
MODES = {"desktop": (1280, 900, "light", "dark"), "phone": (390, 844, "dark", "light")}
FURNITURE = ("genindex.html", "search.html")  # made by Sphinx, no pages of the book
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FONT = "document.fonts.ready.then(() => document.fonts.check('16px \"Book Math\"'))"
# The page's own script acts before the next frame is drawn; nobody reads sooner.
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
# The inside of a drawing is no content, its label is; a formula has one colour in all its letters.
# Axe looks through every element for what lies below it: without these it is thrice as fast.
EMPTIED = """() => {
    document.querySelectorAll('.drawing svg').forEach(svg => svg.replaceChildren());
    document.querySelectorAll('math').forEach(math => {
        const letter = math.querySelector('mi, mn, mo, mtext').cloneNode(true);
        math.replaceChildren(letter);
    });
}"""


def missing() -> str:
    """Return what is not installed of what these tests need."""
    if CHROMIUM is None:
        return "no Chromium on PATH"
    lacking = [name for name in ("playwright", AXE) if not importlib.util.find_spec(name)]
    return f"not installed: {lacking}" if lacking else ""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    lacking = missing()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(f"{lacking}: in CI the browser tests are required")
    if lacking:
        pytest.skip(lacking)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def base(book_html: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the book on a static server, below a sub-path."""
    root = tmp_path_factory.mktemp("site")
    (root / "some").mkdir()
    (root / "some" / "book").symlink_to(book_html)
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/some/book/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def addresses(book_html: Path) -> list[str]:
    """The pages relative to the book's root, the furniture of Sphinx included."""
    return [path.relative_to(book_html).as_posix() for path in read_book(book_html)]


@pytest.fixture(scope="module")
def axe() -> str:
    spec = importlib.util.find_spec(AXE)
    assert spec is not None and spec.origin is not None
    [script] = sorted(Path(spec.origin).parent.rglob("axe.min.js"))[:1]
    return script.read_text(encoding="utf-8")


@dataclass
class Visit:
    """What happened while a page was open."""

    base: str
    external: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Write down every request that leaves the book, every failure and every complaint."""
        page.on("request", lambda request: self._asked(request.url))
        page.on("requestfailed", lambda request: self.failed.append(request.url))
        page.on("response", lambda answer: self._answered(answer.status, answer.url))
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def _asked(self, url: str) -> None:
        if is_external(url) and not url.startswith(self.base):
            self.external.append(url)

    def _answered(self, status: int, url: str) -> None:
        if status >= 400:
            self.failed.append(f"{status} {url}")

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.said.append(text)


def violations(page: Page, **options: Any) -> list[str]:
    """Return what axe finds on a page that has its script; it must fetch no style sheet again."""
    options = {"preload": False, "resultTypes": ["violations"], **options}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [f"{each['id']} ({each['impact']}): {each['nodes'][0]['html'][:160]}" for each in found]


def faults_of(page: Page, visit: Visit) -> dict[str, Any]:
    """Return what is wrong with an open page; an empty value is a fault not found."""
    has_math = page.locator("math").count() > 0
    return {
        "overflow": max(page.evaluate(OVERFLOW), 0),
        "raw TeX": raw_tex(page.content()),
        "math font not loaded": has_math and not page.evaluate(FONT),
        "external requests": visit.external,
        "failed requests": visit.failed,
        "console": visit.said,
    }


def access_faults(page: Page, axe: str, mode: str) -> dict[str, list[str]]:
    """Return what axe finds on an open page, whose formulas and drawings it empties.

    Colours are those of both schemes on the desktop; a phone has no others.
    """
    page.evaluate(axe)
    page.evaluate(DRAWN)
    found = {"axe, scrolling": violations(page, runOnly=["scrollable-region-focusable"])}
    page.evaluate(EMPTIED)
    if mode == "phone":
        rules = {"color-contrast": {"enabled": False}}
        return found | {"axe": violations(page, rules=rules)}
    found["axe"] = violations(page)
    return found | {f"axe, {MODES[mode][3]}": contrast_faults(page, MODES[mode][3])}


def contrast_faults(page: Page, scheme: str) -> list[str]:
    """Return what is too pale in the other colour scheme."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
    return violations(page, runOnly=["color-contrast"])


@pytest.mark.parametrize("mode", MODES)
def test_every_page(mode: str, browser: Browser, base: str, addresses: list[str], axe: str) -> None:
    width, height, scheme, _ = MODES[mode]
    wrong = {}
    for address in addresses:
        with browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
        ) as page:
            visit = Visit(base)
            visit.listen(page)
            page.goto(base + address, wait_until="load")
            assert page.evaluate("document.documentElement.dataset.theme") == scheme
            faults = faults_of(page, visit) | access_faults(page, axe, mode)
            found = {name: value for name, value in faults.items() if value}
            if found:
                wrong[address] = found
    assert wrong == {}


def test_pages_keep_their_content_without_scripts(
    browser: Browser, base: str, addresses: list[str]
) -> None:
    with browser.new_context(java_script_enabled=False) as context, context.new_page() as page:
        for address in addresses:
            if address in FURNITURE:
                continue
            page.goto(base + address)
            assert page.locator("article h1").is_visible(), address
            for formula in page.locator("article p > math").all()[:5]:
                box = formula.bounding_box()
                assert box is not None and box["width"] > 2 and box["height"] > 4, address


def test_colour_mode_is_switched_by_keyboard(browser: Browser, base: str) -> None:
    with browser.new_page(color_scheme="light") as page:
        page.goto(base + "book/notation.html", wait_until="load")
        page.locator("button.theme-switch-button:visible").focus()
        seen = []
        for _ in range(3):
            page.keyboard.press("Enter")
            page.wait_for_timeout(100)
            seen.append(page.evaluate("document.documentElement.dataset.mode"))
        assert seen == ["dark", "light", "auto"]


def test_search_finds_a_page(browser: Browser, base: str) -> None:
    with browser.new_page() as page:
        page.goto(base + "book/notation.html", wait_until="load")
        page.keyboard.press("Control+k")
        page.keyboard.type("notation")
        page.keyboard.press("Enter")
        page.wait_for_url("**/search.html?q=notation*")
        results = page.locator("#search-results li a")
        results.first.wait_for(timeout=10_000)
        found = [str(link.get_attribute("href")) for link in results.all()]
        assert any("book/notation.html" in url for url in found)


def test_the_menu_opens_on_a_phone(browser: Browser, base: str) -> None:
    with browser.new_page(viewport={"width": 390, "height": 844}) as page:
        page.goto(base + "book/notation.html", wait_until="load")
        page.locator("button.primary-toggle").click()
        page.locator("nav.bd-docs-nav a", has_text="Bibliography").click()
        page.wait_for_url("**/book/bibliography.html")
