"""The rows of a benchmark, and the file that holds them: its schema, provenance and writing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from lipbook.provenance import provenance
from lipbook.records import decode, dumps, encode, write_aside

SCHEMA = 1
PACKAGES = (
    "lipbook", "numpy", "scipy", "torch", "cvxpy", "clarabel", "scs", "cvxopt", "eclipse-nn",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Hold what one tool said about one case, and at what cost.

    Attributes:
        tool: its name in `benchmarks.tools.TOOLS`.
        case: the network and the domain.
        status: "ok", or why there is no value, or what is the matter with it.
        what: "upper", "exact" or "lower".
        value: the bound or the constant; a cvxpy solver's value is no bound. None: no answer, or a
            bracket with a gap.
        lower: lower end of a bracket, of the constant, and of L_sdp for the tool "sdp".
        upper: upper end of it.
        seconds: median of the repetitions on the clock, s.
        cpu_seconds: the same in time of the processor, which other programs do not lengthen, s.
        solver_seconds: on the clock, without what cvxpy needs to compile the problem, s.
        repetitions: how many were timed.
        peak_mb: by how much the process grew at its peak, MB.
    """

    tool: str
    case: Case
    status: str
    what: str = ""
    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    solver_seconds: float | None = None
    repetitions: int | None = None
    peak_mb: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as strict JSON holds it."""
        return {**{k: encode(v) for k, v in _plain(self)}, "case": self.case.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Row:
        """Return what `to_dict` gave."""
        plain = {key: decode(value) for key, value in stored.items() if key not in WORDS}
        words = {key: stored[key] for key in WORDS}
        return cls(**{**plain, **words, "case": Case(**stored["case"])})


WORDS = ("tool", "case", "status", "what")


def _plain(row: Row) -> Iterable[tuple[str, Any]]:
    return ((f.name, getattr(row, f.name)) for f in fields(row) if f.name != "case")


def machine(started_at: datetime, duration: float) -> dict[str, Any]:
    """Return when, where, with which versions and on how busy a machine this was measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    here = provenance(started_at, duration)
    kept = ("python", "platform", "cpu", "started_at", "duration_s")
    return {
        **{key: here[key] for key in kept},
        "cores": os.cpu_count(),
        "threads_per_tool": 1,
        "commit": _commit(),
        "load_average": list(os.getloadavg()),
        "versions": versions,
    }


def _commit() -> str:
    """Return the commit of the code, "-dirty" if it was changed since, or "unknown"."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def document(
    rows: Sequence[Row], ratios: Mapping[str, Mapping[str, Any]], where: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the contents of a result file."""
    return {
        "schema": SCHEMA,
        "provenance": dict(where),
        "rows": [row.to_dict() for row in rows],
        "ratios": {
            name: {key: encode(value) for key, value in ratio.items()}
            for name, ratio in ratios.items()
        },
    }


def write(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a result file, all or nothing."""
    write_aside(path, dumps(contents))


def read(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Return the rows of a result file and where they were measured.

    Raises:
        ValueError: the file is of another schema.
    """
    contents = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(contents, dict) or contents.get("schema") != SCHEMA:
        raise ValueError(
            f"`{path}` must be a result file of schema {SCHEMA}. Got another. Measure afresh."
        )
    return [Row.from_dict(stored) for stored in contents["rows"]], contents["provenance"]


def now() -> datetime:
    """Return the time of day with its zone."""
    return datetime.now(UTC)
