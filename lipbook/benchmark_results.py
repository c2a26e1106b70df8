"""Read what the benchmarks measured: the rows of a result file, side by side with the constants.

The file is written by `benchmarks`, whose README says what each field means. Nothing is measured
here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

SCHEMA = 1
# Two ends of a bracket that agree so well are one number.
CLOSED = 2e-6
# The relative gap at which each stops: our searches for multipliers and for the constant, and the
# solvers by the defaults of cvxpy or, where it sets none, their own.
STOPS = {"multipliers": 1e-4, "constant": 1e-6, "CVXOPT": 1e-6, "CLARABEL": 1e-8, "SCS": 1e-5}
# Short names of the tools; the others keep theirs. Ours first.
OURS = {
    "sdp": "SDP, ours",
    "auto": "exact, ours",
    "sort": "sort, ours",
    "sort-ensemble": "sort, ours, one of 100",
    "sweep": "sweep, ours",
    "branch": "branch, ours",
    "enclosure": "enclosure, ours",
    "ascent": "ascent, ours",
    "product": "product",
}
PEERS = {
    "sampling-200000": "sampling",
    "eclipse-fast": "ECLipsE-Fast",
    "eclipse": "ECLipsE",
    "lipsdp-cvxopt": "LipSDP, CVXOPT",
    "lipsdp-clarabel": "LipSDP, CLARABEL",
    "lipsdp-scs": "LipSDP, SCS",
    "maxcut-cvxopt": "max-cut, CVXOPT",
    "maxcut-structured": "max-cut, CVXOPT, structured",
    "short-cvxopt": "short form, CVXOPT",
    "short-clarabel": "short form, CLARABEL",
}
WORDS = {**OURS, **PEERS}


@dataclass(frozen=True)
class Results:
    """Hold a result file.

    Attributes:
        rows: one line per tool and network. `case` names the network, `seconds` is the time of the
            processor for one answer, `lower` and `upper` are the ends of a bracket if the tool
            gives one; `constant_lower` ≤ Lip(f) ≤ `constant_upper` is the best proved bracket of
            all tools, and `ratio` is value / Lip(f) where that bracket is closed, else NaN.
        ratios: the promised ratios by name: value, target, at_least, reached, meaning, note.
        provenance: when, where and with which versions it was measured.
    """

    rows: pd.DataFrame
    ratios: dict[str, dict[str, Any]]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class Curve:
    """Hold what one tool did along a row of sizes.

    Attributes:
        tool: its name in the file.
        words: its short name.
        what: "lower", "exact" or "upper".
        ours: whether it is this project's.
        x: sizes, or whatever stands on the horizontal axis, (n,).
        y: the numbers, (n,).
        stopped: the first place (x, y) without an answer, or None.
        sizes: of the networks, where they do not stand on the horizontal axis, (n,).
    """

    tool: str
    words: str
    what: str
    ours: bool
    x: np.ndarray
    y: np.ndarray
    stopped: tuple[float, float] | None = None
    sizes: np.ndarray | None = None


@dataclass(frozen=True)
class Hardness:
    """Hold how tight the semidefinite bound is on some networks, and how long the search took.

    Attributes:
        words: which networks.
        least: bound / upper end of the constant's bracket, (n,).
        most: bound / lower end of it, (n,).
        seconds: of the search for the constant, (n,).
        closed: whether the search closed its bracket, (n,).
    """

    words: str
    least: np.ndarray
    most: np.ndarray
    seconds: np.ndarray
    closed: np.ndarray


def read_results(path: str | Path) -> Results:
    """Read a result file of the benchmarks.

    Args:
        path: the file.

    Returns:
        The `Results`.

    Raises:
        ValueError: the file is missing, no JSON, or of another schema.
    """
    remedy = "Write it with `make bench ARGS='--grid --json FILE'`."
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        raise ValueError(f"`{path}` must be a result file. Got {reason}. {remedy}") from None
    if not isinstance(contents, dict) or contents.get("schema") != SCHEMA:
        raise ValueError(
            f"`{path}` must be a result file of schema {SCHEMA}. Got another. {remedy}"
        )
    table = pd.DataFrame([_flat(row) for row in contents["rows"]])
    return Results(with_constants(table), contents["ratios"], contents["provenance"])


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the file without nesting, numbers as floats."""
    numbers = ("value", "lower", "upper", "solver_seconds", "peak_mb")
    time = row.get("cpu_seconds") or row["seconds"]
    return {
        "tool": row["tool"],
        "case": case_name(row["case"]),
        **row["case"],
        "what": row["what"],
        "status": row["status"],
        **{key: np.nan if row.get(key) is None else float(row[key]) for key in numbers},
        "seconds": np.nan if time is None else float(time),
    }


