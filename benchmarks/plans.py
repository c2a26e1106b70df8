"""Which tool is measured on which networks: the main table, its quick form, and the grid."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.cases import TRAINED, Case, rand, trained
from benchmarks.tools import TOOLS

Plan = dict[str, list[Case]]

# The columns of the table.
TABLE = (
    rand(1, 100), rand(2, 50), rand(10, 50), rand(10, 200), rand(2, 400), rand(100, 500),
)  # fmt: skip
SEVERAL_OUTPUTS = rand(10, 50, 3)
WIDE = rand(10, 10_000)
SMOOTH = rand(2, 400, activation="tanh", half_width=3.0)
LARGE = (rand(2, 10_000), WIDE, rand(100, 10_000), rand(784, 2048, 10))
BRANCHED = (rand(8, 64), rand(10, 50), rand(10, 200), rand(100, 500))
CLIMBED = (rand(8, 64), rand(10, 50), rand(10, 200), rand(20, 200), rand(100, 500))


def full() -> Plan:
    """Return the plan behind the table and every target."""
    everywhere = [*TABLE, SEVERAL_OUTPUTS]
    certifiers = ("eclipse", "lipsdp", "maxcut", "short")
    plan: Plan = {name: everywhere for name in TOOLS if name.startswith(certifiers)}
    plan |= {
        "product": everywhere,
        "sdp": [*everywhere, rand(8, 64), rand(20, 200), *LARGE],
        "sort": [rand(1, 100)],
        "sort-ensemble": [rand(1, 100)],
        "sweep": [rand(2, 50), rand(2, 400)],
        "branch": list(BRANCHED),
        "enclosure": [SMOOTH],
        "ascent": list(CLIMBED),
        "sampling-200000": [*TABLE, rand(8, 64)],
        "sampling-100000": [SMOOTH],
        "sampling-double": [rand(1, 100), rand(2, 400)],
        "sampling-unit": list(TABLE),
        "sampling-matched": list(CLIMBED),
    }
    return in_order(plan)


def quick() -> Plan:
    """Return what of the plan takes less than two minutes in all."""
    plan = full()
    for name in ("eclipse", "maxcut-structured", "sampling-double", "sampling-unit"):
        del plan[name]
    for name, cases in plan.items():
        widest = 50 if TOOLS[name].slow else 400
        plan[name] = [case for case in cases if case.m <= widest and case.k == 1]
    return in_order(plan)


WIDTHS = (16, 64, 256, 1024)
DIMENSIONS = (1, 2, 3, 5, 8, 10, 20)
SEEDS = (0, 1, 2)
TRAINED_WIDTHS = (64, 256)
EVERYWHERE = (
    "product", "sdp", "auto", "ascent", "sampling-200000", "eclipse-fast", "short-clarabel",
)  # fmt: skip


def grid() -> Plan:
    """Return the plan of the chapter: random and trained networks of many sizes."""
    random = [rand(d, m, seed=seed) for m in WIDTHS for d in DIMENSIONS for seed in SEEDS]
    learned = [trained(name, m) for m in TRAINED_WIDTHS for name in TRAINED]
    everything = [case for case in (*random, *learned) if case.m <= 256 or case.seed == 0]
    plan: Plan = {name: everything for name in EVERYWHERE}
    plan["lipsdp-cvxopt"] = [c for c in everything if c.m <= 64 or (c.m <= 256 and c.seed == 0)]
    return in_order(plan)


def in_order(plan: Plan) -> Plan:
    """Return the plan in the order of `TOOLS`, narrow networks first, without empty lines."""
    return {name: sorted(plan[name], key=lambda case: case.m) for name in TOOLS if plan.get(name)}


def only(plan: Plan, wanted: Iterable[str]) -> Plan:
    """Return the part of a plan that names of tools and of cases select.

    Args:
        plan: what to select from.
        wanted: names such as "sdp" or "(10,50,1)"; tools only: all their cases; cases only: all
            their tools; nothing: all.

    Raises:
        ValueError: a name that is neither.
    """
    names = set(wanted)
    cases = {str(case) for listed in plan.values() for case in listed}
    unknown = sorted(names - plan.keys() - cases)
    if unknown:
        raise ValueError(
            f"`--only` must name tools or cases of the plan. Got {unknown[0]!r}. "
            f"Tools: {', '.join(plan)}. Cases: {', '.join(sorted(cases))}."
        )
    tools, chosen = names & plan.keys(), names & cases
    return {
        name: kept
        for name, listed in plan.items()
        if (not tools or name in tools)
        and (kept := [case for case in listed if not chosen or str(case) in chosen])
    }
