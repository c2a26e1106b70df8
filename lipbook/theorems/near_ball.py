"""All networks near a start: how far their outputs can go, and how many they are to a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.generalization.laws import Law
from lipbook.generalization.losses_known import in_a_box, largest_residual, loss_at, slope_of
from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble
from lipbook.theorems.empirical import uniform_gap
from lipbook.theorems.setting import Setting
from lipbook.theorems.smoothness import turning
from lipbook.theorems.verdict import ROUNDING_FACTOR, Hypothesis, Verdict


@dataclass(frozen=True)
class Ball:
    """Hold what is known of the networks with ‖Θ − Θ₀‖ ≤ r, Θ₀ fixed.

    Attributes:
        start: one network with one output, Θ₀.
        radius: r ≥ 0.

    References:
        The book's lemma `lem-near-start`.
    """

    start: Ensemble
    radius: float

    label = "lem-near-start"
    title = "How many networks are near"

    def _numbers(self, input_size: float) -> tuple[float, float, float]:
        """Return κ = L_σ√(1 + s²), κ‖V₀‖ + |σ(0)|√m and ‖a₀‖ for inputs of size s."""
        start = self.start
        kappa = start.activation.lipschitz * math.hypot(1.0, input_size)
        stacked = np.column_stack([start.hidden_weight[0].numpy(), start.hidden_bias[0].numpy()])
        hidden = float(np.linalg.norm(stacked, 2))
        lift = start.activation.at_zero * math.sqrt(start.width)
        return kappa, kappa * hidden + lift, float(start.output_norm()[0])

    def slope(self, input_size: float) -> float:
        """Bound ‖∇_Θ f_{Θ₀}(x)‖ by √(1 + (κ‖V₀‖ + |σ(0)|√m)² + κ²‖a₀‖²).

        Args:
            input_size: ‖x‖, its bound B_x or, for the mean square, its root mean square.
        """
        kappa, hidden, output = self._numbers(input_size)
        return math.sqrt(1.0 + hidden**2 + (kappa * output) ** 2)

    def bend(self, input_radius: float) -> float:
        """Bound |f_Θ − f_{Θ₀} − ⟨∇f_{Θ₀}, Θ − Θ₀⟩| on the ball by ½χr².

        χ = ½(q + √(q² + 4κ²)) with q = L_σ'(1 + B_x²)‖a₀‖_∞.

        Args:
            input_radius: B_x.

        Returns:
            The bound; infinite for a σ with kinks.
        """
        activation = self.start.activation
        if activation.slope_lipschitz is None:
            return math.inf
        known = Setting(
            activation, self.start.width, self.start.input_dim, 1, input_radius, 0.0, 0.0, Huber()
        )
        largest = float(self.start.output_weight[0, 0].abs().max())
        return 0.5 * float(turning(known, largest)) * self.radius**2

    def shift(self, input_radius: float) -> float:
        """Bound the part of f_Θ − f_{Θ₀} that the moving hidden weights add: κr(‖a₀‖ + ½r).

        Args:
            input_radius: B_x.
        """
        kappa, _, output = self._numbers(input_radius)
        return kappa * self.radius * (output + 0.5 * self.radius)

    def reach(self, input_radius: float) -> float:
        """Bound |f_Θ − f_{Θ₀}| on the ball and for ‖x‖ ≤ B_x.

        Args:
            input_radius: B_x.
        """
        _, hidden, _ = self._numbers(input_radius)
        rough = self.radius * math.hypot(1.0, hidden) + self.shift(input_radius)
        return min(rough, self.radius * self.slope(input_radius) + self.bend(input_radius))

    def complexity(self, law: Law, n_samples: int) -> float:
        """Bound Rad_n of the ball: the less of (a), any σ, and (b), smooth σ.

        (a) r√(1 + (κ̄‖V₀‖ + |σ(0)|√m)²)/√n + κr(‖a₀‖ + ½r);
        (b) r·J̄/√n + ½χr², J̄ = `slope`; κ̄ and J̄ with B̄_x for B_x.

        Args:
            law: gives B_x and B̄_x.
            n_samples: n.
        """
        root = math.sqrt(n_samples)
        _, hidden, _ = self._numbers(law.input_rms)
        rough = self.radius * math.hypot(1.0, hidden) / root + self.shift(law.input_radius)
        smooth = self.radius * self.slope(law.input_rms) / root + self.bend(law.input_radius)
        return min(rough, smooth)

    def verdict(self, members: Ensemble, x: Tensor, input_radius: float) -> Verdict:
        """Return what part (c) of the lemma says of some networks of the ball.

        Args:
            members: networks, of the shape of the start.
            x: inputs, (n, d).
            input_radius: B_x.

        Returns:
            The `Verdict`; measured is the largest |f_Θ(x_i) − f_{Θ₀}(x_i)|.
        """
        both = zip(members.blocks(), self.start.blocks(), strict=True)
        squares = sum((one - other).flatten(1).square().sum(1) for one, other in both)
        furthest = float(torch.as_tensor(squares).max()) ** 0.5
        largest = float(x.norm(dim=1).max())
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest change of an output",
            hypotheses=(
                within("H1", "every network is at most r from the start", self.radius, furthest),
                within("H2", "every input has length at most B_x", input_radius, largest),
            ),
            bound=self.reach(input_radius),
            measured=float((members(x) - self.start(x)).abs().max()),
        )


def within(name: str, statement: str, allowed: float, measured: float) -> Hypothesis:
    """Check measured ≤ allowed up to rounding.

    Args:
        name: of the hypothesis.
        statement: in plain words.
        allowed: right-hand side.
        measured: left-hand side.
    """
    holds = measured <= allowed * ROUNDING_FACTOR
    return Hypothesis(name, statement, holds, margin=allowed - measured)


def ball_bound(
    ball: Ball, law: Law, loss: Loss, lipschitz: float, n: int, failure: float, theorem: str
) -> float:
    """Return 2δ·Rad + φ(r₀ + reach)·√(ln(1/η)/(2n)) for all networks of the ball at once.

    Args:
        ball: networks near a start that is independent of the sample.
        law: P.
        loss: Huber's.
        lipschitz: an upper bound of the Lipschitz constant of f_{Θ₀} on the box of the inputs, made
            without the sample.
        n: the number of samples.
        failure: η.
        theorem: the label of the statement that asks.

    Raises:
        HypothesisError: the loss is not Lipschitz, or no box holds the law.
    """
    in_a_box(law, theorem)
    average = slope_of(loss, theorem) * ball.complexity(law, n)
    furthest = largest_residual(law, ball.start, lipschitz) + ball.reach(law.input_radius)
    return uniform_gap(average, loss_at(loss, furthest), n, failure)
