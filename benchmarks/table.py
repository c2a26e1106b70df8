"""The rows as a table to read: a line per tool, a column per network, then the ratios."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.cases import Case
from benchmarks.results import Row
from benchmarks.targets import Ratio
from benchmarks.tools import TOOLS

SHORT = {
    "time limit": "stopped",
    "out of memory": "memory",
    "crashed": "crashed",
    "missing": "missing",
    "does not apply": "·",
    "skipped": "–",
    "failed": "failed",
}


def seconds_text(seconds: float | None) -> str:
    """Return a time in a unit that suits it: "1.4 ms"."""
    if seconds is None:
        return "?"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1.0 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError


def cell(row: Row | None) -> str:
    """Return one entry: value / time, the open bracket / time, or why there is neither."""
    if row is None:
        return ""
    if row.value is not None:
        mark = "" if row.status == "ok" else "?"
        return f"{row.value:.5g}{mark} / {seconds_text(row.seconds)}"
    if row.upper is not None and row.lower is not None:
        return f"[{row.lower:.4g}, {row.upper:.4g}] / {seconds_text(row.seconds)}"
    word = SHORT.get(row.status.partition(":")[0], row.status)
    return f"{word} {seconds_text(row.seconds)}" if row.seconds is not None else word


def table(rows: Sequence[Row], columns: Iterable[Case]) -> str:
    """Return the table of these cases; a column or line without an entry is left out.

    Args:
        rows: what was measured.
        columns: the cases, in order.
    """
    by_key = {(row.tool, row.case): row for row in rows}
    cases = [case for case in columns if any(key[1] == case for key in by_key)]
    lines = [["", *map(str, cases)]]
    for name, tool in TOOLS.items():
        cells = [cell(by_key.get((name, case))) for case in cases]
        if any(cells):
            lines.append([tool.title, *cells])
    return aligned(lines)


def ratio_table(ratios: Mapping[str, Ratio]) -> str:
    """Return one line per ratio: name, value, target, verdict."""
    words = {True: "reached", False: "NOT REACHED", None: ""}
    lines = [["ratio", "value", "target", "", "of"]]
    for name, ratio in ratios.items():
        value = "not measured" if ratio.value is None else f"{ratio.value:.4g}"
        sign = "≥" if ratio.at_least else "≤"
        target = "" if ratio.target is None else f"{sign} {ratio.target:g}"
        lines.append([name, value, target, words[ratio.reached], ratio.meaning])
        if ratio.note:
            lines[-1][-1] += f" ({ratio.note})"
    return aligned(lines)


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of text in columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
