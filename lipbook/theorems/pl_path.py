"""The Polyak–Łojasiewicz inequality as code: descent with a risk that feels it has a short path.

Steps after the risk has fallen to `SETTLED` of its first value are not looked at: rounding rules
there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.theorems.descent import RISK_ROUNDING, finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import ROUNDING_FACTOR, Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun

# Residuals with eight digits less than at the start; below that, differences of risks are noise.
SETTLED = 1e-16


def settled_step(run: TrainingRun, network: int) -> int:
    """Return the first step whose risk is at most `SETTLED` times the first, or T.

    Args:
        run: a training run.
        network: which of its networks.
    """
    risk = run.risk[:, network]
    found = np.flatnonzero(risk <= SETTLED * risk[0])
    return int(found[0]) if len(found) else run.n_steps


def decrease_factors(run: TrainingRun, network: int) -> np.ndarray:
    """Return (R_t − R_{t+1})/(α_t‖∇R_t‖²) of every step before the risk settles.

    Args:
        run: a training run.
        network: which of its networks.

    Returns:
        One number per step; infinite for a step that does not move, NaN from a divergence on.
    """
    last = settled_step(run, network)
    risk, rates = run.risk[: last + 1, network], run.learning_rates[:last, network]
    slope = rates * run.gradient_norm[:last, network] ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        factors = (risk[:-1] * (1.0 + RISK_ROUNDING) - risk[1:]) / slope
    return np.where(slope == 0.0, np.inf, factors)


def decrease_factor(run: TrainingRun, network: int) -> float:
    """Return η, the least of `decrease_factors`; 1 for a run that never moves, NaN after a
    divergence.

    Args:
        run: a training run.
        network: which of its networks.
    """
    if run.diverged[network]:
        return math.nan
    least = float(np.min(decrease_factors(run, network), initial=np.inf))
    return least if math.isfinite(least) else 1.0


def quotients(run: TrainingRun, network: int) -> np.ndarray:
    """Return ‖∇R_t‖²/(2R_t), the constant that step t would allow, before the risk settles.

    Args:
        run: a training run.
        network: which of its networks.

    Returns:
        One number per step; NaN from a divergence on.
    """
    last = settled_step(run, network)
    with np.errstate(invalid="ignore"):
        return run.gradient_norm[:last, network] ** 2 / (2.0 * run.risk[:last, network])


@dataclass(frozen=True)
class PLPath:
    """Bound the whole path of a descent by the risk that it starts from.

    If R_{t+1} ≤ R_t − ηα_t‖∇R_t‖², ‖∇R_t‖² ≥ 2μR_t and α_t ≥ α for all t, then ℓ_T ≤
    √(2/μ)·(√R_0 − √R_T)·(1 + √(1 − 2ηαμ))/(2η), for every T. Here R* = 0.

    Attributes:
        mu: μ.
        decrease: η; by default the best that the run allows.

    References:
        The book's theorem `thm-pl-path`.
    """

    mu: float
    decrease: float | None = None

    label = "thm-pl-path"
    title = "A short path"

    def bound(self, risk: float, decrease: float, rate: float = 0.0) -> float:
        """Return √(2R_0/μ)·(1 + √(1 − 2ηαμ))/(2η), which holds for all later steps.

        Args:
            risk: R_0.
            decrease: η.
            rate: α, a lower bound of all rates; 0 for rates that fall to 0.

        Raises:
            HypothesisError: no such descent exists: μ ≤ 0, η ≤ 0 or 2ηαμ > 1.
        """
        if not self.mu > 0:
            remedy = "Take samples at distinct points, at most as many as parameters."
            refuse("mu", "be positive", self.label, "H3", self.mu, remedy)
        if not decrease > 0:
            refuse("decrease", "be positive", self.label, "H2", decrease, "Lower the rate.")
        inside = 1.0 - 2.0 * decrease * rate * self.mu
        if inside < -1e-9:
            remedy = "A risk that is not negative cannot fall so fast: lower one of the three."
            refuse("rate", "satisfy 2ηαμ ≤ 1", self.label, "H2, H3", rate, remedy)
        factor = (1.0 + math.sqrt(max(inside, 0.0))) / (2.0 * decrease)
        return math.sqrt(2.0 * risk / self.mu) * factor

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the theorem says of the steps that were run.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`; it bounds the path up to the step at which the risk settles.
        """
        last = settled_step(run, network)
        hypotheses = self.hypotheses(run, network)
        bound = None
        if all(each.holds for each in hypotheses):
            risk = run.risk[: last + 1, network]
            whole = self.bound(
                float(risk[0]), self._decrease(run, network), rate_floor(run, network)
            )
            gone = math.sqrt(risk[-1] / risk[0]) if risk[0] > 0 else 0.0
            bound = whole * (1.0 - gone)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="path length up to the last step",
            hypotheses=hypotheses,
            bound=bound,
            measured=float(run.path[last, network]),
            subject=subject,
        )

    def for_ever(self, run: TrainingRun, network: int) -> float:
        """Return the bound of the path for all later steps, if the hypotheses go on holding.

        Args:
            run: a training run.
            network: which of its networks.

        Returns:
            The bound, infinite where the hypotheses do not hold on the steps that were run.
        """
        if not all(each.holds for each in self.hypotheses(run, network)):
            return math.inf
        summable = math.isfinite(run.schedules[network].tail_mass(0))
        rate = 0.0 if summable else rate_floor(run, network)
        return self.bound(float(run.risk[0, network]), self._decrease(run, network), rate)

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1 (finite steps), H2 (decrease with η > 0) and H3 (μ > 0 at every step)."""
        finite = finite_steps(run, network)
        return (finite, self._decreasing(run, network), self._steep(run, network))

    def _decrease(self, run: TrainingRun, network: int) -> float:
        return decrease_factor(run, network) if self.decrease is None else self.decrease

    def _decreasing(self, run: TrainingRun, network: int) -> Hypothesis:
        statement = "each step lowers the risk by η > 0 times the rate times the squared gradient"
        needed = self._decrease(run, network)
        factors = decrease_factors(run, network)
        if needed > 0:
            allowed = factors.tolist()
            return hypothesis_over_steps(
                "H2", statement, allowed, [needed / ROUNDING_FACTOR] * len(allowed)
            )
        wrong = np.flatnonzero(~(factors > 0))
        step = int(wrong[0]) if len(wrong) else None
        margin = None if step is None else float(factors[step])
        return Hypothesis("H2", statement, False, step, margin)

    def _steep(self, run: TrainingRun, network: int) -> Hypothesis:
        statement = "μ > 0, and the squared gradient is at least 2μ times the risk at every step"
        if not self.mu > 0:
            return Hypothesis("H3", statement, False, None, self.mu)
        found = quotients(run, network).tolist()
        return hypothesis_over_steps(
            "H3", statement, found, [self.mu / ROUNDING_FACTOR] * len(found)
        )


def rate_floor(run: TrainingRun, network: int) -> float:
    """Return the least rate of the steps before the risk settles.

    Args:
        run: a training run.
        network: which of its networks.
    """
    rates = run.learning_rates[: settled_step(run, network), network]
    return float(np.min(rates, initial=math.inf)) if len(rates) else 0.0
