"""Gradient norms of perceptrons of any depth at points, rounded down.

At x, with a_0 = x, z_i = W_i a_(i−1) + b_i and a_i = σ(z_i), J(x) = W_n D_(n−1) W_(n−1) ⋯ D_1 W_1,
D_i = diag(σ'(z_i)). If the computed â_(i−1) is off by at most e_(i−1), entry by entry, then ẑ_i is
off by at most

    δ_i = |W_i| e_(i−1) + γ_(m+2)(|W_i||â_(i−1)| + |b_i|),   e_0 = 0, e_i = L_σ δ_i + error of σ.

Piecewise-linear σ: a point counts only if |ẑ_i| > δ_i for every neuron that matters, so that x lies
inside a cell on which f is affine. Smooth σ: σ'(ẑ_i) is off by at most sup|σ''|·δ_i + ε (see
`jacobians`). The product is taken from the left, G ← (G·D_i)·W_i, and an error of G, entry by
entry, grows to

    E ← (E(|s| + ε_s) + |G|ε_s)|W_i| + γ_(m+3)(|G||s|)|W_i|,

s the computed slopes and ε_s their errors; ‖J‖ ≥ ‖Ĵ‖ − ‖E‖_F.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import BoolArray, FloatArray
from lipbook.lipschitz.deep.chain import Layer
from lipbook.lipschitz.domains import Domain
from lipbook.lipschitz.jacobians import SLOPE_ERROR, rows_times
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.results import Witness
from lipbook.lipschitz.rounding import (
    UNIT,
    down,
    exponent,
    gamma,
    norm_upper,
    spectral_norm_lower,
    up,
)

# `Activation.value` of a smooth σ is trusted to this share of 1 + |z|: 32 units in the last place.
# The tests compare it with 50-digit arithmetic.
VALUE_ERROR = 2.0**-48
# What underflow may take from a sum of products: far more than their number times 2^-1074.
_LOST = 2.0**-1040
_CHUNK = 1_000_000


@dataclass(frozen=True)
class Perceptron:
    """Hold a perceptron with a hidden layer, and its domain.

    Attributes:
        layers: the pairs (W_i, b_i).
        activation: σ.
        domain: as `checked_domain` returns it.
    """

    layers: tuple[Layer, ...]
    activation: Activation
    domain: Domain

    @property
    def front(self) -> Problem:
        """Return the first layer on the domain, for what draws and moves points."""
        weight, bias = self.layers[0]
        return Problem(weight, bias, np.ones((1, len(bias))), self.activation, self.domain)


@dataclass(frozen=True)
class Slopes:
    """Hold what happens to n points on their way through the layers.

    Attributes:
        slopes: σ' at each hidden layer, (n, m_i).
        errors: bounds of their errors, (n, m_i).
        patterns: which pre-activations are positive, (n, m_i).
        usable: which points may be used, (n,).
    """

    slopes: list[FloatArray]
    errors: list[FloatArray]
    patterns: list[BoolArray]
    usable: BoolArray


def slopes_at(network: Perceptron, points: FloatArray) -> Slopes:
    """Return the slopes of every hidden layer at the points (n, d)."""
    found = Slopes([], [], [], np.ones(len(points), dtype=bool))
    value, error, usable = points, np.zeros_like(points), found.usable
    for (weight, bias), (following, _) in zip(network.layers, network.layers[1:], strict=False):
        z, delta = _preactivations(weight, bias, value, error)
        value, error = _passed_on(network.activation, z, delta)
        if network.activation.kink_slopes is not None:
            left, right = network.activation.kink_slopes
            slope, slope_error = np.where(z > 0.0, right, left), np.zeros_like(z)
            matters = np.any(weight, axis=1) & np.any(following, axis=0)
            usable = usable & ((np.abs(z) > delta) | ~matters).all(axis=1)
        else:
            slope, slope_error = _smooth_slopes(network.activation, z, delta)
        usable = usable & np.isfinite(slope).all(axis=1) & np.isfinite(slope_error).all(axis=1)
        found.slopes.append(slope)
        found.errors.append(slope_error)
        found.patterns.append(z > 0.0)
    return Slopes(found.slopes, found.errors, found.patterns, usable)


def _preactivations(
    weight: FloatArray, bias: FloatArray, value: FloatArray, error: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return ẑ = Wâ + b and a bound of its error for â off by at most `error`, both (n, m)."""
    width, sizes = weight.shape[1], np.abs(weight).T
    z = rows_times(value, weight.T) + bias
    rounding = gamma(width + 2) * (rows_times(np.abs(value), sizes) + np.abs(bias))
    return z, up(rows_times(error, sizes) + rounding, width + 4) + _LOST


