"""The semidefinite bound in three forms: an eigenvalue, the programme LipSDP, and a maximum.

Every number here is computed twice, by means that share no code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.lipschitz import SdpBracket
from lipbook.lipschitz.deep.chain import chained
from lipbook.lipschitz.deep.upper import joint_uppers
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.product import MAX_PATTERN_WIDTH
from lipbook.lipschitz.semidefinite.multipliers import best_multipliers
from lipbook.networks import Ensemble
from lipbook.theorems.living import living, nothing_trivial
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Rounding that a trace or an eigenvalue may have, relative.
_ROUNDING = 1e-9
# An eigenvalue of a matrix of diagonal 1 above minus this counts as not negative.
_NEGATIVE = 1e-12


@dataclass(frozen=True)
class LipSdpClosedForm:
    """LipSDP of one hidden layer has the value L_sdp = min over t > 0 of λ_max(M(t)).

    At level L the diagonal T of the programme and t go with each other by t_j = 2hT_j/L. Both
    forms ignore the biases.

    References:
        The book's theorem `thm-lipsdp`.
    """

    label = "thm-lipsdp"
    title = "LipSDP in closed form"

    def matrix(
        self, ensemble: Ensemble, network: int, level: float, diagonal: np.ndarray
    ) -> np.ndarray:
        """Return 𝓜(L, T), (d + m', d + m'), of the neurons that are not dead.

        Args:
            ensemble: the networks.
            network: which of them.
            level: L.
            diagonal: T_j, (m',).
        """
        hidden, output, _ = living(ensemble, network)
        low, high = ensemble.activation.slope_range
        scaled = diagonal[:, None] * hidden
        corner = -2.0 * low * high * hidden.T @ scaled - level**2 * np.eye(hidden.shape[1])
        mixed = (low + high) * scaled
        return np.block([[corner, mixed.T], [mixed, output.T @ output - 2.0 * np.diag(diagonal)]])

    def is_feasible(
        self, ensemble: Ensemble, network: int, level: float, diagonal: np.ndarray
    ) -> bool:
        """Tell whether 𝓜(L, T) ⪯ 0, up to rounding.

        Args:
            ensemble: the networks.
            network: which of them.
            level: L.
            diagonal: T_j, (m',).
        """
        form = -self.matrix(ensemble, network, level, diagonal)
        size = np.diagonal(form)
        if not (np.isfinite(form).all() and (size > 0.0).all()):
            return False
        scaled = form / np.sqrt(size) / np.sqrt(size)[:, None]
        return bool(np.linalg.eigvalsh(scaled)[0] >= -_NEGATIVE)

    def level_at(self, ensemble: Ensemble, network: int, relaxed: SdpBracket) -> float:
        """Return the least L at which the closed form's multipliers solve the programme.

        By bisection to a relative 10⁻¹¹ around the closed form's number; infinite if there is none.

        Args:
            ensemble: the networks.
            network: which of them.
            relaxed: L_sdp in closed form, of the same network.
        """
        low, high = ensemble.activation.slope_range
        alive = living(ensemble, network)[2]
        share = np.asarray(relaxed.multiplier)[alive] / (high - low)
        ends = [0.5 * relaxed.upper, 2.0 * relaxed.upper]
        if not self.is_feasible(ensemble, network, ends[1], ends[1] * share):
            return math.inf
        while ends[1] > ends[0] * (1.0 + 1e-11):
            middle = 0.5 * (ends[0] + ends[1])
            ends[self.is_feasible(ensemble, network, middle, middle * share)] = middle
        return ends[1]

    def programme(self, ensemble: Ensemble, network: int, time_limit: float = 60.0) -> float:
        """Return the value of LipSDP, solved as a programme in T and L² by interior points.

        Rounded up; infinite where the programme is out of reach.

        Args:
            ensemble: the networks.
            network: which of them.
            time_limit: s.
        """
        hidden, output, _ = living(ensemble, network)
        chain = chained([(hidden, None), (output, None)], ensemble.activation)
        return min(joint_uppers(chain, Options(time_limit=time_limit)), default=math.inf)

    def verdict(
        self, ensemble: Ensemble, network: int, relaxed: SdpBracket, time_limit: float = 60.0
    ) -> Verdict:
        """Return what the theorem says of one network.

        Args:
            ensemble: the networks.
            network: which of them.
            relaxed: L_sdp in closed form, of the same network.
            time_limit: of the programme, s.

        Returns:
            The `Verdict`; measured is the larger of two quotients that are at most 1 if the two
            values agree: closed form by programme, and the programme's level at the closed form's
            multipliers by the closed form.
        """
        standing = nothing_trivial(living(ensemble, network)[2], ensemble.activation)
        measured = None
        if standing.holds:
            value = self.programme(ensemble, network, time_limit)
            level = self.level_at(ensemble, network, relaxed)
            measured = max(relaxed.lower / value, level / relaxed.upper)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="larger of the quotients closed form by programme and back",
            hypotheses=(standing,),
            bound=1.0,
            measured=measured,
        )


@dataclass(frozen=True)
class RelaxationAsMaximum:
    """L_sdp is a maximum over matrices G ⪰ 0 of trace 1, and N(f) the same over those of rank 1.

    Every G = RRᵀ gives Σ_j 2s̄⟨w_j, YA_j⟩ + 2h√(⟨w_j, Xw_j⟩⟨A_j, ZA_j⟩) ≤ L_sdp. That is a lower
    bound of an upper bound: of the Lipschitz constant it says nothing.

    Attributes:
        rank_one: whether it is about N(f), with R of one column.

    References:
        The book's theorem `thm-duality`.
    """

    rank_one: bool = False

    label = "thm-duality"
    title = "The semidefinite bound as a maximum"

    def value(self, ensemble: Ensemble, network: int, factor: np.ndarray) -> float:
        """Return the sum at G = RRᵀ, rounded to nearest.

        Args:
            ensemble: the networks.
            network: which of them.
            factor: R, (d + k, r), the rows of inputs first.

        Raises:
            HypothesisError: R has not d + k rows.
        """
        hidden, output, _ = living(ensemble, network)
        d, k = ensemble.input_dim, ensemble.output_dim
        if factor.ndim != 2 or len(factor) != d + k:
            refuse(
                "factor", f"have {d + k} rows, one for each input and output", self.label, "G",
                f"shape {factor.shape}", "Give R with G = RRᵀ, one column for rank 1.",
            )  # fmt: skip
        low, high = ensemble.activation.slope_range
        inner, outer = hidden @ factor[:d], output.T @ factor[d:]
        sizes = np.linalg.norm(inner, axis=1) * np.linalg.norm(outer, axis=1)
        return float((low + high) * (inner * outer).sum() + (high - low) * sizes.sum())

    def maximiser(self, ensemble: Ensemble, network: int) -> np.ndarray:
        """Return R, (d + k, r), of a G of trace 1 at which the maximum is nearly attained.

        Of rank 1: the best pattern's singular vectors, for up to 16 neurons.

        Args:
            ensemble: the networks.
            network: which of them, with a neuron that is not dead.

        Raises:
            HypothesisError: rank 1 and more than 16 neurons.
        """
        hidden, output, _ = living(ensemble, network)
        low, high = ensemble.activation.slope_range
        width = len(hidden)
        if not self.rank_one:
            middle, half = (np.full(width, 0.5 * (high + s * low)) for s in (1, -1))
            found = best_multipliers(hidden, output, middle, half).factor
            return np.asarray(found / np.linalg.norm(found))
        if width > MAX_PATTERN_WIDTH:
            refuse(
                "network", f"have at most {MAX_PATTERN_WIDTH} neurons that are not dead",
                self.label, "rank 1", f"{width}", "Leave `rank_one` False.",
            )  # fmt: skip
        slopes = np.where(np.arange(2**width)[:, None] >> np.arange(width) & 1, high, low)
        norms = [np.linalg.norm((output * s) @ hidden, 2) for s in slopes]
        u, _, v = np.linalg.svd((output * slopes[int(np.argmax(norms))]) @ hidden)
        return np.sqrt(0.5) * np.concatenate([v[0], u[:, 0]])[:, None]

    def verdict(
        self, ensemble: Ensemble, network: int, factor: np.ndarray, upper: float
    ) -> Verdict:
        """Return what the theorem says of one network and one matrix.

        Args:
            ensemble: the networks.
            network: which of them.
            factor: R, (d + k, r).
            upper: L_sdp or an upper bound of it, such as any λ_max(M(t)); for rank 1 of N(f).

        Returns:
            The `Verdict`; measured is the sum at G.

        Raises:
            HypothesisError: R has not d + k rows.
        """
        value = self.value(ensemble, network, factor)
        trace = float(np.linalg.norm(factor) ** 2)
        off = abs(trace - 1.0)
        hypotheses = [
            nothing_trivial(living(ensemble, network)[2], ensemble.activation),
            Hypothesis(
                "H2", "the matrix has trace 1", off <= _ROUNDING, margin=_ROUNDING - off
            ),
        ]  # fmt: skip
        if self.rank_one:
            one = factor.shape[1] == 1
            hypotheses.append(Hypothesis("H3", "the matrix has rank 1", one))
        # The trace may miss 1 by rounding, and the sum is as large as the trace.
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="sum over the neurons at the matrix",
            hypotheses=tuple(hypotheses),
            bound=upper,
            measured=value / trace if hypotheses[1].holds else value,
        )
