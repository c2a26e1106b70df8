"""Every tool that is measured, by name: ours through the public API, and the peers.

A tool takes a `Task` and gives an `Answer`. What it needs is imported when it first runs, so that a
package that is not installed costs its own rows only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.cases import Case

Weights = tuple[np.ndarray, np.ndarray, np.ndarray]

REL_GAP = 1e-6
ENSEMBLE = 100


class NotThereError(Exception):
    """The tool, or the method of it, does not exist in this environment."""


class NotApplicableError(Exception):
    """The tool has no answer for this kind of network."""


@dataclass(frozen=True)
class Task:
    """Hold one question to a tool.

    Attributes:
        case: which network and domain.
        weights: W, b, A.
        limit: seconds that one answer may take.
        seconds: how long to sample, for tools that go by time.
    """

    case: Case
    weights: Weights
    limit: float
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """Hold what a tool said.

    Attributes:
        value: the number it stands for: the upper bound, the exact constant or the lower bound;
            None where an exact method left a gap.
        lower: the lower end, of tools that give a bracket.
        upper: the upper end.
        solver_seconds: time inside a solver, s, where cvxpy's own is counted too.
        status: "ok", or why the value is not what was asked for.
        networks: how many networks were answered at once; a row's times are for one of them.
    """

    value: float | None
    lower: float | None = None
    upper: float | None = None
    solver_seconds: float | None = None
    status: str = "ok"
    networks: int = 1


@dataclass(frozen=True)
class Tool:
    """Describe one tool.

    Attributes:
        title: its line in the table.
        what: "upper", "exact" or "lower".
        ours: whether it is this project's.
        run: answers a task.
        slow: whether it is left out of quick runs on anything but small networks.
    """

    title: str
    what: str
    ours: bool
    run: Callable[[Task], Answer]
    slow: bool = False


def _ours(name: str) -> Any:
    found = getattr(importlib.import_module("lipbook.lipschitz"), name, None)
    if found is None:
        raise NotThereError(f"lipbook.lipschitz has no {name}")
    return found


def _by_bracket(method: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        asked = {"method": method, "rel_gap": REL_GAP, "time_limit": task.limit}
        try:
            found = _ours("bracket")(*task.weights, task.case.activation, task.case.domain, **asked)
        except ValueError as error:
            if str(error).startswith("`method` must be one of"):
                raise NotThereError(f"bracket has no method {method!r}") from error
            if str(error).startswith("`method` must fit"):
                raise NotApplicableError(str(error)) from error
            raise
        if found.exact:
            return Answer(found.upper, found.lower, found.upper)
        return Answer(None, found.lower, found.upper, status="gap left")

    return run


def _sort_ensemble(task: Task) -> Answer:
    """Sort a hundred networks at once: the task's, its neurons in another order in each."""
    generator, (hidden, bias, output) = np.random.default_rng(0), task.weights
    orders = generator.permuted(np.tile(np.arange(len(bias)), (ENSEMBLE, 1)), axis=1)
    stack = hidden[orders], bias[orders], output.T[orders].transpose(0, 2, 1)
    found = _ours("exact_piecewise_linear")(*stack, task.case.activation, task.case.domain)
    lower, upper = float(found.lower[0]), float(found.upper[0])
    return Answer(upper, lower, upper, networks=ENSEMBLE)


def _sdp(task: Task) -> Answer:
    hidden, _, output = task.weights
    found = _ours("sdp_bracket")(hidden, output)
    return Answer(found.upper, found.lower, found.upper)


def _product(task: Task) -> Answer:
    hidden, _, output = task.weights
    bound = _ours("product_upper_bound")(hidden, output, task.case.activation)
    return Answer(bound, upper=bound)


def _ascent(task: Task) -> Answer:
    bound = _ours("ascent_lower_bound")(*task.weights, task.case.activation, task.case.domain)
    return Answer(bound, bound)


def _peer(module: str) -> Any:
    """Import a peer's adapter, or say which package is missing."""
    try:
        return importlib.import_module(f"benchmarks.peers.{module}")
    except ModuleNotFoundError as error:
        raise NotThereError(f"{error.name} is not installed") from error


