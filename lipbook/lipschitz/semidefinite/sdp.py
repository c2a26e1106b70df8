"""The semidefinite bound of LipSDP in closed form, for slopes in given intervals.

    Lip(f, domain) ≤ max over s_i ∈ [c_i − h_i, c_i + h_i] of ‖A·diag(s)·W‖_op ≤ min over t > 0 of
    λ_max(M(t)),

M(t) as in `relaxation`: two Schur complements of the matrix inequality of LipSDP with one
multiplier per neuron lead to it. `multipliers` finds t, `relaxation` proves the bound for that t
and, from the dual, how far the best t could go below it. On the whole space [c_i − h_i, c_i + h_i]
is the range of σ'; on a box or a ball neurons of which the domain sees but a part have shorter
intervals, and those of which it sees one linear piece have a fixed slope.

The bound ignores which slopes occur together. With one output it is at most √(π/2) ≈ 1.2533 times
the largest norm over all patterns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import FloatArray, bounded
from lipbook.lipschitz.ascent import ascent_witness
from lipbook.lipschitz.problem import (
    Options,
    Problem,
    checked_hidden,
    checked_output,
    checked_stack,
)
from lipbook.lipschitz.product import product_upper_bound, slope_bounds
from lipbook.lipschitz.results import Certificate, LipschitzBracket, is_exact
from lipbook.lipschitz.rounding import norm_upper, up
from lipbook.lipschitz.semidefinite.multipliers import GAP, best_multipliers
from lipbook.lipschitz.semidefinite.relaxation import (
    Rows,
    relaxation_lower,
    relaxation_upper,
    scaled_rows,
)
from lipbook.lipschitz.semidefinite.row_basis import in_row_basis
from lipbook.lipschitz.semidefinite.sdp_proof import Multipliers, room_for_check
from lipbook.lipschitz.slope_intervals import centred_interval, slope_intervals

# Entries of the arrays of one chunk of an ensemble: some ten megabytes each.
_CHUNK = 2_000_000
# Slopes beyond this might leave the range of float64 in products with weights.
_STEEPEST = 1e6
# Layers with fewer coordinates than this are used as they are.
_MANY = 128
_BASIS = (
    "upper: λ_max of M(t), for multipliers t that a search suggests, proved by the residual of a "
    "Cholesky factor with rounding bounds; lower: a gradient at the witness, rounded down"
)


@dataclass(frozen=True)
class SdpBracket:
    """Hold lower ≤ value of LipSDP ≤ upper; only `upper` bounds the Lipschitz constant.

    Attributes:
        lower: rounded down.
        upper: rounded up; proved, whatever became of the search for `multiplier`.
        multiplier: t, (m,), with λ_max(M(t)) ≤ upper.
        certificate: of Lip(f, ℝ^d) ≤ upper for every bias; None where the caller gave the slopes.
    """

    lower: float
    upper: float
    multiplier: FloatArray = field(compare=False, repr=False)
    certificate: Certificate | None = field(default=None, compare=False, repr=False)

    @property
    def gap(self) -> float:
        """Return upper/lower − 1: how much a better t could gain, at most; 0 where both are 0."""
        if self.lower == 0.0:
            return 0.0 if self.upper == 0.0 else float("inf")
        return self.upper / self.lower - 1.0


def sdp_bracket(
    hidden_weight: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    slope_range: Any = None,
) -> SdpBracket:
    """Bracket the value of LipSDP, min over t > 0 of λ_max(M(t)), an upper bound of Lip(f, ℝ^d).

    It asks nothing of the biases. Never above the centred and the product bound but for rounding.

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.
        slope_range: (low, high), of either sign, in place of the range of σ'.

    Returns:
        The `SdpBracket`, its gap mostly below 1e-4.

    Raises:
        ValueError: shapes that do not fit, entries that are not finite, or low > high.
    """
    weight = checked_hidden(hidden_weight)
    output = checked_output(output_weight, weight.shape[0])
    chosen = get_activation(activation)
    low, high = slope_bounds(chosen) if slope_range is None else _checked_range(slope_range)
    centre, half_width = _everywhere(low, high, weight.shape[:1])
    lower, upper, t = _solve(weight, output, centre, half_width)
    if slope_range is not None:
        return SdpBracket(lower, upper, t)
    problem = Problem(weight, np.zeros(len(weight)), output, chosen, None)
    return SdpBracket(lower, upper, t, Certificate(problem, Multipliers(t)))


def sdp_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above by the value of LipSDP (see `sdp_bracket`).

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    return sdp_bracket(hidden_weight, output_weight, activation).upper


def sdp_upper_bounds(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> FloatArray:
    """Bound the Lipschitz constants of K networks by the values of LipSDP, all at once.

    Args:
        hidden_weight: W, (K, m, d).
        output_weight: A, (K, k, m).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bounds, (K,), rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    bias = np.zeros(tuple(np.shape(hidden_weight))[:2])
    weight, _, output = checked_stack(hidden_weight, bias, output_weight)
    low, high = slope_bounds(get_activation(activation))
    size, width, d = weight.shape
    n = d + output.shape[1]
    step = max(1, _CHUNK // (width * n * min(n, 16)))
    bounds = np.empty(size)
    for i in range(0, size, step):
        layers = weight[i : i + step], output[i : i + step]
        slopes = _everywhere(low, high, layers[0].shape[:2])
        found = best_multipliers(*layers, *slopes)
        bounds[i : i + step] = relaxation_upper(*layers, *slopes, found.multiplier)
    return bounds


def why_not_sdp(problem: Problem) -> str | None:
    """Return None: the method applies to every two-layer network."""
    return None


def sdp_bracket_on(problem: Problem, options: Options) -> LipschitzBracket:
    """Bracket the constant by LipSDP with the slopes that the domain allows, and by ascent.

    Args:
        problem: any network and domain.
        options: where they end the search for multipliers, the best so far are used.

    Returns:
        The bracket; its upper end is the product bound if the first search was interrupted.
    """
    layers, certificate = (problem.hidden_weight, problem.output_weight), None
    try:
        centre, half_width = slope_intervals(problem)
        target, stop = min(GAP, 0.5 * options.rel_gap), lambda: options.out_of_time
        _, upper, t = _solve(*layers, centre, half_width, target, stop)
        certificate = Certificate(problem, Multipliers(t))
    except KeyboardInterrupt:
        upper = product_upper_bound(*layers, problem.activation)
    if options.watch is not None:
        options.watch(0.0, upper)
    witness = ascent_witness(problem, options)
    lower = 0.0 if witness is None else witness.gradient_norm
    return LipschitzBracket(
        lower=lower,
        upper=upper,
        exact=is_exact(lower, upper, options.rel_gap),
        verified=True,
        basis=_BASIS,
        method="sdp",
        witness=witness,
        domain=problem.domain,
        seconds=options.seconds,
        certificate=certificate,
    )


def _checked_range(slope_range: Any) -> tuple[float, float]:
    pair = bounded("slope_range", slope_range)
    if pair.shape != (2,) or not -_STEEPEST <= pair[0] <= pair[1] <= _STEEPEST:
        raise ValueError(
            f"`slope_range` must be a pair (low, high), low ≤ high, within ±{_STEEPEST:g}. "
            f"Got {slope_range!r}. Use (0, 1) for ReLU."
        )
    return float(pair[0]), float(pair[1])


def _everywhere(low: float, high: float, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return c and h of neurons that all have slopes in [low, high]."""
    return centred_interval(np.full(shape, low), np.full(shape, high))


def _solve(
    weight: FloatArray,
    output: FloatArray,
    centre: FloatArray,
    half_width: FloatArray,
    target: float = GAP,
    stop: Callable[[], bool] | None = None,
) -> tuple[float, float, FloatArray]:
    """Return lower ≤ min over t of λ_max(M(t)) ≤ upper, and the t of `upper`."""
    layers, rows = (weight, output, centre, half_width), scaled_rows(weight, output)
    found = best_multipliers(*layers, target=target, stop=stop, rows=rows)
    lower = float(relaxation_lower(*layers, found.factor, rows))
    upper = _upper(*layers, found.multiplier, rows)
    upper *= 1.0 + room_for_check(len(weight), weight.shape[1] + len(output))
    return min(lower, upper), upper, found.multiplier


def _upper(
    weight: FloatArray,
    output: FloatArray,
    centre: FloatArray,
    half_width: FloatArray,
    multiplier: FloatArray,
    rows: Rows | None = None,
) -> float:
    """Return `relaxation_upper`; in fewer coordinates where there are many more than neurons."""
    width = len(weight)
    slopes = up(np.abs(centre) + half_width, 1)
    if _has_few_rows(weight):
        short, stretch, missing = in_row_basis(weight)
        bound = _upper(short, output, centre, half_width, multiplier)
        lost = slopes * norm_upper(output.T) * missing
    elif _has_few_rows(output.T):
        short, stretch, missing = in_row_basis(output.T)
        bound = _upper(weight, short.T, centre, half_width, multiplier)
        lost = slopes * norm_upper(weight) * missing
    else:
        return float(relaxation_upper(weight, output, centre, half_width, multiplier, rows))
    # Each product may lose half of the smallest number to underflow.
    rest = up(lost.sum(), width + 3) + width * 2.0**-1074
    return float(up(stretch * bound + rest, 2))


def _has_few_rows(rows: FloatArray) -> bool:
    width, size = rows.shape
    return size >= _MANY and size > 1.25 * width
