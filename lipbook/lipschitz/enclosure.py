"""Lipschitz constants of smooth two-layer networks of one input, enclosed to a relative tolerance.

Best-first branch and bound on cells: `CellBounds` gives an upper bound of ‖f'‖ on each and a lower
bound at its middle. Cells that cannot beat the best lower bound by more than the tolerance are
closed; the others are split, those with the largest bound first. On the whole line the two
unbounded cells (X, ∞) are split at 2X, so that a supremum that is only approached at infinity is
enclosed too. The bracket is valid at every moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.cells import CellBounds
from lipbook.lipschitz.intervals import Ends, outer_and_inner
from lipbook.lipschitz.line_cover import LineCover
from lipbook.lipschitz.problem import Options, Problem
from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.results import Certificate, LipschitzBracket, Witness, is_exact
from lipbook.lipschitz.rounding import down, norm_lower, norm_upper, up
from lipbook.lipschitz.slope_sums import SlopeSum, slope_sum

# Entries of (cells, neurons) arrays evaluated in one round: some megabytes each.
_ROUND = 200_000
# Cells to begin with, and to evaluate at least in one round.
_FIRST = 32
_AT_ONCE = 128
_MAX_CELLS = 2_000_000
_FARTHEST = 1e250
# So that a check by other means, with rounding errors of its own, has room.
_ROOM = 1.0 + 2.0**-40
_BASIS = (
    "Taylor and interval bounds of f' on cells, rounded outwards; σ' and σ'' are taken to be "
    "computed to within 2^-48"
)


@dataclass(frozen=True)
class _State:
    """Hold the open cells, the largest bound of closed ones, and the best point so far."""

    low: FloatArray
    high: FloatArray
    upper: FloatArray
    closed: float
    lower: float
    point: float

    def bound(self) -> float:
        """Return the upper bound over all cells."""
        return max(self.closed, float(self.upper.max(initial=0.0)))


def enclosure_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant of one smooth network of one input to options.rel_gap.

    Args:
        problem: a network of one input with σ' and σ'' Lipschitz.
        options: tolerance and time limit.

    Returns:
        The bracket. It stays open, and `basis` says why, where time or memory ran out or where
        rounding errors exceed the tolerance: slopes of neurons that cancel to less than about 1e-8
        of their sum.
    """
    outer, inner = outer_and_inner(problem.domain)
    terms = slope_sum(problem, inner)
    if terms.weight.size == 0:
        lower, upper, ending = *_affine(terms), "no neuron changes the slope"
        point = 0.0 if inner is None else 0.5 * inner[0] + 0.5 * inner[1]
    else:
        bounds = CellBounds(terms)
        state, ending = _search(bounds, _start(terms, inner), options)
        lower, point = state.lower, state.point * 2.0**-terms.input_exponent
        upper = min(max(state.bound(), _slivers(bounds, outer, inner)), _largest(terms))
        upper *= _ROOM
    lower, upper = _rescaled(lower, upper, terms.value_exponent)
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=f"{_BASIS}; ended because {ending}",
        method="enclosure",
        witness=Witness((point,), None, lower),
        domain=problem.domain,
        seconds=options.seconds,
        certificate=Certificate(problem, LineCover()),
    )


def _affine(terms: SlopeSum) -> tuple[float, float]:
    """Return bounds of ‖base‖, the slope of a network without neurons."""
    lower = max(float(norm_lower(terms.base)) - terms.spread, 0.0)
    return float(down(lower, 1)), float(up(norm_upper(terms.base) + terms.spread, 1))


def _largest(terms: SlopeSum) -> float:
    """Return ‖base‖ + sup|σ'|·Σ‖v_j‖ ≥ sup ‖f'‖."""
    total = slope_magnitude(terms.activation) * terms.sizes.sum()
    return float(up(norm_upper(terms.base) + total + terms.spread, terms.sizes.size + 4))


def _slivers(bounds: CellBounds, outer: Ends, inner: Ends) -> float:
    """Bound ‖f'‖ from above between a ball's float64 ends inside and outside of it."""
    if outer is None or inner is None or outer == inner:
        return 0.0
    low, high = np.array([outer[0], inner[1]]), np.array([inner[0], outer[1]])
    shift = bounds.terms.input_exponent
    return float(bounds.evaluate(np.ldexp(low, shift), np.ldexp(high, shift)).upper.max())