def _passed_on(
    activation: Activation, z: FloatArray, delta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return σ(ẑ) and a bound of its distance from σ(z), both (n, m)."""
    steepness = activation.lipschitz * (1.0 + 8.0 * UNIT)
    if activation.is_piecewise_linear:
        own = UNIT * steepness * np.abs(z) + _LOST
    else:
        own = VALUE_ERROR * (1.0 + steepness * np.abs(z))
    return activation.value(z), up(steepness * delta + own, 4)


def _smooth_slopes(
    activation: Activation, z: FloatArray, delta: FloatArray
) -> tuple[FloatArray, FloatArray]:
    assert activation.slope_lipschitz is not None
    change = activation.slope_lipschitz * (1.0 + SLOPE_ERROR)
    return activation.slope(z), change * delta + SLOPE_ERROR


def gradient_norms_lower(network: Perceptron, points: FloatArray) -> FloatArray:
    """Bound ‖J(x)‖_op from below at each point; 0 at a point too close to a kink.

    Args:
        network: the perceptron.
        points: x, (n, d).

    Returns:
        Lower bounds, (n,).
    """
    widest = max(max(weight.shape) for weight, _ in network.layers)
    step = max(1, _CHUNK // (widest * len(network.layers[-1][0])))
    parts = [_norms(network, points[i : i + step]) for i in range(0, len(points), step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _norms(network: Perceptron, points: FloatArray) -> FloatArray:
    # Points that overflow on their way come out as not finite, and are dropped.
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        found = slopes_at(network, points)
        exponents = [int(exponent(weight).item()) for weight, _ in network.layers]
        scaled = [
            np.ldexp(weight, -e) for (weight, _), e in zip(network.layers, exponents, strict=True)
        ]
        product = np.broadcast_to(scaled[-1], (len(points), *scaled[-1].shape))
        error = np.full_like(product, _LOST)
        steps = zip(scaled[-2::-1], found.slopes[::-1], found.errors[::-1], strict=True)
        for weight, slope, slope_error in steps:
            product, error = _times(product, error, weight, slope, slope_error)
        finite = np.isfinite(product).all(axis=(1, 2)) & np.isfinite(error).all(axis=(1, 2))
        usable = (finite & found.usable)[:, None, None]
        product, error = np.where(usable, product, 0.0), np.where(usable, error, 0.0)
        missed = norm_upper(error.reshape(len(points), -1))
        lower = down(np.maximum(spectral_norm_lower(product) - missed, 0.0), 1)
        return np.minimum(down(np.ldexp(lower, sum(exponents)), 1), np.finfo(np.float64).max)


def _times(
    product: FloatArray,
    error: FloatArray,
    weight: FloatArray,
    slope: FloatArray,
    slope_error: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return (G·diag(s))·W and a bound of its error, entry by entry, both (n, k, d)."""
    width, sizes = len(weight), np.abs(weight)
    size, steep = np.abs(product), np.abs(slope)[:, None, :]
    spread = error * (steep + slope_error[:, None, :]) + size * slope_error[:, None, :]
    passing = size * steep
    spread = spread + gamma(width + 3) * passing
    # Scaling a matrix may have cost its smallest entries.
    lost = _LOST * (1.0 + 2.0 * passing.sum(axis=2, keepdims=True))
    result = np.matmul(product * slope[:, None, :], weight)
    return result, up(np.matmul(spread, sizes), width + 8) + lost


def witness_at(network: Perceptron, point: FloatArray) -> Witness | None:
    """Return the witness at one point, or None if the point is too close to a kink.

    Its pattern runs through the hidden layers in order.
    """
    norm = float(gradient_norms_lower(network, point[None])[0])
    if norm == 0.0:
        return None
    patterns = [pattern[0] for pattern in slopes_at(network, point[None]).patterns]
    has_pattern = network.activation.is_piecewise_linear and len(patterns) > 0
    pattern = np.concatenate(patterns) if has_pattern else None
    return Witness(tuple(float(v) for v in point), pattern, norm)
