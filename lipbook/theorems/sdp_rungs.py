"""Where the least eigenvalue stands among the bounds that need norms alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz import centred_upper_bound, path_norm_upper_bound, sdp_bracket
from lipbook.networks import Ensemble
from lipbook.rescaling import balancing_factors
from lipbook.theorems.ladder_sdp import eigenvalue_bound, path_multiplier, uniform_multiplier
from lipbook.theorems.living import living, miss, nothing_trivial
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

QUANTITIES = {
    "a": "eigenvalue at the uniform multiplier",
    "b": "eigenvalue at the path norm's multiplier",
    "c": "eigenvalue half-way between two multipliers",
    "d": "larger of the quotients of the semidefinite bound before and after rescaling",
}


@dataclass(frozen=True)
class EigenvalueRungs:
    """Put L_sdp, the least λ_max(M(t)), below the centred bound (a) and the path norm (b).

    λ_max(M(t)) is convex in t (c), and rescaling neurons leaves its least value alone (d). It
    ignores the biases.

    Attributes:
        part: "a", "b", "c" or "d".

    Raises:
        HypothesisError: another part.

    References:
        The book's proposition `prop-rungs`.
    """

    part: str = "a"

    label = "prop-rungs"
    title = "Where the eigenvalue stands on the ladder"

    def __post_init__(self) -> None:
        """Refuse a part that the proposition does not have."""
        if self.part not in QUANTITIES:
            refuse(
                "part", "be 'a', 'b', 'c' or 'd'", self.label, "a to d", repr(self.part),
                "Use 'a' for the centred bound.",
            )  # fmt: skip

    def verdict(
        self, ensemble: Ensemble, network: int, numbers: np.ndarray | None = None
    ) -> Verdict:
        """Return what one part of the proposition says of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            numbers: (c) two multipliers t, (2, m), by default those of (a) and (b); (d) the factors
                λ, (m,), by default those that balance each neuron. Parts (a) and (b) take none.

        Returns:
            The `Verdict`.
        """
        alive = living(ensemble, network)[2]
        hypotheses = [nothing_trivial(alive, ensemble.activation)]
        if self.part in "cd" and numbers is not None:
            positive = bool((np.isfinite(numbers) & (np.asarray(numbers) > 0.0)).all())
            statement = "the multipliers, or the factors, are positive"
            hypotheses.append(Hypothesis("H2", statement, positive))
        measured = bound = None
        if all(each.holds for each in hypotheses):
            kept = None if numbers is None else np.asarray(numbers, np.float64)[..., alive]
            measured, bound = self.sides(ensemble, network, kept)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=QUANTITIES[self.part],
            hypotheses=tuple(hypotheses),
            bound=bound,
            measured=measured,
            subject=f"part ({self.part})",
        )

    def sides(
        self, ensemble: Ensemble, network: int, numbers: np.ndarray | None
    ) -> tuple[float, float]:
        """Return the measured side and its bound, of the neurons that are not dead.

        Args:
            ensemble: the networks.
            network: which of them.
            numbers: as for `verdict`, of these neurons.
        """
        hidden, output, alive = living(ensemble, network)
        activation = ensemble.activation
        layers = hidden, output
        if self.part == "d":
            if numbers is None:
                numbers = balancing_factors(ensemble)[network].cpu().double().numpy()[alive]
            return _rescaled_by(layers, ensemble, numbers), 1.0
        choices = np.stack([uniform_multiplier(*layers), path_multiplier(*layers)])
        if self.part == "c":
            pair = choices if numbers is None else numbers
            ends = [eigenvalue_bound(*layers, activation.slope_range, t) for t in pair]
            middle = eigenvalue_bound(*layers, activation.slope_range, pair.mean(axis=0))
            return middle, 0.5 * (ends[0] + ends[1])
        of, t = (
            (centred_upper_bound, choices[0])
            if self.part == "a"
            else (path_norm_upper_bound, choices[1])
        )
        return eigenvalue_bound(*layers, activation.slope_range, t), of(*layers, activation)


def _rescaled_by(
    layers: tuple[np.ndarray, np.ndarray], ensemble: Ensemble, factors: np.ndarray
) -> float:
    """Return by which factor the brackets of L_sdp before and after rescaling miss each other."""
    hidden, output = layers
    before = sdp_bracket(hidden, output, ensemble.activation)
    after = sdp_bracket(factors[:, None] * hidden, output / factors, ensemble.activation)
    return miss((before.lower, before.upper), (after.lower, after.upper))
