"""Exact Lipschitz constants of piecewise-linear networks of two inputs, by sweeping lines.

The kinks {w_j·x + b_j = 0} cut the plane into cells on which J is constant, and Lip(f, domain) =
max ‖J‖ over the cells that meet the inside of the domain. Every one of them has an edge on some
line that meets it too, if any does. So all lines are walked: the others cross it in an order found
by sorting, and prefix sums of the jumps of J give both sides of every edge, O(m² log m) in all.

Rigour. Lines that coincide are merged and the order of crossings is exact (`lines`, `crossings`),
and so is which edges lie in the domain (`clipping`): the cells looked at are those that there are.
Gradients are summed with a bound of their rounding errors, by which both ends of the bracket are
moved outwards (`line_gradients`); where cancellation makes that too much, the steepest lines are
redone in whole numbers (`whole_gradients`). Interrupted, the cells along the lines left are bounded
by LipSDP, which holds for every pattern.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.results import Certificate, LipschitzBracket, Witness, is_exact
from lipbook.lipschitz.semidefinite.sdp import SdpBracket, sdp_bracket
from lipbook.lipschitz.semidefinite.sdp_proof import Multipliers
from lipbook.lipschitz.sweeping.crossings import Crossings, crossings
from lipbook.lipschitz.sweeping.inner_points import Cell, Place, cell_beside
from lipbook.lipschitz.sweeping.line_gradients import line_gradients, norm_squares
from lipbook.lipschitz.sweeping.plane import (
    Plane,
    flat_witness,
    live_neurons,
    plane_of,
    used_inputs,
)
from lipbook.lipschitz.sweeping.recount import Recount
from lipbook.lipschitz.sweeping.whole_gradients import WholeGradients, whole_gradients

# Numbers held at once for a run of lines, small enough for the processor's cache.
_AT_ONCE = 2**15
_SECONDS_BETWEEN_LOOKS = 0.25

SWEEP_BASIS = (
    "every cell of the line arrangement, in exact order (determinants: floating point with error "
    "bounds, else whole numbers); gradients summed with outward rounding bounds, in whole numbers "
    "where cancellation asks for it"
)


def exact_two_inputs(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
    rel_gap: float = 1e-6,
    time_limit: float = 60.0,
) -> LipschitzBracket:
    """Compute the exact Lipschitz constant of a piecewise-linear network of two inputs.

    Lip(f, domain) = max over the cells that meet the inside of the domain of ‖A·diag(σ')·W‖_op.

    Args:
        hidden_weight: W, (m, d), with at most two columns that are not 0.
        hidden_bias: b, (m,).
        output_weight: A, (k, m), or (m,) for one output.
        activation: σ with one kink at 0: "relu", "leaky relu", "abs".
        domain: None for ℝ^d, (low, high) or a `Ball`.
        rel_gap: sums are redone in whole numbers where rounding leaves upper > (1 + rel_gap)·lower.
        time_limit: stop after about so many seconds and return the bracket so far; so does Ctrl-C.

    Returns:
        A `LipschitzBracket`.

    Raises:
        ValueError: the arguments do not fit together, or more than two inputs are in use.
    """
    problem = checked_problem(hidden_weight, hidden_bias, output_weight, activation, domain)
    reason = why_not_sweep(problem)
    if reason is not None:
        raise ValueError(
            f"`hidden_weight` and `activation` must fit: the sweep {reason}. Use bracket."
        )
    return sweep_bracket(problem, Options(rel_gap=rel_gap, time_limit=time_limit))


def why_not_sweep(problem: Problem) -> str | None:
    """Return why the sweep does not apply to a network, or None if it does."""
    if not problem.activation.is_piecewise_linear:
        return f"needs a piecewise-linear activation. Got {problem.activation.name!r}"
    if problem.input_dim < 2:
        return "needs a network of two inputs. Got 1 input"
    used = used_inputs(problem).size
    return f"needs at most two inputs in use. Got {used}" if used > 2 else None


def sweep_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant of one piecewise-linear network of two inputs."""
    if not live_neurons(problem).any():
        return _bracket(problem, options, 0.0, 0.0, flat_witness(problem))
    search = _Search(plane_of(problem), options)
    with suppress(KeyboardInterrupt):  # the bracket so far is valid
        search.run()
    (lower, _), upper, witness = search.best, search.upper, None
    with suppress(KeyboardInterrupt):
        witness = search.witness()
    found = _bracket(problem, options, lower, upper, witness)
    if search.counted is not None:
        return found
    proof = Multipliers(search.relaxed.multiplier)
    basis = f"{SWEEP_BASIS}; interrupted: upper is the bound of LipSDP"
    return replace(found, basis=basis, certificate=Certificate(problem, proof))


def _bracket(
    problem: Problem, options: Options, lower: float, upper: float, witness: Witness | None
) -> LipschitzBracket:
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=SWEEP_BASIS,
        method="sweep",
        witness=witness,
        domain=problem.domain,
        seconds=options.seconds,
        certificate=Certificate(problem, Recount()),
    )


