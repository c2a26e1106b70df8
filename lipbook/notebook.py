"""What a chapter talks to: its parameters are enforced here, and its results kept in a record."""

from __future__ import annotations

import linecache
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipbook import records, wording
from lipbook.parameters import FIRST_LINE, ParameterError, parse_cell, resolve
from lipbook.provenance import provenance, record_path
from lipbook.running.digests import file_digest
from lipbook.wording import fmt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Chapter", "fmt"]

KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
# Neither can change what a chapter computes; everything else that it imported enters its digest.
NOT_DIGESTED = re.compile(
    r"lipbook(\.cli|\.notebook|\.running(\..*)?|\.plotting\.style|\.__main__)?"
)


class Chapter:
    """One run of a chapter: reads its parameters, shows its results and keeps its record."""

    def __init__(self, name: str) -> None:
        """Check this chapter's parameters as they now stand in the notebook.

        Reads the declarations from the parameters cell that was run last, and the values from the
        notebook's variables, so that values injected by papermill or edited by hand are checked
        alike. Writes the checked values back: a 1 given for a float becomes 1.0.

        Args:
            name: The chapter's name, that of its file without `.ipynb`.

        Raises:
            RuntimeError: Not in a notebook, or the parameters cell has not been run.
            ParameterError: A value is not allowed.
        """
        if not KEY.fullmatch(name):
            raise ValueError(f"`name` must be letters, digits and hyphens. Got {name!r}.")
        shell = current_shell()
        self.name = name
        self.parameters: dict[str, Any] = current_parameters(shell)
        shell.user_ns.update(self.parameters)
        self._shell = shell
        self._sections: dict[str, dict[str, Any]] = {"values": {}, "verdicts": {}, "figures": {}}
        self._made_by: dict[tuple[str, str], int] = {}
        self._closed = False
        self._started_at = datetime.now(UTC)
        self._clock = time.perf_counter()

    def value(
        self,
        name: str,
        x: Any,
        rtol: float = 1e-6,
        atol: float = 0.0,
        unit: str = "",
        meaning: str = "",
    ) -> Any:
        """Put one number into the record.

        Args:
            name: The value's name in the record.
            x: A number, bool or text; it may be infinite.
            rtol: Relative tolerance within which another run agrees.
            atol: Absolute tolerance, added to the relative one.
            unit: The unit, if there is one.
            meaning: What the number is, in a few words.

        Returns:
            `x`, unchanged.

        Raises:
            ValueError: The name was used before, or is no plain name.
            TypeError: `x` is no scalar.
        """
        check_tolerances(rtol, atol)
        entry = {"value": records.encode(x), "rtol": rtol, "atol": atol}
        self._put("values", name, {**entry, "unit": unit, "meaning": meaning})
        return x

    def file(self, path: str) -> Path:
        """Put the digest of a data file into the record, so that `lipbook check` sees it change.

        Args:
            path: The file, relative to the notebook, such as "results/benchmark.json".

        Returns:
            Where it is.

        Raises:
            ValueError: It is not there, or its digest was put into the record before.
        """
        found = Path(path)
        if found.is_absolute() or not found.is_file():
            raise ValueError(
                f"`path` must name a file beside this notebook. Got {path!r}. Run the chapter in "
                "a clone of the repository, which holds the file."
            )
        entry = {"value": file_digest(found), "rtol": 0.0, "atol": 0.0, "unit": "SHA-256"}
        self._put("values", f"file-{found.stem}", {**entry, "file": found.as_posix()})
        return found

    def verdict(self, verdict: Any, key: str, rtol: float = records.VERDICT_RTOL) -> Any:
        """Put a theorem's verdict into the record and show it.

        Args:
            verdict: A `lipbook.theorems` verdict.
            key: Its name in the record.
            rtol: Relative tolerance of its bound and measured value.

        Returns:
            The verdict.

        Raises:
            ValueError: The key was used before, or is no plain name.
        """
        check_tolerances(rtol, 0.0)
        self._put("verdicts", key, {**encoded(verdict.to_dict()), "rtol": rtol})
        self._show(wording.verdict_markdown(verdict), wording.verdict_text(verdict))
        return verdict

    def say(self, template: str, **values: Any) -> None:
        """Show one Markdown sentence, with `{name}` replaced by a rounded number.

        Args:
            template: The sentence. Names come from `values`, then from the values of the record;
                other braces, as in TeX, stay.
            values: Numbers for this sentence alone.
        """
        kept = {key: records.decode(e["value"]) for key, e in self._sections["values"].items()}
        sentence = wording.fill(template, {**kept, **values})
        self._show(sentence, wording.plain(sentence))

    def table(self, rows: Sequence[Mapping[str, str]], caption: str = "") -> None:
        """Show rows of text as a table whose first column names the rows.

        Args:
            rows: One mapping a row, from column name to text; numbers come from `fmt`.
            caption: What the table holds.

        Raises:
            ValueError: There is no row, or the rows have different columns.
            TypeError: A cell is no text.
        """
        wording.check_rows(rows)
        self._display(
            {
                "text/html": wording.table_html(rows, caption),
                "text/plain": wording.table_text(rows, caption),
            }
        )

    def figure(
        self,
        fig: Figure,
        name: str,
        caption: str,
        alt: str,
        data: Mapping[str, Any],
        rtol: float = 1e-6,
    ) -> None:
        """Show a figure, close it, and put a summary of what it plots into the record.

        Args:
            fig: The figure.
            name: Its name; the page's anchor becomes `fig-NAME`.
            caption: The caption under it.
            alt: What it shows, for those who cannot see it; from the plotting function.
            data: Every plotted series by label.
            rtol: Tolerance of the summary, relative to the largest number of a series.

        Raises:
            ValueError: The name was used before, or caption, alt or data is empty.
        """
        for argument, text in {"caption": caption, "alt": alt, "data": data}.items():
            if not text:
                raise ValueError(f"`{argument}` must not be empty. Got {text!r} for figure {name}.")
        check_tolerances(rtol, 0.0)
        from matplotlib import pyplot

        from lipbook.plotting.svg import figure_svg

        series = {str(label): summary(array, str(label)) for label, array in data.items()}
        self._put("figures", name, {"rtol": rtol, "series": series})
        svg = figure_svg(fig, name, alt)
        pyplot.close(fig)
        self._display(
            {"image/svg+xml": svg, "text/plain": f"Figure: {alt}"},
            {"image/svg+xml": {"name": f"fig-{name}", "caption": caption, "alt": alt}},
        )

    def record(self) -> dict[str, Any]:
        """Return the record as it stands; whoever stores it fills in the digest."""
        modules = [module for module in sorted(sys.modules) if module.split(".")[0] == "lipbook"]
        result = {
            "chapter": self.name,
            "parameters": encoded(self.parameters),
            **self._sections,
            "modules": [module for module in modules if not NOT_DIGESTED.fullmatch(module)],
            "digest": None,
        }
        duration = round(time.perf_counter() - self._clock, 3)
        return {
            "schema": records.SCHEMA,
            "result": result,
            "provenance": provenance(self._started_at, duration),
        }

    def close(self) -> None:
        """Write the record to the file that LIPBOOK_RECORD names, if any, and say what it holds."""
        path = record_path(self.name)
        if path is not None:
            records.dump(self.record(), path)
        self._closed = True
        counts = {kind: len(entries) for kind, entries in self._sections.items()}
        nouns = {"values": "value", "verdicts": "verdict", "figures": "figure"}
        parts = [f"{n} {nouns[kind]}{'' if n == 1 else 's'}" for kind, n in counts.items()]
        line = f"Record: {', '.join(parts)}."
        self._show(line, line)

    def _put(self, section: str, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry; unattended, a key is used once, by hand a cell may be run again."""
        if not KEY.fullmatch(key):
            raise ValueError(f"`name` must be letters, digits, _ and -. Got {key!r}.")
        now = self._shell.execution_count
        unattended = record_path(self.name) is not None
        before = self._made_by.get((section, key))
        if before is not None and (unattended or before == now):
            raise ValueError(
                f"`name` must be new among the chapter's {section}. Got {key!r} again."
            )
        if self._closed and unattended:
            raise ValueError(f"`chapter.close()` must be the last call. Got {key!r} after it.")
        self._made_by[section, key] = now
        self._sections[section][key] = entry

    def _show(self, markdown: str, text: str) -> None:
        self._display({"text/markdown": markdown, "text/plain": text})

    def _display(self, data: dict[str, str], metadata: dict[str, Any] | None = None) -> None:
        self._shell.display_pub.publish(data=data, metadata=metadata or {})


def current_shell() -> Any:
    """Return the running IPython shell.

    Raises:
        RuntimeError: There is none.
    """
    shell = None
    if "IPython" in sys.modules:
        from IPython import get_ipython

        shell = get_ipython()
    if shell is None:
        raise RuntimeError(
            "`Chapter` must be made in a notebook. Got a plain Python process. "
            "Open the chapter in JupyterLab, or re-run it with `lipbook run CHAPTER`."
        )
    return shell


def current_parameters(shell: Any) -> dict[str, Any]:
    """Return the checked values of the parameters that the latest parameters cell declares."""
    cells = parameter_cells(shell)
    if not cells:
        raise RuntimeError(
            f"`parameters cell` must have been run. Got no cell that begins with `{FIRST_LINE}`. "
            "Run the cells from the top."
        )
    declared = parse_cell(cells[-1])
    missing = [each.name for each in declared if each.name not in shell.user_ns]
    if missing:
        raise ParameterError(f"`{missing[0]}` must have a value. Got none: it was deleted.")
    return resolve(declared, {each.name: shell.user_ns[each.name] for each in declared})


def parameter_cells(shell: Any) -> list[str]:
    """Return the sources of the parameters cells that were run, the latest last.

    nbval runs cells without storing them in the history; there the lines that IPython keeps for
    tracebacks still tell.
    """
    kept = [source for source in shell.user_ns.get("In", []) if source.startswith(FIRST_LINE)]
    if kept:
        return kept
    lines = [entry[2] for entry in linecache.cache.values() if len(entry) == 4]
    return ["".join(source) for source in lines if source and source[0].startswith(FIRST_LINE)]


def check_tolerances(rtol: float, atol: float) -> None:
    """Raise ValueError unless both tolerances are nonnegative."""
    for name, tolerance in {"rtol": rtol, "atol": atol}.items():
        if not tolerance >= 0:
            raise ValueError(f"`{name}` must be at least 0. Got {tolerance}.")


def encoded(tree: Any) -> Any:
    """Return a tree of mappings, lists and scalars as strict JSON holds it."""
    if isinstance(tree, Mapping):
        return {str(key): encoded(branch) for key, branch in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [encoded(branch) for branch in tree]
    return records.encode(tree)


def summary(series: Any, label: str) -> dict[str, Any]:
    """Summarise a plotted series: how many numbers, how many finite, and min, max, mean of these.

    Raises:
        TypeError: The series holds no real numbers.
    """
    import numpy as np

    if hasattr(series, "detach"):
        series = series.detach().cpu()
    try:
        array = np.asarray(series, dtype=np.float64).ravel()
    except (TypeError, ValueError):
        raise TypeError(f"`data` must hold real numbers. Got others in {label!r}.") from None
    finite = array[np.isfinite(array)]
    ends = {"first": array[0], "last": array[-1]} if array.size else {}
    moments = (
        {"min": finite.min(), "max": finite.max(), "mean": finite.mean()} if finite.size else {}
    )
    counts = {"n": int(array.size), "finite": int(finite.size)}
    return {**counts, **{key: records.encode(x) for key, x in {**moments, **ends}.items()}}
