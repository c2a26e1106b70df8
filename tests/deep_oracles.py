"""What the tests of deep perceptrons compare with: naive oracles, in rationals or 50 digits."""

from __future__ import annotations

import itertools
from fractions import Fraction

import mpmath
import numpy as np
from lipschitz_oracles import KINKS, SMOOTH, precise_slope

from lipbook.lipschitz.deep import (
    deep_chain_upper_bound,
    deep_product_upper_bound,
    deep_sdp_upper_bound,
)

NAMES = (*KINKS, *SMOOTH)

UPPER = (deep_sdp_upper_bound, deep_chain_upper_bound, deep_product_upper_bound)
Layers = list[tuple[np.ndarray, np.ndarray]]


def net(seed: int, *sizes: int) -> Layers:
    """A random perceptron of these widths, inputs and outputs included."""
    g = np.random.default_rng(seed)
    return [
        (g.normal(size=(after, before)) / np.sqrt(before), g.normal(size=after))
        for before, after in itertools.pairwise(sizes)
    ]


def scaled(layers: Layers, *factors: float) -> Layers:
    return [(w * f, b) for (w, b), f in zip(layers, factors, strict=True)]


def exact_constant(layers: Layers, kinks: tuple[float, float]) -> Fraction:
    """Lip of a piecewise-linear perceptron ℝ → ℝ, in rational numbers, cell by cell."""
    left, right = map(Fraction, kinks)
    # A cell (low, high) with the affine map t ↦ p·t + q of every neuron; None is an unbounded end.
    cells = [(None, None, [(Fraction(1), Fraction(0))])]
    for index, (weight, bias) in enumerate(layers):
        rows = [[Fraction(float(v)) for v in row] for row in weight]
        offsets = [Fraction(float(v)) for v in bias]
        found = []
        for low, high, lines in cells:
            z = [
                (
                    sum(a * p for a, (p, _) in zip(row, lines, strict=True)),
                    sum(a * q for a, (_, q) in zip(row, lines, strict=True)) + c,
                )
                for row, c in zip(rows, offsets, strict=True)
            ]
            if index == len(layers) - 1:
                found.append((low, high, z))
                continue
            kinked = sorted({-q / p for p, q in z if p != 0})
            inner = [t for t in kinked if (low is None or t > low) and (high is None or t < high)]
            for a, b in itertools.pairwise([low, *inner, high]):
                t = middle(a, b)
                slopes = [right if p * t + q > 0 else left for p, q in z]
                passed = [(s * p, s * q) for s, (p, q) in zip(slopes, z, strict=True)]
                found.append((a, b, passed))
        cells = found
    return max(abs(p) for _, _, ((p, _),) in cells)


def middle(low: Fraction | None, high: Fraction | None) -> Fraction:
    if low is None:
        return Fraction(0) if high is None else high - 1
    return low + 1 if high is None else (low + high) / 2


def steepest_pattern(layers: Layers, slopes: tuple[float, float]) -> float:
    """max ‖J‖ over all slope patterns, whether they occur or not."""
    widths = [len(w) for w, _ in layers[:-1]]
    best = 0.0
    for s in itertools.product(slopes, repeat=sum(widths)):
        jacobian, rest = layers[0][0], list(s)
        for (weight, _), m in zip(layers[1:], widths, strict=True):
            jacobian = weight @ (np.array(rest[:m])[:, None] * jacobian)
            rest = rest[m:]
        best = max(best, float(np.linalg.norm(jacobian, 2)))
    return best


def precise_jacobian_norm(layers: Layers, activation: str, x: np.ndarray) -> mpmath.mpf:
    """‖J(x)‖ of a network with one output, in 50 digits."""
    with mpmath.workdps(50):
        value = [mpmath.mpf(float(v)) for v in x]
        rows = None
        for index, (weight, bias) in enumerate(layers):
            z = [
                mpmath.fsum(mpmath.mpf(float(a)) * v for a, v in zip(row, value, strict=True))
                + float(c)
                for row, c in zip(weight, bias, strict=True)
            ]
            if rows is None:
                rows = [[mpmath.mpf(float(a)) for a in row] for row in weight]
            else:
                columns = list(zip(*rows, strict=True))
                rows = [
                    [
                        mpmath.fsum(mpmath.mpf(float(a)) * r for a, r in zip(row, c, strict=True))
                        for c in columns
                    ]
                    for row in weight
                ]
            if index < len(layers) - 1:
                slopes = [slope(activation, t) for t in z]
                rows = [[s * r for r in row] for s, row in zip(slopes, rows, strict=True)]
                value = [precise_value(activation, t) for t in z]
        return mpmath.sqrt(mpmath.fsum(r * r for r in rows[0]))


def slope(activation: str, z: mpmath.mpf) -> mpmath.mpf:
    if activation in KINKS:
        return mpmath.mpf(KINKS[activation][int(z > 0)])
    return precise_slope(activation, z)


def precise_value(activation: str, z: mpmath.mpf) -> mpmath.mpf:
    logistic = 1 / (1 + mpmath.exp(-z))
    return {
        "relu": lambda: max(z, 0),
        "leaky relu": lambda: z if z > 0 else mpmath.mpf(0.01) * z,
        "abs": lambda: abs(z),
        "tanh": lambda: mpmath.tanh(z),
        "sigmoid": lambda: logistic,
        "softplus": lambda: mpmath.log1p(mpmath.exp(z)),
        "gelu": lambda: z * mpmath.ncdf(z),
        "silu": lambda: z * logistic,
    }[activation]()
