"""The best bound that does not look at the biases, as the constant of a network without any."""

from __future__ import annotations

from dataclasses import dataclass

from lipbook.lipschitz import bracket, formal_upper_bound, pattern_upper_bound
from lipbook.lipschitz.product import MAX_PATTERN_WIDTH
from lipbook.networks import Ensemble
from lipbook.theorems.ladder_sdp import formal_network
from lipbook.theorems.living import living, miss, nothing_trivial
from lipbook.theorems.verdict import Hypothesis, Verdict

# By how much an upper bound of N(f) from all patterns may exceed it, relative.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class FormalIsLipschitz:
    """With one output N(f) is the Lipschitz constant on ℝ^d of a network with one kink.

    N(f) = Lip(g), g(x) = Σ_j max(s_min⟨v_j, x⟩, s_max⟨v_j, x⟩), v_j = a_j w_j.

    References:
        The book's proposition `prop-formal`.
    """

    label = "prop-formal"
    title = "The formal constant is a Lipschitz constant"

    def verdict(self, ensemble: Ensemble, network: int, time_limit: float = 60.0) -> Verdict:
        """Return what the proposition says of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            time_limit: of the search for Lip(g), s.

        Returns:
            The `Verdict`; measured is the larger of the quotients of N(f), from all patterns or
            (one input) the closed form, and Lip(g), from its cells: at most 1 if they agree. With
            several inputs it is None for more than 16 neurons that are not dead.
        """
        hidden, output, alive = living(ensemble, network)
        one = Hypothesis("H2", "the network has one output", ensemble.output_dim == 1)
        standing, measured = nothing_trivial(alive, ensemble.activation), None
        line = ensemble.input_dim == 1
        if one.holds and standing.holds and (line or len(hidden) <= MAX_PATTERN_WIDTH):
            twin = formal_network(hidden, output, ensemble.activation)
            cells = bracket(*twin, domain=None, time_limit=time_limit)
            of = formal_upper_bound if line else pattern_upper_bound
            formal = of(hidden, output, ensemble.activation)
            measured = miss((formal * (1.0 - _ROUNDING), formal), (cells.lower, cells.upper))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="larger of the quotients formal constant by Lipschitz constant and back",
            hypotheses=(standing, one),
            bound=1.0,
            measured=measured,
        )
