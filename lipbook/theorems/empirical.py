"""The book's tools on classes of functions and on samples: random signs, radii, dyadic cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lipbook.theorems.refusal import refuse
from lipbook.theorems.tools import counted, largest_of_many, mcdiarmid_deviation


def linear_complexity(points: np.ndarray, radius: float) -> float:
    """Bound the Rademacher average of x ↦ ⟨w, x⟩, ‖w‖ ≤ B: (B/n)√(Σ‖x_i‖²).

    Args:
        points: x_1, …, x_n, (n, d).
        radius: B.

    Returns:
        The bound, attained by orthogonal points; rounded to nearest.

    References:
        The book's lemma `lem-rademacher` (g).
    """
    counted("points", len(points), "lem-rademacher")
    return radius * float(np.linalg.norm(points)) / len(points)


def finite_complexity(vectors: np.ndarray) -> float:
    """Bound the Rademacher average of a finite set: (r/n)√(2 ln N).

    Args:
        vectors: its N elements, (N, n).

    Returns:
        The bound, r the greatest length; rounded to nearest.

    References:
        The book's lemma `lem-rademacher` (f).
    """
    counted("vectors", len(vectors), "lem-rademacher")
    longest = float(np.linalg.norm(vectors, axis=1).max())
    return largest_of_many(len(vectors), longest) / vectors.shape[1]


def uniform_gap(
    complexity: float, spread: float, n: int, failure: float, empirical: bool = False
) -> float:
    """Bound Pf − P_n f for a whole class at once, with probability at least 1 − η.

    2Rad + (b − a)√(ln(1/η)/(2n)), or 2Rad + 3(b − a)√(ln(2/η)/(2n)) with the average of the sample.

    Args:
        complexity: Rad_n of the class, or Rad(·; Z) of the sample.
        spread: b − a, with a ≤ f ≤ b for every f of the class.
        n: the number of samples.
        failure: η.
        empirical: whether the complexity is that of the sample.

    Returns:
        The gap, in the unit of f.

    References:
        The book's lemma `lem-symmetrisation`.
    """
    counted("n", n, "lem-symmetrisation")
    one = [spread / math.sqrt(n)]
    if empirical:
        return 2.0 * complexity + 3.0 * mcdiarmid_deviation(one, 0.5 * failure)
    return 2.0 * complexity + mcdiarmid_deviation(one, failure)


def peel(
    radii: Sequence[float], first: Sequence[float], failure: float
) -> tuple[tuple[float, ...], float]:
    """Return the radii 2^k·r⁰ and the η/Π(k+1)(k+2) at which a bound holds for radii seen later.

    Args:
        radii: ϱ_i(f) ≥ 0, as they came out.
        first: r⁰_i > 0, chosen before the data were seen.
        failure: η.

    Returns:
        The radii and the probability of failure to insert into the bound for fixed radii.

    Raises:
        HypothesisError: some first radius is not positive, or some radius not finite.

    References:
        The book's lemma `lem-peeling`.
    """
    if not all(r > 0.0 for r in first):
        refuse(
            "first", "be positive", "lem-peeling", "its setting", tuple(first),
            "Choose the radius that you expect, before you look at the data.",
        )  # fmt: skip
    if not all(math.isfinite(r) for r in radii):
        refuse(
            "radii", "be finite", "lem-peeling", "its setting", tuple(radii),
            "A run that diverged has no radius.",
        )  # fmt: skip
    reached = []
    for radius, one in zip(radii, first, strict=True):
        k, reach = 0, one
        while reach < radius:
            k, reach = k + 1, 2.0 * reach
        reached.append(reach)
        failure /= (k + 1) * (k + 2)
    return tuple(reached), failure


def dyadic_distance(
    x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray, levels: int
) -> float:
    """Bound W₁ of two samples in a box by counting in dyadic cells.

    Δ(2^{−q} + ½Σ_{k≤q} 2^{−k} Σ_C |μ(C) − ν(C)|).

    Args:
        x: one sample, (n, D), inside the box.
        y: another, (n', D).
        low: the least corner of the box, (D,).
        high: the greatest, (D,).
        levels: q, how often the sides are halved.

    Returns:
        The bound, in the unit of the box; rounded to nearest.

    Raises:
        HypothesisError: a point lies outside the box.

    References:
        The book's theorem `thm-dyadic-w1` (a).
    """
    points = np.concatenate([x, y])
    if not bool(((low <= points) & (points <= high)).all()):
        refuse(
            "x and y", "lie in the box", "thm-dyadic-w1", "its setting", "a point outside",
            "Enlarge the box: its corners may be any that enclose the law.",
        )  # fmt: skip
    weights = np.concatenate([np.full(len(x), 1.0 / len(x)), np.full(len(y), -1.0 / len(y))])
    sides = np.where(high > low, high - low, 1.0)
    total = 0.5**levels
    for k in range(1, levels + 1):
        cells = np.minimum((points - low) / sides * 2**k, 2**k - 1).astype(np.int64)
        _, names = np.unique(cells, axis=0, return_inverse=True)
        differences = np.bincount(names.ravel(), weights)
        total += 0.5 ** (k + 1) * float(np.abs(differences).sum())
    return float(np.linalg.norm(high - low)) * total
