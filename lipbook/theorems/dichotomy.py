"""Without bounds on σ, a summable rate is not enough: laws of exploding descent, as code."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.activations import ACTIVATIONS, Activation
from lipbook.losses import MeanSquaredError
from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

# |σ'| = 1 and σ'' = 0: the one activation under which a network of one neuron is a product.
IDENTITY = Activation(
    name="identity",
    value=lambda z: z,
    slope=lambda z: z * 0.0 + 1.0,
    curvature=lambda z: z * 0.0,
    lipschitz=1.0,
    at_zero=0.0,
    bound=None,
    slope_lipschitz=0.0,
    curvature_lipschitz=0.0,
    slope_range=(1.0, 1.0),
    kink_slopes=None,
    slope_turns=(),
    slope_limits=(1.0, 1.0),
)

# H2 of the theorem.
PRODUCT = "squared loss; f = awx with σ = id, a = ±w, b = c = 0; the samples x = ±1 with y = 0"

# Mirror images agree up to a few roundings.
SYMMETRY = 1e-9


@dataclass(frozen=True)
class GeometricRate:
    """ρ(k) = q^k, summable.

    Attributes:
        ratio: q in (0, 1).

    Raises:
        HypothesisError: q is not in (0, 1).
    """

    ratio: float

    def __post_init__(self) -> None:
        """Refuse a ratio that defines no decay."""
        if not 0.0 < self.ratio < 1.0:
            refuse(
                "ratio", "lie in (0, 1)", "thm-needs-budget", "b", repr(self.ratio),
                "Use 0.25, at which the least mass explodes.",
            )  # fmt: skip

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """Return q^k, elementwise."""
        return np.asarray(self.ratio ** np.asarray(step, dtype=np.float64))

    def tail(self, step: int) -> float:
        """Return q^step/(1 − q)."""
        return float(self.ratio**step / (1.0 - self.ratio))


def product_problem(v: float) -> tuple[Ensemble, Tensor, Tensor]:
    """Return f(x) = a·w·x with a = w = v, and the samples x = ±1 with y = 0.

    Args:
        v: the two weights.

    Returns:
        An ensemble of one network of one neuron with σ = id, inputs (2, 1), targets (2, 1).
    """
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    return _network([v], [v], IDENTITY), x, torch.zeros(2, 1, dtype=torch.float64)


def relu_problem(v: float) -> tuple[Ensemble, Tensor, Tensor]:
    """Return f(x) = v·relu(vx) − v·relu(−vx) and the samples x = ±3 with y = 0.

    Args:
        v: the size of all four weights; the biases start at 0 and are trained.

    Returns:
        An ensemble of one network of two neurons, inputs (2, 1), targets (2, 1).
    """
    x = torch.tensor([[3.0], [-3.0]], dtype=torch.float64)
    network = _network([v, -v], [v, -v], ACTIVATIONS["relu"])
    return network, x, torch.zeros(2, 1, dtype=torch.float64)


def pulled_problem(v: float) -> tuple[Ensemble, Tensor, Tensor]:
    """Return one ReLU neuron that a sample far above it pulls: (b) of `thm-huber-budget` attained.

    f(x) = √2·v·relu(vx + v), so that the hidden row is v times (x, 1) at the sample (1, 10⁹), and
    both blocks are as long.

    Args:
        v: the hidden weight and the bias.

    Returns:
        An ensemble of one network, inputs (1, 1), targets (1, 1).
    """
    x = torch.ones(1, 1, dtype=torch.float64)
    return _network([v], [v * 2.0**0.5], ACTIVATIONS["relu"], [v]), x, 1e9 * x


def kink_problem() -> tuple[Ensemble, Tensor, Tensor]:
    """Return one ReLU neuron on its kink, from which the risk rises at every rate.

    f(x) = 3·relu(x), with the samples (0, −4) and (1, 4).

    Returns:
        An ensemble of one network, inputs (2, 1), targets (2, 1).

    References:
        The exercise `ex-kink` of the book.
    """
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    y = torch.tensor([[-4.0], [4.0]], dtype=torch.float64)
    return _network([1.0], [3.0], ACTIVATIONS["relu"]), x, y


def _network(
    weight: list[float],
    output: list[float],
    activation: Activation,
    bias: list[float] | None = None,
) -> Ensemble:
    first = [0.0] * len(weight) if bias is None else bias
    w, b, a = (torch.tensor(each, dtype=torch.float64) for each in (weight, first, output))
    c = torch.zeros(1, 1, dtype=torch.float64)
    return Ensemble(w[None, :, None], b[None], a[None, None], c, activation)


def threshold(ratio: float) -> float:
    """Return ν* = 1 + q^(−½): under rates α₀q^t the product grows for ever from α₀v₀² = ν* on.

    Args:
        ratio: q in (0, 1).
    """
    return 1.0 + ratio**-0.5


def product_law(v: float, rates: np.ndarray) -> np.ndarray:
    """Return v_{t+1} = v_t(1 − α_t·v_t²), the law of `product_problem`, (T+1,).

    Args:
        v: v_0.
        rates: α_t, (T,).
    """
    found = [v]
    for rate in rates:
        with np.errstate(over="ignore", invalid="ignore"):
            found.append(float(np.float64(found[-1]) * (1.0 - rate * np.float64(found[-1]) ** 2)))
    return np.array(found)


@dataclass(frozen=True)
class NeedsBudget:
    """Bound ‖Θ_t‖² ≤ 8/(8/u₀² − S_t) for σ = id, f = awx, x = ±1, y = 0, as long as S_t < 8/u₀².

    Some rates attain it at every step, and at the mass 8/u₀² they explode: it is the exact budget.

    References:
        The book's theorem `thm-needs-budget`.
    """

    label = "thm-needs-budget"
    title = "A finite mass is not enough"

    def budget(self, first_norm: float) -> float:
        """Return 8/u₀².

        Args:
            first_norm: u₀ = ‖Θ₀‖.
        """
        return np.inf if first_norm == 0.0 else 8.0 / first_norm**2

    def bound(self, first_norm: float, mass: float) -> float:
        """Return 8/(8/u₀² − S), a bound of ‖Θ‖².

        Args:
            first_norm: u₀ = ‖Θ₀‖.
            mass: S.

        Raises:
            HypothesisError: S ≥ 8/u₀².
        """
        budget = self.budget(first_norm)
        if not mass < budget:
            refuse(
                "mass", f"be below the budget {budget:g}", self.label, "H3", f"{mass:g}",
                "At the budget some rates make the weights grow for ever.",
            )  # fmt: skip
        return 0.0 if first_norm == 0.0 else 8.0 / (budget - mass)

    def verdict(
        self, run: TrainingRun, network: int, x: Tensor, y: Tensor, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            x: inputs, (n, d).
            y: targets, (n, 1).
            subject: which run this is about.

        Returns:
            The `Verdict`; measured is the largest ‖Θ_t‖² of the recorded steps.
        """
        first = float(run.checkpoints[0].parameter_norm()[network])
        mass, budget = run.mass[:, network], self.budget(first)
        beyond = np.flatnonzero(~(mass < budget))
        step = int(beyond[0]) - 1 if len(beyond) else None
        product = is_product_problem(run, network, x, y)
        largest = max(float(c.parameter_norm()[network]) ** 2 for c in run.checkpoints)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest squared norm of the weights",
            hypotheses=(
                finite_steps(run, network),
                Hypothesis("H2", PRODUCT, product),
                Hypothesis("H3", "the mass is below 8/u₀²", step is None, step),
            ),
            bound=self.bound(first, float(mass[-1])) if step is None else None,
            measured=largest,
            subject=subject,
        )


def is_product_problem(run: TrainingRun, network: int, x: Tensor, y: Tensor) -> bool:
    """Tell whether a run is about f = awx, a = ±w, σ = id, samples ±1 and targets 0, under MSE.

    Args:
        run: a training run.
        network: which of its networks.
        x: inputs, (n, d).
        y: targets, (n, 1).
    """
    first = run.checkpoints[0].select([network])
    if not (first.activation.slope_range == (1.0, 1.0) and first.activation.at_zero == 0.0):
        return False
    if not (first.width == first.input_dim == 1 and isinstance(run.loss, MeanSquaredError)):
        return False
    w, b, a, c = (float(block.reshape(-1)[0]) for block in first.blocks())
    balanced = abs(abs(a) - abs(w)) <= SYMMETRY * abs(a)
    data = sorted(x.reshape(-1).tolist()) == [-1.0, 1.0] and not bool(y.any())
    return data and balanced and b == 0.0 and c == 0.0
