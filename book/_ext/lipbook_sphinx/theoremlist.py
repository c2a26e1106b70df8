"""The directive {theorem-list}: every numbered statement of the book, chapter by chapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective


class theorem_list(nodes.General, nodes.Element):
    """Stands where the list will be, until every page is read."""


class TheoremList(SphinxDirective):
    """Marks the place of the list."""

    def run(self) -> list[nodes.Node]:
        """Return the mark."""
        return [theorem_list()]


def reading_order(env: BuildEnvironment) -> Iterator[str]:
    """Yield the pages in the order of the table of contents."""
    waiting = [env.config.root_doc]
    seen: set[str] = set()
    while waiting:
        docname = waiting.pop(0)
        if docname not in seen:
            seen.add(docname)
            yield docname
            waiting = [*env.toctree_includes.get(docname, []), *waiting]


def statements(env: BuildEnvironment, docname: str) -> Iterator[dict[str, Any]]:
    """Yield the numbered statements of one page in its order, each with its title's nodes."""
    known: dict[str, dict[str, Any]] = getattr(env, "proof_list", {})
    if not any(entry["docname"] == docname for entry in known.values()):
        return
    for node in env.get_doctree(docname).findall(nodes.Admonition):
        entry = known.get(node.get("label", ""))
        if entry and entry["docname"] == docname and not entry["nonumber"]:
            title = node.next_node(nodes.title)
            yield {**entry, "title": title.children if title else []}


def listed(app: Sphinx, fromdocname: str) -> list[nodes.Node]:
    """Build the list: for each page its title, then a link to each of its statements."""
    env, found = app.env, []
    for docname in reading_order(env):
        items = [_item(app, fromdocname, entry) for entry in statements(env, docname)]
        if items:
            title = [child.deepcopy() for child in env.titles[docname].children]
            found.append(nodes.rubric("", "", *title))
            found.append(nodes.bullet_list("", *items, classes=["theorem-list"]))
    return found


def _item(app: Sphinx, fromdocname: str, entry: dict[str, Any]) -> nodes.list_item:
    return nodes.list_item("", nodes.paragraph("", "", *link_and_title(app, fromdocname, entry)))


def link_and_title(app: Sphinx, fromdocname: str, entry: dict[str, Any]) -> list[nodes.Node]:
    """Return a link to a numbered statement that reads as its number, and its title's nodes."""
    docname, anchor = entry["docname"], entry["ids"][0]
    numbers = app.env.toc_fignumbers[docname][entry["countertype"]][anchor]
    name = f"{entry['realtype'].title()} {'.'.join(map(str, numbers))}"
    uri = f"{app.builder.get_relative_uri(fromdocname, docname)}#{anchor}"
    link = nodes.reference("", name, refuri=uri, internal=True)
    return [link, *(child.deepcopy() for child in entry["title"])]


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the mark by the list."""
    for mark in list(doctree.findall(theorem_list)):
        mark.replace_self(listed(app, docname))


def note_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Remember the pages that hold a list, for they change with every other page."""
    if next(doctree.findall(theorem_list), None) is not None:
        app.env.metadata[app.env.docname]["theorem-list"] = True


def pages_to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that hold a list: they are written anew in every build."""
    return [docname for docname, about in env.metadata.items() if about.get("theorem-list")]


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_node(theorem_list)
    app.add_directive("theorem-list", TheoremList)
    app.connect("doctree-read", note_pages)
    app.connect("env-updated", pages_to_write)
    app.connect("doctree-resolved", resolve)
