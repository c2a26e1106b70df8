"""The book's tools as numbers: growth, Gaussian vectors, independent samples, empirical measures.

Every constant of the page Tools stands here once (those of random signs, radii and cells in
`lipbook.theorems.empirical`). Bounds are rounded to nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import integrate

from lipbook.theorems.chance import deviation
from lipbook.theorems.refusal import refuse


def counted(argument: str, value: int, theorem: str) -> None:
    """Refuse a count below 1.

    Args:
        argument: its name.
        value: the count.
        theorem: the label of the statement that asks.

    Raises:
        HypothesisError: value < 1.
    """
    if value < 1:
        refuse(argument, "be at least 1", theorem, "its setting", value, "Count from 1.")


def discrete_gronwall(
    start: float, growth: Sequence[float], additions: Sequence[float]
) -> np.ndarray:
    """Bound every u_t with u_{t+1} ≤ (1 + ξ_t)u_t + ζ_t: u₀Π(1 + ξ_t) + Σζ_tΠ_{r>t}(1 + ξ_r).

    Args:
        start: u₀.
        growth: ξ_t ≥ −1, (T,).
        additions: ζ_t, (T,).

    Returns:
        The bounds of u_0, …, u_T, (T+1,).

    Raises:
        HypothesisError: some ξ_t < −1.

    References:
        The book's lemma `lem-discrete-gronwall` (a).
    """
    if min(growth, default=0.0) < -1.0:
        refuse(
            "growth", "be at least −1", "lem-discrete-gronwall", "a", min(growth),
            "Below that the inequality would turn round.",
        )  # fmt: skip
    bounds = [float(start)]
    for more, added in zip(growth, additions, strict=True):
        bounds.append((1.0 + more) * bounds[-1] + added)
    return np.array(bounds)


def summed_gronwall(levels: Sequence[float], weights: Sequence[float]) -> np.ndarray:
    """Bound every u_t with u_t ≤ c_t + Σ_{s<t} ξ_s u_s: c_t + Σ_{s<t} ξ_s c_s Π_{s<r<t}(1 + ξ_r).

    Args:
        levels: c_t, (T+1,).
        weights: ξ_t ≥ 0, (T,).

    Returns:
        The bounds of u_0, …, u_T, (T+1,).

    Raises:
        HypothesisError: some ξ_t < 0.

    References:
        The book's lemma `lem-discrete-gronwall` (b).
    """
    if min(weights, default=0.0) < 0.0:
        refuse(
            "weights", "be at least 0", "lem-discrete-gronwall", "b", min(weights),
            "Use `discrete_gronwall` for steps that shrink.",
        )  # fmt: skip
    products = [w * c for w, c in zip(weights, levels[:-1], strict=True)]
    return np.asarray(levels, float) + discrete_gronwall(0.0, weights, products)


def mass_to_reach(speed: Callable[[float], float], start: float, level: float) -> float:
    """Return G(U) = ∫ dx/F(x) from v₀ to U, the mass that steps u + αF(u) need to exceed U.

    Args:
        speed: F, continuous, positive and nondecreasing on [v₀, ∞).
        start: v₀ ≥ u₀.
        level: U ≥ v₀; infinity gives the mass at which the flow blows up.

    Returns:
        G(U), by quadrature.

    References:
        The book's lemma `lem-euler-below-flow` (c).
    """
    return float(integrate.quad(lambda x: 1.0 / speed(x), start, level)[0])


def gaussian_tail(excess: float, lipschitz: float = 1.0) -> float:
    """Bound the probability that F(Z) exceeds its mean by t: exp(−t²/(2L²)).

    Args:
        excess: t ≥ 0.
        lipschitz: L > 0, the constant of F.

    References:
        The book's theorem `thm-gaussian-concentration`.
    """
    return math.exp(-0.5 * (excess / lipschitz) ** 2)


def mean_length(n: int) -> float:
    """Return the mean length of n standard Gaussians, √2·Γ((n+1)/2)/Γ(n/2).

    Args:
        n: how many.

    References:
        The book's lemma `lem-length`.
    """
    counted("n", n, "lem-length")
    return math.sqrt(2.0) * math.exp(math.lgamma(0.5 * (n + 1)) - math.lgamma(0.5 * n))


def largest_of_many(n: int, scale: float = 1.0, failure: float | None = None) -> float:
    """Bound the largest of N sub-Gaussian variables: τ√(2 ln N) or, with η, τ√(2 ln(N/η)).

    Args:
        n: N; for absolute values twice as many.
        scale: τ.
        failure: η; None for the mean.

    Returns:
        The bound of the mean, or one that fails with probability at most η.

    References:
        The book's lemma `lem-gaussian-maximum`.
    """
    counted("n", n, "lem-gaussian-maximum")
    extra = 0.0 if failure is None else deviation(failure, "lem-gaussian-maximum")
    return scale * math.hypot(math.sqrt(2.0 * math.log(n)), extra)


def log_pattern_bound(width: int, input_dim: int) -> float:
    """Bound the logarithm of the number of activation patterns: d·ln(em/d).

    Args:
        width: m ≥ d.
        input_dim: d ≥ 1.

    Raises:
        HypothesisError: not 1 ≤ d ≤ m.

    References:
        The book's lemma `lem-patterns` (a).
    """
    if not 1 <= input_dim <= width:
        refuse(
            "input_dim", "lie between 1 and the width", "lem-patterns", "a", input_dim,
            "Use `cell_count_bound`, which is exact for every m and d.",
        )  # fmt: skip
    return input_dim * (1.0 + math.log(width / input_dim))


def davidson_szarek_bound(rows: int, columns: int, failure: float | None = None) -> float:
    """Bound the operator norm of a standard Gaussian matrix: √m + √d or, with η, √m + √d + ϑ.

    Args:
        rows: m.
        columns: d.
        failure: η; None for the mean.

    Returns:
        The bound of the mean, or one that fails with probability at most η.

    References:
        The book's theorem `thm-davidson-szarek`.
    """
    counted("rows", rows, "thm-davidson-szarek")
    counted("columns", columns, "thm-davidson-szarek")
    extra = 0.0 if failure is None else deviation(failure, "thm-davidson-szarek")
    return math.sqrt(rows) + math.sqrt(columns) + extra


def mcdiarmid_tail(excess: float, differences: Sequence[float] | np.ndarray) -> float:
    """Bound the probability that f(Z) exceeds its mean by t: exp(−2t²/Σc_i²).

    Args:
        excess: t ≥ 0.
        differences: c_i ≥ 0, how much f may change with its i-th argument; not all 0.

    References:
        The book's theorem `thm-mcdiarmid`.
    """
    return math.exp(-2.0 * (excess / float(np.linalg.norm(differences))) ** 2)


def mcdiarmid_deviation(differences: Sequence[float] | np.ndarray, failure: float) -> float:
    """Return what f(Z) exceeds its mean by with probability at most η: √(½ Σc_i² ln(1/η)).

    Args:
        differences: c_i ≥ 0, how much f may change with its i-th argument.
        failure: η.

    Returns:
        The excess, in the unit of f.

    References:
        The book's theorem `thm-mcdiarmid`.
    """
    return 0.5 * float(np.linalg.norm(differences)) * deviation(failure, "thm-mcdiarmid")


def dyadic_w1_bound(n: int, dimension: int, diagonal: float) -> float:
    """Bound E W₁(μ, μ_n) in a box, the best that the theorem gives.

    Δ(2^{−q} + ½Σ_{k≤q} 2^{−k}√((2^{kD} − 1)/n)) with the best q; Δ/(2√n) for D = 1.

    Args:
        n: the number of samples.
        dimension: D of the box.
        diagonal: Δ, its length; √D·ρ for a cube of side ρ.

    Returns:
        The bound, in the unit of the box.

    References:
        The book's theorem `thm-dyadic-w1` (b), and `lem-w1-line`.
    """
    counted("n", n, "thm-dyadic-w1")
    counted("dimension", dimension, "thm-dyadic-w1")
    if dimension == 1:
        return 0.5 * diagonal / math.sqrt(n)
    levels = 0
    while 2 ** ((levels + 1) * dimension) <= 4 * n + 1:
        levels += 1
    sums = (0.5**k * math.sqrt((2 ** (k * dimension) - 1) / n) for k in range(1, levels + 1))
    return diagonal * (0.5**levels + 0.5 * sum(sums))


def dyadic_w1_rate(n: int, dimension: int, diagonal: float) -> float:
    """Bound E W₁(μ, μ_n) in a box, in closed form.

    Δ/(2√n) for D = 1, Δ(1 + ½⌈½log₂n⌉)/√n for D = 2, Δ(2 + 1/(2(1 − 2^{1−D/2})))n^{−1/D} for D ≥ 3.

    Args:
        n: the number of samples.
        dimension: D of the box.
        diagonal: Δ, its length; √D·ρ for a cube of side ρ.

    Returns:
        The bound, in the unit of the box; never below `dyadic_w1_bound`.

    References:
        The book's theorem `thm-dyadic-w1` (c).
    """
    counted("n", n, "thm-dyadic-w1")
    counted("dimension", dimension, "thm-dyadic-w1")
    if dimension == 1:
        return 0.5 * diagonal / math.sqrt(n)
    if dimension == 2:
        halvings = (n - 1).bit_length()  # ⌈log₂n⌉, and ⌈½⌈x⌉⌉ = ⌈½x⌉
        return diagonal * (1.0 + 0.5 * ((halvings + 1) // 2)) / math.sqrt(n)
    constant = 2.0 + 0.5 / (1.0 - 2.0 ** (1.0 - 0.5 * dimension))
    return float(diagonal * constant * n ** (-1.0 / dimension))


def w1_deviation(n: int, diameter: float, failure: float) -> float:
    """Return what W₁(μ, μ_n) exceeds its mean by with probability at most η: Δ√(ln(1/η)/(2n)).

    Args:
        n: the number of samples.
        diameter: Δ of a set that has all of them.
        failure: η.

    Returns:
        The excess, in the unit of the diameter.

    References:
        The book's theorem `thm-dyadic-w1` (d).
    """
    counted("n", n, "thm-dyadic-w1")
    return mcdiarmid_deviation([diameter / math.sqrt(n)], failure)
