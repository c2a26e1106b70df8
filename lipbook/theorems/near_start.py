"""The gap between two risks for networks that stay near their start, without the width."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from lipbook.generalization.laws import Law
from lipbook.generalization.losses_known import (
    common_hypotheses,
    in_a_box,
    largest_residual,
    loss_at,
)
from lipbook.losses import Huber, Loss
from lipbook.networks import Ensemble
from lipbook.theorems.empirical import peel
from lipbook.theorems.near_ball import Ball, ball_bound
from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import RATE_ROUNDING
from lipbook.theorems.smoothness import mass_smoothness
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class NearStart:
    """Bound R^P − R by how far training has moved the weights, peeling over that distance.

    Attributes:
        failure: η.
        first_radius: r⁰, the distance expected before the sample is seen; by default 1/(κu₀).

    References:
        The book's theorem `thm-near-start`.
    """

    failure: float = 0.05
    first_radius: float | None = None

    label = "thm-near-start"
    title = "Networks near their start"

    def bound(
        self, law: Law, loss: Loss, start: Ensemble, lipschitz: float, distance: float, n: int
    ) -> float:
        """Return the bound for a network at this distance from its start.

        Args:
            law: P.
            loss: Huber's.
            start: Θ₀, independent of the sample.
            lipschitz: an upper bound of the Lipschitz constant of f_{Θ₀} on the box of the inputs,
                made without the sample.
            distance: ‖Θ − Θ₀‖, which may depend on the sample.
            n: the number of samples.

        Raises:
            HypothesisError: the loss is not Lipschitz, no box holds the law, or the distance is
                not finite.
        """
        first = self.first_radius
        if first is None:
            # A start without weights has no norm to go by: any positive number will do.
            kappa = start.activation.lipschitz * math.hypot(1.0, law.input_radius)
            first = 1.0 / (kappa * (float(start.parameter_norm()[0]) or 1.0))
        reached, failure = peel([distance], [first], self.failure)
        ball = Ball(start, reached[0])
        return ball_bound(ball, law, loss, lipschitz, n, failure, self.label)

    def verdict(
        self, run: TrainingRun, network: int, law: Law, n_samples: int, loss: Loss,
        lipschitz: float, gap: float, subject: str = "",
    ) -> Verdict:  # fmt: skip
        """Return what the theorem says of one network at the end of a run, peeling included.

        Args:
            run: a training run from a start that was drawn independently of the sample.
            network: which of its networks.
            law: P, of which the run's sample was drawn.
            n_samples: n.
            loss: φ in which the risks are measured.
            lipschitz: an upper bound of the Lipschitz constant of f_{Θ₀} on the box of the inputs,
                made without the sample.
            gap: R^P − R as measured.
            subject: which run this is about.
        """
        stopped = int(run.diverged_at[network])
        hypotheses = (
            *common_hypotheses(law, loss),
            Hypothesis(
                "H4", "the start was drawn without the sample, and the last step is finite",
                stopped < 0, step=stopped if stopped >= 0 else None,
            ),
        )  # fmt: skip
        start, moved = run.checkpoints[0].select([network]), float(run.displacement[-1, network])
        speaks = all(h.holds for h in hypotheses)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="risk under the law minus risk on the sample",
            hypotheses=hypotheses,
            bound=self.bound(law, loss, start, lipschitz, moved, n_samples) if speaks else None,
            measured=gap,
            subject=subject,
        )


@dataclass(frozen=True)
class WidthFreeGap:
    """Bound R^P − R before the sample is seen, from the start, the law and the rates alone.

    The path is at most √(2R̄S), if σ is smooth and α_tβ̄(S_{t+1}) ≤ 1 with R̄ for R₀, and, if
    Huber's loss is trained, (u₀ + κ₀/κ)(e^{δκS} − 1) for any σ and any rates.

    Attributes:
        failure: η.

    References:
        The book's theorem `thm-gap-width-free`.
    """

    failure: float = 0.05

    label = "thm-gap-width-free"
    title = "Short training, any width"

    def first_risk(self, law: Law, trained: Loss, start: Ensemble, lipschitz: float) -> float:
        """Return R̄ = φ(r₀), no less than the risk of the start on any sample.

        Args:
            law: P.
            trained: φ that is trained.
            start: Θ₀.
            lipschitz: an upper bound of the Lipschitz constant of f_{Θ₀} on the box of the inputs,
                made without the sample.
        """
        return loss_at(trained, largest_residual(law, start, lipschitz))

    def excess(
        self, law: Law, trained: Loss, start: Ensemble, lipschitz: float, rates: np.ndarray
    ) -> np.ndarray:
        """Return α_tβ̄(S_{t+1}) − 1, (T,); the descent is known in advance where none is positive.

        Args:
            law: P.
            trained: φ that is trained.
            start: Θ₀.
            lipschitz: as for `first_risk`.
            rates: α_t, (T,).

        Returns:
            (T,); NaN for a σ with kinks.
        """
        if start.activation.slope_lipschitz is None:
            return np.full(len(rates), np.nan)
        setting = law.setting(start, 1, trained)
        risk = self.first_risk(law, trained, start, lipschitz)
        norm = float(start.parameter_norm()[0])
        with np.errstate(over="ignore", invalid="ignore"):
            beta = mass_smoothness(setting, norm, risk, np.cumsum(rates))
            return np.where(rates == 0.0, -1.0, rates * beta - 1.0)

    def radius(
        self, law: Law, trained: Loss, start: Ensemble, lipschitz: float, rates: np.ndarray
    ) -> float:
        """Return what ‖Θ_T − Θ₀‖ cannot exceed, known before the sample is.

        Args:
            law: P.
            trained: φ that is trained.
            start: Θ₀.
            lipschitz: as for `first_risk`.
            rates: α_t, (T,).

        Returns:
            The radius; infinite where neither way applies.
        """
        found = [math.inf]
        mass = float(rates.sum())
        if bool((self.excess(law, trained, start, lipschitz, rates) <= RATE_ROUNDING).all()):
            found.append(math.sqrt(2.0 * self.first_risk(law, trained, start, lipschitz) * mass))
        if isinstance(trained, Huber):
            setting = law.setting(start, 1, trained)
            first = float(start.parameter_norm()[0]) + setting.kappa_0 / setting.kappa
            with np.errstate(over="ignore"):
                found.append(first * float(np.expm1(trained.delta * setting.kappa * mass)))
        return min(found)

    def bound(
        self, law: Law, trained: Loss, loss: Loss, start: Ensemble, lipschitz: float,
        rates: np.ndarray, n_samples: int,
    ) -> float:  # fmt: skip
        """Return the bound of R^P − R for every network that training may reach.

        Args:
            law: P.
            trained: φ that is trained.
            loss: Huber's, in which the risks are measured.
            start: Θ₀, independent of the sample.
            lipschitz: as for `first_risk`.
            rates: α_t, (T,), fixed in advance.
            n_samples: n.

        Returns:
            The bound, in the unit of the loss; infinite where the radius overflows.

        Raises:
            HypothesisError: the loss is not Lipschitz, no box holds the law, or no radius is known.
        """
        in_a_box(law, self.label)
        reach = self.radius(law, trained, start, lipschitz, rates)
        if math.isinf(reach) and not isinstance(trained, Huber):
            refuse(
                "rates", "be small enough to descend for sure", self.label, "H5",
                f"a largest rate of {rates.max():g}",
                "Train Huber's loss, or use lower rates and a smooth σ.",
            )  # fmt: skip
        ball = Ball(start, reach)
        if not reach < 1e100:
            return math.inf
        return ball_bound(ball, law, loss, lipschitz, n_samples, self.failure, self.label)

    def verdict(
        self, run: TrainingRun, network: int, law: Law, n_samples: int, loss: Loss,
        lipschitz: float, gap: float, subject: str = "",
    ) -> Verdict:  # fmt: skip
        """Return what the theorem says of one network of a run; arguments as for `NearStart`."""
        start = run.checkpoints[0].select([network])
        rates = run.schedules[network].rates(run.n_steps)
        common = common_hypotheses(law, loss)
        stopped = int(run.diverged_at[network])
        chosen = Hypothesis(
            "H4", "start and rates were fixed without the sample, and every step is finite",
            stopped < 0, step=stopped if stopped >= 0 else None,
        )  # fmt: skip
        known = self._known(run, start, law, lipschitz, rates)
        hypotheses = (*common, chosen, known)
        bound = None
        if all(h.holds for h in hypotheses):
            bound = self.bound(law, run.loss, loss, start, lipschitz, rates, n_samples)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="risk under the law minus risk on the sample",
            hypotheses=hypotheses,
            bound=bound,
            measured=gap,
            subject=subject,
        )

    def _known(
        self, run: TrainingRun, start: Ensemble, law: Law, lipschitz: float, rates: np.ndarray
    ) -> Hypothesis:
        statement = "Huber's loss is trained, or σ is smooth and every rate at most 1/β̄"
        if isinstance(run.loss, Huber):
            return Hypothesis("H5", statement, True)
        if not law.is_bounded or start.activation.slope_lipschitz is None:
            return Hypothesis("H5", statement, False)
        excess = self.excess(law, run.loss, start, lipschitz, rates)
        worst = float(excess.max())
        if worst <= RATE_ROUNDING:
            return Hypothesis("H5", statement, True, margin=-worst)
        step = int(np.flatnonzero(~(excess <= RATE_ROUNDING))[0])
        return Hypothesis("H5", statement, False, step, -float(excess[step]))


def short_rate(setting: Setting, first_norm: float, first_risk: float, n_steps: int) -> float:
    """Return a rate for T steps near the start: the α with αβ̄(αT) = 1, or 1/(κ₀ + κu₀)².

    The first is for smooth σ; the second, for σ with kinks, promises no descent.

    Args:
        setting: gives σ, m, the law's radius and the loss.
        first_norm: u₀.
        first_risk: R̄ ≥ R₀.
        n_steps: T.
    """
    highest = setting.growth(first_norm) ** -2
    if setting.activation.slope_lipschitz is None:
        return highest

    def excess(rate: float) -> float:
        mass = rate * n_steps
        return rate * float(mass_smoothness(setting, first_norm, first_risk, mass)) - 1.0

    return float(optimize.brentq(excess, 0.0, highest, xtol=1e-16, rtol=1e-12)) * (1.0 - 1e-9)
