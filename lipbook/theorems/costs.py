"""Theorems on what a certificate may cost: sloppy multipliers, and the chain of bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import eigenvalue_bound, weights_of
from lipbook.theorems.rungs import Rungs
from lipbook.theorems.verdict import Hypothesis, Verdict


def log_distance(multiplier: np.ndarray, best: np.ndarray) -> float:
    """Return the least ε with e^-ε ≤ t_j/t*_j ≤ e^ε for every neuron.

    Args:
        multiplier: t > 0, (m,).
        best: t* > 0, (m,).

    Returns:
        max_j |ln t_j − ln t*_j|.
    """
    return float(np.abs(np.log(multiplier) - np.log(best)).max())


def sloppy(multiplier: np.ndarray, tolerance: float, seed: int) -> np.ndarray:
    """Return multipliers that are each wrong by a random factor between e^-ε and e^ε.

    Args:
        multiplier: t > 0, (m,).
        tolerance: ε ≥ 0.
        seed: of numpy's PCG64 generator.

    Returns:
        (m,), positive.
    """
    errors = np.random.default_rng(seed).uniform(-tolerance, tolerance, multiplier.shape)
    return multiplier * np.exp(errors)


@dataclass(frozen=True)
class NearbyMultiplier:
    """A multiplier within a factor e^ε of another has an eigenvalue that is hardly larger.

    λ(t) ≤ e^ε λ(t*) + (e^ε − 1)|s̄|‖AW‖ ≤ (2e^ε − 1) λ(t*), where λ(t) = λ_max(M(t)).

    References:
        The book's theorem `thm-nearby`.
    """

    label = "thm-nearby"
    title = "A multiplier that is a little wrong costs a little"

    def verdict(
        self,
        ensemble: Ensemble,
        network: int,
        multiplier: np.ndarray,
        best: np.ndarray,
        tolerance: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one multiplier.

        Args:
            ensemble: the networks.
            network: which of them.
            multiplier: t, (m,).
            best: t*, (m,).
            tolerance: ε.
            subject: which multiplier this is about.

        Returns:
            The `Verdict`.
        """
        positive = bool((multiplier > 0).all() and (best > 0).all())
        distance = log_distance(multiplier, best) if positive else math.inf
        # Logarithms and exponentials round.
        margin = tolerance * (1.0 + 1e-12) + 1e-12 - distance
        hidden, _, output = weights_of(ensemble, network)
        layers = hidden, output, ensemble.activation.slope_range
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="eigenvalue",
            hypotheses=(
                Hypothesis("H1", "every multiplier is positive", positive),
                Hypothesis(
                    "H2",
                    "no multiplier is off by more than the factor exp(ε)",
                    margin >= 0.0,
                    margin=margin,
                ),
            ),
            bound=self.bound(ensemble, network, best, tolerance) if positive else None,
            measured=eigenvalue_bound(*layers, multiplier) if positive else None,
            subject=subject,
        )

    def bound(self, ensemble: Ensemble, network: int, best: np.ndarray, tolerance: float) -> float:
        """Return e^ε λ(t*) + (e^ε − 1)|s̄|‖AW‖, rounded to nearest.

        Args:
            ensemble: the networks.
            network: which of them.
            best: t* > 0, (m,).
            tolerance: ε ≥ 0.

        Returns:
            The number, unit of the outputs per unit of the inputs.
        """
        hidden, _, output = weights_of(ensemble, network)
        low, high = ensemble.activation.slope_range
        mean = 0.5 * abs(low + high) * float(np.linalg.norm(output @ hidden, 2))
        eigenvalue = eigenvalue_bound(hidden, output, (low, high), best)
        return math.exp(tolerance) * eigenvalue + math.expm1(tolerance) * mean


@dataclass(frozen=True)
class ChainOfBounds:
    """No rung of the chain is above the next.

    0 < sampled ≤ Lip(f) ≤ L_sdp ≤ |s̄|‖AW‖ + h‖A‖‖W‖ ≤ L_σ‖A‖‖W‖, with the constant in a bracket
    that may be open: its upper end is compared with what is below it, its lower end with what is
    above.

    References:
        The book's proposition `prop-chain`.
    """

    label = "prop-chain"
    title = "The chain of bounds"

    def verdict(self, rungs: Rungs, subject: str = "") -> Verdict:
        """Return what the proposition says of one network.

        Args:
            rungs: all bounds of the network.
            subject: which network.

        Returns:
            The `Verdict`; measured is the largest quotient of a rung and the next one.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest quotient of a rung and the next",
            hypotheses=(
                Hypothesis(
                    "H1",
                    "some sample point off the kinks has a gradient other than 0",
                    rungs.sampled > 0.0,
                ),
            ),
            bound=1.0,
            measured=max(self.quotients(rungs).values()),
            subject=subject,
        )

    def quotients(self, rungs: Rungs) -> dict[str, float]:
        """Return each rung divided by the next, 0/0 being 0; all are at most 1.

        Args:
            rungs: all bounds of a network.

        Returns:
            {"sampled / upper end", "lower end / SDP", "SDP / centred", "centred / product"}.
        """
        return {
            "sampled / upper end": _quotient(rungs.sampled, rungs.bracket.upper),
            "lower end / SDP": _quotient(rungs.bracket.lower, rungs.sdp),
            "SDP / centred": _quotient(rungs.sdp, rungs.centred),
            "centred / product": _quotient(rungs.centred, rungs.product),
        }


def _quotient(rung: float, following: float) -> float:
    if following > 0.0:
        return rung / following
    return 0.0 if rung == 0.0 else math.inf
