"""The directives {claim} and {claim-list}: from a claim to theorems, code, tests and evidence.

    :::{claim} C1
    :title: decay keeps the constant small
    :status: proved under stronger assumptions
    :theorems: thm-path thm-eventual

    What is weaker, what is stronger, what was measured.
    :::

The chain of each theorem (hypotheses, code, tests, verdicts) is read from the repository, never
typed, and each theorem says on its own page which claims it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from lipbook import records
from lipbook.wording import fmt

from .catalogue import Entry, catalogue
from .theoremlist import link_and_title, statements

STATUSES = (
    "proved and observed",
    "proved under stronger assumptions",
    "observed only",
    "not as claimed",
    "open",
)


class claim_chain(nodes.General, nodes.Element):
    """Stands where the chain of one claim will be."""


class claim_list(nodes.General, nodes.Element):
    """Stands where the table of all claims will be."""


def _status(text: str) -> str:
    return directives.choice(text, STATUSES)


class Claim(SphinxDirective):
    """Write the status, the prose and the place of the chain."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012
        "title": directives.unchanged_required,
        "status": _status,
        "theorems": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return them, and remember the claim."""
        name, labels = self.arguments[0], self.options.get("theorems", "").split()
        claims: dict[str, Any] = self.env.__dict__.setdefault("book_claims", {})
        claims[name] = {**self.options, "labels": labels, "docname": self.env.docname}
        status = nodes.paragraph("", "", nodes.strong("", f"Status: {self.options['status']}."))
        body = nodes.container(classes=["claim"], ids=[nodes.make_id(f"chain-{name}")])
        body += status
        self.state.nested_parse(self.content, self.content_offset, body)
        body += claim_chain(claim=name)
        for path in (Path(self.env.srcdir) / "notebooks" / "records").glob("*.json"):
            self.env.note_dependency(str(path))
        return [body]


class ClaimList(SphinxDirective):
    """Mark the place of the table."""

    def run(self) -> list[nodes.Node]:
        """Return the mark."""
        return [claim_list()]


def by_label(app: Sphinx) -> dict[str, dict[str, Any]]:
    """Return the numbered statements of all pages by label."""
    pages = sorted(app.env.found_docs)
    return {entry["label"]: entry for page in pages for entry in statements(app.env, page)}


def chain(
    app: Sphinx,
    docname: str,
    labels: list[str],
    known: dict[str, dict[str, Any]],
    repository: dict[str, Entry],
) -> list[nodes.Node]:
    """Return one item for each theorem: what it is, what it asks, where it is tested and seen."""
    items = []
    for label in labels:
        if label not in known:
            raise ValueError(f"`theorems` must name statements of the book. Got {label!r}.")
        term = nodes.term("", "", *link_and_title(app, docname, known[label]))
        facts = nodes.bullet_list("", *_facts(app, docname, repository.get(label, Entry())))
        items.append(nodes.definition_list_item("", term, nodes.definition("", facts)))
    return [nodes.definition_list("", *items, classes=["claim-chain"])] if items else []


def _facts(app: Sphinx, docname: str, entry: Entry) -> Iterator[nodes.list_item]:
    """Yield what is known of one theorem, a line each."""
    if entry.hypotheses:
        texts = [f"({name}) {statement}" for name, statement in entry.hypotheses]
        yield _line("Hypotheses: ", nodes.Text("; ".join(texts) + "."))
    yield from (_line("Code: ", nodes.literal("", name)) for name in entry.code)
    if entry.tests:
        names = [
            node for test in entry.tests for node in (nodes.Text(", "), nodes.literal("", test))
        ]
        yield _line("Tests: ", *names[1:])
    for chapter in dict.fromkeys(chapter for chapter, _ in entry.verdicts):
        page = f"notebooks/{chapter}"
        title = nodes.Text(app.env.titles[page].astext()) if page in app.env.titles else None
        link = nodes.reference(
            "", "", title or nodes.Text(chapter), internal=True,
            refuri=app.builder.get_relative_uri(docname, page),
        )  # fmt: skip
        yield _line(
            "Seen: ", link, nodes.Text(seen([v for c, v in entry.verdicts if c == chapter]))
        )


def _line(head: str, *parts: nodes.Node) -> nodes.list_item:
    return nodes.list_item("", nodes.paragraph("", "", nodes.Text(head), *parts))


def seen(verdicts: list[dict[str, Any]]) -> str:
    """Return what a chapter's verdicts on one theorem say together."""
    speaking = [verdict for verdict in verdicts if verdict["applies"]]
    text = f": applies in {len(speaking)} of {len(verdicts)}"
    pairs = [
        (records.decode(v["bound"]), records.decode(v["measured"]))
        for v in speaking
        if v["bound"] is not None and v["measured"] is not None
    ]
    if pairs:
        bound, measured = min(pairs, key=lambda pair: pair[0] - pair[1])
        text += f"; with the least slack, {fmt(measured)} measured against {fmt(bound)} promised"
    return f"{text}."


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fill the marks, and tell each theorem which claims it stands for."""
    claims: dict[str, Any] = getattr(app.env, "book_claims", {})
    if marks := list(doctree.findall(claim_chain)):
        known, repository = by_label(app), catalogue(Path(app.srcdir))
        for mark in marks:
            labels = claims[mark["claim"]]["labels"]
            mark.replace_self(chain(app, docname, labels, known, repository))
    for table in list(doctree.findall(claim_list)):
        table.replace_self([_table(app, docname, claims)])
    for node in list(doctree.findall(nodes.Admonition)):
        standing = [name for name, claim in claims.items() if node.get("label") in claim["labels"]]
        if standing:
            node += _back(app, docname, claims, standing)


def _back(app: Sphinx, docname: str, claims: dict[str, Any], names: list[str]) -> nodes.paragraph:
    line = nodes.paragraph("", "", nodes.Text("Stands for "), classes=["claim-back"])
    for i, name in enumerate(names):
        line += [nodes.Text(", ")] if i else []
        line += _link(app, docname, claims[name]["docname"], name)
    line += nodes.Text(".")
    return line


def _link(app: Sphinx, docname: str, target: str, name: str) -> nodes.reference:
    anchor = nodes.make_id(f"chain-{name}")
    uri = f"{app.builder.get_relative_uri(docname, target)}#{anchor}"
    return nodes.reference("", f"claim {name}", refuri=uri, internal=True)


def _table(app: Sphinx, docname: str, claims: dict[str, Any]) -> nodes.bullet_list:
    """Return all claims with their status, a line each: a table would not fit a phone."""
    items = []
    for name, claim in sorted(claims.items()):
        link = _link(app, docname, claim["docname"], name)
        text = nodes.Text(f", {claim['title']}: ")
        status = nodes.strong("", claim["status"])
        items.append(nodes.list_item("", nodes.paragraph("", "", link, text, status)))
    return nodes.bullet_list("", *items, classes=["claim-list"])


def note_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Remember the pages with chains: they change with other pages."""
    if next(doctree.findall(claim_chain), None) is not None:
        app.env.metadata[app.env.docname]["claims"] = True


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget the claims of a page that is read again."""
    claims = getattr(env, "book_claims", {})
    for name in [name for name, claim in claims.items() if claim["docname"] == docname]:
        del claims[name]


def merge(app: Sphinx, env: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    """Take over the claims that another process has read."""
    claims: dict[str, Any] = env.__dict__.setdefault("book_claims", {})
    claims.update(getattr(other, "book_claims", {}))


def pages_to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages with chains and those whose theorems stand for a claim."""
    claims = getattr(env, "book_claims", {})
    labels = {label for claim in claims.values() for label in claim["labels"]}
    known: dict[str, dict[str, Any]] = getattr(env, "proof_list", {})
    theorems = {entry["docname"] for label, entry in known.items() if label in labels}
    return sorted({d for d, about in env.metadata.items() if about.get("claims")} | theorems)


def setup(app: Sphinx) -> None:
    """Register the directives."""
    app.add_node(claim_chain)
    app.add_node(claim_list)
    app.add_directive("claim", Claim)
    app.add_directive("claim-list", ClaimList)
    app.connect("env-purge-doc", purge)
    app.connect("env-merge-info", merge)
    app.connect("doctree-read", note_pages)
    app.connect("env-updated", pages_to_write)
    app.connect("doctree-resolved", resolve)
