"""Branch and bound on boxes for smooth networks, naively: every box can be looked at.

Plain floating point, one box at a time. `lipbook.lipschitz` does the same with sharper bounds, many
boxes at once, and with roundings proved.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz import LipschitzBracket
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import weights_of
from lipbook.theorems.verdict import Hypothesis, Verdict


@dataclass(frozen=True)
class SmoothNetwork:
    """Hold a network whose activation has a Lipschitz second derivative.

    Attributes:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m).
        activation: σ.
    """

    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    output_weight: np.ndarray
    activation: Activation

    def jacobian(self, point: np.ndarray) -> np.ndarray:
        """Return J(x), (k, d)."""
        slopes = self.activation.slope(self.hidden_weight @ point + self.hidden_bias)
        return np.asarray((self.output_weight * slopes) @ self.hidden_weight)

    def gradient(self, point: np.ndarray) -> float:
        """Return ‖J(x)‖."""
        return float(np.linalg.norm(self.jacobian(point), 2))

    def taylor_bound(self, centre: np.ndarray, half_widths: np.ndarray) -> float:
        """Bound ‖J‖ on the box of points x with |x_i − ξ_i| ≤ ϱ_i.

        max over corners of ‖J(ξ) + Σσ''(z_j)⟨w_j, τ⟩A_jw_jᵀ‖ + ½L_σ''·Σr_j²‖A_j‖‖w_j‖,
        r_j = Σ_i|W_ji|ϱ_i.

        Args:
            centre: ξ, (d,).
            half_widths: ϱ, (d,).

        Returns:
            The bound, rounded to nearest.

        References:
            The book's theorem `thm-boxes`.
        """
        activation = self.activation
        assert activation.curvature is not None and activation.curvature_lipschitz is not None
        hidden, output = self.hidden_weight, self.output_weight
        curvature = activation.curvature(hidden @ centre + self.hidden_bias)
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(centre))))
        moves = (signs * half_widths) @ hidden.T * curvature
        corners = self.jacobian(centre) + np.einsum("km,nm,md->nkd", output, moves, hidden)
        reach = np.abs(hidden) @ half_widths
        sizes = np.linalg.norm(output, axis=0) * np.linalg.norm(hidden, axis=1)
        rest = 0.5 * activation.curvature_lipschitz * float((reach**2 * sizes).sum())
        return float(np.linalg.norm(corners, ord=2, axis=(1, 2)).max()) + rest


@dataclass(frozen=True)
class BoxSearch:
    """Hold where a search on boxes ended.

    Attributes:
        low: lower corners of the boxes that were not split, (boxes, d).
        high: upper corners, (boxes, d).
        bound: of ‖J‖ on each, (boxes,).
        lower: lower end of the bracket.
        upper: upper end.
        point: where the lower end is reached, (d,).
        n_evaluated: how many boxes were looked at.
    """

    low: np.ndarray
    high: np.ndarray
    bound: np.ndarray
    lower: float
    upper: float
    point: np.ndarray
    n_evaluated: int


def search_boxes(
    network: SmoothNetwork, half_width: float, rel_gap: float = 0.01, max_boxes: int = 2000
) -> BoxSearch:
    """Search the box [−B, B]^d best-first, halving along the side that matters most.

    Args:
        network: the network.
        half_width: B.
        rel_gap: stop once upper ≤ (1 + rel_gap)·lower.
        max_boxes: stop after looking at so many boxes.

    Returns:
        The `BoxSearch`.
    """
    d = network.hidden_weight.shape[1]
    point, half = np.zeros(d), np.full(d, half_width)
    lower = network.gradient(point)
    queue = [(-network.taylor_bound(point, half), 0, point, half)]
    count = 1
    while -queue[0][0] > (1.0 + rel_gap) * lower and count < max_boxes:
        parent, _, centre, half = heapq.heappop(queue)
        side = _side_to_halve(network, half)
        half = np.where(np.arange(d) == side, 0.5 * half, half)
        for sign in (-1.0, 1.0):
            middle = centre + sign * half * (np.arange(d) == side)
            # A part of a box is never steeper than the box.
            bound = min(-parent, network.taylor_bound(middle, half))
            heapq.heappush(queue, (-bound, count, middle, half))
            count += 1
            if network.gradient(middle) > lower:
                lower, point = network.gradient(middle), middle
    ends = [np.array([c + sign * h for _, _, c, h in queue]) for sign in (-1.0, 1.0)]
    bounds = np.array([-bound for bound, *_ in queue])
    return BoxSearch(ends[0], ends[1], bounds, lower, float(bounds.max()), point, count)


def _side_to_halve(network: SmoothNetwork, half: np.ndarray) -> int:
    """Return the side along which the pre-activations move most."""
    return int(np.argmax(np.linalg.norm(network.hidden_weight, axis=0) * half))


@dataclass(frozen=True)
class SteepnessOnBoxes:
    """On a bounded box the largest bound of its parts bounds the constant of a smooth network.

    Lip_D(f) ≤ max over parts Q of D of the Taylor bound on Q.

    References:
        The book's theorem `thm-boxes`.
    """

    label = "thm-boxes"
    title = "Steepness on a box"

    def verdict(
        self, ensemble: Ensemble, search: BoxSearch | None, known: LipschitzBracket
    ) -> Verdict:
        """Return what the theorem says of one search, against an independent bracket.

        Args:
            ensemble: the networks, one of which was searched.
            search: where the search ended; None if there was none.
            known: a bracket of the network's constant on its domain.

        Returns:
            The `Verdict`; measured is the lower end of the bracket.
        """
        activation = ensemble.activation
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant",
            hypotheses=(
                Hypothesis(
                    "H1",
                    "the second derivative of the activation is Lipschitz",
                    activation.curvature_lipschitz is not None,
                ),
                Hypothesis("H2", "the domain is a bounded box", known.domain is not None),
            ),
            bound=None if search is None else search.upper,
            measured=known.lower,
        )


def smooth_network(ensemble: Ensemble, network: int) -> SmoothNetwork:
    """Return one network of an ensemble, ready to be searched.

    Args:
        ensemble: the networks.
        network: which of them.

    Returns:
        The `SmoothNetwork`.

    Raises:
        ValueError: the activation has a kink.
    """
    activation = ensemble.activation
    if activation.curvature is None or activation.curvature_lipschitz is None:
        raise ValueError(
            "`ensemble` must have a smooth activation for boxes to be bounded by Taylor's formula. "
            f"Got {activation.name!r}. Use tanh, or search patterns."
        )
    return SmoothNetwork(*weights_of(ensemble, network), activation)
