"""From a bound of the path to a bound of the Lipschitz constant, for all times."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.networks import Ensemble
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class PLLipschitz:
    """Bound Lip(f) at every network whose weights are within e of the first ones.

    Any σ, any domain: L_σ·(‖W_0‖‖a_0‖ + e√(‖W_0‖² + ‖a_0‖²) + e²/2). With L_σ' < ∞, on a convex
    domain inside the ball of radius B around 0: Lip(f_0) + L_σ·(e√(‖W_0‖² + ‖a_0‖²) + e²/2) +
    L_σ'√(1 + B²)·‖a_0‖_∞‖W_0‖·e.

    Attributes:
        radius: B; of the domain, in the unit of the inputs.

    References:
        The book's corollary `cor-pl-lipschitz`.
    """

    radius: float

    label = "cor-pl-lipschitz"
    title = "A bound for all times"

    def product_bound(self, start: Ensemble, network: int, path: float) -> float:
        """Return the first bound, on the whole space.

        Args:
            start: the networks at step 0, with one output.
            network: which of them.
            path: e ≥ 0, a bound of the path or of the displacement.
        """
        hidden, output = float(start.hidden_norm()[network]), float(start.output_norm()[network])
        return start.activation.lipschitz * (hidden * output + self._move(hidden, output, path))

    def bound(self, start: Ensemble, network: int, path: float, lipschitz: float) -> float:
        """Return the second bound, on the domain.

        Args:
            start: the networks at step 0, with one output.
            network: which of them.
            path: e ≥ 0.
            lipschitz: an upper bound of Lip(f_0) on the domain.

        Raises:
            HypothesisError: σ' is not Lipschitz.
        """
        sigma = start.activation
        if sigma.slope_lipschitz is None:
            remedy = "Use product_bound, which needs no smoothness."
            refuse("start", "have a smooth activation", self.label, "H3", sigma.name, remedy)
        assert sigma.slope_lipschitz is not None
        hidden, output = float(start.hidden_norm()[network]), float(start.output_norm()[network])
        largest = float(start.output_weight[network].abs().max())
        turn = sigma.slope_lipschitz * math.hypot(1.0, self.radius) * largest * hidden * path
        return lipschitz + sigma.lipschitz * self._move(hidden, output, path) + turn

    def _move(self, hidden: float, output: float, path: float) -> float:
        return path * math.hypot(hidden, output) + 0.5 * path * path

    def verdict(
        self,
        run: TrainingRun,
        network: int,
        path: float,
        constants: np.ndarray,
        smooth: bool = True,
        subject: str = "",
        trusting: str = "",
    ) -> Verdict:
        """Compare one of the bounds with the constants at the recorded steps.

        Args:
            run: a training run.
            network: which of its networks.
            path: e, a bound of the path for all times, possibly infinite.
            constants: Lip(f) on the domain at the recorded steps, or upper bounds, (S,).
            smooth: whether to take the second bound, else the first.
            subject: which run this is about.
            trusting: what e takes on trust of the steps that were not run; "" if nothing.

        Returns:
            The `Verdict`.
        """
        start = run.checkpoints[0]
        hypotheses = [finite_steps(run, network)]
        known = math.isfinite(path)
        statement = "a finite bound e of the path is known"
        statement += f", if {trusting}" if trusting else " for all times"
        hypotheses.append(Hypothesis("H2", statement, known))
        fits = start.activation.slope_lipschitz is not None
        if smooth:
            hypotheses.append(Hypothesis("H3", "σ' is Lipschitz", fits))
        bound = None
        if known and smooth and fits:
            bound = self.bound(start, network, path, float(constants[0]))
        elif known and not smooth:
            bound = self.product_bound(start, network, path)
        finite = constants[np.isfinite(constants)]
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest Lipschitz constant at the recorded steps",
            hypotheses=tuple(hypotheses),
            bound=bound,
            measured=float(finite.max()) if len(finite) else None,
            subject=subject,
        )
