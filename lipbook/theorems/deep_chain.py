"""A chain of layers of one neuron, which shows that three layers need a budget under any loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun
from lipbook.losses import Huber
from lipbook.theorems.dichotomy import IDENTITY
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict


def chain_problem(depth: int, v: float) -> tuple[DeepEnsemble, Tensor, Tensor]:
    """Return f(x) = v^L·x, one neuron a layer and σ = id, and the samples x = ±1 with y = 0.

    Args:
        depth: L.
        v: all L weights.

    Returns:
        An ensemble of one network, inputs (2, 1), targets (2, 1).
    """
    weight = torch.full((1, 1, 1), v, dtype=torch.float64)
    bias = torch.zeros(1, 1, dtype=torch.float64)
    x = torch.tensor([[1.0], [-1.0]]).double()
    return DeepEnsemble((weight,) * depth, (bias,) * depth, IDENTITY), x, torch.zeros(2, 1).double()


def chain_law(depth: int, v: float, delta: float, rates: np.ndarray) -> np.ndarray:
    """Return v_{t+1} = v_t − α_tφ'(v_t^L)v_t^{L−1}, the law of `chain_problem`, Huber, (T+1,).

    Args:
        depth: L.
        v: v_0.
        delta: δ.
        rates: α_t, (T,).
    """
    found = [np.float64(v)]
    for rate in rates:
        with np.errstate(over="ignore", invalid="ignore"):
            last = found[-1]
            pull = np.clip(last**depth, -delta, delta)
            found.append(last - rate * pull * last ** (depth - 1))
    return np.array(found)


@dataclass(frozen=True)
class DeepNeedsBudget:
    """Bound max|v_t| ≤ (v₀^{−(L−2)} − δS/ϱ_L)^{−1/(L−2)} for the chain of L ≥ 3 neurons, Huber.

    ϱ_L = min_{z>2} z/(1 − (z − 1)^{−(L−2)}), which is 3 + 2√2 for L = 3. Geometric rates attain the
    bound at every step, and from the mass ϱ_L/(δv₀^{L−2}) on some explode.

    Attributes:
        depth: L ≥ 3.
        delta: δ > 0, of the Huber loss.

    Raises:
        HypothesisError: L < 3, or δ is not positive.

    References:
        The book's theorem `thm-deep-needs-budget`.
    """

    depth: int
    delta: float

    label = "thm-deep-needs-budget"
    title = "Three layers need a budget under Huber's loss too"

    def __post_init__(self) -> None:
        """Refuse the depths at which any finite mass will do."""
        if self.depth < 3:
            refuse(
                "depth", "be at least 3", self.label, "H1", self.depth,
                "Two weight layers need no budget under Huber's loss.",
            )  # fmt: skip
        if not self.delta > 0.0:
            refuse("delta", "be positive", self.label, "H1", self.delta, "Use 1.0, say.")

    @property
    def push(self) -> float:
        """Return the z > 2 at which ϱ_L is attained: the cheapest α_tδ|v_t|^{L−2}."""
        power = self.depth - 2

        def slope(x: float) -> float:
            # With x = z − 1: the derivative of z/(1 − x^{−k}) has the sign of this.
            return float(x ** (power + 1) - (power + 1) * x - power)

        high = 2.0
        while slope(high) < 0.0:
            high *= 2.0
        return 1.0 + float(brentq(slope, 1.0, high, xtol=1e-15, rtol=1e-14))

    @property
    def constant(self) -> float:
        """ϱ_L."""
        return self.push / (1.0 - (self.push - 1.0) ** (2 - self.depth))

    def budget(self, v: float) -> float:
        """Return ϱ_L/(δ|v₀|^{L−2}), the mass from which some rates explode.

        Args:
            v: v_0 ≠ 0.
        """
        return self.constant / self.delta * self._cost(v)

    def rates(self, v: float, n_steps: int) -> np.ndarray:
        """Return the geometric rates that attain the bound, (T,).

        Args:
            v: v_0, |v_0|^L ≥ δ.
            n_steps: T.
        """
        ratio = (self.push - 1.0) ** (2 - self.depth)
        first = self.push / self.delta * self._cost(v)
        return np.asarray(first * ratio ** np.arange(n_steps))

    def bound(self, v: float, mass: float) -> float:
        """Return the bound of max|v_t| after a mass S.

        Args:
            v: v_0.
            mass: S.

        Raises:
            HypothesisError: S is not below the budget.
        """
        if v == 0.0:
            return 0.0
        if not mass < self.budget(v):
            refuse(
                "mass", f"be below the budget {self.budget(v):g}", self.label, "H2", f"{mass:g}",
                "At the budget some rates make the weights grow for ever.",
            )  # fmt: skip
        left = 1.0 - mass / self.budget(v)
        return float(abs(v) * left ** (-1.0 / (self.depth - 2)))

    def _cost(self, v: float) -> float:
        """Return |v|^{−(L−2)}, infinite where it is past the largest double."""
        with np.errstate(over="ignore", divide="ignore"):
            return float(np.float64(abs(v)) ** (2 - self.depth))

    def verdict(
        self, run: DeepRun, network: int, x: Tensor, y: Tensor, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            x: inputs, (n, d).
            y: targets, (n, 1).
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest |v_t| of the recorded steps.
        """
        v = float(run.checkpoints[0].weights[0][network].reshape(-1)[0])
        mass = run.mass[:, network]
        beyond = np.flatnonzero(~(mass < (self.budget(v) if v else np.inf)))
        step = int(beyond[0]) - 1 if len(beyond) else None
        chain = is_chain_problem(run, network, x, y, self)
        largest = max(float(c.weight_norms()[:, network].max()) for c in run.checkpoints)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest weight",
            hypotheses=(
                Hypothesis("H1", "the network is f = v^L·x on x = ±1, y = 0, under Huber", chain),
                Hypothesis("H2", "the mass is below ϱ_L/(δ|v₀|^(L−2))", step is None, step),
            ),
            bound=self.bound(v, float(mass[-1])) if step is None else None,
            measured=largest,
            subject=subject,
        )


def is_chain_problem(
    run: DeepRun, network: int, x: Tensor, y: Tensor, theorem: DeepNeedsBudget
) -> bool:
    """Tell whether a run is about f = v^L·x, σ = id, samples ±1 and targets 0, under this Huber.

    Args:
        run: a training run.
        network: which of its networks.
        x: inputs, (n, d).
        y: targets, (n, 1).
        theorem: gives L and δ.
    """
    first, loss = run.checkpoints[0], run.loss
    if not (first.activation.slope_range == (1.0, 1.0) and first.activation.at_zero == 0.0):
        return False
    if not (isinstance(loss, Huber) and loss.delta == theorem.delta):
        return False
    if first.depth != theorem.depth or set(first.widths) != {1}:
        return False
    weights = {float(weight[network, 0, 0]) for weight in first.weights}
    biases = {float(bias[network, 0]) for bias in first.biases}
    data = sorted(x.reshape(-1).tolist()) == [-1.0, 1.0] and not bool(y.any())
    return data and len(weights) == 1 and biases == {0.0}
