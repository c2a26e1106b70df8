"""The semidefinite rung of the ladder as the page writes it, in plain floating point.

`lipbook.lipschitz.sdp_bracket` gives the same numbers rounded outwards; here every formula stands
as in the theorem, so that one can be checked against the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz import LipschitzBracket
from lipbook.networks import Ensemble
from lipbook.theorems.verdict import Hypothesis, Verdict


def weights_of(ensemble: Ensemble, network: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W (m, d), b (m,) and A (k, m) of one network as arrays.

    Args:
        ensemble: the networks.
        network: which of them.

    Returns:
        W, b, A.
    """
    hidden, bias, output, _ = (block[network].cpu().numpy() for block in ensemble.blocks())
    return hidden, bias, output


def multiplier_matrix(
    hidden_weight: np.ndarray,
    output_weight: np.ndarray,
    centre: Any,
    half_width: Any,
    multiplier: Any,
) -> np.ndarray:
    """Return the matrix whose largest eigenvalue bounds ‖A·diag(s)·W‖ for s_j ∈ [s̄_j ± h_j].

    M(t) = Σ_j [[h_j t_j w_j w_jᵀ, s̄_j w_j A_jᵀ], [s̄_j A_j w_jᵀ, (h_j/t_j) A_j A_jᵀ]].

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m).
        centre: s̄, a number or (m,).
        half_width: h ≥ 0, a number or (m,).
        multiplier: t > 0, a number or (m,).

    Returns:
        M(t), (d + k, d + k).

    References:
        The book's theorem `thm-eigenvalue`.
    """
    width = len(hidden_weight)
    middle, h, t = (np.broadcast_to(each, width) for each in (centre, half_width, multiplier))
    corner = (hidden_weight.T * (h * t)) @ hidden_weight
    mixed = (hidden_weight.T * middle) @ output_weight.T
    other = (output_weight * (h / t)) @ output_weight.T
    return np.block([[corner, mixed], [mixed.T, other]])


def eigenvalue_bound(
    hidden_weight: np.ndarray,
    output_weight: np.ndarray,
    slope_range: tuple[float, float],
    multiplier: Any,
) -> float:
    """Return λ_max(M(t)) for slopes in one interval, rounded to nearest.

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m).
        slope_range: (s_min, s_max).
        multiplier: t > 0, a number or (m,).

    Returns:
        The bound, unit of the outputs per unit of the inputs.

    References:
        The book's theorem `thm-eigenvalue`.
    """
    low, high = slope_range
    matrix = multiplier_matrix(
        hidden_weight, output_weight, 0.5 * (low + high), 0.5 * (high - low), multiplier
    )
    return float(np.linalg.eigvalsh(matrix)[-1])


def uniform_multiplier(hidden_weight: np.ndarray, output_weight: np.ndarray) -> np.ndarray:
    """Return t_j = ‖A‖/‖W‖ for every j, at which the eigenvalue is at most the centred bound.

    Args:
        hidden_weight: W ≠ 0, (m, d).
        output_weight: A ≠ 0, (k, m).

    Returns:
        t, (m,).
    """
    ratio = np.linalg.norm(output_weight, 2) / np.linalg.norm(hidden_weight, 2)
    return np.full(len(hidden_weight), ratio)


def path_multiplier(hidden_weight: np.ndarray, output_weight: np.ndarray) -> np.ndarray:
    """Return t_j = ‖A_j‖/‖w_j‖, at which the eigenvalue is at most the path norm.

    Args:
        hidden_weight: W without a zero row, (m, d).
        output_weight: A without a zero column, (k, m).

    Returns:
        t, (m,).
    """
    return np.linalg.norm(output_weight, axis=0) / np.linalg.norm(hidden_weight, axis=1)


def relaxation_constant(rank: int) -> float:
    """Return what the semidefinite bound of a network with one output can lose on the formal one.

    c_r = √π·Γ((r + 1)/2) / (√r·Γ(r/2)), which never falls as r grows, from c_1 = 1 towards √(π/2).

    Args:
        rank: r ≥ 1, the rank of W.

    Returns:
        c_r.

    Raises:
        ValueError: the rank is below 1.

    References:
        The book's theorem `thm-quarter`.
    """
    if rank < 1:
        raise ValueError(f"`rank` must be at least 1. Got {rank}. Drop neurons with weight 0.")
    log_ratio = math.lgamma(0.5 * (rank + 1)) - math.lgamma(0.5 * rank)
    return math.sqrt(math.pi / rank) * math.exp(log_ratio)


