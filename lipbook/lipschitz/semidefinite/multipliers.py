"""Multipliers t that make the bound λ_max(M(t)) of `relaxation` small.

They are read from an ascent on the dual (`primal_ascent`). Where it ends at a saddle, mostly for
want of rank, eigenvectors of M(t) widen Z; at full rank there are no false maxima. More coordinates
than neurons are not needed: W is replaced by its triangular factor.

Everything here is a suggestion. Bounds come from `relaxation`, for any t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.rounding import exponent
from lipbook.lipschitz.semidefinite.primal import Program, program
from lipbook.lipschitz.semidefinite.primal_ascent import Best, climb, unit
from lipbook.lipschitz.semidefinite.relaxation import IntArray, Rows, coefficients, scaled_rows

GAP = 1e-4
# Up to so many rows Z is square from the start, otherwise it has so many columns at first.
_RANK = 24
_FIRST_RANK = 16
# The share of new columns in a widened Z.
_WIDENING = 0.05
_RESTARTS = 8
_TINY = 1e-290


@dataclass(frozen=True)
class Suggestion:
    """Hold multipliers and the dual point they were read from, for a batch of any shape.

    Attributes:
        multiplier: t, (..., m); ‖a_i‖/‖w_i‖ where it does not matter.
        factor: Z = (P; Q), (..., d + k, r), ‖Z‖_F² = 2.
        gap: λ_max(M(t))/F(Z) − 1, not proved, (...).
    """

    multiplier: FloatArray
    factor: FloatArray
    gap: FloatArray


def _search(
    problem: Program, first: FloatArray | None, target: float, stop: Callable[[], bool] | None
) -> Best:
    """Climb; where a gap stays open, climb again from a wider Z."""
    matrix = problem.matrix(np.ones(problem.spread.shape))
    factor = _blind(problem, matrix) if first is None else _blended(problem, matrix, first)
    best = climb(problem, factor, target, stop)
    for _ in range(_RESTARTS):
        open_ = best.gap(np.arange(len(matrix))) > target
        if not open_.any() or (stop is not None and stop()):
            break
        part = problem.take(open_)
        wider = climb(part, _widened(part, best, open_), target, stop)
        best.replace(np.flatnonzero(open_), wider)
    return best


def _blind(problem: Program, matrix: FloatArray, rank: int = 0) -> FloatArray:
    """Return a first Z: a power step from the identity, or from a random Z of fewer columns."""
    n = matrix.shape[1]
    if n == 2:  # one input and one output: the solution
        sign = np.where(problem.mean < 0.0, -1.0, 1.0)
        return np.concatenate([np.ones_like(sign), sign], axis=1)
    if problem.spread.shape[1] == 0:  # no multiplier matters
        return np.asarray(np.linalg.eigh(matrix)[1][:, :, -1:], dtype=np.float64)
    rank = rank or (n if n <= _RANK else _FIRST_RANK)
    # Where M(t) has eigenvalues of both signs, those of one sign must count for more.
    lift = np.where(problem.stride < 1.0, np.sqrt(np.einsum("kij,kij->k", matrix, matrix)), 0.0)
    lifted = matrix + lift[:, None, None] * np.eye(n)
    if rank >= n:
        return lifted
    product: FloatArray = lifted @ np.random.default_rng(0).standard_normal((n, rank))
    return product


def _blended(problem: Program, matrix: FloatArray, first: FloatArray) -> FloatArray:
    """Return the given Z, with a little of every direction."""
    first = _narrow(first)
    return unit(first) + 0.01 * unit(_blind(problem, matrix, first.shape[2]))


def _widened(problem: Program, best: Best, members: BoolArray) -> FloatArray:
    """Return the Z of some members with up to twice as many columns, or n: eigenvectors of M(t)
    whose eigenvalues exceed F(Z) are added, for Z is no maximum in their directions."""
    factor, value = best.factor[members], best.value[members]
    rank = factor.shape[2]
    found, vectors = np.linalg.eigh(problem.matrix(best.t[members]))
    excess = np.maximum(found[:, -rank:] - value[:, None], 0.0)
    share = _WIDENING * excess / np.maximum(excess.sum(axis=1), _TINY)[:, None]
    wide = np.concatenate([factor, np.sqrt(2.0 * share)[:, None] * vectors[:, :, -rank:]], axis=2)
    return _narrow(wide)


def _narrow(factor: FloatArray) -> FloatArray:
    """Return Z with at most n columns and the same ZZᵀ, which is all that matters."""
    if factor.shape[2] <= factor.shape[1]:
        return factor
    return np.asarray(np.linalg.qr(factor.mT)[1].mT, dtype=np.float64)


class _Basis:
    """Rows in an orthonormal basis of their span, where there are more coordinates than rows."""

    def __init__(self, rows: FloatArray) -> None:
        """Take rows (K, m, d)."""
        self.rows = rows
        self._basis: FloatArray | None = None
        if rows.shape[2] > rows.shape[1]:
            basis, upper = np.linalg.qr(rows.mT)
            self._basis, self.rows = basis.astype(np.float64), upper.mT.astype(np.float64)

    def into(self, factor: FloatArray) -> FloatArray:
        """Return P in the coordinates of the basis."""
        return factor if self._basis is None else self._basis.mT @ factor

    def back(self, factor: FloatArray) -> FloatArray:
        """Return P in the original coordinates."""
        return factor if self._basis is None else self._basis @ factor


def _flat(rows: Rows) -> Rows:
    """Return the rows with one batch axis, of length 1 where they are shared."""
    return Rows(
        rows.weight.reshape(-1, *rows.weight.shape[-2:]),
        rows.output.reshape(-1, *rows.output.shape[-2:]),
        rows.lean.reshape(-1, rows.lean.shape[-1]),
        rows.size.reshape(-1, rows.size.shape[-1]),
        rows.live.reshape(-1, rows.live.shape[-1]),
    )


def _uniform(weight: FloatArray, output: FloatArray, lean: IntArray) -> FloatArray:
    """Return τ_i = 2^lean_i·‖A‖/‖W‖, (K or 1, m): one t for all, as in the centred bound."""
    p, q = exponent(weight, (-2, -1)), exponent(output, (-2, -1))
    ratio = _norm(np.ldexp(output, -q)) / _norm(np.ldexp(weight, -p))
    level = np.log2(ratio) + (q - p)[..., 0, 0]
    return np.exp2(np.clip(level.reshape(-1, 1) + lean, -300.0, 300.0))


def _norm(matrix: FloatArray) -> FloatArray:
    """Return ‖M‖_op over the last two axes, as LAPACK has it."""
    wide = matrix.shape[-1] > matrix.shape[-2]
    gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
    return np.sqrt(np.linalg.eigvalsh(gram)[..., -1])


def best_multipliers(
    weight: FloatArray,
    output: FloatArray,
    centre: FloatArray,
    half_width: FloatArray,
    start: FloatArray | None = None,
    target: float = GAP,
    stop: Callable[[], bool] | None = None,
    rows: Rows | None = None,
) -> Suggestion:
    """Minimise λ_max(M(t)) over multipliers t > 0, up to a relative `target`.

    Never worse, but for rounding, than one t for all neurons, and than t_i = ‖a_i‖/‖w_i‖. Leading
    axes are a batch; those of `weight` and `output` may be missing.

    Args:
        weight: W, (..., m, d).
        output: A, (..., k, m).
        centre: c, (..., m), finite.
        half_width: h ≥ 0, (..., m), finite.
        start: Z to start from, (..., d + k, r), such as the `factor` of a similar problem.
        target: stop at this gap.
        stop: asked before every step whether to end now; if given, Ctrl-C ends the search too, and
            the best so far is returned.
        rows: what `scaled_rows` returns of W and A, if it is known already.

    Returns:
        The `Suggestion`.
    """
    batch, width = centre.shape[:-1], centre.shape[-1]
    rows = _flat(scaled_rows(weight, output) if rows is None else rows)
    c, h, _ = coefficients(rows, centre.reshape(-1, width), half_width.reshape(-1, width))
    inputs, outputs = _Basis(rows.weight), _Basis(rows.output)
    problem, ratio, moving = program(inputs.rows, outputs.rows, c, h)
    first = None
    if start is not None:
        split, flat = weight.shape[-1], start.reshape(-1, *start.shape[-2:])
        first = np.concatenate([inputs.into(flat[:, :split]), outputs.into(flat[:, split:])], 1)
    with np.errstate(all="ignore"):
        best = _search(problem, first, target, stop)
        uniform = _uniform(weight, output, rows.lean) / ratio
        for rival in (np.ones_like(h), np.broadcast_to(uniform, h.shape)):
            best.challenge(problem, rival[:, moving])
        tau = np.broadcast_to(ratio, h.shape).copy()
        tau[:, moving] *= np.where(h[:, moving] > 0.0, best.t, 1.0)
        # Beyond the range of float64 t becomes 0 or ∞, for which `relaxation` has a substitute.
        multiplier = np.ldexp(tau, -rows.lean)
    p, q = best.factor[:, : problem.input_dim], best.factor[:, problem.input_dim :]
    factor = np.concatenate([inputs.back(p), outputs.back(q)], axis=1)
    return Suggestion(
        multiplier.reshape(*batch, width),
        factor.reshape(*batch, *factor.shape[1:]),
        best.gap(np.arange(len(c))).reshape(batch),
    )
