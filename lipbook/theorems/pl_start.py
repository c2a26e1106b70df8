"""Numbers of the start that bound the path of a wide network for all times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.kernels import LeastEigenvalue, least_eigenvalue, parameter_jacobian
from lipbook.losses import MeanSquaredError
from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.pl_trap import PLTrap
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class StartNumbers:
    """Hold what `prop-pl-start` asks of a network at step 0; MSE, one output.

    Attributes:
        least: λ_min(J_0J_0ᵀ), enclosed.
        largest: an upper bound of λ_max(J_0J_0ᵀ).
        output: ‖a_0‖_∞.
        risk: R_0.
        setting: of the training problem.
    """

    least: LeastEigenvalue
    largest: float
    output: float
    risk: float
    setting: Setting

    @classmethod
    def of(
        cls, ensemble: Ensemble, network: int, x: Tensor, y: Tensor, setting: Setting
    ) -> StartNumbers:
        """Return the numbers of one network.

        Args:
            ensemble: networks with one output, at step 0.
            network: which of them.
            x: inputs, (n, d).
            y: targets, (n, 1).
            setting: of the training problem.
        """
        one = ensemble.select([network])
        residual = one(x)[0] - y.reshape(-1, 1)
        norm = float(torch.linalg.matrix_norm(parameter_jacobian(one, x)[0], ord=2))
        return cls(
            least=least_eigenvalue(ensemble, network, x),
            largest=norm**2 * (1.0 + 1e-9),
            output=float(one.output_weight.abs().max()),
            risk=float(0.5 * residual.square().mean()),
            setting=setting,
        )


@dataclass(frozen=True)
class PLStart:
    """Give μ and β on a ball around the start of a network, from the start alone.

    h(e) = ½(q + √(q² + 4κ²)), q = L_σ'(1 + B_x²)(‖a_0‖_∞ + e), bounds ‖∇²_Θ f(x_i)‖ on the ball.
    Then μ(e) = (√(λ_min(J_0J_0ᵀ)/n) − h·e)² and β(e) = (√(λ_max(J_0J_0ᵀ)/n) + h·e)² + h·(√(2R_0) +
    (√(λ_max(J_0J_0ᵀ)/n) + h·e)·e). MSE, σ twice differentiable, one output.

    Attributes:
        numbers: of the start.

    References:
        The book's proposition `prop-pl-start`.
    """

    numbers: StartNumbers

    label = "prop-pl-start"
    title = "All times, from the start alone"

    @property
    def is_smooth(self) -> bool:
        """Tell whether σ' is Lipschitz."""
        return self.numbers.setting.activation.slope_lipschitz is not None

    @property
    def is_squared(self) -> bool:
        """Tell whether the loss is the squared one."""
        return isinstance(self.numbers.setting.loss, MeanSquaredError)

    def curvature(self, radius: float) -> float:
        """Return h(e).

        Args:
            radius: e.

        Raises:
            HypothesisError: σ' is not Lipschitz.
        """
        setting = self.numbers.setting
        bend = setting.activation.slope_lipschitz
        if bend is None:
            remedy = "Use tanh or another smooth activation."
            name = setting.activation.name
            refuse("setting", "have a smooth activation", self.label, "H2", name, remedy)
        assert bend is not None
        q = bend * (1.0 + setting.input_radius**2) * (self.numbers.output + radius)
        return 0.5 * (q + math.hypot(q, 2.0 * setting.kappa))

    def trap(self, radius: float) -> PLTrap:
        """Return the ball of radius e with its μ and β.

        Args:
            radius: e.

        Raises:
            HypothesisError: σ' is not Lipschitz, or the loss is not the squared one.
        """
        if not self.is_squared:
            name = self.numbers.setting.loss.name
            refuse("setting", "have the loss mse", self.label, "H3", name, "Use loss='mse'.")
        n, h = self.numbers.setting.n_samples, self.curvature(radius)
        low = math.sqrt(self.numbers.least.lower / n) - h * radius
        high = math.sqrt(self.numbers.largest / n) + h * radius
        beta = high**2 + h * (math.sqrt(2.0 * self.numbers.risk) + high * radius)
        return PLTrap(radius, max(low, 0.0) ** 2, beta)

    def smallest(self, rate: float) -> PLTrap | None:
        """Return the smallest ball on a grid that descent with this rate cannot leave, or None.

        Args:
            rate: α.
        """
        if not (self.is_smooth and self.is_squared):
            return None
        for radius in np.geomspace(1e-5, 1e3, 800):
            trap = self.trap(float(radius))
            if all(each.holds for each in trap.hypotheses(rate, self.numbers.risk)):
                return trap
            if trap.mu == 0.0:
                return None
        return None

    def bound(self, rate: float) -> float:
        """Return the bound of the path for all times.

        Args:
            rate: α.

        Raises:
            HypothesisError: no ball is found.
        """
        trap = self.smallest(rate)
        if trap is None:
            remedy = "Take a wider network, fewer samples or a smaller rate."
            refuse("rate", "fit into a ball", self.label, "H4", rate, remedy)
        assert trap is not None
        return trap.bound(rate, self.numbers.risk)

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Compare the bound with the path of a run.

        Args:
            run: a training run that started at these numbers.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        rates = run.learning_rates[:, network]
        rate = float(rates[0])
        constant = bool((rates == rate).all()) and rate > 0
        fits = self.is_squared and constant
        found = self.smallest(rate) if constant else None
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="path length up to the last step",
            hypotheses=(
                finite_steps(run, network),
                Hypothesis("H2", "σ is twice differentiable", self.is_smooth),
                Hypothesis("H3", "the loss is mse and the rate constant", fits),
                Hypothesis("H4", "some ball around the start holds the path", found is not None),
            ),
            bound=None if found is None else found.bound(rate, self.numbers.risk),
            measured=float(run.path[-1, network]),
            subject=subject,
        )


