"""The ratios that the project promises, computed from rows: what is reached, and what is not.

Times are those of the processor: on a shared machine the clock would flatter whoever is quick, for
long answers are interrupted and short ones are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import RANDOM, Case, rand
from benchmarks.plans import CLIMBED, SMOOTH, WIDE
from benchmarks.results import Row

# LipSDP as it is in the literature, through a modelling language.
TEXTBOOK = ("lipsdp-cvxopt", "maxcut-cvxopt")
# The same by whatever route was fastest, then our formula in other people's solvers.
ANY_ROUTE = (*TEXTBOOK, "lipsdp-clarabel", "lipsdp-scs", "maxcut-structured")
FORMULA = ("short-cvxopt", "short-clarabel")
ROUTES = {
    TEXTBOOK: "LipSDP or max-cut, cvxpy + CVXOPT",
    ANY_ROUTE: "fastest LipSDP or max-cut",
    FORMULA: "our formula, cvxpy",
}
EXACT = ("sort", "sweep", "branch", "auto")
# Samples are evaluated in single precision.
SINGLE = 1e-5


@dataclass(frozen=True)
class Ratio:
    """Hold one promised number.

    Attributes:
        value: as measured; None where a row is missing.
        target: what it must reach; None where nothing is promised.
        at_least: whether it must be at least the target, or at most.
        meaning: of what the ratio is.
        note: "the peer was stopped: a lower bound", say.
    """

    value: float | None
    target: float | None
    at_least: bool
    meaning: str
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where it cannot be said."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def to_dict(self) -> dict[str, Any]:
        """Return the ratio with its verdict."""
        return {**asdict(self), "reached": self.reached}


class Rows:
    """Rows by tool and case."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Index the rows."""
        self.by_key = {(row.tool, row.case): row for row in rows}

    def answered(self, tool: str, case: Case) -> Row | None:
        """Return the row if it has a value."""
        row = self.by_key.get((tool, case))
        return row if row is not None and row.value is not None else None

    def value(self, tool: str, case: Case) -> float | None:
        """Return the value of an answer."""
        row = self.answered(tool, case)
        return None if row is None else row.value

    def seconds(self, tool: str, case: Case) -> float | None:
        """Return the processor's time for an answer, s."""
        row = self.answered(tool, case)
        return None if row is None else row.cpu_seconds

    def fastest(self, tools: Sequence[str], case: Case) -> tuple[float | None, str]:
        """Return the time of the fastest of several tools and a remark.

        If none answered, the longest time after which one was stopped bounds it from below.
        """
        times = [t for tool in tools if (t := self.seconds(tool, case)) is not None]
        if times:
            return min(times), ""
        stopped = [
            row.cpu_seconds
            for tool in tools
            if (row := self.by_key.get((tool, case))) is not None and row.status == "time limit"
        ]
        known = [t for t in stopped if t is not None]
        if known and len(known) == len(tools):
            return min(known), "the peer was stopped: a lower bound"
        return None, ""


def ratios(rows: Iterable[Row]) -> dict[str, Ratio]:
    """Return every promised ratio by name."""
    table = Rows(rows)
    return {
        **_sdp_times(table),
        **_sdp_values(table),
        **_exact(table),
        **_lower(table),
    }


