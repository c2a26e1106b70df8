"""Proposals for a point with a steeper gradient: exact line sweeps, and gradient steps."""

from __future__ import annotations

import zlib
from typing import Protocol

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.jacobians import jacobians, preactivations, rows_times, slopes_at
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import line_range, project

# Cells of a line narrower than this, relative to their distance, are left to the exact methods.
_NARROWEST = 1e-10
_CHUNK = 4_000_000


class Climber(Protocol):
    """Propose better points, one per start, round by round."""

    def propose(self, points: FloatArray, index: int) -> FloatArray:
        """Return one candidate per point, (n, d), inside the domain."""

    def learn(self, better: BoolArray) -> None:
        """Take note of which candidates were accepted."""


def left_vectors(problem: Problem, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return, for each row of slopes, unit vectors u (n, k) and v (n, d) with uᵀJv = ‖J‖_op."""
    weight, output, _ = problem.scaled_layers
    jacobian = jacobians(weight, output, slopes)
    if problem.output_dim == 1:
        norm = np.maximum(np.linalg.norm(jacobian[:, 0, :], axis=1, keepdims=True), 1e-300)
        return np.ones((len(slopes), 1)), jacobian[:, 0, :] / norm
    u, _, vt = np.linalg.svd(jacobian, full_matrices=False)
    return u[:, :, 0], vt[:, 0, :]


class LineSweeps:
    """Find, for piecewise-linear σ, the steepest cell that a line through the point meets.

    Along x + tv, ẑ_j = p_j + tq_j; sorting −p_j/q_j gives the cells, prefix sums of the jumps give
    uᵀJ in each of them, and u is the top left singular vector at x: ‖uᵀJ'‖ ≤ ‖J'‖ with equality for
    one output, so a sweep never proposes worse than x itself. Lines: the coordinate axes, random
    ones, and every fourth towards the neurons whose flip would help most. They depend on the seed
    and on the start alone, so that more starts never give less.
    """

    def __init__(self, problem: Problem, starts: FloatArray, rounds: int, seed: int) -> None:
        """Draw the directions of every start."""
        self.problem = problem
        d = problem.input_dim
        self.directions = np.empty((rounds, *starts.shape))
        for i, start in enumerate(starts):
            generator = np.random.default_rng([seed, 1, zlib.crc32(start.tobytes())])
            self.directions[:, i] = generator.standard_normal((rounds, d))
        for index in range(0, min(rounds, 2 * d), 2):
            self.directions[index] = np.eye(d)[index // 2]

    def propose(self, points: FloatArray, index: int) -> FloatArray:
        """Return the middle of the steepest cell on each point's line."""
        step = max(1, _CHUNK // (self.problem.width * self.problem.input_dim))
        parts = [
            self._sweep(points[i : i + step], self.directions[index, i : i + step], index % 4 == 3)
            for i in range(0, len(points), step)
        ]
        return project(np.concatenate(parts), self.problem)

    def learn(self, better: BoolArray) -> None:
        """Nothing to learn: the next line is another one."""

    def _towards_gain(self, p: FloatArray, share: FloatArray, v: FloatArray) -> FloatArray:
        """Return the direction across the kinks of those neurons whose flip would raise uᵀJv."""
        weight = self.problem.scaled_layers[0]
        outward = np.where(p > 0.0, -1.0, 1.0)
        gain = share * rows_times(v, weight.T) * outward
        return rows_times(np.maximum(gain, 0.0) * outward, weight)

    def _sweep(self, points: FloatArray, directions: FloatArray, towards_gain: bool) -> FloatArray:
        problem = self.problem
        assert problem.activation.kink_slopes is not None
        left, right = problem.activation.kink_slopes
        weight, output, _ = problem.scaled_layers
        p, _ = preactivations(problem, points)
        u, v = left_vectors(problem, slopes_at(problem, points)[0])
        share = rows_times(u, output)
        if towards_gain:
            directions = self._towards_gain(p, share, v)
        q = rows_times(directions, problem.hidden_weight.T)
        moving = q != 0.0
        with np.errstate(over="ignore"):
            t = np.where(moving, -p / np.where(moving, q, 1.0), np.inf)
        first = np.where(np.where(moving, q < 0.0, p > 0.0), right, left)
        jump = (right - left) * np.sign(q)
        order = np.argsort(t, axis=1, kind="stable")
        t = np.take_along_axis(t, order, axis=1)
        jumps = np.take_along_axis(share * jump, order, axis=1)[..., None]
        gradients = np.cumsum(jumps * weight[order], axis=1)
        start = rows_times(share * first, weight)[:, None, :]
        gradients = np.concatenate([start, start + gradients], axis=1)
        return (
            points + _steepest(t, gradients, *line_range(points, directions, problem)) * directions
        )


def _steepest(
    t: FloatArray, gradients: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Return the middle t of the steepest cell wide enough to stand in, (n, 1), else 0."""
    ends = np.concatenate([np.full((len(t), 1), -np.inf), t, np.full((len(t), 1), np.inf)], axis=1)
    left = np.maximum(ends[:, :-1], low[:, None])
    right = np.minimum(ends[:, 1:], high[:, None])
    left_finite = np.where(np.isfinite(left), left, np.where(np.isfinite(right), right, 0.0))
    right_finite = np.where(np.isfinite(right), right, left_finite)
    reach = np.maximum(1.0, np.maximum(np.abs(left_finite), np.abs(right_finite)))
    with np.errstate(invalid="ignore"):  # ∞ − ∞, between breakpoints that are never reached
        wide = (left < right) & (right - left > _NARROWEST * reach)
    middle = 0.5 * left_finite + 0.5 * right_finite
    middle = np.where(np.isneginf(left), right_finite - reach, middle)
    middle = np.where(np.isposinf(right), left_finite + reach, middle)
    middle = np.where(np.isneginf(left) & np.isposinf(right), 0.0, middle)
    size = np.where(wide, np.einsum("ncd,ncd->nc", gradients, gradients), -1.0)
    best = size.argmax(axis=1)[:, None]
    chosen = np.take_along_axis(middle, best, axis=1)
    return np.where(np.take_along_axis(size, best, axis=1) < 0.0, 0.0, chosen)


class GradientSteps:
    """Climb ‖J(x)‖_op for smooth σ by projected steps along its gradient, halving a step that
    fails.

    With uᵀJv = ‖J‖ at x, ∇‖J‖ = Wᵀ((Aᵀu) ∘ σ''(z) ∘ (Wv)).
    """

    def __init__(self, problem: Problem, starts: FloatArray) -> None:
        """Start with steps of the domain's size, or of the distance over which slopes change."""
        self.problem = problem
        box = box_arrays(problem.domain, problem.input_dim)
        if isinstance(problem.domain, Ball):
            size = problem.domain.radius
        elif box is not None:
            size = float(np.linalg.norm(box[1] - box[0])) / 4.0
        else:
            largest = np.linalg.norm(problem.hidden_weight, axis=1).max()
            size = 1.0 / float(np.clip(largest, 1e-100, 1e100))
        self.lengths = np.full(len(starts), size)

    def propose(self, points: FloatArray, index: int) -> FloatArray:
        """Return x + ℓ·∇‖J‖/‖∇‖J‖‖, projected to the domain."""
        problem, curvature = self.problem, self.problem.activation.curvature
        assert curvature is not None
        z, _ = preactivations(problem, points)
        u, v = left_vectors(problem, slopes_at(problem, points)[0])
        weight, output, _ = problem.scaled_layers
        share = rows_times(u, output) * rows_times(v, weight.T)
        ascent = rows_times(share * curvature(z), weight)
        norm = np.maximum(np.linalg.norm(ascent, axis=1), 1e-300)
        return project(points + ascent * (self.lengths / norm)[:, None], problem)

    def learn(self, better: BoolArray) -> None:
        """Double the steps that helped, halve the others."""
        self.lengths = np.clip(self.lengths * np.where(better, 2.0, 0.5), 1e-150, 1e120)
