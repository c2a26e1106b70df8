"""The gap between two risks, bounded by norms of the weights that define a class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lipbook.activations import Activation
from lipbook.generalization.laws import Law
from lipbook.generalization.losses_known import (
    common_hypotheses,
    in_a_box,
    loss_at,
    slope_of,
)
from lipbook.losses import Loss
from lipbook.networks import Ensemble
from lipbook.theorems.empirical import peel, uniform_gap
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

# σ − σ(0) is odd for these.
ODD = frozenset({"tanh", "sigmoid"})


def sign_constant(activation: Activation) -> float:
    """Return χ_σ: L_σ if σ − σ(0) is odd, else L_σ + ½(s_max − s_min) ≤ 2L_σ.

    Args:
        activation: σ.

    References:
        The book's lemma `lem-neuron-class`.
    """
    if activation.name in ODD:
        return activation.lipschitz
    low, high = activation.slope_range
    return activation.lipschitz + 0.5 * (high - low)


@dataclass(frozen=True)
class Radii:
    """Hold the three numbers that define a class of networks, of any width.

    Attributes:
        output: A ≥ ‖a‖₁; for homogeneous σ ≥ Σ|a_j|‖v_j‖.
        hidden: B ≥ max ‖v_j‖; 1 for homogeneous σ.
        offset: C ≥ |c|.
    """

    output: float
    hidden: float
    offset: float

    @classmethod
    def of(cls, network: Ensemble) -> Radii:
        """Return the least radii of one network with one output.

        Args:
            network: one network.
        """
        outer = network.output_weight[0, 0].double().abs()
        inner = (network.hidden_weight[0].square().sum(1) + network.hidden_bias[0].square()).sqrt()
        offset = abs(float(network.output_bias[0, 0]))
        if network.activation.is_homogeneous:
            return cls(float((outer * inner).sum()), 1.0, offset)
        return cls(float(outer.sum()), float(inner.max()), offset)

    def values(self) -> tuple[float, float, float]:
        """Return (A, B, C)."""
        return self.output, self.hidden, self.offset


@dataclass(frozen=True)
class RademacherGap:
    """Bound R^P − R for all networks of a class at once, and, by peeling, at trained norms.

    2δ(A(χ_σB√(1 + B̄_x²) + s₀) + C)/√n + φ(F + B_y)√(ln(1/η)/(2n)), F the largest |f| in the
    class. It ignores the width, and everything about the weights but the three radii.

    Attributes:
        failure: η.

    References:
        The book's theorem `thm-rademacher`.
    """

    failure: float = 0.05

    label = "thm-rademacher"
    title = "Classes of bounded weights"

    def complexity(self, activation: Activation, radii: Radii, rms: float, n: int) -> float:
        """Bound Rad_n of the class: (A(χ_σB√(1 + B̄_x²) + s₀) + C)/√n.

        Args:
            activation: σ.
            radii: A, B, C.
            rms: B̄_x, the root of E‖x‖².
            n: the number of samples.
        """
        neuron = sign_constant(activation) * radii.hidden * math.hypot(1.0, rms)
        return (radii.output * (neuron + activation.at_zero) + radii.offset) / math.sqrt(n)

    def reach(self, activation: Activation, radii: Radii, input_radius: float) -> float:
        """Bound |f| on the class: A·min(sup|σ|, L_σB√(1 + B_x²) + s₀) + C.

        Args:
            activation: σ.
            radii: A, B, C.
            input_radius: B_x.
        """
        neuron = activation.lipschitz * radii.hidden * math.hypot(1.0, input_radius)
        highest = math.inf if activation.bound is None else activation.bound
        return radii.output * min(highest, neuron + activation.at_zero) + radii.offset

    def bound(
        self,
        law: Law,
        loss: Loss,
        activation: Activation,
        radii: Radii,
        n_samples: int,
        failure: float | None = None,
    ) -> float:
        """Return the bound for radii fixed before the sample was seen.

        Args:
            law: gives B_x, B̄_x and B_y.
            loss: Huber's.
            activation: σ.
            radii: A, B, C.
            n_samples: n.
            failure: in place of η.

        Returns:
            The bound of R^P − R, in the unit of the loss.

        Raises:
            HypothesisError: the loss is not Lipschitz, or no box holds the law.
        """
        in_a_box(law, self.label)
        slope = slope_of(loss, self.label)
        average = slope * self.complexity(activation, radii, law.input_rms, n_samples)
        furthest = self.reach(activation, radii, law.input_radius) + law.target_radius
        chance = self.failure if failure is None else failure
        return uniform_gap(average, loss_at(loss, furthest), n_samples, chance)

    def peeled(
        self,
        law: Law,
        loss: Loss,
        start: Ensemble,
        network: Ensemble,
        n_samples: int,
    ) -> float:
        """Return the bound at the norms that training has led to, first radii from the start.

        Args:
            law: gives B_x, B̄_x and B_y; the first radius of |c| is B_y.
            loss: Huber's.
            start: the network before training, independent of the sample.
            network: the network after it.
            n_samples: n.

        Returns:
            The bound of R^P − R, in the unit of the loss.

        Raises:
            HypothesisError: as for `bound`, or norms that are not finite.
        """
        in_a_box(law, self.label)
        first, last = Radii.of(start), Radii.of(network)
        # A start without weights has no norm to begin with: any positive number will do.
        chosen = (first.output or 1.0, first.hidden or 1.0, law.target_radius)
        if network.activation.is_homogeneous:
            seen, before = (last.output, last.offset), (chosen[0], chosen[2])
            reached, failure = peel(seen, before, self.failure)
            radii = Radii(reached[0], 1.0, reached[1])
        else:
            reached, failure = peel(last.values(), chosen, self.failure)
            radii = Radii(*reached)
        return self.bound(law, loss, network.activation, radii, n_samples, failure)

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        law: Law,
        n_samples: int,
        loss: Loss,
        gap: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one network at the end of a run, peeling included.

        Args:
            run: a training run from a start that was drawn independently of the sample.
            network: which of its networks.
            law: P, of which the run's sample was drawn.
            n_samples: n.
            loss: φ in which the risks are measured.
            gap: R^P − R as measured.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        stopped = int(run.diverged_at[network])
        hypotheses = (
            *common_hypotheses(law, loss),
            Hypothesis(
                "H4", "the first radii were fixed before the sample was seen, the last are finite",
                stopped < 0, step=stopped if stopped >= 0 else None,
            ),
        )  # fmt: skip
        speaks = all(h.holds for h in hypotheses)
        start, end = run.checkpoints[0].select([network]), run.ensemble.select([network])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="risk under the law minus risk on the sample",
            hypotheses=hypotheses,
            bound=self.peeled(law, loss, start, end, n_samples) if speaks else None,
            measured=gap,
            subject=subject,
        )
