"""Statements that hold with a probability, put to the test on many seeds.

One seed cannot contradict a statement that may fail with probability η. Many can: if each of n
independent seeds violates it with probability at most η, the number of violations exceeds
`most_violations(n, η)` with probability at most one in a million.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import ROUNDING_FACTOR, Hypothesis, Verdict

# A verdict over seeds may be wrong by chance with at most this probability.
LEVEL = 1e-6


def deviation(failure: float, theorem: str = "thm-gaussian-start") -> float:
    """Return ϑ with exp(−ϑ²/2) = η.

    Args:
        failure: η, the allowed probability of failure, 0 < η ≤ 1.
        theorem: the label of the statement that asks.

    Returns:
        √(2 ln(1/η)).

    Raises:
        HypothesisError: η is no such probability.
    """
    if not 0.0 < failure <= 1.0:
        refuse(
            "failure", "lie above 0 and be at most 1", theorem, "H1", failure,
            "Use 0.05, say: no bound on Gaussian weights holds with certainty.",
        )  # fmt: skip
    return math.sqrt(-2.0 * math.log(failure))


def most_violations(n: int, failure: float, level: float = LEVEL) -> int:
    """Return the least k such that more than k of n seeds fail with probability at most `level`.

    Args:
        n: the number of independent seeds.
        failure: η, what each of them may fail with.
        level: of the exact binomial test.

    Returns:
        An integer from 0 to n.
    """
    return int(stats.binom.isf(level, n, min(failure, 1.0)))


def violations(measured: np.ndarray, bound: np.ndarray | float) -> int:
    """Return for how many seeds measured > bound, beyond rounding; a NaN counts as one.

    Args:
        measured: (n,).
        bound: (n,) or one number.
    """
    return int((~(measured <= np.asarray(bound) * ROUNDING_FACTOR)).sum())


def verdict_over_seeds(
    statement: type,
    quantity: str,
    hypotheses: Sequence[Hypothesis],
    measured: np.ndarray,
    bound: np.ndarray | float,
    failure: float,
) -> Verdict:
    """Return what a statement with a probability says of many seeds together.

    Args:
        statement: has the `label` and the `title`.
        quantity: what is bounded, in words; it becomes the subject.
        hypotheses: of the statement.
        measured: the quantity for each seed, (n,).
        bound: its bound, (n,) or one number.
        failure: η, the probability with which one seed may exceed it.

    Returns:
        A `Verdict`; measured is how many seeds exceed the bound, the bound how many may before an
        exact binomial test at `LEVEL` objects.
    """
    return Verdict(
        theorem=statement.label,  # type: ignore[attr-defined]
        title=statement.title,  # type: ignore[attr-defined]
        quantity=f"number of seeds, of {len(measured)}, beyond their bound:",
        hypotheses=tuple(hypotheses),
        bound=float(most_violations(len(measured), failure)),
        measured=float(violations(measured, bound)),
        subject=quantity,
    )