def _rescaled(lower: float, upper: float, e: int) -> tuple[float, float]:
    """Return lower·2^e and upper·2^e, rounded outwards where a subnormal number results."""
    below, above = math.ldexp(lower, e), math.ldexp(upper, e)
    if math.ldexp(below, -e) != lower:
        below = float(down(below, 1))
    if math.ldexp(above, -e) != upper:
        above = math.nextafter(above, math.inf)
    return below, above


def _start(terms: SlopeSum, ends: Ends) -> _State:
    """Cut the domain into first cells; on the whole line the outer two are unbounded."""
    if ends is None:
        with np.errstate(over="ignore"):
            distance = (np.abs(terms.bias) + 1.0) / np.abs(terms.weight)
        reach = float(np.median(np.minimum(distance, _FARTHEST)))
        edges = np.concatenate([[-np.inf], np.linspace(-reach, reach, _FIRST + 1), [np.inf]])
    else:
        low, high = np.ldexp(ends, terms.input_exponent)
        edges = np.unique(np.clip(np.linspace(low, high, _FIRST + 1), low, high))
        edges[-1] = high
    upper = np.full(edges.size - 1, np.inf)
    return _State(edges[:-1], edges[1:], upper, closed=0.0, lower=0.0, point=float(edges[1]))


def _search(bounds: CellBounds, state: _State, options: Options) -> tuple[_State, str]:
    """Split cells until the gap is closed; return the last state and why it is the last."""
    try:
        while state.bound() > (1.0 + options.rel_gap) * state.lower:
            if state.upper.size == 0:
                return state, "rounding errors leave no more room"
            if options.out_of_time:
                return state, "the time limit was reached"
            if state.upper.size > _MAX_CELLS:
                return state, "the cells fill the memory budget"
            state = _refined(bounds, state, options.rel_gap)
    except KeyboardInterrupt:
        return state, "it was interrupted"
    return state, "the gap is closed"


def _refined(bounds: CellBounds, state: _State, rel_gap: float) -> _State:
    """Split the cells with the largest bounds, evaluate the pieces, close what can be closed."""
    pieces = int(np.clip(_AT_ONCE // state.upper.size, 2, 4))
    n_parents = max(_AT_ONCE, _ROUND // bounds.terms.weight.size) // pieces
    split = np.ones(state.upper.size, dtype=bool)
    if n_parents < split.size:
        split[np.argpartition(state.upper, -n_parents)[:-n_parents]] = False
    low, high = _split(state.low[split], state.high[split], pieces)
    found = bounds.evaluate(low, high)
    upper = np.minimum(found.upper, np.repeat(state.upper[split], pieces))
    best = int(found.lower.argmax())
    better = float(found.lower[best]) > state.lower
    lower = max(state.lower, float(found.lower[best]))
    # Refining such a cell gains less than its rounding errors, or is not possible in float64.
    final = (upper - found.lower <= 16.0 * found.floor) | (found.center == low)
    final &= np.isfinite(low) & np.isfinite(high)
    final |= (low > _FARTHEST) | (high < -_FARTHEST)
    low = np.concatenate([state.low[~split], low])
    high = np.concatenate([state.high[~split], high])
    upper = np.concatenate([state.upper[~split], upper])
    final = np.concatenate([np.zeros(int((~split).sum()), dtype=bool), final])
    still = (upper > (1.0 + rel_gap) * lower) & ~final
    return _State(
        low=low[still],
        high=high[still],
        upper=upper[still],
        closed=max(state.closed, float(upper[~still].max(initial=0.0))),
        lower=lower,
        point=float(found.center[best]) if better else state.point,
    )


def _split(low: FloatArray, high: FloatArray, pieces: int) -> tuple[FloatArray, FloatArray]:
    """Cut each cell into pieces: bounded ones evenly, (X, ∞) at 2X, 4X, …"""
    share = np.arange(pieces + 1) / pieces
    doubling = 2.0 ** np.arange(pieces)
    bounded = np.isfinite(low) & np.isfinite(high)
    left = np.where(bounded, low, 0.0)[:, None]
    right = np.where(bounded, high, 0.0)[:, None]
    edges = np.clip((1.0 - share) * left + share * right, left, right)
    edges[:, -1] = high
    edges[:, 0] = low
    after, before = np.isposinf(high), np.isneginf(low)
    edges[after, :-1] = low[after, None] * doubling
    edges[before, 1:] = high[before, None] * doubling[::-1]
    return edges[:, :-1].ravel(), edges[:, 1:].ravel()
