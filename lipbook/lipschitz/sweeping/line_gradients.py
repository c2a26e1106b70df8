"""Gradients of a network of two inputs on the cells along each of its lines.

A gradient is held as k complex numbers z = J₁ + iJ₂, one per output. Then JᵀJ has the eigenvalues
½(Σ|z|² ± |Σz²|), so that ‖J‖² = ½(Σ|z|² + |Σz²|), which is |z|² for one output.

Neurons whose kinks lie on the same line are added up: where it is crossed from its negative to its
positive side, J jumps by (σ'(0⁺) − σ'(0⁻))·Σ_j ±A_j w_jᵀ, + for neurons that point the same way as
the line. Prefix sums over lines give the cell before the first crossing of each line, prefix sums
over crossings give the others.

Rounding. Every entry of J is a sum of σ'·A_j w_j over neurons and of jumps, at most two of each, of
terms with at most 3 roundings, in some order: with m neurons and n lines a term passes through at
most 3m + 3n + 8 operations, and so |Ĵ − J| ≤ γ·Σ|terms|. The formula for ‖J‖ adds at most 2k + 10
roundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.breakpoints import IntArray
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import UNIT, down, exponent, norm_upper, up
from lipbook.lipschitz.sweeping.crossings import Crossings

ComplexArray = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class LineGradients:
    """Hold the gradients along n lines, times 2^-exponent.

    Attributes:
        start: z on the negative side of line i, before its first crossing, (k, n).
        jumps: what is added where entry j is crossed, (k, 2n).
        error: bound of ‖Ĵ − J‖ on every cell.
        exponent: J is to be scaled by 2^exponent.
    """

    start: ComplexArray
    jumps: ComplexArray
    error: float
    exponent: int

    def lower(self, square: float) -> float:
        """Return a lower bound of ‖J‖ from a computed ‖Ĵ‖²."""
        norm = down(down(np.sqrt(square), 2 * len(self.start) + 10) - self.error, 1)
        return float(down(np.ldexp(norm, self.exponent), 1))

    def upper(self, square: float) -> float:
        """Return an upper bound of ‖J‖ from a computed ‖Ĵ‖²."""
        norm = up(up(np.sqrt(square), 2 * len(self.start) + 10) + self.error, 1)
        return float(np.nextafter(np.ldexp(norm, self.exponent), np.inf)) if norm > 0.0 else 0.0


def line_gradients(
    problem: Problem, owner: IntArray, sign: FloatArray, n_lines: int
) -> LineGradients:
    """Add up jumps and the gradients before the first crossings.

    Args:
        problem: two inputs, piecewise-linear σ.
        owner: which line each neuron belongs to, (m,).
        sign: whether its normal points the same way, (m,).
        n_lines: n.
    """
    assert problem.activation.kink_slopes is not None
    left, right = problem.activation.kink_slopes
    weight, output, e = _balanced(problem)
    terms = output * (weight[:, 0] + 1j * weight[:, 1])
    base = (terms * np.where(sign > 0.0, left, right)).sum(axis=1)
    signed = terms * (sign * (right - left))
    jumps = np.zeros((len(output), n_lines), dtype=np.complex128)
    for row, values in zip(jumps, signed, strict=True):
        row.real = np.bincount(owner, values.real, n_lines)
        row.imag = np.bincount(owner, values.imag, n_lines)
    steepness = max(abs(left), abs(right)) + 2.0 * abs(right - left)
    # On the negative side of line i before its first crossing, the lines before i are passed.
    start = np.cumsum(np.concatenate([base[:, None], jumps[:, :-1]], axis=1), axis=1)
    return LineGradients(
        start,
        np.concatenate([jumps, -jumps], axis=1),
        _error(weight, output, steepness, n_lines),
        e,
    )


def _balanced(problem: Problem) -> tuple[FloatArray, FloatArray, int]:
    """Return W and A with powers of two moved from rows of W to columns of A, entries below 1, and
    e: J is to be scaled by 2^e. Only products far below the largest one underflow."""
    by_row = exponent(problem.hidden_weight, 1)
    weight = np.ldexp(problem.hidden_weight, -by_row)
    e = int((by_row.T + exponent(problem.output_weight, 0)).max())
    return weight, np.ldexp(problem.output_weight, by_row.T - e), e


def _error(weight: FloatArray, output: FloatArray, steepness: float, n_lines: int) -> float:
    """Return a bound of ‖Ĵ − J‖_F, scaled; `steepness` goes with each |A_cj·w_j|."""
    mass = steepness * (np.abs(output) @ np.abs(weight))
    size = up(norm_upper(mass.ravel()), len(weight) + 4)
    # 2⁻²⁵⁰ covers products, squares and their squares lost to underflow.
    return float(2.0 * UNIT * (3 * len(weight) + 3 * n_lines + 8) * size + 2.0**-250)


def norm_squares(gradients: LineGradients, found: Crossings) -> FloatArray:
    """Return ‖Ĵ‖² on the negative and the positive side of each edge of a run of lines, as if
    there were an edge between any two crossings.

    Args:
        gradients: of all lines.
        found: the crossings on R lines.

    Returns:
        Shape (2, R, n), entry s before crossing s.
    """
    count, n = found.order.shape[0], found.order.shape[1] + 1
    lines = slice(found.start, found.start + count)
    several = len(gradients.start) > 1
    total = np.zeros((2, count, n))
    turn = np.zeros((2, count, n) if several else 0, dtype=np.complex128)
    z = np.empty((count, n), dtype=np.complex128)
    for start, jumps in zip(gradients.start, gradients.jumps, strict=True):
        z[:, 0] = start[lines]
        z[:, 1:] = jumps.take(found.order)
        np.cumsum(z, axis=1, out=z)
        for side in (0, 1):
            if side:
                z += jumps[lines, None]
            total[side] += z.real * z.real
            total[side] += z.imag * z.imag
            if several:
                turn[side] += z * z
    return 0.5 * (total + np.sqrt(turn.real**2 + turn.imag**2)) if several else total
