"""How numbers, tables and verdicts become text: in one place, so that they do it alike."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

MARKUP = re.compile(r"\{[a-z:]+\}`(?P<role>[^`]*)`|\[(?P<link>[^\]]*)\]\([^)]*\)|\*\*|[`$]")

FIGURES = re.compile(r"-?(\d[\d.]*(e[-+]\d+)?|∞)( of \d+| ?%)?|")


def fmt(x: Any, digits: int = 3) -> str:
    """Round a number for prose: the one way in which numbers reach a sentence.

    Args:
        x: A number, bool or text, or a pair (k, n) for "k of n"; numpy and torch scalars too.
        digits: Significant digits kept.

    Returns:
        "0.0123", "12300", "1.2e-05", "∞", "yes", "3 of 5".

    Raises:
        ValueError: `digits` is below 1.
        TypeError: `x` is none of these.
    """
    if digits < 1:
        raise ValueError(f"`digits` must be at least 1. Got {digits}.")
    if isinstance(x, tuple) and len(x) == 2:
        return f"{fmt(x[0], digits)} of {fmt(x[1], digits)}"
    if hasattr(x, "item"):
        x = x.item()
    if isinstance(x, str):
        return x
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int):
        return str(x)
    if not isinstance(x, float):
        raise TypeError(f"`x` must be a number, bool, text or pair. Got {type(x).__name__}.")
    if not math.isfinite(x):
        return "not a number" if math.isnan(x) else "∞" if x > 0 else "-∞"
    return fmt_float(x, digits)


def fmt_float(x: float, digits: int) -> str:
    """Round a finite float to significant digits, without an exponent from 1e-4 up to 1e6."""
    if x == 0:
        return "0"
    scientific = f"{x:.{digits - 1}e}"
    exponent = int(scientific.partition("e")[2])
    if -4 <= exponent < 6:
        text = f"{float(scientific):.{max(digits - 1 - exponent, 0)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, power = scientific.partition("e")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{power}"


def plain(markdown: str) -> str:
    """Return a Markdown sentence without its markup, for a reader of plain text."""
    return MARKUP.sub(lambda match: match["role"] or match["link"] or "", markdown)


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Replace `{name}` by the rounded value of that name; other braces, as in TeX, stay.

    A brace that follows `_`, `^`, a letter or another brace belongs to TeX and is left alone.
    """
    pattern = re.compile(r"(?<![_^\\}\w])\{([A-Za-z_]\w*)\}")
    return pattern.sub(
        lambda match: fmt(values[match[1]]) if match[1] in values else match[0], template
    )


def table_html(rows: Sequence[Mapping[str, str]], caption: str = "") -> str:
    """Return rows as an HTML table whose first column names the rows.

    Columns of words are aligned to the left; those of numbers are left to the page, to the right.
    """
    headers = list(rows[0])
    words = {h for h in headers if not all(FIGURES.fullmatch(row[h]) for row in rows)}
    style = {h: ' style="text-align: left"' if h in words else "" for h in headers}
    head = "".join(f'<th scope="col"{style[h]}>{escape(h)}</th>' for h in headers)
    lines = ['<table class="dataframe">']
    if caption:
        lines.append(f"<caption>{escape(caption)}</caption>")
    lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in rows:
        first, *rest = headers
        cells = "".join(f"<td{style[h]}>{escape(row[h])}</td>" for h in rest)
        lines.append(f'<tr><th scope="row">{escape(row[first])}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


def table_text(rows: Sequence[Mapping[str, str]], caption: str = "") -> str:
    """Return rows as columns of aligned text."""
    headers = list(rows[0])
    lines = [headers, *([row[header] for header in headers] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([caption, *text] if caption else text)


def check_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check that rows make a table.

    Raises:
        ValueError: There is no row or column, two rows have other columns, or a header is empty.
        TypeError: A cell is no text.
    """
    if not rows or not rows[0]:
        raise ValueError("`rows` must hold at least one row with one column. Got none.")
    headers = list(rows[0])
    for row in rows:
        if list(row) != headers:
            raise ValueError(f"`rows` must all have the columns {headers}. Got {list(row)}.")
        wrong = [key for key, cell in row.items() if not isinstance(cell, str)]
        if wrong:
            got = type(row[wrong[0]]).__name__
            raise TypeError(f"`rows` must hold text, made by fmt. Got {got} in {wrong[0]!r}.")
    if not all(header.strip() for header in headers):
        raise ValueError("`rows` must have a name for every column. Got an empty one.")


def verdict_markdown(verdict: Any) -> str:
    """Return a verdict as Markdown: its line, and below it every hypothesis with its standing."""
    lines = [f"**Verdict.** {verdict.line()}{slack_words(verdict)}", ""]
    for hypothesis in verdict.hypotheses:
        step = f" (fails at step {hypothesis.step})" if hypothesis.step is not None else ""
        standing = "holds" if hypothesis.holds else f"**fails**{step}"
        lines.append(f"- {hypothesis.name}: {hypothesis.statement}: {standing}.")
    return "\n".join(lines).rstrip()


def slack_words(verdict: Any) -> str:
    """Return " Slack 0.5." of a verdict that applies; a slack within rounding reads as none."""
    if not verdict.applies or verdict.slack is None or not math.isfinite(verdict.slack):
        return ""
    if abs(verdict.slack) <= 1e-9 * abs(verdict.bound):
        return " Slack 0: the bound is attained."
    return f" Slack {fmt(verdict.slack)}."


def verdict_text(verdict: Any) -> str:
    """Return a verdict as plain text."""
    return plain(verdict_markdown(verdict))
