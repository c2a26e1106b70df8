"""What the tests of enclosures on boxes share: naive norms, grids, a shorter call."""

from __future__ import annotations

import mpmath
import numpy as np
from lipschitz_oracles import Network, precise_slope

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball
from lipbook.lipschitz.domains import Domain
from lipbook.lipschitz.problem import Options, checked_problem
from lipbook.lipschitz.results import LipschitzBracket
from lipbook.lipschitz.smooth.boxes import boxes_bracket, why_not_boxes


def precise_norm(net: Network, activation: str, x: np.ndarray) -> mpmath.mpf:
    """‖J(x)‖ of a smooth network by mpmath."""
    point = [mpmath.mpf(float(v)) for v in x]
    jacobian = mpmath.zeros(net.output_weight.shape[0], len(point))
    for w, b, a in zip(*net.parts[:2], net.output_weight.T, strict=True):
        row = [mpmath.mpf(float(v)) for v in w]
        z = mpmath.fdot(row, point) + mpmath.mpf(float(b))
        slope = precise_slope(activation, z)
        for i, out in enumerate(a):
            for j, v in enumerate(row):
                jacobian[i, j] += mpmath.mpf(float(out)) * v * slope
    return max(mpmath.svd_r(jacobian, compute_uv=False))


def enclosed(net: Network, activation="tanh", domain=(-3.0, 3.0), **options) -> LipschitzBracket:
    problem = checked_problem(*net.parts, activation, domain)
    assert why_not_boxes(problem) is None
    return boxes_bracket(problem, Options(**options))


def fault(found: LipschitzBracket, upper: float | None = None) -> str | None:
    assert found.certificate is not None
    problem, proof = found.certificate.problem, found.certificate.proof
    return proof.fault(problem, found.upper if upper is None else upper)


def grid(domain: Domain, d: int, n: int) -> np.ndarray:
    """Points of a box or a ball."""
    if isinstance(domain, Ball):
        center = np.broadcast_to(np.asarray(domain.center, dtype=float), (d,))
        cube = np.stack(np.meshgrid(*[np.linspace(-1, 1, n)] * d), -1).reshape(-1, d)
        length = np.linalg.norm(cube, axis=1, keepdims=True)
        return center + domain.radius * cube / np.maximum(length, 1.0)
    low, high = (np.broadcast_to(np.asarray(end, dtype=float), (d,)) for end in domain)
    axes = [np.linspace(a, b, n) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, d)


def sampled_norms(net: Network, activation: str, points: np.ndarray) -> np.ndarray:
    """‖J‖ in plain floating point."""
    w, b, a = net.parts
    slopes = ACTIVATIONS[activation].slope(points @ w.T + b)
    return np.linalg.norm(np.einsum("nm,km,md->nkd", slopes, a, w), ord=2, axis=(1, 2))
