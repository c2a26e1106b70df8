"""The dual of minimising λ_max(M(t)) over multipliers, in low-rank form.

With Z = (P; Q), P (d, r), Q (k, r) and ‖Z‖_F² = 2,

    min over t of λ_max(M(t)) = max over Z of F(Z) = Σ_i h_i|Pᵀw_i||Qᵀa_i| + c_i⟨Pᵀw_i, Qᵀa_i⟩,

as soon as r = d + k, and often for much smaller r: for a fixed Z the best multipliers are t_i =
|Qᵀa_i|/|Pᵀw_i|, and F is concave in ZZᵀ (S. Burer and R. D. C. Monteiro, A nonlinear programming
algorithm for solving semidefinite programs via low-rank factorization, Mathematical Programming 95,
2003). The gradient of F is M(t)Z. Rows are scaled to unit length, which scales t. Both
norms carry a small constant ε, so that t stays within ε^±½ and F is smooth; the least bound moves
by a share of order (d + k)ε.

Nothing here is proved: it only suggests Z and t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.semidefinite.relaxation import weighted_gram

SMOOTHING = 1e-8
# Products of coordinates of a row are kept where there are at most so many of them, and in all.
_TABLE_COLUMNS = 256
_TABLE_SIZE = 2**21
# Neurons of one sign turn the ascent into a power method with eigenvalues of both signs.
_INDEFINITE = 0.1


class Side:
    """Evaluate |Pᵀw_i|² and Σ_i x_i w_i w_iᵀP for the rows w_i of one layer.

    With few coordinates both are products with one table of all w_i w_iᵀ, whatever the rank of P.
    """

    def __init__(self, rows: FloatArray) -> None:
        """Take rows (K, m, d), or (1, m, d) shared by all members of a batch."""
        self.rows = rows
        self.table: FloatArray | None = None
        d = rows.shape[-1]
        if d * d <= _TABLE_COLUMNS and rows.size * d <= _TABLE_SIZE:
            self.table = (rows[..., :, None] * rows[..., None, :]).reshape(*rows.shape[:2], d * d)
        self._image = rows[:0]

    def take(self, kept: BoolArray) -> Side:
        """Return the members of the batch that are kept."""
        return self if len(self.rows) == 1 else Side(self.rows[kept])

    def squares(self, factor: FloatArray) -> FloatArray:
        """Return |Pᵀw_i|², (K, m), for P (K, d, r)."""
        if self.table is not None:
            gram = factor @ factor.mT
            return (self.table @ gram.reshape(len(factor), -1, 1))[..., 0]
        self._image = self.rows @ factor
        squares: FloatArray = np.einsum("kmr,kmr->km", self._image, self._image)
        return squares

    def pull(self, x: FloatArray, factor: FloatArray) -> FloatArray:
        """Return Σ_i x_i w_i w_iᵀP, (K, d, r), for x (K, m) and the P of the last `squares`."""
        if self.table is not None:
            d = factor.shape[1]
            return (x[:, None, :] @ self.table).reshape(-1, d, d) @ factor
        product: FloatArray = self.rows.mT @ (x[..., None] * self._image)
        return product


@dataclass(frozen=True)
class Program:
    """Hold K problems max F(Z) over neurons with rows of unit length.

    Attributes:
        inputs: rows w_i, (K or 1, m, d).
        outputs: rows a_i, (K or 1, m, k).
        spread: h_i, (K, m).
        mean: C = Σ_i c_i w_i a_iᵀ, (K, d, k).
        stride: how much of a power step may be taken at once, (K,).
    """

    inputs: Side
    outputs: Side
    spread: FloatArray
    mean: FloatArray
    stride: FloatArray

    @property
    def input_dim(self) -> int:
        """d, the number of rows of P."""
        return self.mean.shape[1]

    @cached_property
    def cross(self) -> FloatArray:
        """M(t) without its diagonal blocks, (K, d + k, d + k)."""
        size, d, k = self.mean.shape
        matrix = np.zeros((size, d + k, d + k))
        matrix[:, :d, d:], matrix[:, d:, :d] = self.mean, self.mean.mT
        return matrix

    def take(self, kept: BoolArray) -> Program:
        """Return the members of the batch that are kept."""
        inputs, outputs = self.inputs.take(kept), self.outputs.take(kept)
        return Program(inputs, outputs, self.spread[kept], self.mean[kept], self.stride[kept])

    def evaluate(self, factor: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return F(Z) (K,), its gradient M(t)Z (K, d + k, r), and t (K, m)."""
        if self.inputs.table is not None and self.outputs.table is not None:
            return self._evaluate_small(factor, self.inputs.table, self.outputs.table)
        d = self.input_dim
        p, q = factor[:, :d], factor[:, d:]
        inner, outer = self.inputs.squares(p) + SMOOTHING, self.outputs.squares(q) + SMOOTHING
        t = np.sqrt(outer / inner)
        alpha = self.spread * t
        across = self.mean @ q
        image = np.empty_like(factor)
        np.add(self.inputs.pull(alpha, p), across, out=image[:, :d])
        back = self.mean.mT @ p
        np.add(self.outputs.pull(self.spread / t, q), back, out=image[:, d:])
        value = np.vecdot(alpha, inner) + np.vecdot(p, across).sum(axis=1)
        return value, image, t

    def _evaluate_small(
        self, factor: FloatArray, inputs: FloatArray, outputs: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Do the same by way of ZZᵀ and M(t), in fewer operations where both are small."""
        size, d, k = self.mean.shape
        gram = factor @ factor.mT
        inner = (inputs @ gram[:, :d, :d].reshape(size, d * d, 1))[..., 0] + SMOOTHING
        outer = (outputs @ gram[:, d:, d:].reshape(size, k * k, 1))[..., 0] + SMOOTHING
        t = np.sqrt(outer / inner)
        alpha = self.spread * t
        matrix = self.cross.copy()
        matrix[:, :d, :d] = (alpha[:, None, :] @ inputs).reshape(-1, d, d)
        matrix[:, d:, d:] = ((self.spread / t)[:, None, :] @ outputs).reshape(-1, k, k)
        cross = np.vecdot(gram[:, :d, d:], self.mean).sum(axis=1)
        return np.vecdot(alpha, inner) + cross, matrix @ factor, t

    def quotient(self, factor: FloatArray, t: FloatArray) -> FloatArray:
        """Return ½⟨Z, M(t)Z⟩ ≤ λ_max(M(t)), (K,), for any t."""
        d = self.input_dim
        p, q = factor[:, :d], factor[:, d:]
        terms = t * self.inputs.squares(p) + self.outputs.squares(q) / t
        cross = np.einsum("kdr,kdr->k", p, self.mean @ q)
        total: FloatArray = 0.5 * np.einsum("km,km->k", self.spread, terms) + cross
        return total

    def matrix(self, t: FloatArray) -> FloatArray:
        """Return M(t), (K, d + k, d + k)."""
        d, matrix = self.input_dim, self.cross.copy()
        matrix[:, :d, :d] = _gram(self.spread * t, self.inputs.rows)
        matrix[:, d:, d:] = _gram(self.spread / t, self.outputs.rows)
        return matrix


def _gram(x: FloatArray, rows: FloatArray) -> FloatArray:
    (shared,) = _unshared(rows)
    return weighted_gram(x, shared, shared)


def program(
    weight: FloatArray, output: FloatArray, mean: FloatArray, spread: FloatArray
) -> tuple[Program, FloatArray, BoolArray]:
    """Return the program of K problems; the ratios |a_i|/|w_i|, by which t_i is to be multiplied to
    fit the given rows; and which neurons the program keeps, (m,).

    Args:
        weight: w_i, (K or 1, m, d), of length about 1, or 0.
        output: a_i, (K or 1, m, k), likewise.
        mean: c, (K, m).
        spread: h, (K, m).
    """
    inner, outer = _lengths(weight), _lengths(output)
    weight, output = weight / inner[..., None], output / outer[..., None]
    c, h = mean * (inner * outer), spread * (inner * outer)
    constant = weighted_gram(c, *_unshared(weight, output))
    excess = np.maximum(np.abs(c) - h, 0.0).sum(axis=1)
    stride = np.where(excess > _INDEFINITE * h.sum(axis=1), 0.5, 1.0)
    # A neuron whose slope is fixed enters through C alone.
    moving: BoolArray = np.any(h > 0.0, axis=0)
    if not moving.all():
        weight, output, h = weight[:, moving], output[:, moving], h[:, moving]
    return Program(Side(weight), Side(output), h, constant, stride), outer / inner, moving


def _unshared(*layers: FloatArray) -> tuple[FloatArray, ...]:
    """Return layers without their batch axis where all members share them."""
    return tuple(rows[0] if len(rows) == 1 else rows for rows in layers)


def _lengths(rows: FloatArray) -> FloatArray:
    """Return |w_i|, and 1 for rows of zeros."""
    squares = np.einsum("kmd,kmd->km", rows, rows)
    return np.sqrt(np.where(squares > 0.0, squares, 1.0))
