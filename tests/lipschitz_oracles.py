"""What the tests of Lipschitz constants compare with: naive oracles and one table of networks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import mpmath
import numpy as np

KINKS = {"relu": (0.0, 1.0), "leaky relu": (0.01, 1.0), "abs": (-1.0, 1.0)}
SMOOTH = ("tanh", "sigmoid", "softplus", "gelu", "silu")


@dataclass(frozen=True)
class Network:
    """Hold W (m, d), b (m,), A (k, m) of one case."""

    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.hidden_weight, self.hidden_bias, self.output_weight

    @property
    def layers(self) -> tuple[np.ndarray, np.ndarray]:
        return self.hidden_weight, self.output_weight


def network(w: Any, b: Any, a: Any) -> Network:
    """A network of one input from lists."""
    weight = np.array(w, dtype=float).reshape(-1, 1)
    return Network(weight, np.array(b, dtype=float), np.atleast_2d(np.array(a, dtype=float)))


def random_network(seed: int, width: int, d: int = 1, k: int = 1) -> Network:
    generator = np.random.default_rng(seed)
    return Network(
        generator.normal(size=(width, d)) / np.sqrt(d),
        generator.normal(size=width),
        generator.normal(size=(k, width)) / np.sqrt(width),
    )


def exact_square(net: Network, activation: str, domain: tuple[Any, Any] | None = None) -> Fraction:
    """Lip(f)² of a piecewise-linear network of one input, in rational numbers from the definition.

    One point inside each interval between breakpoints, the slope there neuron by neuron.
    """
    left, right = (Fraction(s) for s in KINKS[activation])
    w = [Fraction(float(v)) for v in net.hidden_weight[:, 0]]
    b = [Fraction(float(v)) for v in net.hidden_bias]
    rows = [[Fraction(float(v)) for v in row] for row in net.output_weight]
    marks = {-c / v for v, c in zip(w, b, strict=True) if v != 0}
    if domain is None:
        marks |= {min(marks, default=Fraction(0)) - 1, max(marks, default=Fraction(0)) + 1}
    else:
        low, high = Fraction(domain[0]), Fraction(domain[1])
        marks = {t for t in marks if low < t < high} | {low, high}
    largest = Fraction(0)
    for before, after in pairwise(sorted(marks)):
        x = (before + after) / 2
        s = [right if v * x + c > 0 else left for v, c in zip(w, b, strict=True)]
        slopes = [sum(a * v * t for a, v, t in zip(row, w, s, strict=True)) for row in rows]
        largest = max(largest, sum((v * v for v in slopes), Fraction(0)))
    return largest


def encloses(lower: float, upper: float, square: Fraction) -> bool:
    """Whether lower² ≤ square ≤ upper², exactly."""
    return Fraction(lower) ** 2 <= square <= Fraction(upper) ** 2


def precise_slope(activation: str, z: Any) -> Any:
    """σ'(z) by mpmath, at its working precision."""
    z = mpmath.mpf(z)
    if abs(z) > 1e5:  # the limits, to ten thousand digits
        return mpmath.mpf(activation in ("softplus", "gelu", "silu") and z > 0)
    logistic = 1 / (1 + mpmath.exp(-z))
    density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
    return {
        "tanh": lambda: mpmath.sech(z) ** 2,
        "sigmoid": lambda: logistic * (1 - logistic),
        "softplus": lambda: logistic,
        "gelu": lambda: mpmath.ncdf(z) + z * density,
        "silu": lambda: logistic + z * logistic * (1 - logistic),
    }[activation]()


def precise_curvature(activation: str, z: Any) -> Any:
    """σ''(z) by mpmath, at its working precision."""
    z = mpmath.mpf(z)
    logistic = 1 / (1 + mpmath.exp(-z))
    bell = logistic * (1 - logistic)
    density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
    return {
        "tanh": lambda: -2 * mpmath.tanh(z) * mpmath.sech(z) ** 2,
        "sigmoid": lambda: bell * (1 - 2 * logistic),
        "softplus": lambda: bell,
        "gelu": lambda: density * (2 - z * z),
        "silu": lambda: bell * (2 + z * (1 - 2 * logistic)),
    }[activation]()


def precise_norm(net: Network, activation: str, x: float) -> Any:
    """‖f'(x)‖ of a smooth network of one input by mpmath."""
    total = mpmath.mpf(0)
    s = [
        mpmath.mpf(float(v)) * precise_slope(activation, mpmath.mpf(float(v)) * x + float(c))
        for v, c in zip(net.hidden_weight[:, 0], net.hidden_bias, strict=True)
    ]
    for row in net.output_weight:
        total += mpmath.fsum(mpmath.mpf(float(a)) * t for a, t in zip(row, s, strict=True)) ** 2
    return mpmath.sqrt(total)


KINK = network([1, 1, -1], [1, 0, 0], [3, -2, 2])

# One table for every bound: a new bound is one new row in the tests that use it.
CASES: dict[str, Network] = {
    "one neuron": network([2], [0.5], [-1.5]),
    "kink trap": KINK,
    "opposite slopes": network([1, -1], [0.3, 0.3], [1, 1]),
    "cancels right": network([1, 1], [0, -1], [1, -1]),
    "zero biases": network([1, -2, 3, -1], [0, 0, 0, 0], [1, 0.5, -1, 2]),
    "duplicates": network([1, 1, 1, 2], [0.5, 0.5, 0.5, 1.0], [1, -2, 0.5, 1]),
    "dead neurons": network([0, 1, 0], [1, -1, -1], [5, 1, 7]),
    "unused neurons": network([3, 1], [1, -1], [0, 1]),
    "constant": network([0, 0], [1, -1], [1, 2]),
    "two outputs": network([1, -1, 2], [0, 1, -1], [[1, 2, -1], [0.5, 0, 3]]),
    "random 1": random_network(1, 12),
    "random 2": random_network(2, 12),
    "random, k = 3": random_network(3, 10, k=3),
    "badly scaled": Network(
        random_network(4, 8).hidden_weight * 10.0 ** np.arange(-4, 4)[:, None],
        random_network(4, 8).hidden_bias,
        random_network(4, 8).output_weight * 10.0 ** np.arange(4, -4, -1),
    ),
}