def kinked_twin(activation: str | Activation) -> Activation:
    """Return the activation with one kink whose slopes are the least and greatest slope of σ.

    z ↦ max(s_min z, s_max z).

    Args:
        activation: σ, by name or as an `Activation`.

    Returns:
        An `Activation`, linear on either side of 0.
    """
    chosen = get_activation(activation)
    low, high = chosen.slope_range
    return replace(
        get_activation("relu"),
        name=f"kinked {chosen.name}",
        value=lambda z: (z > 0) * (high * z) + (z <= 0) * (low * z),
        slope=lambda z: (z > 0) * high + (z <= 0) * low,
        lipschitz=chosen.lipschitz,
        slope_range=(low, high),
        kink_slopes=(low, high),
        slope_limits=(low, high),
        overwrite=None,
    )


def formal_network(
    hidden_weight: np.ndarray, output_weight: np.ndarray, activation: str | Activation
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Activation]:
    """Return the network g(x) = Σ_j τ(a_j⟨w_j, x⟩) whose Lipschitz constant on ℝ^d is N(f).

    Args:
        hidden_weight: W, (m, d).
        output_weight: A with one row, (1, m).
        activation: σ, by name or as an `Activation`.

    Returns:
        The hidden weights, biases and output weights of g, and τ, for `bracket`.

    Raises:
        ValueError: more than one output.

    References:
        The book's proposition `prop-formal`.
    """
    if output_weight.shape[0] != 1:
        raise ValueError(
            "`output_weight` must have one row: the sign of a neuron is that of its one output "
            f"weight. Got {output_weight.shape[0]} rows. Take one output at a time."
        )
    signed = output_weight[0][:, None] * hidden_weight
    width = len(signed)
    return signed, np.zeros(width), np.ones((1, width)), kinked_twin(activation)


@dataclass(frozen=True)
class HalfSquareBound:
    """Bound the constant by one singular value, for slopes in [0, L_σ].

    Lip_D(f) ≤ ½L_σ·σ_max([diag(√t)W, diag(1/√t)Aᵀ])² for every t > 0.

    References:
        The book's theorem `thm-eigenvalue`, part (b).
    """

    label = "thm-eigenvalue"
    title = "One eigenvalue bounds every pattern"

    def verdict(
        self, ensemble: Ensemble, network: int, multiplier: np.ndarray, known: LipschitzBracket
    ) -> Verdict:
        """Return what the theorem says of one network at one multiplier.

        Args:
            ensemble: the networks.
            network: which of them.
            multiplier: t, (m,).
            known: a bracket of the network's Lipschitz constant on any domain.

        Returns:
            The `Verdict`.
        """
        low, _ = ensemble.activation.slope_range
        positive = bool((multiplier > 0).all())
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant",
            hypotheses=(
                Hypothesis("H1", "every multiplier is positive", positive),
                Hypothesis("H2", "the slopes lie between 0 and L_σ", low == 0.0, margin=-abs(low)),
            ),
            bound=self.bound(ensemble, network, multiplier) if positive else None,
            measured=known.lower,
        )

    def bound(self, ensemble: Ensemble, network: int, multiplier: np.ndarray) -> float:
        """Return ½L_σ·σ_max([diag(√t)W, diag(1/√t)Aᵀ])², rounded to nearest.

        Args:
            ensemble: the networks.
            network: which of them.
            multiplier: t > 0, (m,).

        Returns:
            The number; a bound where hypothesis (H2) holds.
        """
        hidden, _, output = weights_of(ensemble, network)
        root = np.sqrt(multiplier)[:, None]
        together = np.concatenate([root * hidden, output.T / root], axis=1)
        return 0.5 * ensemble.activation.lipschitz * float(np.linalg.norm(together, 2)) ** 2


@dataclass(frozen=True)
class RelaxationLoss:
    """With one output the semidefinite bound is at most c_r times the formal constant.

    N(f) ≤ L_sdp ≤ c_r·N(f), r = rank W.

    References:
        The book's theorem `thm-quarter`.
    """

    label = "thm-quarter"
    title = "The relaxation loses about a quarter at most"

    def verdict(
        self, ensemble: Ensemble, network: int, formal: float | None, relaxed: float
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            formal: N(f), or an upper bound of it; None if unknown.
            relaxed: L_sdp, or a lower bound of it.

        Returns:
            The `Verdict`.
        """
        hidden, _, _ = weights_of(ensemble, network)
        rank = int(np.linalg.matrix_rank(hidden))
        known = formal is not None and rank > 0
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="semidefinite bound",
            hypotheses=(Hypothesis("H1", "the network has one output", ensemble.output_dim == 1),),
            bound=relaxation_constant(rank) * formal if known and formal is not None else None,
            measured=relaxed,
        )
