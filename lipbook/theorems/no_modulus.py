"""Two networks whose exact Lipschitz constant jumps, however short the step is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lipbook.activations import ACTIVATIONS
from lipbook.networks import Ensemble
from lipbook.schedules import make_schedule
from lipbook.theorems.descent import sufficient_decrease
from lipbook.theorems.refusal import refuse
from lipbook.theorems.smallest_gradient import named
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import train

# The largest rates of the two examples.
RATES = {"relu": 1.0 / 7.0, "tanh": 0.1}
# Where tanh is 1 to the last digit: the gradient far out in the plane.
FAR = 40.0


@dataclass(frozen=True)
class NoModulus:
    """Show a step that lowers the risk and lifts the exact constant from 0 to 1 and more.

    One step of rate α with two neurons that cancel: to (1 + α)² or more for ReLU on every domain
    around 0, α ≤ 1/7; to √(1 + α²) or more for tanh on the plane, α ≤ 1/10.

    Attributes:
        activation: "relu" or "tanh".
        rate: α.

    Raises:
        HypothesisError: another activation, or α is not in the interval of the proposition.

    References:
        The book's proposition `prop-no-modulus`.
    """

    activation: str
    rate: float

    label = "prop-no-modulus"
    title = "The exact constant cannot be carried"

    def __post_init__(self) -> None:
        """Refuse what the proposition does not speak about."""
        if self.activation not in RATES:
            refuse(
                "activation", "be 'relu' or 'tanh'", self.label, "a, b", repr(self.activation),
                "These are its two examples.",
            )  # fmt: skip
        most = RATES[self.activation]
        if not 0.0 < self.rate <= most:
            refuse(
                "rate", f"lie in (0, {most:.4g}]", self.label, "a, b", self.rate,
                "Use 0.01, say: the shorter the step, the clearer the jump.",
            )  # fmt: skip

    @property
    def promised(self) -> float:
        """Return (1 + α)² or √(1 + α²), below the constant after the step."""
        return (1 + self.rate) ** 2 if self.activation == "relu" else math.hypot(1.0, self.rate)

    def problem(self) -> tuple[Ensemble, Tensor, Tensor]:
        """Return the network before the step and its one sample."""
        weight, point = ([[1.0]], [[1.0]])
        if self.activation == "tanh":
            weight, point = [[1.0, 0.0]], [[0.0, 1.0]]
        w = torch.tensor(weight, dtype=torch.float64).repeat(2, 1)[None]
        zero, a = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[[1.0, -1.0]]])
        network = Ensemble(w, zero, a.double(), zero[:, :1], ACTIVATIONS[self.activation])
        return network, torch.tensor(point, dtype=torch.float64), torch.ones(1, 1).double()

    def steepest(self, network: Ensemble) -> float:
        """Return the length of the gradient at 0 (ReLU), or far out where one neuron turns (tanh).

        Args:
            network: after the step.
        """
        point = torch.zeros(1, 1, dtype=torch.float64)
        if self.activation == "tanh":
            # On the line where the first pre-activation is 0 the second is 2x₁.
            point = torch.tensor([[FAR, -FAR / self.rate - 1.0]], dtype=torch.float64)
        return float(network.jacobian(point).norm())

    def verdict(self) -> Verdict:
        """Return what the proposition says of the step, taken by the book's own trainer.

        Returns:
            The `Verdict`; measured is what is promised, the bound the length of a gradient after
            the step, which the exact constant is at least.
        """
        network, x, y = self.problem()
        run = train(network, x, y, make_schedule("constant", self.rate, n_steps=1), 1)
        flat = bool((network.jacobian(x) == 0).all())
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="promised gradient after the step",
            hypotheses=(
                Hypothesis("H1", "the network is zero before the step", flat),
                named(sufficient_decrease(run, 0, 0), "H2"),
            ),
            bound=self.steepest(run.ensemble),
            measured=self.promised,
            subject=self.activation,
        )
