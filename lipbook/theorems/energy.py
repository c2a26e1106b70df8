"""The energy form of the decay condition: what the fall of the risk pays for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.theorems.after_path import AlongPath, mass_since
from lipbook.theorems.descent import RISK_ROUNDING, finite_steps, sufficient_decrease
from lipbook.theorems.refusal import refuse
from lipbook.theorems.smallest_gradient import named
from lipbook.theorems.verdict import Hypothesis
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class Energy(AlongPath):
    """Bound path and Lipschitz constant by the fall of the risk times the mass.

    If every step from T₀ on lowers the risk by at least η·α_t‖∇R_t‖², then
    ℓ_t − ℓ_{T₀} ≤ e = √((R_{T₀} − R_t)(S_t − S_{T₀})/η), and
    Lip(f_t) ≤ L_σ(xy + e√(x² + y²) + e²/2), x = ‖W_{T₀}‖_op and y = ‖a_{T₀}‖.

    Attributes:
        start: T₀, a recorded step of the run.
        share: η in (0, 1].

    Raises:
        HypothesisError: η is not in (0, 1].

    References:
        The book's theorem `thm-energy`.
    """

    start: int = 0
    share: float = 0.5

    label = "thm-energy"
    title = "The fall of the risk pays for the path"

    def __post_init__(self) -> None:
        """Refuse shares that no descent has."""
        if not 0.0 < self.share <= 1.0:
            refuse(
                "share", "lie in (0, 1]", self.label, "H2", repr(self.share),
                "Use 0.5, which rates below 1/β give.",
            )  # fmt: skip

    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return e at every step, (T+1, K), NaN before T₀; rounding of the risks is allowed for.

        Args:
            run: a training run.
        """
        steps = np.arange(run.n_steps + 1)[:, None] - self.start + 1.0
        fall = run.risk[self.start] - run.risk + RISK_ROUNDING * steps * run.risk[self.start]
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.maximum(fall, 0.0) * mass_since(run, self.start) / self.share)

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1 and H2 on one network."""
        fall = sufficient_decrease(run, network, self.start, self.share)
        return finite_steps(run, network), named(fall, "H2")