class _Search:
    """Walk all lines; lower ≤ Lip ≤ upper at every moment."""

    def __init__(self, plane: Plane, options: Options) -> None:
        self.plane, self.options = plane, options
        neurons = plane.reduced, plane.owner, plane.sign, plane.lines.count
        self.gradients = line_gradients(*neurons)
        self.steepest = np.full(plane.lines.count, -1.0)  # ‖Ĵ‖² along each line
        # A lower bound and where it is attained, an upper bound once all cells are known: one
        # assignment each, since Ctrl-C may come between any two.
        self.best: tuple[float, Place | Cell | None] = 0.0, None
        self.counted: float | None = None
        self.looked_at = time.perf_counter()

    @cached_property
    def relaxed(self) -> SdpBracket:
        """What holds for every pattern."""
        problem = self.plane.problem
        return sdp_bracket(problem.hidden_weight, problem.output_weight, problem.activation)

    @property
    def upper(self) -> float:
        """An upper bound."""
        return self.relaxed.upper if self.counted is None else self.counted

    def run(self) -> None:
        """Close the bracket as far as the time limit lets it."""
        if not self._walk():
            return
        if self.steepest.max() < 0.0:
            self._single_cell()
        else:
            self.counted = self.gradients.upper(self.steepest.max())
        if not is_exact(self.best[0], self.upper, self.options.rel_gap):
            self._redo_in_whole_numbers()

    def witness(self) -> Witness | None:
        """Return a place where the gradient is at least the lower bound, if any was found."""
        lower, place = self.best
        if isinstance(place, Place):
            place = cell_beside(self.plane.lines, place, self.plane.disc)
        return None if place is None else self.plane.witness(place, lower)

    def _walk(self) -> bool:
        """Find the steepest cell along each line; tell whether time sufficed for all."""
        lines = self.plane.lines
        step = max(1, _AT_ONCE // lines.count)
        for start in range(0, lines.count, step):
            if self.options.out_of_time:
                return False
            found = crossings(lines, start, min(start + step, lines.count))
            squares = norm_squares(self.gradients, found)
            edges = self.plane.clip.edges(lines, found)
            self._note(found, squares if edges is None else np.where(edges, squares, -1.0))
            self._report()
        return True

    def _note(self, found: Crossings, squares: FloatArray) -> None:
        """Keep the largest ‖Ĵ‖² along each line of a run, and the place of the largest of all."""
        known, largest = self.steepest.max(), squares.max(axis=2).max(axis=0)
        self.steepest[found.start : found.start + largest.size] = largest
        if largest.max() > known:
            side, row, edge = np.unravel_index(int(squares.argmax()), squares.shape)
            place = Place(found.on(int(row)), int(edge), bool(side))
            self.best = self.gradients.lower(float(largest.max())), place

    def _report(self) -> None:
        now = time.perf_counter()
        if self.options.watch is None or now - self.looked_at < _SECONDS_BETWEEN_LOOKS:
            return
        self.looked_at = now
        self.options.watch(self.best[0], self.upper)

    def _single_cell(self) -> None:
        """Take the gradient on the whole domain, if no line meets it."""
        cell = self.plane.only_cell()
        whole = self._whole()
        lower, self.counted = whole.bounds(whole.square_of(cell.positive))
        self.best = lower, cell

    def _whole(self) -> WholeGradients:
        plane = self.plane
        return whole_gradients(plane.reduced, plane.owner, plane.sign, plane.lines.count)

    def _redo_in_whole_numbers(self) -> None:
        """Put exact gradients along the steepest lines, one by one, until the bracket closes."""
        whole, plane, largest = self._whole(), self.plane, -1
        ranking = np.argsort(-self.steepest)[: np.count_nonzero(self.steepest >= 0.0)]
        ranking = ranking[:1] if whole.is_constant else ranking
        for rank, line in enumerate(ranking):
            if self.options.out_of_time:
                return
            square, place = whole.steepest(plane.lines, plane.clip, int(line))
            largest = max(largest, square)
            lower, upper = whole.bounds(largest)
            if square == largest and lower >= self.best[0]:
                self.best = lower, place
            if rank + 1 < len(ranking):
                upper = max(upper, self.gradients.upper(self.steepest[ranking[rank + 1]]))
            self.counted = min(self.upper, upper)
            if is_exact(self.best[0], self.counted, self.options.rel_gap):
                return
