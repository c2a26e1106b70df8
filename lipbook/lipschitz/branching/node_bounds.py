"""Bounds of ‖J‖ where some switches are set: LipSDP's value, approached from both sides.

With G the Jacobian of the switches that are set, and u, v unit vectors,

    uᵀ(G + Σ_free σ_g α_g w_gᵀ)v ≤ uᵀGv + Σ_free |⟨α_g, u⟩||⟨w_g, v⟩|
        ≤ φ* := max { ⟨GᵀQ, P⟩ + Σ_free |Pᵀw_g||Qᵀα_g| : ‖P‖_F = ‖Q‖_F = 1 },

P (d, r), Q (k, r). Given Q the objective is convex and positively homogeneous in P, so that
P ← ∇/‖∇‖ never lowers it (and so for Q). Any P, Q give multipliers t_g = |Qᵀα_g|/|Pᵀw_g|, and any
multipliers a bound λ_max(M(t)) ≥ φ*. Nothing here is rounded outwards: the search looks at these
numbers, the proof does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.switches import Switches
from lipbook.lipschitz.semidefinite.multipliers import best_multipliers

_TINY = 1e-280


@dataclass(frozen=True)
class NodeBounds:
    """Hold the bounds of B nodes.

    Attributes:
        upper: λ_max(M(t)), (B,).
        right: P, (B, d, r).
        left: Q, (B, k, r).
        multiplier: t, (B, n); 0 where the switch is set.
        impact: |Pᵀw_g||Qᵀα_g|, what setting a free switch may change, (B, n); 0 where it is set.
    """

    upper: FloatArray
    right: FloatArray
    left: FloatArray
    multiplier: FloatArray
    impact: FloatArray


def set_jacobians(switches: Switches, signs: FloatArray) -> FloatArray:
    """Return G for each row of signs (B, n), entries −1, 0 (free) or 1: shape (B, k, d)."""
    return switches.base + np.matmul(switches.jump * signs[:, None, :], switches.weight)


def node_bounds(
    switches: Switches, signs: FloatArray, right: FloatArray, left: FloatArray, rounds: int
) -> NodeBounds:
    """Bound ‖J‖ at B nodes.

    Args:
        switches: the network.
        signs: (B, n), entries −1, 0 (free) or 1.
        right: P to start from, (B, d, r).
        left: Q to start from, (B, k, r).
        rounds: how often to improve P and Q.

    Returns:
        The bounds.
    """
    weight, jump = switches.weight, switches.jump
    fixed = set_jacobians(switches, signs)
    free = (signs == 0.0).astype(np.float64)
    for _ in range(rounds):
        y, y_norm = _projections(jump.T, left)
        x, x_norm = _projections(weight, right)
        right = np.matmul(np.swapaxes(fixed, 1, 2), left)
        right += np.matmul(weight.T, x * (free * y_norm / x_norm)[..., None])
        right = _unit(right)
        x, x_norm = _projections(weight, right)
        left = np.matmul(fixed, right)
        left += np.matmul(jump, y * (free * x_norm / y_norm)[..., None])
        left = _unit(left)
    x_norm, y_norm = _projections(weight, right)[1], _projections(jump.T, left)[1]
    multiplier = free * y_norm / x_norm
    matrix = relaxation_matrices(switches, fixed, multiplier)
    upper = np.asarray(np.linalg.eigvalsh(matrix)[:, -1], dtype=np.float64)
    return NodeBounds(upper, right, left, multiplier, free * x_norm * y_norm)


def relaxation_matrices(
    switches: Switches, fixed: FloatArray, multiplier: FloatArray
) -> FloatArray:
    """Return M(t) for each row of multipliers (B, n), 0 where a switch is set."""
    d = switches.weight.shape[1]
    k = switches.jump.shape[0]
    inverse = np.divide(1.0, multiplier, out=np.zeros_like(multiplier), where=multiplier > 0.0)
    matrix = np.empty((len(multiplier), d + k, d + k))
    weighted = switches.weight * multiplier[..., None]
    matrix[:, :d, :d] = np.matmul(switches.weight.T, weighted)
    matrix[:, d:, d:] = np.matmul(switches.jump * inverse[:, None, :], switches.jump.T)
    matrix[:, d:, :d] = fixed
    matrix[:, :d, d:] = np.swapaxes(fixed, 1, 2)
    return matrix


def root_suggestion(
    switches: Switches, rank: int, stop: Callable[[], bool]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return t (n,), P (d, r) and Q (k, r) for the whole domain, close to the best ones."""
    n, d = switches.weight.shape
    k = len(switches.base)
    centre, half_width = np.append(np.zeros(n), np.ones(k)), np.append(np.ones(n), np.zeros(k))
    found = best_multipliers(*switches.rows, centre, half_width, target=1e-3, stop=stop)
    # P and Q turned alike change nothing: turn them so that the first r columns hold the most.
    _, _, turn = np.linalg.svd(found.factor, full_matrices=False)
    factor = (found.factor @ turn.T)[:, :rank]
    factor = np.pad(factor, ((0, 0), (0, rank - factor.shape[1])))
    return found.multiplier[:n], _unit(factor[None, :d])[0], _unit(factor[None, d:])[0]


def _projections(rows: FloatArray, factor: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return each row's image under each factor (B, n, r), and its norm (B, n), never 0."""
    image = np.matmul(rows, factor)
    return image, np.sqrt(np.einsum("bnr,bnr->bn", image, image)) + _TINY


def _unit(factor: FloatArray) -> FloatArray:
    norm = np.sqrt(np.einsum("bdr,bdr->b", factor, factor))[:, None, None]
    return factor / np.maximum(norm, _TINY)
