"""Measure Lipschitz constants and bounds against the peers that pip can install.

    python -m benchmarks.lipschitz                     the table and the ratios, about half an hour
    python -m benchmarks.lipschitz --quick             the same on small networks, under two minutes
    python -m benchmarks.lipschitz --grid --json FILE  the results that the chapter on costs reads

benchmarks/README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import plans
from benchmarks.cases import Case
from benchmarks.networks import Networks
from benchmarks.results import Row, document, machine, now, read, write
from benchmarks.running import Job, Limits, run_tool
from benchmarks.table import cell, ratio_table, table
from benchmarks.targets import ratios
from lipbook.records import dumps

LIMITS = {
    "full": Limits(answer=150.0, search=60.0, budget=15.0),
    "quick": Limits(answer=10.0, search=5.0, budget=1.0),
    "grid": Limits(answer=40.0, search=8.0, budget=2.0),
}
# These are measured afresh on --resume.
NOT_FINAL = ("missing", "failed", "skipped")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.lipschitz", description=__doc__.split("\n")[0]
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="small networks, under two minutes")
    which.add_argument("--grid", action="store_true", help="many sizes, random and trained")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="tools or cases")
    parser.add_argument("--json", metavar="FILE", help="where results go; - for stdout")
    parser.add_argument("--resume", action="store_true", help="keep the rows that --json FILE has")
    parser.add_argument("--limit", type=float, metavar="S", help="seconds that an answer may take")
    chosen = parser.parse_args(argv)
    if chosen.resume and chosen.json in (None, "-"):
        parser.error("--resume needs --json FILE")
    if chosen.limit is not None and not chosen.limit > 0:
        parser.error("--limit must be a positive number of seconds")
    return chosen


class Measurement:
    """The rows so far, and where they go."""

    def __init__(self, file: str | None, resume: bool, plan: str, limits: Limits) -> None:
        """Start with the rows of the file if it is to be resumed."""
        self.file = file
        self.how = {"plan": plan, "limits": asdict(limits)}
        self.started_at = now()
        self.begin = machine(self.started_at, 0.0)
        known: list[Row] = []
        self.earlier: list[dict[str, Any]] = []
        if resume and file and Path(file).exists():
            known, where = read(Path(file))
            self.earlier = [*where.pop("earlier", []), where]
        self.rows = {(row.tool, row.case): row for row in known}

    def jobs(self, tool: str, cases: Sequence[Case]) -> list[Job]:
        """Return what is left to do, with the time to sample where that is another tool's."""
        known = {case: self.rows.get((tool, case)) for case in cases}
        left = [c for c, row in known.items() if not row or row.status.startswith(NOT_FINAL)]
        if tool != "sampling-matched":
            return [Job(case) for case in left]
        ascents = [(case, self.rows.get(("ascent", case))) for case in left]
        return [Job(case, row.cpu_seconds) for case, row in ascents if row and row.cpu_seconds]

    def add(self, row: Row) -> None:
        """Keep a row, and say so."""
        self.rows[row.tool, row.case] = row
        print(f"{row.tool:18} {row.case!s:24} {cell(row)}", file=sys.stderr, flush=True)

    def contents(self) -> dict[str, Any]:
        """Return the result file as it stands."""
        rows = list(self.rows.values())
        duration = (now() - self.started_at).total_seconds()
        where = machine(self.started_at, duration)
        where["load_average_before"] = self.begin["load_average"]
        where |= {**self.how, "earlier": self.earlier}
        return document(rows, {k: r.to_dict() for k, r in ratios(rows).items()}, where)

    def save(self) -> None:
        """Write the file, if there is one."""
        if self.file not in (None, "-"):
            write(Path(str(self.file)), self.contents())


def measure(plan: plans.Plan, limits: Limits, measurement: Measurement) -> None:
    """Run every tool of the plan; Ctrl-C or SIGTERM ends it and keeps the rows so far."""
    with tempfile.TemporaryDirectory() as folder:
        networks = Networks(Path(folder))
        try:
            for tool, cases in plan.items():
                known = [row for row in measurement.rows.values() if row.tool == tool]
                for row in run_tool(tool, measurement.jobs(tool, cases), limits, networks, known):
                    measurement.add(row)
                measurement.save()
        except KeyboardInterrupt:
            print("interrupted; the rows so far are kept", file=sys.stderr)
        finally:
            measurement.save()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, then print the table and the ratios, or the JSON document."""
    chosen = arguments(argv)
    kind = "quick" if chosen.quick else "grid" if chosen.grid else "full"
    try:
        plan = plans.only(getattr(plans, kind)(), chosen.only)
        limits = LIMITS[kind] if chosen.limit is None else LIMITS[kind].within(chosen.limit)
        measurement = Measurement(chosen.json, chosen.resume, kind, limits)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    measure(plan, limits, measurement)
    if chosen.json == "-":
        sys.stdout.write(dumps(measurement.contents()))
        return 0
    rows = list(measurement.rows.values())
    columns = list(dict.fromkeys(case for cases in plan.values() for case in cases))
    print(table(rows, columns))
    known = {name: ratio for name, ratio in ratios(rows).items() if ratio.value is not None}
    if known and kind != "grid":
        print(f"\n{ratio_table(known)}")
    return 0


def interruptible() -> None:
    """Let SIGTERM end a run as Ctrl-C does, and Ctrl-C where the shell has it ignored."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.default_int_handler)


if __name__ == "__main__":
    interruptible()
    sys.exit(main())
