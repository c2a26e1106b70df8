"""The energy form of the decay condition: what the fall of the risk pays for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.theorems.descent import RISK_ROUNDING, finite_steps
from lipbook.theorems.growth import checkpoint, lipschitz_after, mass_since
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class Energy:
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

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀ and after a divergence.

        Args:
            run: a training run.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        return lipschitz_after(checkpoint(run, self.start), self.path_bounds(run))

    def verdict(
        self, run: TrainingRun, network: int, lipschitz: float, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network at the end of the run.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: the largest Lipschitz constant (or an upper bound of it) seen from T₀ on.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        bound = float(self.bounds(run)[-1, network])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"largest Lipschitz constant from step {self.start} on",
            hypotheses=(
                finite_steps(run, network),
                decrease(run, network, self.start, self.share, "H2"),
            ),
            bound=bound if np.isfinite(bound) else None,
            measured=lipschitz,
            subject=subject,
        )


def decrease(run: TrainingRun, network: int, start: int, share: float, name: str) -> Hypothesis:
    """Check R_{t+1} ≤ R_t − η·α_t‖∇R_t‖² for every step t ≥ T₀, up to rounding of the risk.

    Args:
        run: a training run.
        network: which of its networks.
        start: T₀.
        share: η.
        name: of the hypothesis.

    Returns:
        The `Hypothesis`; its step is the first t at which the risk falls by too little.
    """
    risk, rates = run.risk[start:, network], run.learning_rates[start:, network]
    squares = run.gradient_norm[start:-1, network] ** 2
    with np.errstate(over="ignore", invalid="ignore"):
        allowed = risk[:-1] * (1.0 + RISK_ROUNDING) - share * rates * squares
    statement = f"each step from T₀ on lowers the risk by {share:g} of rate times squared gradient"
    found = hypothesis_over_steps(name, statement, allowed.tolist(), risk[1:].tolist())
    if found.step is None:
        return found
    return Hypothesis(name, statement, False, start + found.step, found.margin)
