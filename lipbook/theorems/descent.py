"""Theorems on the path of gradient descent, as code: what they say of each network of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic

import numpy as np

from lipbook.descent_loop import DescentRecord
from lipbook.schedules import RateFunction
from lipbook.theorems.after_path import AlongPath, FromStart, R, checkpoint, lipschitz_after
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps
from lipbook.training import TrainingRun

# A risk is a mean of rounded terms: a rise by less than this share of it may be rounding.
RISK_ROUNDING = 1e-12
# A step at the edge of what is allowed may come out longer by a few roundings.
STEP_ROUNDING = 1e-12


class WholePath(ABC, Generic[R]):
    """Bound the Lipschitz constant at the last step by the start and the path of all weights.

    Attributes:
        label: of the statement in the book.
        title: its name.
    """

    label: str
    title: str

    @abstractmethod
    def bound(self, run: R) -> np.ndarray:
        """Return the bound at every step, (T+1, K), rounded to nearest."""

    def verdict(self, run: R, network: int, lipschitz: float, subject: str = "") -> Verdict:
        """Return what the theorem says of one network at the end of the run.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: Lip(f_T) or an upper bound of it, on any domain.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant at the last step",
            hypotheses=(finite_steps(run, network),),
            bound=float(self.bound(run)[-1, network]),
            measured=lipschitz,
            subject=subject,
        )


@dataclass(frozen=True)
class PathBound(WholePath[TrainingRun]):
    """Bound the Lipschitz constant at step T by the start and the path of the two weight blocks.

    Lip(f_T) ≤ L_σ·(‖W_0‖_op + ℓ^W_T)·(‖A_0‖_op + ℓ^A_T), on the whole space. It ignores signs and
    directions: a path that comes back counts twice.

    References:
        The book's theorem `thm-path`.
    """

    label = "thm-path"
    title = "Weights move no further than the path"

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), rounded to nearest.

        Args:
            run: a training run of K networks and T steps.

        Returns:
            (T+1, K), unit of the outputs per unit of the inputs.
        """
        start = run.checkpoints[0]
        hidden = start.hidden_norm().cpu().numpy() + run.block_path["hidden_weight"]
        output = start.output_norm().cpu().numpy() + run.block_path["output_weight"]
        return start.activation.lipschitz * hidden * output


@dataclass(frozen=True)
class EventualDecay(FromStart[TrainingRun]):
    """Bound the Lipschitz constant from step T₀ on by the state at T₀ and the mass to come.

    With x = ‖W_{T₀}‖_op, y = ‖A_{T₀}‖_op and e = √(2R_{T₀}S):
    Lip(f_t) ≤ L_σ·(xy + e√(x² + y²) + e²/2) for every t ≥ T₀, on the whole space, where S is the
    mass of all rates from T₀ on; for one t alone S may be S_t − S_{T₀}.

    Attributes:
        start: T₀; it must be one of the run's recorded steps.

    References:
        The book's theorem `thm-eventual`.
    """

    start: int

    label = "thm-eventual"
    title = "Eventual decay keeps what it finds"

    def path_bound(self, run: TrainingRun, mass: np.ndarray | None = None) -> np.ndarray:
        """Return e = √(2R_{T₀}S), a bound of the path from T₀ on.

        Args:
            run: a training run.
            mass: S, (..., K); by default that of all rates to come, infinite if not summable.

        Returns:
            Shaped like `mass`, by default (K,), in the unit of the weights.
        """
        return fall_path(run, self.start, mass)

    def bound(self, run: TrainingRun) -> np.ndarray:
        """Return the bound for all steps from T₀ on, (K,), rounded to nearest.

        Args:
            run: a training run.

        Returns:
            (K,), unit of the outputs per unit of the inputs; infinite where the rates are not
            summable.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        return lipschitz_after(checkpoint(run, self.start), self.path_bound(run))

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound for each recorded step by itself, from the mass spent until then.

        Args:
            run: a training run.

        Returns:
            (S, K), NaN before T₀; finite for every schedule.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        spent = run.mass[run.steps] - run.mass[self.start]
        early = run.steps < self.start
        e = self.path_bound(run, np.maximum(spent, 0.0))
        return np.where(early[:, None], np.nan, lipschitz_after(checkpoint(run, self.start), e))

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check H1, H2 and H3 on one network."""
        return tail_hypotheses(run, network, self.start)

    def last_bound(self, run: TrainingRun, network: int) -> float:
        """Return the bound for all steps to come."""
        return float(self.bound(run)[network])


@dataclass(frozen=True)
class AfterPath(AlongPath):
    """Bound the Lipschitz constant by the weights at T₀ and the length of the path since.

    Lip(f_t) ≤ L_σ(xy + e√(x² + y²) + e²/2), x = ‖W_{T₀}‖_op, y = ‖A_{T₀}‖_op and e = ℓ_t − ℓ_{T₀}.

    Attributes:
        start: T₀, a recorded step of the run.

    References:
        The book's lemma `lem-after-path`.
    """

    start: int = 0

    label = "lem-after-path"
    title = "From a path to a constant"

    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return e at every step, (T+1, K), NaN before T₀.

        Args:
            run: a training run.
        """
        early = np.arange(run.n_steps + 1) < self.start
        return np.where(early[:, None], np.nan, run.path - run.path[self.start])

    def hypotheses(self, run: TrainingRun, network: int) -> tuple[Hypothesis, ...]:
        """Check that every step was finite, so that there is a path."""
        return (finite_steps(run, network),)


