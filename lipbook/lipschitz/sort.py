"""Exact Lipschitz constants of piecewise-linear two-layer networks of one variable.

f(x) = Σ_j A_j σ(w_j x + b_j) has slope v(x) = Σ_j A_j w_j σ'(w_j x + b_j) ∈ ℝ^k, constant on the
open cells between neighbouring breakpoints −b_j/w_j. Going right, neuron j changes the slope by
(σ'(0⁺) − σ'(0⁻))·A_j|w_j|, whatever the sign of w_j. So Lip(f) = max over cells of ‖v‖: one sort
and one prefix sum, O(m log m).

Rigour. The order of the breakpoints, the ends of the interval included, is exact (`breakpoints`). A
slope is a sum of at most 2m terms, each with at most 3 roundings, added in blocks so that no term
passes through more than n additions, n ≈ 4√m. So |v̂ − v| ≤ γ_(n+3)·Σ|terms| ≤ (n + 8)·2u·Σ|terms|,
the sum taken in floating point too: by it `lower` and `upper` are moved outwards. Where
cancellation makes that too much, the sums are redone in integers (`exact_sums`) and the bracket
closes to one float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.blocked_sums import block_cumsum, block_sum
from lipbook.lipschitz.breakpoints import IntArray, exact_order, gathered
from lipbook.lipschitz.domains import Domain, checked_domain
from lipbook.lipschitz.exact_sums import largest_slope
from lipbook.lipschitz.intervals import Ends, outer_and_inner
from lipbook.lipschitz.problem import Options, Problem, checked_stack
from lipbook.lipschitz.results import Certificate, LipschitzBracket, Witness, is_exact
from lipbook.lipschitz.rounding import UNIT, down, exponent, norm_upper, up
from lipbook.lipschitz.slope_recount import SlopeRecount

# Beyond so many slopes the integer sums take longer than a reader waits (about a second per
# million).
LARGEST_EXACT_SUM = 2**21


@dataclass(frozen=True)
class ExactConstants:
    """Hold the Lipschitz constants of K networks of one variable, each within [lower, upper].

    Attributes:
        lower: (K,), rounded down.
        upper: (K,), rounded up.
        location: (K,), a point inside the steepest cell (the float nearest to it, if that cell is
            narrower than the spacing of floats).
    """

    lower: FloatArray
    upper: FloatArray
    location: FloatArray


@dataclass(frozen=True)
class SteepestCells:
    """Hold, for K networks, the steepest cell and how it was found.

    Attributes:
        constants: the bracket and the location.
        cell: number of breakpoints left of the steepest cell, (K,).
        order: exact order of the breakpoints, (K, n).
    """

    constants: ExactConstants
    cell: IntArray
    order: IntArray


def exact_piecewise_linear(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
    rel_gap: float = 1e-6,
) -> ExactConstants:
    """Compute the exact Lipschitz constants of K piecewise-linear networks of one variable at once.

    Lip(f, I) = max over the cells that meet the inside of I of ‖Σ_j A_j w_j σ'(w_j x + b_j)‖₂.

    Args:
        hidden_weight: W, (K, m, 1) or (K, m).
        hidden_bias: b, (K, m).
        output_weight: A, (K, k, m), or (K, m) for one output.
        activation: σ with one kink at 0: "relu", "leaky relu", "abs".
        domain: None for the whole line, (low, high) or a `Ball`.
        rel_gap: redo the sums in integers where rounding leaves upper > (1 + rel_gap)·lower.

    Returns:
        `ExactConstants`: lower, upper, location, each (K,).

    Raises:
        ValueError: shapes that do not fit, more than one input, a smooth activation, low ≥ high.
    """
    weight, bias, output = checked_stack(hidden_weight, hidden_bias, output_weight)
    if weight.shape[2] != 1:
        raise ValueError(
            "`hidden_weight` must belong to networks of one input to sort breakpoints. "
            f"Got {weight.shape[2]} inputs. Use brackets."
        )
    options = Options(rel_gap=rel_gap)
    kinks = checked_kinks(get_activation(activation))
    checked = checked_domain(domain, 1)
    return steepest_cells(weight[..., 0], bias, output, kinks, checked, options.rel_gap).constants


def checked_kinks(activation: Activation) -> tuple[float, float]:
    """Return (σ'(0⁻), σ'(0⁺)), or say that σ is smooth."""
    if activation.kink_slopes is None:
        raise ValueError(
            f"`activation` must be piecewise linear to sort breakpoints. Got {activation.name!r}. "
            'Use method="enclosure".'
        )
    return activation.kink_slopes


def steepest_cells(
    weight: FloatArray,
    bias: FloatArray,
    output: FloatArray,
    kink_slopes: tuple[float, float],
    domain: Domain,
    rel_gap: float,
) -> SteepestCells:
    """Find the steepest cell of K networks of one variable (see `exact_piecewise_linear`).

    Args:
        weight: w, (K, m).
        bias: b, (K, m).
        output: A, (K, k, m).
        kink_slopes: (σ'(0⁻), σ'(0⁺)).
        domain: as `checked_domain` returns it.
        rel_gap: as in `exact_piecewise_linear`.

    Returns:
        The `SteepestCells`.
    """
    outer, inner = outer_and_inner(domain)
    found = _on_interval(weight, bias, output, kink_slopes, inner, rel_gap)
    if outer == inner:
        return found
    around = _on_interval(weight, bias, output, kink_slopes, outer, rel_gap)
    constants = replace(found.constants, upper=around.constants.upper)
    return replace(found, constants=constants)


def _on_interval(
    weight: FloatArray,
    bias: FloatArray,
    output: FloatArray,
    kink_slopes: tuple[float, float],
    ends: Ends,
    rel_gap: float,
) -> SteepestCells:
    points, order, wanted = _cells(weight, bias, ends)
    slopes, error, e = _slopes(weight, output, kink_slopes, order)
    norms = np.where(wanted, np.sqrt(np.einsum("ekc,ekc->ec", slopes, slopes)), -1.0)
    cell = norms.argmax(axis=1)
    largest = norms.max(axis=1)
    k = output.shape[1]
    lower = down(np.ldexp(down(np.maximum(down(largest, k + 2) - error, 0.0), 1), e), 1)
    # nextafter, not `up`: a positive bound that underflows to 0 here must stay positive.
    upper = np.nextafter(np.ldexp(up(up(largest, k + 2) + error, 1), e), np.inf)
    for i in range(weight.shape[0]):
        if not is_exact(lower[i], upper[i], rel_gap) and k * order.shape[1] <= LARGEST_EXACT_SUM:
            lower[i], upper[i], cell[i] = largest_slope(
                weight[i], output[i], kink_slopes, order[i], wanted[i]
            )
    location = _inside(points, cell, ends)
    return SteepestCells(ExactConstants(lower, upper, location), cell, order)


def _cells(
    weight: FloatArray, bias: FloatArray, ends: Ends
) -> tuple[FloatArray, IntArray, BoolArray]:
    """Return sorted breakpoints (K, n), their order, and which of the n + 1 cells are open and in
    I.

    The ends of I are entered as two more breakpoints, of neurons with w = 1 that change no slope; a
    neuron with w = 0 gets a breakpoint at 0 where nothing changes. Cells between equal breakpoints
    are empty.
    """
    size, width = weight.shape
    live = weight != 0.0
    w, b = np.where(live, weight, 1.0), np.where(live, bias, 0.0)
    if ends is not None:
        w = np.concatenate([w, np.ones((size, 2))], axis=1)
        b = np.concatenate([b, np.broadcast_to(-np.array(ends), (size, 2))], axis=1)
    points, order, distinct = exact_order(w, b)
    wanted = np.ones((size, order.shape[1] + 1), dtype=bool)
    wanted[:, 1:-1] = distinct
    if ends is not None:
        index = np.arange(order.shape[1] + 1)
        low, high = (np.argmax(order == width + i, axis=1)[:, None] for i in (0, 1))
        wanted &= (index > low) & (index <= high)
    return points, order, wanted


def _slopes(
    weight: FloatArray, output: FloatArray, kink_slopes: tuple[float, float], order: IntArray
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return slopes (K, k, n + 1), a bound of the norm of their errors (K,), both · 2^e, and e."""
    left, right = kink_slopes
    w_exponent, a_exponent = exponent(weight, 1), exponent(output, (1, 2))
    v = np.ldexp(output, -a_exponent) * np.ldexp(weight, -w_exponent)[:, None, :]
    positive = (weight > 0.0)[:, None, :]
    start, n_start = block_sum(np.where(positive, v * left, v * right))
    # Marks in the order that stand for no neuron change no slope.
    jumps = np.zeros((*v.shape[:2], order.shape[1]))
    jumps[..., : v.shape[2]] = np.where(positive, v, -v) * (right - left)
    sums, n_sums = block_cumsum(gathered(jumps, order[:, None, :]))
    slopes = np.concatenate([start, sums + start], axis=2)
    steepness = max(abs(left), abs(right)) + abs(right - left)
    mass = up(steepness * np.abs(v).sum(axis=2), weight.shape[1] + 4)
    total = norm_upper(mass) if mass.shape[1] > 1 else mass[:, 0]
    # 2^-500 covers products and squares lost to underflow; slopes that small go to `exact_sums`.
    error = 2.0 * UNIT * (n_start + n_sums + 8) * total + 2.0**-500
    return slopes, error, (w_exponent[:, 0] + a_exponent[:, 0, 0]).astype(np.intp)


