"""The law of the exact constant of a wide random network with one input, as code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.activations import Activation
from lipbook.networks import Ensemble
from lipbook.theorems.gaussian_start import GaussianStart, drawn_as, one_output
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Gaussian variables beyond this are left out of integrals: probability 2e-19 each.
_FAR = 9.0
_NODES = 48
# With so many reflections on either side the next is below 1e-12, unless the strip is so narrow
# that the path stays in it with a probability of that order.
_REFLECTIONS = 12
_NARROW = 0.2


def stays_in_strip(first: np.ndarray, last: np.ndarray, height: float) -> np.ndarray:
    """Return the probability that a Brownian bridge over unit time stays within (−z, z).

    Σ_k [exp(−4kz(y − x) − 8k²z²) − exp(−(2x + c_k)(2y + c_k)/2)], c_k = (4k + 2)z, by reflection.

    Args:
        first: x, where the bridge begins, inside (−z, z).
        last: y, where it ends, inside (−z, z).
        height: z > 0.

    Returns:
        Between 0 and 1, shaped like `first` and `last` together; 0 for z below 0.2, where it is
        less than 1e-12.
    """
    x, y = np.broadcast_arrays(first, last)
    if height < _NARROW:
        return np.zeros(x.shape)
    total = np.zeros(x.shape)
    for k in range(-_REFLECTIONS, _REFLECTIONS + 1):
        c = (4 * k + 2) * height
        total += np.exp(-4.0 * k * height * (y - x) - 8.0 * k * k * height**2)
        total -= np.exp(-0.5 * (2.0 * x + c) * (2.0 * y + c))
    return np.clip(total, 0.0, 1.0)


@dataclass(frozen=True)
class SlepianLimit:
    """Give the law to which the exact constant of a wide network with one input tends.

    As m → ∞, Lip(f_0)/(ω_W ω_A √m) tends in law to sup over u in [0, 1] of
    |(s_+ − s_-)F(u) + s_-(F(0) + F(1))|, F centred Gaussian with covariance (1 − |u − v|)/2. Means
    converge too.

    Attributes:
        activation: σ, with one kink.

    References:
        The book's theorem `thm-slepian-limit`.
    """

    activation: Activation

    label = "thm-slepian-limit"
    title = "The law of the constant of a wide network of one input"

    def probability(self, height: float) -> float:
        """Return the probability that the limit is at most z.

        Args:
            height: z.

        Raises:
            HypothesisError: σ has not one kink.
        """
        left, right = self._slopes()
        if height <= 0.0:
            return 0.0
        # p = F(0) + F(1) and q = F(1) − F(0) are independent standard normal variables. The process
        # begins at middle·p − half·q, ends at middle·p + half·q, and is 2·half times a bridge
        # between. Both signs of p and of q give the same.
        middle, half = abs(left + right) / 2.0, abs(right - left) / 2.0
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        nodes, weights = 0.5 * (nodes + 1.0), 0.5 * weights
        p_end = min(_FAR, height / middle) if middle > 0.0 else _FAR
        p = p_end * nodes[:, None]
        q_end = np.minimum(_FAR, (height - middle * p) / half)
        q = q_end * nodes[None, :]
        density = 4.0 * np.exp(-0.5 * (p * p + q * q)) / (2.0 * math.pi)
        ends = (middle * p - half * q) / (2.0 * half), (middle * p + half * q) / (2.0 * half)
        stays = stays_in_strip(*ends, height / (2.0 * half))
        return float((weights[:, None] * weights * p_end * q_end * density * stays).sum())

    def mean(self) -> float:
        """Return the mean of the limit, ∫ (1 − P(limit ≤ z)) dz.

        Raises:
            HypothesisError: σ has not one kink.
        """
        self._slopes()
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        top = _FAR * self.activation.lipschitz
        heights = 0.5 * top * (nodes + 1.0)
        missing = np.array([1.0 - self.probability(float(z)) for z in heights])
        return float(0.5 * top * (weights * missing).sum())

    def distance(self, constants: np.ndarray) -> float:
        """Return Kolmogorov's distance between the limit and the law of the given numbers.

        Args:
            constants: Lip(f_0)/(ω_W ω_A √m) of independent starts, (K,).

        Returns:
            The largest difference between the two distribution functions.
        """
        ordered = np.sort(constants)
        limit = np.array([self.probability(float(z)) for z in ordered])
        steps = np.arange(len(ordered) + 1) / len(ordered)
        return float(max((steps[1:] - limit).max(), (limit - steps[:-1]).max()))

    def verdict(self, starts: Ensemble, start: GaussianStart, lipschitz: np.ndarray) -> Verdict:
        """Return what the theorem says of many independent starts: a limit promises no number.

        Args:
            starts: networks as they were drawn, one per seed.
            start: their shape and scale.
            lipschitz: their exact constants on the whole line, (K,).

        Returns:
            The `Verdict`; measured is Kolmogorov's distance, and there is no bound.
        """
        hypotheses = (
            drawn_as(start.scale, starts),
            one_output(starts),
            Hypothesis("H3", "the network has one input", starts.input_dim == 1),
            Hypothesis(
                "H4", "the activation has one kink", self.activation.kink_slopes is not None
            ),
            Hypothesis("H5", "the hidden biases are not zero", start.scale.hidden_bias > 0.0),
        )
        applies = all(each.holds for each in hypotheses)
        unit = start.scale.hidden_weight * start.scale.output_weight * math.sqrt(start.width)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Kolmogorov's distance from the limit",
            hypotheses=hypotheses,
            bound=None,
            measured=self.distance(lipschitz / unit) if applies else None,
        )

    def _slopes(self) -> tuple[float, float]:
        if self.activation.kink_slopes is None:
            refuse(
                "activation", "have one kink", self.label, "H4", repr(self.activation.name),
                "Use 'relu', 'leaky relu' or 'abs'.",
            )  # fmt: skip
        assert self.activation.kink_slopes is not None
        return self.activation.kink_slopes