def fall_path(run: DescentRecord, start: int, mass: np.ndarray | None = None) -> np.ndarray:
    """Return √(2R_{T₀}S), which the path from T₀ on stays below where each step lowers the risk.

    Args:
        run: a training run.
        start: T₀.
        mass: S, (..., K); by default that of all rates to come, infinite if not summable.

    Returns:
        Shaped like `mass`, by default (K,), in the unit of the weights.
    """
    if mass is None:
        mass = np.array([schedule.tail_mass(start) for schedule in run.schedules])
    risk = run.risk[start]
    with np.errstate(invalid="ignore"):
        spent = risk * mass
    # 0·∞: a network that is already at zero risk does not move, whatever the rates.
    return np.sqrt(2.0 * np.where((risk == 0.0) & ~np.isnan(mass), 0.0, spent))


def tail_hypotheses(run: DescentRecord, network: int, start: int) -> tuple[Hypothesis, ...]:
    """Check H1, H2 and H3 of `thm-eventual`: finite steps, a finite mass, sufficient decrease.

    Args:
        run: a training run.
        network: which of its networks.
        start: T₀.
    """
    tail = run.schedules[network].tail_mass(start)
    statement = "the rates from step T₀ on, continued for ever, have a finite sum"
    return (
        finite_steps(run, network),
        Hypothesis("H2", statement, bool(tail < np.inf)),
        sufficient_decrease(run, network, start),
    )


def finite_steps(run: DescentRecord, network: int) -> Hypothesis:
    """Check that training went on to step T: H1 of the path theorems, as far as a run can tell.

    A run that was stopped while all its numbers were finite fails too; the theorems would go on.

    Args:
        run: a training run.
        network: which of its networks.

    Returns:
        The `Hypothesis`, with the step at which training was stopped.
    """
    stopped = int(run.diverged_at[network])
    statement = "every step up to T is finite, and training was not stopped for a huge risk"
    return Hypothesis("H1", statement, stopped < 0, step=stopped if stopped >= 0 else None)


def sufficient_decrease(
    run: DescentRecord, network: int, start: int, share: float = 0.5
) -> Hypothesis:
    """Check R_{t+1} ≤ R_t − η·α_t‖∇R_t‖² for every step t ≥ `start`, up to rounding of the risk.

    Args:
        run: a training run.
        network: which of its networks.
        start: the first step t looked at.
        share: η.

    Returns:
        The `Hypothesis`; its step is the first t at which the risk falls by too little.
    """
    risk, rates = run.risk[start:, network], run.learning_rates[start:, network]
    with np.errstate(over="ignore", invalid="ignore"):
        fall = share * rates * run.gradient_norm[start:-1, network] ** 2
        allowed = risk[:-1] * (1.0 + RISK_ROUNDING) - fall
    part = "half" if share == 0.5 else f"{share:g} times"
    statement = (
        f"each step from T₀ on lowers the risk by {part} the rate times the squared gradient"
    )
    return hypothesis_over_steps("H3", statement, allowed.tolist(), risk[1:].tolist(), start)


def short_steps(
    run: DescentRecord, network: int, length: float, rate_function: RateFunction, start: int
) -> Hypothesis:
    """Check α_t‖∇R_t‖ ≤ C·ρ(t − T₀) for every step t ≥ T₀, up to rounding.

    Args:
        run: a training run.
        network: which of its networks.
        length: C.
        rate_function: ρ.
        start: T₀.
    """
    allowed = length * rate_function(np.arange(run.n_steps - start)) * (1.0 + STEP_ROUNDING)
    with np.errstate(invalid="ignore"):
        steps = run.learning_rates[start:, network] * run.gradient_norm[start:-1, network]
    statement = "each step from T₀ on is at most C·ρ(t − T₀) long"
    return hypothesis_over_steps("H3", statement, allowed.tolist(), steps.tolist(), start)