def _require_slopes_up_to_one(task: Task) -> None:
    if task.case.activation != "relu":
        raise NotApplicableError("set up for slopes in [0, 1] here")


def _cvxpy(form: str, solver: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        _require_slopes_up_to_one(task)
        hidden, _, output = task.weights
        if form == "maxcut" and len(output) > 1:
            raise NotApplicableError("the max-cut form is for one output")
        solved = _peer("lipsdp").solve(hidden, output, form, solver)
        status = "ok" if solved.status == "optimal" else solved.status
        # What a solver returns is no bound: `upper` stays empty.
        return Answer(solved.value, solver_seconds=solved.solver_seconds, status=status)

    return run


def _structured(task: Task) -> Answer:
    _require_slopes_up_to_one(task)
    hidden, _, output = task.weights
    if len(output) > 1:
        raise NotApplicableError("the max-cut form is for one output")
    solved = _peer("structured").maxcut_structured(hidden, output)
    return Answer(solved.value, solver_seconds=solved.solver_seconds)


def _eclipse(name: str) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        _require_slopes_up_to_one(task)
        hidden, _, output = task.weights
        return Answer(getattr(_peer("eclipse"), name)(hidden, output))

    return run


def _sampling(n_samples: int | None, **how: Any) -> Callable[[Task], Answer]:
    def run(task: Task) -> Answer:
        return Answer(
            _peer("sampling").steepest_gradient(
                task.weights,
                n_samples,
                task.seconds,
                task.case.activation,
                task.case.half_width,
                **how,
            )
        )

    return run


TOOLS: dict[str, Tool] = {
    "product": Tool("product of spectral norms", "upper", True, _product),
    "sdp": Tool("closed-form SDP, certified", "upper", True, _sdp),
    "sort": Tool("exact: sort", "exact", True, _by_bracket("sort")),
    "sort-ensemble": Tool("exact: sort, one of 100 at once", "exact", True, _sort_ensemble),
    "sweep": Tool("exact: sweep", "exact", True, _by_bracket("sweep")),
    "branch": Tool("exact: branch and bound", "exact", True, _by_bracket("branch")),
    "enclosure": Tool("exact: enclosure", "exact", True, _by_bracket("enclosure")),
    "auto": Tool("bracket, method auto", "exact", True, _by_bracket("auto")),
    "ascent": Tool("ascent", "lower", True, _ascent),
    "sampling-200000": Tool("200 000 random gradients", "lower", False, _sampling(200_000)),
    "sampling-100000": Tool("100 000 random gradients", "lower", False, _sampling(100_000)),
    "sampling-double": Tool(
        "200 000, double precision", "lower", False, _sampling(200_000, precision="double")
    ),
    "sampling-unit": Tool(
        "200 000, standard normal points", "lower", False, _sampling(200_000, spread=1.0)
    ),
    "sampling-matched": Tool("random, for as long as ascent", "lower", False, _sampling(None)),
    "eclipse-fast": Tool("ECLipsE-Fast", "upper", False, _eclipse("eclipse_fast")),
    "eclipse": Tool("ECLipsE", "upper", False, _eclipse("eclipse"), slow=True),
    "lipsdp-clarabel": Tool("LipSDP, CLARABEL", "upper", False, _cvxpy("lmi", "CLARABEL"), True),
    "lipsdp-scs": Tool("LipSDP, SCS", "upper", False, _cvxpy("lmi", "SCS"), True),
    "lipsdp-cvxopt": Tool("LipSDP, CVXOPT", "upper", False, _cvxpy("lmi", "CVXOPT"), True),
    "maxcut-cvxopt": Tool("max-cut dual, CVXOPT", "upper", False, _cvxpy("maxcut", "CVXOPT"), True),
    "maxcut-structured": Tool(
        "max-cut dual, CVXOPT, own algebra", "upper", False, _structured, True
    ),
    "short-cvxopt": Tool("our formula, CVXOPT", "upper", False, _cvxpy("short", "CVXOPT")),
    "short-clarabel": Tool("our formula, CLARABEL", "upper", False, _cvxpy("short", "CLARABEL")),
}