def _quotient(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None or below == 0.0 else above / below


def _speed(
    table: Rows, peers: tuple[str, ...], cases: Sequence[Case], target: float | None
) -> Ratio:
    """Return how many times faster our SDP bound is than the fastest peer, at the worst case."""
    found, notes = [], set()
    for case in cases:
        peer, note = table.fastest(peers, case)
        found.append(_quotient(peer, table.seconds("sdp", case)))
        notes.add(note)
    known = [value for value in found if value is not None]
    value = min(known) if len(known) == len(cases) else None
    meaning = f"{ROUTES[peers]} over sdp, time, {', '.join(map(str, cases))}"
    return Ratio(value, target, True, meaning, "; ".join(sorted(notes - {""})))


def _sdp_times(table: Rows) -> dict[str, Ratio]:
    sizes = {
        "m50": ([rand(2, 50), rand(10, 50)], 20.0),
        "m200": ([rand(10, 200)], 500.0),
        "m400": ([rand(2, 400)], 5000.0),
    }
    found = {}
    for name, (cases, target) in sizes.items():
        found[f"sdp_time_ratio_{name}"] = _speed(table, TEXTBOOK, cases, target)
        found[f"sdp_time_ratio_any_route_{name}"] = _speed(table, ANY_ROUTE, cases, None)
        found[f"sdp_time_ratio_formula_{name}"] = _speed(table, FORMULA, cases, None)
    peer, note = table.fastest(TEXTBOOK, rand(10, 200))
    found["sdp_m10000_vs_peer_m200"] = Ratio(
        _quotient(peer, table.seconds("sdp", WIDE)),
        1.0,
        True,
        f"{ROUTES[TEXTBOOK]}, {rand(10, 200)}, over sdp, {WIDE}, time",
        note,
    )
    wide = table.answered("sdp", WIDE)
    memory = None if wide is None else wide.peak_mb
    found["sdp_memory_mb_m10000"] = Ratio(memory, None, False, f"growth at {WIDE}, MB")
    return found


def _worst(values: Iterable[float]) -> float | None:
    return max(values, default=None)


def _sdp_values(table: Rows) -> dict[str, Ratio]:
    ours = [row for (tool, _), row in table.by_key.items() if tool == "sdp"]
    pairs = [
        (row.value, peer.value)
        for row in ours
        for name in TEXTBOOK
        if (peer := table.answered(name, row.case)) is not None and peer.status == "ok"
        if row.value is not None and peer.value is not None
    ]
    gaps = [
        row.upper / row.lower - 1.0
        for row in ours
        if row.case.net == RANDOM and row.upper and row.lower
    ]
    against = ROUTES[TEXTBOOK]
    return {
        "sdp_value_relative": Ratio(
            _worst(abs(a - b) / b for a, b in pairs), 1e-4, False, f"|sdp − peer|/peer, {against}"
        ),
        "sdp_value_below": Ratio(
            _worst((b - a) / b for a, b in pairs), 1e-6, False, f"(peer − sdp)/peer, {against}"
        ),
        "sdp_gap_max": Ratio(_worst(gaps), 1e-3, False, "certified upper/lower − 1, random nets"),
    }


def _exact(table: Rows) -> dict[str, Ratio]:
    one, two = rand(1, 100), rand(2, 400)
    clarabel = table.seconds("lipsdp-clarabel", rand(10, 50))
    found = {
        "sort_over_sampling_m100": _time(table, "sampling-200000", "sort", one, 1000.0),
        "sort_ensemble_over_sampling_m100": _time(
            table, "sampling-200000", "sort-ensemble", one, 1000.0
        ),
        "sort_over_sampling_double_m100": _time(table, "sampling-double", "sort", one, None),
        "sweep_vs_sampling_m400": _time(table, "sampling-200000", "sweep", two, 1.0),
        "sweep_vs_sampling_value_m400": _value(table, "sweep", "sampling-200000", two, 1.09),
        "sweep_vs_unit_sampling_value_m400": _value(table, "sweep", "sampling-unit", two, None),
        "smooth_vs_sampling": _time(table, "sampling-100000", "enclosure", SMOOTH, 1.0),
        "bracket_outside": Ratio(
            _outside(table), SINGLE, False, "exact bracket outside [sampled, SDP], relative"
        ),
    }
    for case in (rand(8, 64), rand(10, 50)):
        found[f"branch_vs_clarabel_{case.d}_{case.m}"] = Ratio(
            _quotient(clarabel, table.seconds("branch", case)),
            1.0,
            True,
            f"lipsdp-clarabel on {rand(10, 50)} over branch on {case}, time",
        )
    return found


def _time(table: Rows, peer: str, ours: str, case: Case, target: float | None) -> Ratio:
    value = _quotient(table.seconds(peer, case), table.seconds(ours, case))
    return Ratio(value, target, True, f"{peer} over {ours}, time, {case}")


def _value(table: Rows, ours: str, peer: str, case: Case, target: float | None) -> Ratio:
    value = _quotient(table.value(ours, case), table.value(peer, case))
    return Ratio(value, target, True, f"{ours} over {peer}, value, {case}")


def _outside(table: Rows) -> float | None:
    """Return by how much a bracket misses a sampled gradient below or exceeds the SDP above."""
    misses = []
    for (tool, case), row in table.by_key.items():
        if tool not in EXACT or row.lower is None or not row.upper:
            continue
        for sampler in ("sampling-200000", "sampling-100000"):
            if (sampled := table.value(sampler, case)) is not None:
                misses.append(sampled / row.upper - 1.0)
        if case.domain is None and (bound := table.value("sdp", case)):
            misses.append(row.lower / bound - 1.0)
    return _worst(misses)


def _lower(table: Rows) -> dict[str, Ratio]:
    found = [
        _quotient(table.value("ascent", case), table.value("sampling-matched", case))
        for case in CLIMBED
    ]
    known = [value for value in found if value is not None]
    value = min(known) if len(known) == len(found) else None
    meaning = f"ascent over sampling for as long, value, worst of {', '.join(map(str, CLIMBED))}"
    return {"lower_bound_vs_sampling": Ratio(value, 1.05, True, meaning)}
