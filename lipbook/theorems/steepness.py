"""Theorems on the Lipschitz constant of one network, as code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from lipbook.lipschitz import (
    LipschitzBracket,
    centred_upper_bound,
    formal_upper_bound,
    path_norm_upper_bound,
    product_upper_bound,
)
from lipbook.networks import Ensemble
from lipbook.theorems.verdict import Hypothesis, Verdict


def breakpoints(ensemble: Ensemble, network: int, low: float, high: float) -> np.ndarray:
    """Return where neurons of a network with one input have pre-activation 0, inside (low, high).

    r_j = −b_j/w_j; neurons with w_j = 0 have none.

    Args:
        ensemble: networks with one input.
        network: which of them.
        low: left end of the domain.
        high: right end.

    Returns:
        The distinct points, increasing.
    """
    weight = ensemble.hidden_weight[network, :, 0].cpu().numpy()
    bias = ensemble.hidden_bias[network].cpu().numpy()
    alive = weight != 0
    points = np.unique(-bias[alive] / weight[alive])
    return points[(points > low) & (points < high)]


def _interval(known: LipschitzBracket) -> tuple[float, float]:
    if known.domain is None:
        return -math.inf, math.inf
    ends = np.asarray(known.domain, dtype=np.float64).reshape(2)
    return float(ends[0]), float(ends[1])


@dataclass(frozen=True)
class SteepestGradient:
    """The Lipschitz constant is the largest gradient off the kinks: no sample there exceeds it.

    max_i ‖J(x_i)‖ ≤ Lip_D(f) for sample points x_i inside D and off the kinks.

    References:
        The book's theorem `thm-gradient`.
    """

    label = "thm-gradient"
    title = "The Lipschitz constant is the largest gradient"

    def verdict(
        self, ensemble: Ensemble, network: int, points: np.ndarray, known: LipschitzBracket
    ) -> Verdict:
        """Return what the theorem says of gradients sampled with automatic differentiation's rule.

        Args:
            ensemble: networks with one input.
            network: which of them.
            points: sample points, (n,).
            known: a bracket of the Lipschitz constant on an interval or on the whole line.

        Returns:
            The `Verdict`.
        """
        low, high = _interval(known)
        x = torch.as_tensor(points, dtype=ensemble.hidden_weight.dtype)[:, None]
        norms = torch.linalg.matrix_norm(ensemble.jacobian(x)[network], ord=2)
        inside = bool(((points >= low) & (points <= high)).all())
        at_kink = (ensemble.preactivation(x)[network] == 0) & (
            ensemble.hidden_weight[network, :, 0] != 0
        )
        clear = not (ensemble.activation.is_piecewise_linear and bool(at_kink.any()))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="steepest sampled gradient",
            hypotheses=(
                Hypothesis("H1", "every sample point lies in the domain", inside),
                Hypothesis("H2", "no sample point sits on a kink", clear),
            ),
            bound=known.upper,
            measured=float(norms.max()),
        )


@dataclass(frozen=True)
class HalfAndHalf:
    """Bound the constant by the half-and-half bound, for slopes that are never negative.

    Lip_D(f) ≤ ½L_σ(‖AW‖ + ‖A‖‖W‖). It ignores the biases.

    References:
        The book's theorem `thm-ladder`, part (d).
    """

    label = "thm-ladder"
    title = "The half-and-half bound"

    def verdict(self, ensemble: Ensemble, network: int, known: LipschitzBracket) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            known: a bracket of its Lipschitz constant on any domain.

        Returns:
            The `Verdict`.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant",
            hypotheses=(
                Hypothesis(
                    "H1",
                    "no slope of the activation is negative",
                    ensemble.activation.slope_range[0] >= 0,
                    margin=ensemble.activation.slope_range[0],
                ),
            ),
            bound=half_and_half_bound(ensemble, network),
            measured=known.lower,
        )


def half_and_half_bound(ensemble: Ensemble, network: int) -> float:
    """Return ½L_σ(‖AW‖ + ‖A‖‖W‖), rounded to nearest; a bound where slopes are in [0, L_σ].

    Args:
        ensemble: the networks.
        network: which of them.

    Returns:
        The number, unit of the outputs per unit of the inputs.
    """
    hidden, output = ensemble.hidden_weight[network], ensemble.output_weight[network]
    together = torch.linalg.matrix_norm(output @ hidden, ord=2)
    apart = torch.linalg.matrix_norm(output, ord=2) * torch.linalg.matrix_norm(hidden, ord=2)
    return 0.5 * ensemble.activation.lipschitz * float(together + apart)


@dataclass(frozen=True)
class SortedCells:
    """With one input and one kink, sorting the breakpoints gives the exact constant.

    Lip_D(f) is the largest of the slopes on the cells between neighbouring breakpoints.

    References:
        The book's theorem `thm-sort`.
    """

    label = "thm-sort"
    title = "Sorting gives the exact constant"

    def verdict(self, ensemble: Ensemble, network: int, known: LipschitzBracket) -> Verdict:
        """Return what the theorem says of one network with one input.

        Args:
            ensemble: networks with one input.
            network: which of them.
            known: a bracket of the Lipschitz constant on an interval.

        Returns:
            The `Verdict`; measured is the steepest gradient at the middles of the cells.
        """
        low, high = _interval(known)
        kinks = breakpoints(ensemble, network, low, high)
        # On the whole line the two end cells are entered by one step.
        first, last = (kinks[0], kinks[-1]) if len(kinks) else (0.0, 0.0)
        ends = max(low, first - 1.0), min(high, last + 1.0)
        edges = np.concatenate([[ends[0]], kinks, [ends[1]]])
        middles = torch.as_tensor(0.5 * (edges[1:] + edges[:-1]))[:, None]
        jacobians = ensemble.jacobian(middles.to(ensemble.hidden_weight.dtype))[network]
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="steepest gradient among the cells' middles",
            hypotheses=(
                Hypothesis("H1", "the network has one input", ensemble.input_dim == 1),
                Hypothesis(
                    "H2",
                    "the activation is linear on either side of 0",
                    ensemble.activation.is_piecewise_linear,
                ),
            ),
            bound=known.upper,
            measured=float(torch.linalg.matrix_norm(jacobians, ord=2).max()),
        )


def ladder(
    ensemble: Ensemble, network: int, ends: tuple[float, float], sampled: float
) -> dict[str, float]:
    """Return the rungs of the ladder of bounds from the lowest up.

    sampled ≤ exact ≤ formal ≤ centred ≤ product, and formal ≤ path norm.

    Args:
        ensemble: networks with one input and one output.
        network: which of them.
        ends: lower and upper end of a bracket of its Lipschitz constant on any domain.
        sampled: the steepest sampled gradient.

    Returns:
        {"sampled", "exact (lower end)", "exact (upper end)", "formal", "path norm", "centred",
        "product"}.
    """
    weights = (ensemble.hidden_weight[network], ensemble.output_weight[network])
    return {
        "sampled": sampled,
        "exact (lower end)": ends[0],
        "exact (upper end)": ends[1],
        "formal": formal_upper_bound(*weights, ensemble.activation),
        "path norm": path_norm_upper_bound(*weights, ensemble.activation),
        "centred": centred_upper_bound(*weights, ensemble.activation),
        "product": product_upper_bound(*weights, ensemble.activation),
    }


def ladder_ratios(
    ensemble: Ensemble, lower: np.ndarray, upper: np.ndarray, sampled: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the rungs of many networks, each divided by the network's own exact constant.

    Args:
        ensemble: K networks with one input and one output.
        lower: lower ends of brackets of their Lipschitz constants on one domain, (K,).
        upper: upper ends, (K,).
        sampled: their steepest sampled gradients, (K,).

    Returns:
        {"sampled", "exact", "formal", "centred", "path norm", "product"}, each of the length of
        the number of networks that are not flat on the domain.
    """
    rungs = [
        ladder(ensemble, i, (float(lower[i]), float(upper[i])), float(sampled[i]))
        for i in range(ensemble.size)
        if upper[i] > 0
    ]
    keys = ("sampled", "exact (upper end)", "formal", "centred", "path norm", "product")
    return {
        key.removesuffix(" (upper end)"): np.array([r[key] / r["exact (upper end)"] for r in rungs])
        for key in keys
    }
