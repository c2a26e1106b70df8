"""Points of a domain: checking, projecting, drawing, and the part of a line that lies inside."""

from __future__ import annotations

from typing import Any

import numpy as np

from lipbook.lipschitz.arrays import LARGEST, FloatArray, as_floats
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import norm_upper

# How far a point on the sphere may lie outside it by rounding, relative to the radius.
_SLACK = 1e-9


def ball_arrays(ball: Ball, input_dim: int) -> tuple[FloatArray, float]:
    """Return the center as an array (d,), and the radius."""
    return np.broadcast_to(np.asarray(ball.center, dtype=np.float64), (input_dim,)), ball.radius


def checked_points(name: str, points: Any, problem: Problem) -> FloatArray:
    """Return the points as an array (n, d) inside the domain, or say what is wrong with them.

    Args:
        name: the argument's name.
        points: x, (n, d); for one input also (n,).
        problem: gives d and the domain.

    Returns:
        The points; those on a sphere are moved inside by rounding errors.

    Raises:
        ValueError: wrong shape, no point, not finite, above 1e150, or outside the domain.
    """
    array, d = as_floats(name, points), problem.input_dim
    array = array[:, None] if array.ndim == 1 and d == 1 else array
    if array.ndim != 2 or array.shape[1] != d or len(array) == 0:
        raise ValueError(
            f"`{name}` must have shape (n, {d}), n ≥ 1. Got {array.shape}. Give one row per point."
        )
    if np.abs(array).max() > LARGEST or not _inside(array, problem).all():
        raise ValueError(
            f"`{name}` must lie in the domain, and within ±{LARGEST:g}. "
            f"Got a point outside of {problem.domain}. Drop it or widen the domain."
        )
    return project(array, problem)


def _inside(points: FloatArray, problem: Problem) -> Any:
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        return norm_upper(points - center) <= radius * (1.0 + _SLACK)
    box = box_arrays(problem.domain, problem.input_dim)
    return np.ones(len(points), dtype=bool) if box is None else _within(points, *box)


def _within(points: FloatArray, low: FloatArray, high: FloatArray) -> Any:
    return ((points >= low) & (points <= high)).all(axis=1)


def project(points: FloatArray, problem: Problem) -> FloatArray:
    """Return the nearest points of the domain, a rounding error inside of a sphere."""
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        offset = points - center
        # Rounding of x − c and of c + y is relative to |c| + |x|, hence the absolute term.
        room = radius - 8.0 * 2.0**-53 * (np.abs(center).max() + radius) * len(center)
        norm = norm_upper(offset)
        factor = np.where(norm > room, max(room, 0.0) / np.maximum(norm, room), 1.0)
        return np.where((norm > room)[:, None], center + offset * factor[:, None], points)
    box = box_arrays(problem.domain, problem.input_dim)
    return np.clip(points, -LARGEST, LARGEST) if box is None else np.clip(points, *box)


def line_range(
    points: FloatArray, directions: FloatArray, problem: Problem
) -> tuple[FloatArray, FloatArray]:
    """Return (t₋, t₊), each (n,), such that x + t·v stays in the domain for t₋ < t < t₊."""
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        offset = points - center
        a = np.maximum(np.einsum("nd,nd->n", directions, directions), 1e-300)
        b = np.einsum("nd,nd->n", directions, offset)
        c = np.einsum("nd,nd->n", offset, offset) - radius**2
        root = np.sqrt(np.maximum(b * b - a * c, 0.0))
        return np.minimum((-b - root) / a, 0.0), np.maximum((-b + root) / a, 0.0)
    box = box_arrays(problem.domain, problem.input_dim)
    if box is None:
        unlimited = np.full(len(points), np.inf)
        return -unlimited, unlimited
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ends = np.stack([(bound - points) / directions for bound in box])
    still = directions == 0.0
    before = np.where(still, -np.inf, ends.min(axis=0)).max(axis=1)
    after = np.where(still, np.inf, ends.max(axis=0)).min(axis=1)
    return np.minimum(before, 0.0), np.maximum(after, 0.0)


def drawn_points(problem: Problem, count: int, seed: int) -> FloatArray:
    """Draw starting points: uniform on a box or a ball; on the whole space near the neurons' kinks
    and far out.

    Args:
        problem: gives d and the domain.
        count: n.
        seed: of the generator.

    Returns:
        Points, (n, d).
    """
    generator, d = np.random.default_rng([seed, 0]), problem.input_dim
    normal = generator.standard_normal((count, d))
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, d)
        length = radius * generator.random(count) ** (1.0 / d)
        return project(
            center + normal * (length / np.linalg.norm(normal, axis=1))[:, None], problem
        )
    box = box_arrays(problem.domain, d)
    if box is not None:
        share = generator.random((count, d))
        return np.clip((1.0 - share) * box[0] + share * box[1], *box)
    return project(_near_kinks(problem, normal, generator), problem)


def _near_kinks(problem: Problem, normal: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Return points near random kink planes; every fourth is far from all of them."""
    weight, bias = problem.hidden_weight, problem.hidden_bias
    size = np.linalg.norm(weight, axis=1)
    live = np.flatnonzero(size > 1e-100)
    if live.size == 0:
        return normal
    chosen = generator.choice(live, len(normal))
    distance = np.clip(-bias[chosen] / size[chosen], -1e100, 1e100)
    reach = float(np.median(np.clip(np.abs(bias[live]) / size[live], 0.0, 1e100)))
    reach = reach if reach > 0.0 else 1.0
    near = weight[chosen] / size[chosen, None] * distance[:, None] + reach * normal
    near[::4] = 1e3 * reach * normal[::4]
    return near
