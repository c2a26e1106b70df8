"""Upper bounds of ‖P(s)‖_op on the cube, for matrices P(s) = P₀ + P₁[s] + ½P₂[s, s].

One row or column, q(s): ‖q(s)‖² is a quadratic polynomial (see `cube_quadratics`) up to q₁s·q₂[s,
s] + ¼‖q₂[s, s]‖², which is bounded by ητ + ¼τ², η ≥ ‖q₁s‖, τ ≥ ‖q₂[s, s]‖. So the bound is off by
the third power of the size of the box only, and few boxes are needed around a maximum.

Several rows: rotate, M = UᵀP with U the left singular vectors of P₀, first row q, other rows R, and
o = Rq. The largest eigenvalue λ of MMᵀ then satisfies

    λ ≤ max(α, sup_s ‖q‖² + ‖o‖²/(α − μ)),   α ≥ sup ‖q‖², μ ≥ sup ‖R‖², α > μ:

if λ > α, its Schur complement gives λ = ‖q‖² + oᵀ(λ − RRᵀ)⁻¹o ≤ ‖q‖² + ‖o‖²/(α − μ). The supremum
is taken over a quadratic polynomial again. Where μ ≥ α, or nearly, the 2×2 matrix of norms takes
its place, λ ≤ ½(α + μ) + √(¼(α − μ)² + ‖o‖²): there the bound converges more slowly. U is not
trusted to be orthogonal: ‖P‖ ≤ ‖UᵀP‖/√(1 − ‖UᵀU − I‖).

A ball is dealt with by a Lagrange multiplier λ ≥ 0: on {h ≥ 0}, ‖q‖² ≤ ‖q‖² + λh, and
h = radius² − ‖y − center‖² is a concave quadratic polynomial of s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.rounding import gamma, up
from lipbook.lipschitz.smooth.cube_quadratics import largest_on_cube

_LOST = 2.0**-900


@dataclass(frozen=True)
class Coefficients:
    """Hold P₀ (n, r, l), P₁ (n, r, l, d), P₂ (n, r, l, d, d)."""

    constant: FloatArray
    linear: FloatArray
    square: FloatArray

    def rows(self, which: slice) -> Coefficients:
        """Return some of the rows."""
        return Coefficients(self.constant[:, which], self.linear[:, which], self.square[:, which])

    def transposed(self) -> Coefficients:
        """Return the coefficients of Pᵀ."""
        return Coefficients(*(np.swapaxes(x, 1, 2) for x in self._parts()))

    def rotated(self, left: FloatArray) -> Coefficients:
        """Return the coefficients of UᵀP, U (n, r, r)."""
        turn = np.swapaxes(left, 1, 2)
        n, r = turn.shape[:2]
        parts = [(turn @ x.reshape(n, r, -1)).reshape(x.shape) for x in self._parts()]
        return Coefficients(*parts)

    def sizes(self) -> FloatArray:
        """Return bounds of ‖P₀‖, ‖P₁[s]‖, ‖P₂[s, s]‖ in Frobenius norm, (3, n)."""
        n = len(self.constant)
        sums = [np.abs(self.constant), np.abs(self.linear).sum(axis=3)]
        sums.append(np.abs(self.square).sum(axis=(3, 4)))
        roundings = self.square[0, 0, 0].size + 8 + self.constant[0].size
        norms = [np.sqrt((x.reshape(n, -1) ** 2).sum(axis=1)) for x in sums]
        return up(np.stack(norms), roundings) + _LOST

    def _parts(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self.constant, self.linear, self.square


@dataclass(frozen=True)
class Constraint:
    """Hold h(s) = constant + linear·s − Σ_i square_i s_i², up to `slack`, which is ≥ 0 on the
    domain.

    Attributes:
        constant: (n,).
        linear: (n, d).
        square: (n, d).
        slack: (n,).
        active: whether the box reaches beyond {h ≥ 0}, (n,).
    """

    constant: FloatArray
    linear: FloatArray
    square: FloatArray
    slack: FloatArray
    active: BoolArray


@dataclass(frozen=True)
class _Quadratic:
    """Hold constant + linear·s + sᵀ·square·s + slack."""

    constant: FloatArray
    linear: FloatArray
    square: FloatArray
    slack: FloatArray

    def largest(self, constraint: Constraint | None) -> tuple[FloatArray, FloatArray]:
        """Return bounds ≥ 0 on the cube, or the part of it that meets the domain, and points."""
        quadratic = self if constraint is None else self._within(constraint)
        bound, point = largest_on_cube(quadratic.linear, quadratic.square)
        constant, slack = quadratic.constant, quadratic.slack
        size = np.abs(constant) + bound + slack
        return np.maximum(constant + bound + slack + gamma(8) * size, 0.0), point

    def _within(self, constraint: Constraint) -> _Quadratic:
        """Add the multiple of h ≥ 0 that cancels the slope across the sphere."""
        along = -np.einsum("ni,ni->n", self.linear, constraint.linear)
        length = np.einsum("ni,ni->n", constraint.linear, constraint.linear)
        pushes = constraint.active & (along > 0.0) & (length > 0.0)
        weight = np.where(pushes, along, 0.0) / np.where(length > 0.0, length, 1.0)
        constant, linear = weight * constraint.constant, weight[:, None] * constraint.linear
        square = weight[:, None] * constraint.square
        size = np.abs(self.constant) + np.abs(constant) + square.sum(axis=1)
        size += (np.abs(self.linear) + np.abs(linear)).sum(axis=1)
        size += np.abs(self.square).sum(axis=(1, 2))
        return _Quadratic(
            constant=self.constant + constant,
            linear=self.linear + linear,
            square=self.square - square[:, :, None] * np.eye(square.shape[1]),
            slack=self.slack + weight * constraint.slack + gamma(8) * size,
        )


def norms_upper(
    coefficients: Coefficients, constraint: Constraint | None
) -> tuple[FloatArray, FloatArray]:
    """Bound ‖P(s)‖_op from above on the cube, where the constraint holds.

    Args:
        coefficients: of P.
        constraint: of a ball, or None.

    Returns:
        Bounds, rounded up, (n,), and points of the cube where ‖P‖ is large, (n, d).
    """
    rows, columns = coefficients.constant.shape[1:]
    if rows > columns:
        coefficients = coefficients.transposed()
    if min(rows, columns) == 1:
        square, point = _row_square(coefficients).largest(constraint)
        return up(np.sqrt(square), 2), point
    return _several_rows(coefficients, constraint)


def _row_square(row: Coefficients) -> _Quadratic:
    """Return ‖q(s)‖² as a quadratic polynomial with a remainder."""
    q0, q1, q2 = row.constant[:, 0], row.linear[:, 0], row.square[:, 0]
    size, eta, tau = row.sizes()
    n, length, d = q1.shape
    square = np.swapaxes(q1, 1, 2) @ q1
    square += (q0[:, None, :] @ q2.reshape(n, length, d * d)).reshape(n, d, d)
    rounding = gamma(2 * length + 16) * (size + eta + tau) ** 2
    return _Quadratic(
        constant=np.einsum("nl,nl->n", q0, q0),
        linear=2.0 * (q0[:, None, :] @ q1)[:, 0],
        square=square,
        slack=up(eta * tau + 0.25 * tau**2 + rounding, 8),
    )


def _several_rows(
    plain: Coefficients, constraint: Constraint | None
) -> tuple[FloatArray, FloatArray]:
    left, defect = _left_vectors(plain.constant)
    rotated = plain.rotated(left)
    r = left.shape[1]
    rounding = gamma(r + 4) * r * up(plain.sizes().sum(axis=0), 4)
    first, rest = rotated.rows(slice(0, 1)), rotated.rows(slice(1, None))
    square = _row_square(first)
    top, point = square.largest(constraint)
    below = _rest_square(rest)
    linked = _linked(first, rest)
    across = linked.size
    half = 0.5 * (top - below)
    two = 0.5 * (top + below) + np.hypot(half, across)
    gap = np.where(top - below > 0.0, (top - below) * (1.0 - 2.0**-40), 1.0)
    schur, better = linked.added(square, gap).largest(constraint)
    usable = (top - below > 0.0) & (schur < two)
    largest = np.maximum(np.where(usable, schur, up(two, 8)), top)
    bound = (up(np.sqrt(largest), 4) + rounding) / np.sqrt(1.0 - defect)
    return up(bound, 8), np.where(usable[:, None], better, point)


def _left_vectors(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return U (n, r, r), the vector of the largest singular value first, and bounds < ½ of
    ‖UᵀU − I‖."""
    r = matrix.shape[1]
    gram = matrix @ np.swapaxes(matrix, 1, 2)
    gram = np.where(np.isfinite(gram).all(axis=(1, 2), keepdims=True), gram, 0.0)
    left = np.linalg.eigh(gram)[1][:, :, ::-1]
    defect = np.abs(np.swapaxes(left, 1, 2) @ left - np.eye(r)).sum(axis=2).max(axis=1)
    # What an eigensolver returns is orthogonal to many more digits than this; else take U = I.
    sound = (defect < 2.0**-20)[:, None, None]
    defect = np.where(sound[:, 0, 0], defect, 0.0) + gamma(4 * r + 4) * r
    return np.where(sound, left, np.eye(r)), defect


