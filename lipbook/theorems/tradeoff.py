"""Moving and learning: what nobody gets without moving, and what a long path has met."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lipbook.theorems.descent import finite_steps, sufficient_decrease
from lipbook.theorems.growth import GradientGrowth
from lipbook.theorems.setting import Setting
from lipbook.theorems.smallest_gradient import (
    first_norm,
    named,
    risk_fall,
    smallest_squared_gradient,
)
from lipbook.theorems.verdict import Verdict
from lipbook.training import TrainingRun


@dataclass(frozen=True)
class AnyOptimiser:
    """Bound the fall of the root of the risk by the distance from the start, for any method.

    √(2R₀) − √(2R_T) ≤ (κ₀ + κu₀)D + κD²/2 with D = ‖Θ_T − Θ₀‖; solved for D in `distance`.

    References:
        The book's theorem `thm-any-optimiser`.
    """

    label = "thm-any-optimiser"
    title = "Nobody learns without moving"

    def bound(self, setting: Setting, norm: float, distance: float) -> float:
        """Return (κ₀ + κu₀)D + κD²/2.

        Args:
            setting: gives σ, m and the data's radius.
            norm: u₀.
            distance: D.
        """
        return float(GradientGrowth(setting).change_bound(norm, distance))

    def distance(self, setting: Setting, norm: float, first: float, last: float) -> float:
        """Return the least D that takes the risk from R₀ to R_T; 0 where it need not fall.

        Args:
            setting: gives σ, m and the data's radius.
            norm: u₀.
            first: R₀.
            last: R_T.
        """
        gap = max(math.sqrt(2.0 * first) - math.sqrt(2.0 * last), 0.0)
        growth = setting.growth(norm)
        # The root of κD²/2 + growth·D = gap, written so that nothing cancels.
        return 2.0 * gap / (growth + math.sqrt(growth**2 + 2.0 * setting.kappa * gap))

    def verdict(
        self, run: TrainingRun, network: int, setting: Setting, subject: str = ""
    ) -> Verdict:
        """Return what the theorem says of one network at the end of the run.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        ends = [math.sqrt(2.0 * float(run.risk[t, network])) for t in (0, -1)]
        moved = float(run.displacement[-1, network])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="fall of the root of twice the risk",
            hypotheses=(finite_steps(run, network),),
            bound=self.bound(setting, first_norm(run, network), moved),
            measured=ends[0] - ends[1],
            subject=subject,
        )


@dataclass(frozen=True)
class TradeOff:
    """Bound the smallest gradient times the path by twice the fall of the risk.

    (min_{t<T}‖∇R_t‖)·ℓ_T ≤ 2(R₀ − R_T): no long path without a small gradient on the way.

    References:
        The book's theorem `thm-trade-off`.
    """

    label = "thm-trade-off"
    title = "A long path has met a small gradient"

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return 2(R₀ − R_T), (K,), with the rounding that the hypothesis allows each step.

        Args:
            run: a training run.
        """
        return 2.0 * risk_fall(run)

    def verdict(self, run: TrainingRun, network: int, subject: str = "") -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        words = "each step lowers the risk by half the rate times the squared gradient"
        least = math.sqrt(smallest_squared_gradient(run, network))
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="smallest gradient times path",
            hypotheses=(
                finite_steps(run, network),
                named(sufficient_decrease(run, network, 0), "H2", words),
            ),
            bound=float(self.bound(run)[network]),
            measured=least * float(run.path[-1, network]),
            subject=subject,
        )
