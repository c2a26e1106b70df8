"""A search for the multipliers of LipSDP: a primal-dual interior-point method that knows the
structure.

In the notation of `relaxation`, with s = 1/ρ: maximise s over λ ≥ 0 with Q(λ, s) ⪰ 0. Neuron j
enters Q by F_jKF_jᵀ with F_j = (e_j, w_j) and K = [[1, −c], [−c, −κ]], so that the Schur complement
of the HKM direction is a sum of entrywise products of three matrices (Σm)×(Σm): no constraint
matrix is ever formed. Mehrotra's predictor and corrector; the dual iterates (λ, s) stay strictly
feasible, so that each of them is a bound that `is_proved` can check. Nothing here is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.deep.relaxation import Sector, Weights, quadratic_form

_MAX_ROUNDS = 100
# Stop once the bound is within this share of the optimum.
_GAP = 5e-6
_NEAREST = 0.95

# X, or its inverse, restricted to pairs of neurons: (e, e), (e, w), (w, w).
Blocks = tuple[FloatArray, FloatArray, FloatArray]


@dataclass(frozen=True)
class _Program:
    """Hold the semidefinite program of one network whose layers have norm 1."""

    weights: Weights
    sector: Sector

    @property
    def first(self) -> int:
        return self.weights.matrices[0].shape[1]

    @property
    def count(self) -> int:
        """Return Σm, the number of multipliers."""
        return sum(self.weights.hidden)

    def slack(self, y: FloatArray) -> FloatArray:
        """Return Q(λ, s) for y = (λ, s)."""
        return quadratic_form(self.weights, self.sector, y[:-1], float(y[-1]))

    def change(self, dy: FloatArray) -> FloatArray:
        """Return the change of Q when y changes by dy."""
        form = self.slack(dy)
        form[range(self.first), range(self.first)] -= 1.0
        return form

    def times_rows(self, x: FloatArray) -> FloatArray:
        """Return X·(w_1, w_2, …), w_j extended by zeros, (N, Σm)."""
        parts, start = [], 0
        for matrix in self.weights.matrices[:-1]:
            parts.append(x[:, start : start + matrix.shape[1]] @ matrix.T)
            start += matrix.shape[1]
        return np.concatenate(parts, axis=1)

    def blocks(self, x: FloatArray) -> Blocks:
        """Return X between neurons' unit vectors and rows."""
        product = self.times_rows(x)
        return (
            x[self.first :, self.first :],
            product[self.first :],
            self.times_rows(np.ascontiguousarray(product.T)),
        )

    def outputs(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return X·W_nᵀ at unit vectors (Σm, k), at rows (Σm, k), and W_n·X·W_nᵀ."""
        last = self.weights.matrices[-1]
        product = x[:, -last.shape[1] :] @ last.T
        return (
            product[self.first :],
            self.times_rows(np.ascontiguousarray(product.T)).T,
            last @ product[-last.shape[1] :],
        )

    def constraints(self, x: FloatArray, multiplier: FloatArray) -> FloatArray:
        """Return ⟨A_i, X⟩ for each dual variable, (Σm + 1,)."""
        c, kappa = self.sector.centre, self.sector.kappa
        own, mixed, rows = (np.diagonal(block) for block in self.blocks(x))
        return np.append(
            2.0 * c * mixed + kappa * rows - own - multiplier, np.trace(self.outputs(x)[2])
        )

    def schur(
        self, x: FloatArray, inverse: FloatArray, multiplier: FloatArray, y: FloatArray
    ) -> FloatArray:
        """Return ⟨A_i, X·A_j·Z⁻¹⟩, (Σm + 1, Σm + 1)."""
        c, kappa, n = self.sector.centre, self.sector.kappa, self.count
        a, b, d = self.blocks(x)
        e, f, g = self.blocks(inverse)
        complement = np.empty((n + 1, n + 1))
        square = (a - c * b.T) * (e - c * f) + (b - c * d) * (-c * e - kappa * f)
        square += (c * a + kappa * b.T) * (c * g - f.T)
        square += (c * b + kappa * d) * (c * f.T + kappa * g)
        complement[:n, :n] = 0.5 * square + 0.5 * square.T
        p, q, r = self.outputs(x)
        u, v, w = self.outputs(inverse)
        side = c * (p * v + q * u) + kappa * q * v - p * u
        complement[:n, n] = complement[n, :n] = side.sum(axis=1)
        complement[n, n] = np.vdot(r, w)
        complement[range(n), range(n)] += multiplier / y[:-1]
        return complement


@dataclass(frozen=True)
class _Iterate:
    """Hold a primal and a dual point: X ≻ 0, ξ > 0 (of λ ≥ 0), y = (λ, s), Z = Q(y) ≻ 0."""

    x: FloatArray
    multiplier: FloatArray
    y: FloatArray
    z: FloatArray

    @property
    def mu(self) -> float:
        """Return the mean complementarity."""
        gap = np.vdot(self.x, self.z) + self.multiplier @ self.y[:-1]
        return float(gap / (len(self.z) + self.multiplier.size))

    def moved(self, step: _Iterate, primal: float, dual: float) -> _Iterate:
        return _Iterate(
            self.x + primal * step.x,
            self.multiplier + primal * step.multiplier,
            self.y + dual * step.y,
            self.z + dual * step.z,
        )


def multipliers(weights: Weights, sector: Sector) -> Iterator[tuple[FloatArray, float]]:
    """Yield better and better pairs (λ, 1/ρ), λ (Σm,), that make Q positive semidefinite.

    Args:
        weights: balanced weights with a hidden layer.
        sector: of σ.
    """
    reduced, sizes = _reduced(weights)
    program = _Program(reduced, sector)
    scale = np.repeat(sizes[:-1], reduced.hidden) ** -2.0
    for y in _search(program):
        yield y[:-1] * scale, float(y[-1]) * float(sizes[-1]) ** -2.0


def _reduced(weights: Weights) -> tuple[Weights, FloatArray]:
    """Return weights of norm 1 with as few inputs and outputs as possible, and ‖W_1‖⋯‖W_i‖."""
    matrices = list(weights.matrices)
    if matrices[0].shape[1] > matrices[0].shape[0]:
        matrices[0] = np.linalg.qr(matrices[0].T)[1].T
    if matrices[-1].shape[0] > matrices[-1].shape[1]:
        matrices[-1] = np.linalg.qr(matrices[-1])[1]
    norms = np.array([np.linalg.norm(matrix, 2) for matrix in matrices])
    unit = tuple(matrix / norm for matrix, norm in zip(matrices, norms, strict=True))
    return Weights(unit, 0, False), np.cumprod(norms)


def _start(program: _Program) -> _Iterate:
    """Return a strictly feasible dual point, λ the same in a whole layer, and X = I."""
    c, kappa = program.sector.centre, program.sector.kappa
    room = 4.0 * (max(kappa, 0.0) + c * c)
    level, parts = 1.0, []
    for width in program.weights.hidden:
        parts.append(np.full(width, level / room))
        level = 0.5 * level / room
    y = np.append(np.concatenate(parts), 0.5 * level)
    z = program.slack(y)
    return _Iterate(np.eye(len(z)), np.ones(program.count), y, z)


def _search(program: _Program) -> Iterator[FloatArray]:
    now = _start(program)
    objective = np.append(np.zeros(program.count), 1.0)
    for _ in range(_MAX_ROUNDS):
        try:
            found = _next(program, now, objective)
        except LinAlgError:
            return
        if found is None:
            return
        now = found
        yield now.y
        # On feasible pairs the primal value bounds every s from above.
        missed = objective - program.constraints(now.x, now.multiplier)
        value = np.trace(now.x[: program.first, : program.first])
        if np.abs(missed).max() < 1e-6 and abs(value - now.y[-1]) <= _GAP * now.y[-1]:
            return


def _next(program: _Program, now: _Iterate, objective: FloatArray) -> _Iterate | None:
    inverse = cho_solve((np.linalg.cholesky(now.z), True), np.eye(len(now.z)))
    complement = program.schur(now.x, inverse, now.multiplier, now.y)
    scale = 1.0 / np.sqrt(np.diagonal(complement))
    scaled = complement * scale * scale[:, None] + 1e-14 * np.eye(len(scale))
    factor = np.linalg.cholesky(scaled), True
    centring = program.constraints(inverse, 1.0 / now.y[:-1])

    def direction(target: float, x: FloatArray, multiplier: FloatArray) -> _Iterate:
        """Solve for complementarity `target`, with second-order terms x and multiplier."""
        right = objective - target * centring - program.constraints(x, multiplier)
        dy = scale * cho_solve(factor, scale * right)
        dz = program.change(dy)
        dx = target * inverse - now.x - now.x @ dz @ inverse + x
        share = target - now.multiplier * (now.y[:-1] + dy[:-1])
        return _Iterate(0.5 * dx + 0.5 * dx.T, share / now.y[:-1] + multiplier, dy, dz)

    mu = now.mu
    ahead = direction(0.0, np.zeros_like(now.x), np.zeros(program.count))
    primal, dual = _longest(now, ahead)
    reached = now.moved(ahead, primal, dual).mu
    target = max((reached / mu) ** 2, 1e-4) if min(primal, dual) > 0.1 else 0.5
    bend = -(ahead.x @ ahead.z @ inverse)
    side = -ahead.multiplier * ahead.y[:-1] / now.y[:-1]
    step = direction(min(target, 1.0) * mu, 0.5 * bend + 0.5 * bend.T, side)
    primal, dual = _longest(now, step)
    if min(primal, dual) == 0.0:
        return None
    found = now.moved(step, primal, dual)
    return _Iterate(found.x, found.multiplier, found.y, program.slack(found.y))


def _longest(now: _Iterate, step: _Iterate) -> tuple[float, float]:
    """Return how far to go so that both points stay strictly feasible."""
    primal = _inside(now.x, step.x, now.multiplier, step.multiplier)
    return primal, _inside(now.z, step.z, now.y, step.y)


def _inside(matrix: FloatArray, move: FloatArray, vector: FloatArray, drift: FloatArray) -> float:
    """Return most of the largest t ≤ 1 with M + t·dM ≻ 0 and v + t·dv > 0, found by trying."""
    falling = drift < 0.0
    limit = float((vector[falling] / -drift[falling]).min(initial=np.inf))
    t = min(1.0, limit)
    for _ in range(60):
        try:
            np.linalg.cholesky(matrix + t * move)
        except LinAlgError:
            t *= 0.85
        else:
            return t if t == 1.0 < limit else _NEAREST * t
    return 0.0