@dataclass(frozen=True)
class PLWide:
    """Bound what training adds to the Lipschitz constant in the limit of wide networks.

    (L_σ/η)·√(2nR_0/(cd)), with c the least eigenvalue of the limit of J_0J_0ᵀ/m: neither m nor p
    enters.

    Attributes:
        least: c, or λ_min(J_0J_0ᵀ)/m of one network.
        n_samples: n.
        input_dim: d.
        lipschitz: L_σ.

    References:
        The book's corollary `cor-pl-wide`.
    """

    least: float
    n_samples: int
    input_dim: int
    lipschitz: float

    label = "cor-pl-wide"
    title = "The width drops out"

    def bound(self, risk: float, decrease: float) -> float:
        """Return (L_σ/η)·√(2nR_0/(cd)).

        Args:
            risk: R_0.
            decrease: η.

        Raises:
            HypothesisError: c ≤ 0 or η ≤ 0.
        """
        if not self.least > 0:
            remedy = "Take samples at distinct points."
            refuse("least", "be positive", self.label, "H1", self.least, remedy)
        if not decrease > 0:
            refuse("decrease", "be positive", self.label, "H2", decrease, "Lower the rate.")
        inside = 2.0 * self.n_samples * risk / (self.least * self.input_dim)
        return self.lipschitz / decrease * math.sqrt(inside)

    def verdict(
        self,
        added: float,
        finite_bound: float,
        risk: float,
        decrease: float,
        margin: float = 0.25,
        subject: str = "",
    ) -> Verdict:
        """Compare what training added to the constant with the limit, times 1 + ε.

        Args:
            added: the largest Lip(f_t) of a run minus Lip(f_0).
            finite_bound: the bound of `added` at this width, infinite if none applies.
            risk: R_0.
            decrease: η in the limit.
            margin: ε.
            subject: which run this is about.

        Returns:
            The `Verdict`; where the network is not wide enough it does not apply.
        """
        valid = self.least > 0 and decrease > 0
        bound = (1.0 + margin) * self.bound(risk, decrease) if valid else None
        wide = bound is not None and finite_bound <= bound
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="what training added to the Lipschitz constant",
            hypotheses=(
                Hypothesis("H1", "the least eigenvalue is positive", self.least > 0),
                Hypothesis("H2", "the rate is below the edge: η > 0", decrease > 0),
                Hypothesis("H3", "the width is large: its bound is within the margin", wide),
            ),
            bound=bound,
            measured=added,
            subject=subject,
        )
