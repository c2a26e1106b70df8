"""After each parameters cell: a table of the parameters and the command that sets them."""

from __future__ import annotations

import ast
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from lipbook.parameters import FIRST_LINE, Parameter, ParameterError, parse_cell, resolve

logger = logging.getLogger(__name__)

WIDTH = 76  # of a line of the command: code blocks are about this wide on a laptop


def spelled(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | list) else repr(value)


def allowed(parameter: Parameter) -> str:
    """Return the allowed values in the fewest words: "1 to 4096", "relu, tanh", "at least 0"."""
    if parameter.choices is not None:
        return ", ".join(map(str, parameter.choices))
    if parameter.scalar == "bool":
        return "true, false"
    ends = (parameter.minimum, parameter.maximum)
    low, high = ("" if end is None else f"{end:.12g}" for end in ends)
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}"


def injected_values(source: str) -> dict[str, Any]:
    """Read the cell that a re-run put in: lines `name = value` with plain values."""
    found = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            found[statement.targets[0].id] = ast.literal_eval(statement.value)
    return found


def command(chapter: str, values: Mapping[str, Any]) -> str:
    """Return the command that runs a chapter with these values, broken into lines."""
    lines = [f"lipbook run {chapter}"]
    for name, value in values.items():
        option = f"-p {name}={shlex.quote(spelled(value))}"
        if len(lines[-1]) + len(option) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(f"   {option}")
        else:
            lines[-1] += f" {option}"
    return "\n".join(lines)


def table(parameters: Sequence[Parameter], values: Mapping[str, Any] | None) -> nodes.table:
    """Build the table; `values` are those of a re-run, shown in a column of their own."""
    headers = ["Parameter", "Meaning", "Type", "Allowed", "Default"]
    headers += ["This run"] if values is not None else []
    group = nodes.tgroup(cols=len(headers))
    group += [nodes.colspec(colwidth=1) for _ in headers]
    head, body = nodes.thead(), nodes.tbody()
    head += _row([nodes.Text(header) for header in headers])
    for parameter in parameters:
        cells = [
            nodes.literal("", parameter.name),
            nodes.Text(parameter.help),
            nodes.Text(parameter.type),
            nodes.Text(allowed(parameter)),
            nodes.literal("", spelled(parameter.default)),
        ]
        if values is not None:
            cells.append(nodes.literal("", spelled(values[parameter.name])))
        body += _row(cells)
    group += [head, body]
    return nodes.table("", group, classes=["parameters"])


def _row(cells: Sequence[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def _cells(doctree: nodes.document, tag: str) -> list[nodes.container]:
    return [
        node
        for node in doctree.findall(nodes.container)
        if f"tag_{tag}" in node["classes"] and "cell" in node["classes"]
    ]


def _source(cell: nodes.container) -> str:
    return next((block.astext() for block in cell.findall(nodes.literal_block)), "")


def add_tables(app: Sphinx, doctree: nodes.document) -> None:
    """Put table and command after the parameters cell of a chapter."""
    injected = _cells(doctree, "injected-parameters")
    for cell in _cells(doctree, "parameters"):
        source = _source(cell)
        try:
            parameters = parse_cell(source)
            given = injected_values(_source(injected[0])) if injected else None
            values = None if given is None else resolve(parameters, given)
        except (ParameterError, ValueError, SyntaxError) as error:
            logger.warning("parameters cell: %s", error, location=cell)
            continue
        if source.startswith(FIRST_LINE) and parameters:
            after = injected[0] if injected else cell
            index = after.parent.index(after) + 1
            after.parent.insert(index, _presented(app.env.docname, parameters, values))


def _presented(
    docname: str, parameters: Sequence[Parameter], values: Mapping[str, Any] | None
) -> list[nodes.Node]:
    chapter = PurePosixPath(docname).name
    shown = values or {parameter.name: parameter.default for parameter in parameters}
    made = "This command makes this page again" if values else "This command runs the chapter"
    text = f"{made}; put in values of your own to see what changes:"
    block = nodes.literal_block("", command(chapter, shown), language="console")
    return [table(parameters, values), nodes.paragraph("", text, classes=["rerun"]), block]


def setup(app: Sphinx) -> None:
    """Add the tables once a page is read."""
    app.connect("doctree-read", add_tables)
