"""The budget of a mass at any depth: what it allows when only start and risk are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lipbook.deep_networks import DeepEnsemble
from lipbook.deep_training import DeepRun
from lipbook.losses import Huber
from lipbook.theorems.after_path import FromStart
from lipbook.theorems.budgets import enough, given
from lipbook.theorems.deep_clock import Clock
from lipbook.theorems.deep_path import chain_after
from lipbook.theorems.deep_setting import DeepSetting
from lipbook.theorems.descent import finite_steps
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis


@dataclass(frozen=True)
class DeepBudget(FromStart[DeepRun]):
    """Bound path and Lipschitz constant by the mass alone, at any depth, up to a budget of mass.

    With u = ‖Θ_{T₀}‖, Λ₀ ≥ (1/n)Σ|φ'(r_i)| at T₀ and F(e) = (Λ₀ + q(u + e) − q(u))·q'(u + e), the
    first factor cut at δ under Huber, the path is at most the e with ∫_0^e ds/F(s) = S, if
    S < S* = ∫_0^∞ ds/F(s).

    Attributes:
        setting: gives q and the loss.
        residual: Λ₀; by default λ(R_{T₀}), read off the run.
        start: T₀, a recorded step of the run.

    References:
        The book's theorem `thm-deep-budget`.
    """

    setting: DeepSetting
    residual: float | None = None
    start: int = 0

    label = "thm-deep-budget"
    title = "A budget at any depth"

    def clock(self, norm: float, residual: float) -> Clock:
        """Return F and its integrals.

        Args:
            norm: u = ‖Θ_{T₀}‖.
            residual: Λ₀ > 0.
        """
        loss = self.setting.loss
        most = loss.delta if isinstance(loss, Huber) else np.inf
        return Clock(self.setting, norm, residual, most)

    def speed(self, norm: float, residual: float) -> Callable[[float], float]:
        """Return e ↦ F(e), the greatest size that a gradient can have after a path e.

        Args:
            norm: u = ‖Θ_{T₀}‖.
            residual: Λ₀ > 0.
        """
        clock = self.clock(norm, residual)
        return lambda path: float(clock.speed(np.asarray(path)))

    @property
    def is_needed(self) -> bool:
        """Tell whether S* is finite: from three weight layers on, from two under MSE."""
        return self.setting.depth >= (3 if isinstance(self.setting.loss, Huber) else 2)

    def budget(self, norm: float, residual: float) -> float:
        """Return S*, rounded to nearest; infinite where no budget is needed.

        Args:
            norm: u = ‖Θ_{T₀}‖.
            residual: Λ₀.
        """
        if not self.is_needed or residual == 0.0:
            return np.inf
        return self.clock(norm, residual).total()

    def path(self, norm: float, residual: float, mass: float) -> float:
        """Return the e with ∫_0^e ds/F(s) = S, infinite from the budget on; rounded to nearest.

        Args:
            norm: u = ‖Θ_{T₀}‖.
            residual: Λ₀.
            mass: S ≥ 0.
        """
        if mass == 0.0 or residual == 0.0:
            return 0.0
        return self.clock(norm, residual).path(mass)

    def bound(self, start: DeepEnsemble, mass: float) -> np.ndarray:
        """Return the bound of the Lipschitz constant after a mass S, (K,), rounded to nearest.

        Args:
            start: the networks at T₀.
            mass: S.

        Raises:
            HypothesisError: Λ₀ is not given, or S is beyond the budget of some network.
        """
        residual = given(self.residual, self.label, "λ(R₀)")
        norms = start.parameter_norm().tolist()
        paths = np.array([self.path(norm, residual, mass) for norm in norms])
        if not np.isfinite(paths).all():
            least = min(self.budget(norm, residual) for norm in norms)
            refuse(
                "mass", f"be below the budget {least:g}", self.label, "H3", f"{mass:g}",
                "Use a bounded activation, or rates that divide by the gradient or lower the risk.",
            )  # fmt: skip
        return chain_after(start, paths)

    def residual_of(self, run: DeepRun, network: int) -> float:
        """Return Λ₀ of one network.

        Args:
            run: a training run.
            network: which of its networks.
        """
        if self.residual is not None:
            return self.residual
        return self.setting.pull(float(run.risk[self.start, network]))

    def path_after(self, run: DeepRun, network: int, mass: float) -> float:
        """Return e of one network after a mass S from T₀ on.

        Args:
            run: a training run.
            network: which of its networks.
            mass: S.
        """
        start = run.checkpoints[run.recorded(self.start)]
        norm = float(start.parameter_norm()[network])
        return self.path(norm, self.residual_of(run, network), mass)

    def hypotheses(self, run: DeepRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        pull = self.setting.pull(float(run.risk[self.start, network]))
        return (
            finite_steps(run, network),
            enough(self.setting.loss, self.residual_of(run, network), pull),
            self._within_budget(run, network),
        )

    def last_bound(self, run: DeepRun, network: int) -> float | None:
        """Return the bound at the end of the run, None beyond the budget."""
        start = run.checkpoints[run.recorded(self.start)]
        spent = float(run.mass[-1, network] - run.mass[self.start, network])
        path = self.path_after(run, network, spent)
        bound = float(chain_after(start, np.full(start.size, path))[network])
        return bound if np.isfinite(bound) else None

    def _within_budget(self, run: DeepRun, network: int) -> Hypothesis:
        statement = "the mass from T₀ on is below the budget"
        start = run.checkpoints[run.recorded(self.start)]
        norm = float(start.parameter_norm()[network])
        limit = self.budget(norm, self.residual_of(run, network))
        spent = run.mass[:, network] - run.mass[self.start, network]
        beyond = np.flatnonzero(~(spent < limit))
        if len(beyond) == 0:
            return Hypothesis("H3", statement, True, margin=float(limit - spent[-1]))
        step = max(int(beyond[0]) - 1, 0)
        return Hypothesis("H3", statement, False, step, float(limit - spent[beyond[0]]))
