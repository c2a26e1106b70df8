"""Gradient norms at points, rounded down: what every lower bound of the package stands on.

At x with pre-activations z = Wx + b, J(x) = A·diag(σ'(z))·W. Rounding moves a computed ẑ_j by at
most δ_j = γ_(d+2)(|W||x| + |b|)_j. Piecewise-linear σ: a point counts only if |ẑ_j| > δ_j for every
neuron that matters, so that x lies inside a cell on which f is affine: a gradient taken at a kink
may exceed Lip(f). Smooth σ: σ'(ẑ_j) is off by at most sup|σ''|·δ_j + ε, ε the stated accuracy of
`Activation.slope`. The error of J, in Frobenius norm, is then at most Σ_j ‖a_j‖‖w_j‖(error of σ'_j
+ γ_(m+2)|σ'_j|).
"""

from __future__ import annotations

import numpy as np

from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.results import Witness
from lipbook.lipschitz.rounding import (
    down,
    gamma,
    norm_upper,
    spectral_norm_lower,
    up,
)

# `Activation.slope` and `.curvature` are trusted to this absolute error: 32 units in the last place
# of 1. The tests compare them with 50-digit arithmetic.
SLOPE_ERROR = 2.0**-48
# What underflow may take from a pre-activation: far more than d + 1 times the smallest subnormal
# number.
_LOST = 2.0**-1060
_CHUNK = 2_000_000


def rows_times(x: FloatArray, matrix: FloatArray) -> FloatArray:
    """Return x @ matrix row by row, so that no row's result depends on the rows beside it."""
    return np.matmul(x[:, None, :], matrix)[:, 0, :]


def preactivations(problem: Problem, points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ẑ = Wx + b at the points and a bound of its error, both (n, m)."""
    transposed = problem.hidden_weight.T
    z = rows_times(points, transposed) + problem.hidden_bias
    size = rows_times(np.abs(points), np.abs(transposed)) + np.abs(problem.hidden_bias)
    return z, gamma(problem.input_dim + 2) * size + _LOST


def slopes_at(problem: Problem, points: FloatArray) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return slopes (n, m), bounds of their errors (n, m), and which points may be used (n,)."""
    z, error = preactivations(problem, points)
    activation = problem.activation
    if activation.kink_slopes is not None:
        left, right = activation.kink_slopes
        matters = np.any(problem.hidden_weight, axis=1) & np.any(problem.output_weight, axis=0)
        usable: BoolArray = ((np.abs(z) > error) | ~matters).all(axis=1)
        return np.where(z > 0.0, right, left), np.zeros_like(z), usable
    assert activation.slope_lipschitz is not None
    slope_error = activation.slope_lipschitz * (1.0 + SLOPE_ERROR) * error + SLOPE_ERROR
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        slopes = activation.slope(z)
    sound = np.isfinite(slopes)
    return np.where(sound, slopes, 0.0), slope_error, sound.all(axis=1)


def gradient_norms_lower(problem: Problem, points: FloatArray) -> FloatArray:
    """Bound ‖J(x)‖_op from below at each point; 0 at a point too close to a kink.

    Args:
        problem: the network.
        points: x, (n, d).

    Returns:
        Lower bounds, (n,).
    """
    per_point = max(problem.width, problem.output_dim * problem.input_dim)
    step = max(1, _CHUNK // per_point)
    parts = [_norms(problem, points[i : i + step]) for i in range(0, len(points), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _norms(problem: Problem, points: FloatArray) -> FloatArray:
    slopes, slope_error, usable = slopes_at(problem, points)
    weight, output, e = problem.scaled_layers
    jacobian = jacobians(weight, output, slopes)
    size = norm_upper(weight) * norm_upper(output.T)
    spread = slope_error + gamma(problem.width + 2) * (np.abs(slopes) + slope_error)
    error = up(rows_times(spread, size[:, None])[:, 0], problem.width + 4) + 2.0**-500
    lower = down(np.maximum(spectral_norm_lower(jacobian) - up(error, 1), 0.0), 1)
    scaled = np.ldexp(lower, e)
    return np.where(usable, down(scaled, 1), 0.0)


def jacobians(weight: FloatArray, output: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return A·diag(s)·W for each row s of `slopes`, (n, k, d)."""
    return np.matmul(output * slopes[:, None, :], weight)


def witness_at(problem: Problem, point: FloatArray) -> Witness | None:
    """Return the witness at one point, or None if the point is too close to a kink."""
    z, _ = preactivations(problem, point[None])
    usable = bool(slopes_at(problem, point[None])[2][0])
    if not usable:
        return None
    pattern = z[0] > 0.0 if problem.activation.is_piecewise_linear else None
    norm = float(gradient_norms_lower(problem, point[None])[0])
    return Witness(tuple(float(v) for v in point), pattern, norm)
