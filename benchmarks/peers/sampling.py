"""Naive lower bounds: the steepest of many random gradients, in the fastest plain form we found.

Of numpy and torch, single and double precision, blocks of 250 to 4000 points, biases added or put
into the product, the fastest at nearly all sizes from (1,100) to (100,500) was numpy in single
precision, blocks of 1000, biases in the product, comparisons in place: two matrix products and one
pass per block. Whole space: x ~ N(0, 100·I), on most networks the best of the scales 0.3 to 100 and
a heavy-tailed mixture, since many steepest cells are unbounded. A box: uniform in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

BLOCK = 1000
SPREAD = 10.0


def steepest_gradient(
    weights: tuple[np.ndarray, np.ndarray, np.ndarray],
    n_samples: int | None = None,
    seconds: float | None = None,
    activation: str = "relu",
    half_width: float | None = None,
    precision: str = "single",
    spread: float = SPREAD,
    seed: int = 0,
) -> float:
    """Return max ‖J(x)‖ over random x, rounded to nearest.

    Args:
        weights: W (m, d), b (m,), A (k, m).
        n_samples: how many points, rounded up to whole blocks; None to go by time.
        seconds: how long to draw, in processor time, at least a block; None to go by number.
        activation: "relu" or "tanh".
        half_width: B of the box [−B, B]^d; None for the whole space.
        precision: "single" or "double".
        spread: standard deviation of the points in the whole space.
        seed: of the points.

    Returns:
        The steepest gradient.
    """
    hidden, bias, output = weights
    dtype = np.dtype(precision)
    m, d = hidden.shape
    first = np.vstack([hidden.T, bias]).astype(dtype)
    # Row j of `second` is a_j w_jᵀ, so that slopes @ second is J, flattened.
    second = np.einsum("km,md->mkd", output, hidden).reshape(m, -1).astype(dtype)
    points = np.ones((BLOCK, d + 1), dtype)
    slopes = np.empty((BLOCK, m), dtype)
    generator = np.random.default_rng(seed)
    steepest = 0.0
    for _ in _blocks(n_samples, seconds):
        _draw(points[:, :d], generator, half_width or spread, half_width is not None)
        np.dot(points, first, out=slopes)
        _slope_in_place(slopes, activation)
        jacobians = (slopes @ second).reshape(BLOCK, len(output), d)
        steepest = max(steepest, _largest_square(jacobians))
    return float(np.sqrt(steepest))


def _blocks(n_samples: int | None, seconds: float | None) -> Iterator[None]:
    end = np.inf if seconds is None else time.process_time() + seconds
    left = np.inf if n_samples is None else n_samples
    while True:
        yield
        left -= BLOCK
        if left <= 0 or time.process_time() >= end:
            return


def _draw(points: np.ndarray, generator: np.random.Generator, size: float, in_a_box: bool) -> None:
    if in_a_box:
        points[:] = generator.random(points.shape, dtype=points.dtype)
        points *= 2.0 * size
        points -= size
    else:
        points[:] = generator.standard_normal(points.shape, dtype=points.dtype)
        points *= size


def _slope_in_place(values: np.ndarray, activation: str) -> None:
    if activation == "relu":
        np.greater(values, 0.0, out=values, casting="unsafe")
        return
    assert activation == "tanh", activation
    np.tanh(values, out=values)
    values *= values
    np.subtract(1.0, values, out=values)


def _largest_square(jacobians: np.ndarray) -> float:
    """Return the largest ‖J‖² of a block (n, k, d)."""
    if 1 in jacobians.shape[1:]:
        return float(np.einsum("nkd,nkd->n", jacobians, jacobians).max())
    if jacobians.shape[1] > jacobians.shape[2]:
        jacobians = jacobians.transpose(0, 2, 1)
    gram = np.matmul(jacobians, jacobians.transpose(0, 2, 1))
    return float(np.linalg.eigvalsh(gram)[:, -1].max())