def _inside(points: FloatArray, cell: IntArray, ends: Ends) -> FloatArray:
    """Return a point inside the cell that has `cell` breakpoints on its left, rounded, (K,)."""
    largest = float(np.finfo(np.float64).max)
    n, index = points.shape[1], np.arange(len(points))
    left = np.where(cell > 0, points[index, cell - 1], -np.inf)
    right = np.where(cell < n, points[index, np.minimum(cell, n - 1)], np.inf)
    # A breakpoint beyond the largest number is at that number for whoever looks for a point.
    left = np.where(cell > 0, np.clip(left, -largest, largest), left)
    right = np.where(cell < n, np.clip(right, -largest, largest), right)
    if ends is not None:
        left, right = np.maximum(left, ends[0]), np.minimum(right, ends[1])
    no_left, no_right = left == -np.inf, right == np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        below = np.minimum(right, np.maximum(right - np.maximum(1.0, np.abs(right)), -largest))
        above = np.minimum(left + np.maximum(1.0, np.abs(left)), largest)
        middle = 0.5 * left + 0.5 * right
    middle = np.where(no_right, above, np.where(no_left, below, middle))
    return np.where(no_left & no_right, 0.0, middle)


def cell_pattern(weight: FloatArray, bias: FloatArray, order: IntArray, cell: int) -> BoolArray:
    """Return which neurons have a positive pre-activation inside the cell, (m,)."""
    rank = np.empty(order.size, dtype=np.intp)
    rank[order] = np.arange(order.size)
    passed = rank[: weight.size] < cell
    pattern: BoolArray = np.where(weight == 0.0, bias > 0.0, passed == (weight > 0.0))
    return pattern


SORT_BASIS = (
    "breakpoints in exact order (correctly rounded division, ties by rational arithmetic); "
    "slopes summed with outward rounding bounds, in integers where cancellation asks for it"
)


def sort_bracket(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant of one piecewise-linear network of one input."""
    weight, bias = problem.hidden_weight[None, :, 0], problem.hidden_bias[None]
    kinks, output = checked_kinks(problem.activation), problem.output_weight[None]
    found = steepest_cells(weight, bias, output, kinks, problem.domain, options.rel_gap)
    lower, upper = float(found.constants.lower[0]), float(found.constants.upper[0])
    pattern = cell_pattern(weight[0], bias[0], found.order[0], int(found.cell[0]))
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=SORT_BASIS,
        method="sort",
        witness=Witness((float(found.constants.location[0]),), pattern, lower),
        domain=problem.domain,
        seconds=options.seconds,
        certificate=Certificate(problem, SlopeRecount()),
    )