def _rest_square(rest: Coefficients) -> FloatArray:
    """Return bounds μ ≥ ‖R(s)‖² on the cube."""
    if rest.constant.shape[1] == 1:
        return _row_square(rest).largest(None)[0]
    _, linear, square = rest.sizes()
    gram = rest.constant @ np.swapaxes(rest.constant, 1, 2)
    size = np.abs(rest.constant)
    error = gamma(rest.constant.shape[2]) * (size @ np.swapaxes(size, 1, 2))
    start = np.sqrt(up((np.abs(gram) + error).sum(axis=2).max(axis=1), rest.constant[0].size))
    return up((start + linear + 0.5 * square) ** 2, 8)


@dataclass(frozen=True)
class _Linked:
    """Hold o(s) = R(s)q(s) ≈ constant + linear·s, up to `rest` in norm, and ‖o‖ ≤ size."""

    constant: FloatArray
    linear: FloatArray
    rest: FloatArray
    size: FloatArray

    def added(self, square: _Quadratic, gap: FloatArray) -> _Quadratic:
        """Return ‖q‖² + ‖o‖²/gap."""
        r, d = self.linear.shape[1:]
        share = 1.0 / gap
        constant = np.einsum("nr,nr->n", self.constant, self.constant)
        cross = np.einsum("nr,nrd->nd", self.constant, self.linear)
        gram = np.swapaxes(self.linear, 1, 2) @ self.linear
        # ‖o₀ + o₁s + rest‖² and the rounding of its terms.
        more = self.size**2 * gamma(4 * r + 4 * d + 32) + 2.0 * self.size * self.rest
        return _Quadratic(
            constant=square.constant + share * constant,
            linear=square.linear + 2.0 * share[:, None] * cross,
            square=square.square + share[:, None, None] * gram,
            slack=square.slack
            + up(share * more, 8)
            + gamma(4) * (square.constant + np.abs(square.linear).sum(axis=1))
            + gamma(4) * np.abs(square.square).sum(axis=(1, 2)),
        )


def _linked(first: Coefficients, rest: Coefficients) -> _Linked:
    q0, q1 = first.constant[:, 0], first.linear[:, 0]
    constant = np.einsum("nrl,nl->nr", rest.constant, q0)
    linear = np.einsum("nrld,nl->nrd", rest.linear, q0) + rest.constant @ q1
    (b0, b1, b2), (c0, c1, c2) = rest.sizes(), first.sizes()
    beyond = b1 * c1 + 0.5 * (b2 * c0 + b0 * c2 + b1 * c2 + b2 * c1) + 0.25 * b2 * c2
    rounding = gamma(4 * q0.shape[1] + 16) * (b0 + b1 + b2) * (c0 + c1 + c2)
    beyond = up(beyond + rounding, 16)
    start = np.sqrt(np.einsum("nr,nr->n", constant, constant))
    move = np.sqrt((np.abs(linear).sum(axis=2) ** 2).sum(axis=1))
    size = up(start + move, linear[0].size + 8) + beyond
    return _Linked(constant, linear, beyond, up(size, 1))
