"""What the mass of the rates allows where the residuals pull by at most Λ, as under Huber."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.losses import Huber
from lipbook.networks import Ensemble
from lipbook.theorems.after_path import (
    FromStart,
    checkpoint,
    lipschitz_after_blocks,
    mass_since,
    norms,
)
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smoothness import PULL_ROUNDING, pulls
from lipbook.theorems.verdict import Hypothesis, hypothesis_over_steps
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class BoundedPull(FromStart[TrainingRun]):
    """Bound path and Lipschitz constant by the mass, where the residuals' pull is at most Λ.

    With h = κΛS, ω = ‖V‖_F + |σ(0)|√m/κ and A = ‖a‖ at T₀:
    Lip(f_t) ≤ L_σ(‖W‖_op + A·sinh h + ω(cosh h − 1))·(A·cosh h + ω·sinh h), and the path is at
    most (J₀/κ)(e^h − 1) with J₀ = κ₀ + κ‖Θ_{T₀}‖. No step needs to lower the risk.

    Attributes:
        setting: gives κ, κ₀ and the loss.
        pull: Λ ≥ λ(R_t) at every step from T₀ on; by default δ for the Huber loss, and for the
            squared loss √(2R_{T₀}), which is enough if the risk never exceeds R_{T₀}.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-huber-budget`.
    """

    setting: Setting
    pull: float | None = None
    start: int = 0

    label = "thm-huber-budget"
    title = "A bounded pull: every finite mass will do"

    def pull_of(self, run: TrainingRun) -> np.ndarray:
        """Return Λ for each network, (K,).

        Args:
            run: a training run; for the squared loss, Λ = √(2R_{T₀}) comes from it.
        """
        if self.pull is None and not isinstance(self.setting.loss, Huber):
            return pulls(self.setting, run.risk[self.start])
        return np.full(run.ensemble.size, self._known_pull())

    def _known_pull(self) -> float:
        if self.pull is not None:
            return self.pull
        if isinstance(self.setting.loss, Huber):
            return self.setting.loss.delta
        refuse(
            "pull", "be given for a loss whose derivative is unbounded", self.label, "H2", None,
            "Give √(2R₀) for a run whose risk never rises, or use the Huber loss.",
        )  # fmt: skip

    def block_bounds(
        self, start: Ensemble, mass: np.ndarray, pull: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return bounds of the path of V, A·sinh h + ω(cosh h − 1), and of ‖a‖.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).
            pull: Λ, (K,); by default `pull`, or δ.

        Returns:
            Two arrays shaped like `mass`.

        Raises:
            HypothesisError: no Λ is known.
        """
        strength = self._known_pull() if pull is None else pull
        first = start.hidden_weight.flatten(1).square().sum(1) + start.hidden_bias.square().sum(1)
        lift = self.setting.activation.at_zero * np.sqrt(start.width) / self.setting.kappa
        omega = first.sqrt().cpu().numpy() + lift
        a = start.output_norm().cpu().numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            h = self.setting.kappa * strength * mass
            # cosh h − 1 = 2·sinh²(h/2) keeps its accuracy for small h.
            rise = 2.0 * np.sinh(0.5 * h) ** 2
            hidden = a * np.sinh(h) + omega * rise
            output = a + a * rise + omega * np.sinh(h)
        return np.where(h == 0.0, 0.0, hidden), np.where(h == 0.0, a, output)

    def bound(
        self, start: Ensemble, mass: np.ndarray, pull: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the bound of the Lipschitz constant, rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S, (..., K).
            pull: Λ, (K,); by default `pull`, or δ.

        Raises:
            HypothesisError: no Λ is known.
        """
        return lipschitz_after_blocks(start, *self.block_bounds(start, mass, pull))

    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return (J₀/κ)(e^{κΛS} − 1) at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.
        """
        first = self.setting.kappa_0 / self.setting.kappa + norms(checkpoint(run, self.start))[0]
        with np.errstate(over="ignore", invalid="ignore"):
            h = self.setting.kappa * self.pull_of(run) * mass_since(run, self.start)
            return np.asarray(first * np.expm1(h))

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        mass = mass_since(run, self.start)
        return self.bound(checkpoint(run, self.start), mass, self.pull_of(run))

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1 and H2 on one network."""
        allowed = self.pull_of(run)[network] * (1.0 + PULL_ROUNDING)
        risk = run.risk[self.start : -1, network]
        # From a divergence on there is no risk, and H1 speaks.
        seen = pulls(self.setting, risk[np.isfinite(risk)])
        pulled = hypothesis_over_steps(
            "H2", "λ(R_t) is at most Λ at every step from T₀ on",
            [allowed] * len(seen), seen.tolist(), self.start,
        )  # fmt: skip
        return finite_steps(run, network), pulled

    def last_bound(self, run: TrainingRun, network: int) -> float:
        """Return the bound at the end of the run."""
        return float(self.bounds(run)[-1, network])