def case_name(case: dict[str, Any]) -> str:
    """Return "(10,50,1)" for a random ReLU network on the whole space, else with what differs."""
    parts = ["({d},{m},{k})".format(**case)]
    if case["net"] != "rand":
        parts.insert(0, case["net"])
    if case["activation"] != "relu":
        parts.append(case["activation"])
    if case["half_width"] is not None:
        parts.append(f"±{case['half_width']:g}")
    if case["seed"]:
        parts.append(f"#{case['seed']}")
    return " ".join(parts)


def with_constants(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the best proved bracket of each network's constant, and every value divided by it.

    Args:
        rows: as in `Results`, without the last three columns.

    Returns:
        The rows with `constant_lower`, `constant_upper` and `ratio`.
    """
    brackets, climbs, bounds = (
        rows[rows["what"] == "exact"],
        rows[rows["tool"] == "ascent"],
        rows[rows["tool"].isin(["sdp", "product"]) & rows["half_width"].isna()],
    )
    lower = pd.concat([brackets[["case", "lower"]], climbs[["case", "lower"]]])
    upper = pd.concat([brackets[["case", "upper"]], bounds[["case", "upper"]]])
    ends = {
        "constant_lower": rows["case"].map(lower.groupby("case")["lower"].max()),
        "constant_upper": rows["case"].map(upper.groupby("case")["upper"].min()),
    }
    rows = rows.assign(**ends)
    return rows.assign(ratio=(rows["value"] / rows["constant_upper"]).where(is_closed(rows)))


def is_closed(rows: pd.DataFrame) -> pd.Series:
    """Tell for each row whether the constant of its network is known."""
    return rows["constant_upper"] <= (1.0 + CLOSED) * rows["constant_lower"]


def networks(rows: pd.DataFrame, widths: Sequence[int] | None, random: bool = True) -> pd.DataFrame:
    """Return the rows of ReLU networks on the whole space, random with one output or trained.

    Args:
        rows: as in `Results`.
        widths: which widths; None for all.
        random: whether random or trained ones are wanted.

    Returns:
        Some of the rows.

    Raises:
        ValueError: no network of these widths was measured.
    """
    drawn = (rows["net"] == "rand") & (rows["k"] == 1)
    kind = rows[drawn if random else rows["net"] != "rand"]
    kind = kind[kind["half_width"].isna() & (kind["activation"] == "relu")]
    measured = sorted({int(width) for width in kind["m"]})
    found = kind if widths is None else kind[kind["m"].isin(list(widths))]
    if found.empty:
        raise ValueError(
            f"`widths` must name widths that were measured. Got {widths}. "
            f"Use some of {', '.join(map(str, measured)) or 'none'}."
        )
    return found


def curves(rows: pd.DataFrame, along: str, column: str = "seconds") -> dict[str, Curve]:
    """Return, for each tool, the medians of a column over the networks of each size.

    A size counts as answered if every network of that size got an answer; a line stops at the first
    that does not, at the longest time after which one of its networks was given up.

    Args:
        rows: of networks that differ in one size and in the seed.
        along: "m" or "d".
        column: of which the median is taken.

    Returns:
        {tool: Curve}, tools without an answer left out.
    """
    found = {}
    for tool in (name for name in WORDS if name in set(rows["tool"])):
        x, y, stopped = [], [], None
        for size, group in rows[rows["tool"] == tool].groupby(along):
            if group["value"].isna().any():
                late = group.loc[group["value"].isna(), "seconds"].max()
                stopped = None if np.isnan(late) else (float(size), float(late))
                break
            x.append(float(size))
            y.append(float(group[column].median()))
        if x:
            what = rows.loc[rows["tool"] == tool, "what"].replace("", np.nan).dropna().iloc[0]
            ends = np.array(x), np.array(y)
            found[tool] = Curve(tool, WORDS[tool], what, tool in OURS, *ends, stopped)
    return found


def prices(rows: pd.DataFrame) -> dict[str, Curve]:
    """Return, for each tool, the median time and the median of value / constant at each width.

    Only widths at which every network's constant is known, and every answer of the tool came.

    Args:
        rows: of networks that differ in width and seed.

    Returns:
        {tool: Curve}, x the times in seconds, y the ratios, sizes the widths.
    """
    closed = is_closed(rows).groupby(rows["m"]).transform("all")
    times, ratios = curves(rows[closed], "m"), curves(rows[closed], "m", "ratio")
    return {
        tool: replace(each, x=each.y, y=ratios[tool].y, stopped=None, sizes=each.x)
        for tool, each in times.items()
    }


def hardness(rows: pd.DataFrame) -> list[Hardness]:
    """Return, for each data set or number of inputs, how tight the SDP bound is, how long "auto"
    searched.

    Args:
        rows: of random or of trained networks.

    Returns:
        One `Hardness` per data set and number of inputs, fewest inputs first.
    """
    bounds = rows[(rows["tool"] == "sdp") & rows["value"].notna()].set_index("case")
    searches = rows[rows["tool"] == "auto"].set_index("case")["seconds"].dropna()
    both = bounds.assign(searched=searches).dropna(subset=["searched", "constant_lower"])
    found = []
    for (inputs, net), group in both.groupby(["d", "net"]):
        name = "random" if net == "rand" else net
        value = group["value"].to_numpy()
        least, most = (value / group[f"constant_{end}"].to_numpy() for end in ("upper", "lower"))
        times, closed = group["searched"].to_numpy(), is_closed(group).to_numpy()
        found.append(Hardness(f"{name}, d = {inputs}", least, most, times, closed))
    return found


def reach(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how far the search for the constant got, for each number of inputs.

    Args:
        rows: of random networks.

    Returns:
        Indexed by d: `known`, the largest width up to which every constant is known, or 0; `tried`,
        the largest; `open_at`, the least width at which one is not, or 0; `found` of `asked`, how
        many are known there.
    """
    found = {}
    for inputs, group in rows[rows["tool"] == "auto"].groupby("d"):
        closed = is_closed(group).groupby(group["m"]).agg(["sum", "size"])
        widths = [int(width) for width in closed.index]
        open_at = next((m for m in widths if closed.loc[m, "sum"] < closed.loc[m, "size"]), 0)
        known = max((m for m in widths if not open_at or m < open_at), default=0)
        there = (int(n) for n in closed.loc[open_at]) if open_at else (0, 0)
        found[int(inputs)] = (known, max(widths), open_at, *there)
    columns = ["known", "tried", "open_at", "found", "asked"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


def rounded_up(x: float, digits: int = 1) -> float:
    """Return the least number of so many significant digits that is not below x, but for rounding.

    Args:
        x: ≥ 0, such as a largest difference.
        digits: at least 1.

    Returns:
        0.008 for 0.0072 and one digit.
    """
    if x == 0.0:
        return 0.0
    places = digits - 1 - math.floor(math.log10(x))
    return round(math.ceil(x * 10.0**places * (1.0 - 1e-12)) / 10.0**places, places)
