"""Medians over starts of what runs with a constant rate gave, by quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lipbook.experiments.constant_rates import EdgeRuns, WideRuns
from lipbook.medians import known_median
from lipbook.theorems import EventualDecay, Verdict
from lipbook.theorems.pl_measured import MeasuredPL
from lipbook.theorems.pl_path import decrease_factor
from lipbook.theorems.stability import StableData


def medians(numbers: Mapping[str, Sequence[float] | np.ndarray]) -> dict[str, float]:
    """Return the median of each row without NaN; NaN if nothing is left.

    Args:
        numbers: {quantity: one number per start}.
    """
    return {key: known_median(values) for key, values in numbers.items()}


def wide_summary(wide: WideRuns) -> dict[str, float]:
    """Return path and Lipschitz constant of wide networks, measured and promised for all times.

    Args:
        wide: the runs.
    """
    networks = range(wide.run.ensemble.size)
    paths = [wide.paths(k) for k in networks]
    start, measured = ([path[which] for path in paths] for which in ("start", "measured"))
    return medians(
        {
            "µ at the start": [s.numbers.least.lower / len(wide.x) for s in wide.starts],
            "path walked": [path["path"] for path in paths],
            "path, from the start": start,
            "path, µ measured": measured,
            "largest Lip": [wide.largest(k) for k in networks],
            "Lip, from the start": [wide.lipschitz(k, e) for k, e in enumerate(start)],
            "Lip, µ measured": [wide.lipschitz(k, e) for k, e in enumerate(measured)],
            "product of norms, last": wide.run.product_bound[-1],
        }
    )


def promise_summary(wide: WideRuns, begin: int) -> dict[str, float]:
    """Return what two theorems promise for all times, beside what came out.

    A promise is infinite where the hypotheses do not hold on the steps that were run; that they go
    on holding is taken on trust.

    Args:
        wide: the runs.
        begin: T₀, from which the energy bound looks ahead.
    """
    networks, theorem = range(wide.run.ensemble.size), EventualDecay(begin)
    with np.errstate(invalid="ignore"):  # no risk left times an infinite mass
        energies = theorem.path_bound(wide.run) + wide.run.path[begin]
    descends = [all(h.holds for h in theorem.hypotheses(wide.run, k)) for k in networks]
    energies = np.where(descends, energies, math.inf)
    short = [wide.paths(k)["measured"] for k in networks]
    return medians(
        {
            "path walked": wide.run.path[-1],
            "path, µ measured": short,
            "path, energy": energies,
            "largest Lip": [wide.largest(k) for k in networks],
            "Lip, µ measured": [wide.lipschitz(k, e) for k, e in enumerate(short)],
            "Lip, energy": [wide.lipschitz(k, float(e)) for k, e in enumerate(energies)],
            "final risk": wide.run.risk[-1],
        }
    )


def edge_summary(edge: EdgeRuns, share: int) -> dict[str, float]:
    """Return αλ_max/2 at both ends of the runs of one share, and how many ever exceeded 1.

    Args:
        edge: the runs.
        share: its index.
    """
    relative = edge.relative[:, edge.columns(share)]
    found = medians({"αλ/2 at the start": relative[0], "at the end": relative[-1]})
    found["ever above 1"] = float((relative > 1.0).any(axis=0).sum())
    found["diverged"] = float(edge.run.diverged[edge.columns(share)].sum())
    return found


def settled_summary(
    edge: EdgeRuns, share: int, verdicts: Sequence[Verdict], constants: np.ndarray
) -> dict[str, float]:
    """Return sharpness, slopes and constants of those runs of one share that have settled.

    Args:
        edge: the runs.
        share: its index.
        verdicts: of `StableData`, one per network of all shares; those that apply have settled.
        constants: Lipschitz constants, likewise.
    """
    everyone = range(*edge.columns(share).indices(len(edge.rates)))
    here = [i for i in everyone if verdicts[i].applies and verdicts[i].bound is not None]
    ends, theorem = [edge.end(i) for i in here], StableData()
    sharp = [0.5 * end.rate * end.sharpness()[0] for end in ends]
    found = {
        "αλ/2 at the end": sharp,
        "slope at the data": [float(theorem.slopes(end).max()) for end in ends],
        "its bound": [float(theorem.bound(end).max()) for end in ends],
        "Lipschitz constant": [float(constants[i]) for i in here],
    }
    return {"settled": float(len(here)), **medians(found)}


def trust_summary(edge: EdgeRuns, share: int) -> dict[str, float]:
    """Return the path of the runs of one share and √(8R_0/μ), the bound of descent that lowers the
    risk by half the rate times the squared gradient.

    Args:
        edge: the runs.
        share: its index.
    """
    run, measured = edge.run, MeasuredPL(edge.run.loss)
    everyone = range(*edge.columns(share).indices(len(edge.rates)))
    alive = [i for i in everyone if not run.diverged[i]]
    mu = [float(measured.along(run, i, edge.x, edge.y).min()) for i in alive]
    trusted = [
        math.sqrt(8.0 * run.risk[0, i] / m) if m > 0 else math.inf
        for i, m in zip(alive, mu, strict=True)
    ]
    falls = sum(decrease_factor(run, i) > 0 for i in alive)
    found = {"path walked": [run.path[-1, i] for i in alive], "bound on trust": trusted}
    return {"risk falls at every step": float(falls), **medians(found)}
