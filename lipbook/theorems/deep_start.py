"""What the layers of a Gaussian start multiply up to."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from lipbook.deep_networks import DeepEnsemble
from lipbook.theorems.chance import verdict_over_seeds
from lipbook.theorems.deep_path import weight_norms
from lipbook.theorems.tools import davidson_szarek_bound
from lipbook.theorems.verdict import Hypothesis, Verdict


@dataclass(frozen=True)
class DeepStart:
    """Bound the chain of a Gaussian start, W_l ~ N(0, 1/m_{l−1}), with probability at least 1 − η.

    With ϑ = √(2 ln(L/η)): Π‖W_l‖ ≤ Π(1 + √(m_l/m_{l−1}) + ϑ/√m_{l−1}).

    Attributes:
        widths: (d, m_1, …, m_L).
        failure: η in (0, 1].

    References:
        The book's proposition `prop-deep-start`.
    """

    widths: tuple[int, ...]
    failure: float

    label = "prop-deep-start"
    title = "What a deep Gaussian start costs"

    @property
    def bound(self) -> float:
        """Return the bound of Π‖W_l‖, rounded to nearest.

        Raises:
            HypothesisError: η is no such probability.
        """
        share = self.failure / (len(self.widths) - 1)
        factors = (
            davidson_szarek_bound(outer, inner, share) / math.sqrt(inner)
            for inner, outer in itertools.pairwise(self.widths)
        )
        return math.prod(factors)

    def verdict(self, starts: DeepEnsemble) -> Verdict:
        """Return what the proposition says of many independent starts.

        That the weights are such Gaussians is taken from whoever drew them; their shapes are not.

        Args:
            starts: networks as they were drawn, one per seed.

        Returns:
            The `Verdict`: how many seeds may fail, and how many do.
        """
        product = weight_norms(starts).prod(axis=0)
        fits = Hypothesis(
            "H1",
            "the weights of each layer are independent Gaussians N(0, 1/m) for m inputs",
            starts.widths == self.widths,
        )
        return verdict_over_seeds(
            DeepStart, "product of the layers' norms", (fits,), product, self.bound, self.failure
        )
