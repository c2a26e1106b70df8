"""From a step T₀ on: the networks there, the mass since, and what a path does to a bound.

The theorems that bound the largest Lipschitz constant from T₀ on share their verdict, `FromStart`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import numpy as np

from lipbook.activations import Activation
from lipbook.descent_loop import DescentRecord
from lipbook.networks import Ensemble
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.training import TrainingRun

R = TypeVar("R", bound=DescentRecord)


def checkpoint(run: TrainingRun, step: int) -> Ensemble:
    """Return the networks at a recorded step.

    Args:
        run: a training run.
        step: T₀.

    Raises:
        ValueError: the run has no checkpoint there.
    """
    return run.checkpoints[run.recorded(step)]


def mass_since(run: DescentRecord, step: int) -> np.ndarray:
    """Return S_t − S_{T₀} at every step t, (T+1, K), NaN before T₀.

    Args:
        run: a training run.
        step: T₀.
    """
    early = np.arange(run.n_steps + 1) < step
    return np.where(early[:, None], np.nan, run.mass - run.mass[step])


def norms(ensemble: Ensemble) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ‖Θ‖, ‖W‖_op and ‖a‖ of each network, (K,) each."""
    found = ensemble.parameter_norm(), ensemble.hidden_norm(), ensemble.output_norm()
    total, hidden, output = (each.cpu().numpy() for each in found)
    return total, hidden, output


def path_growth(
    activation: Activation, hidden_norm: np.ndarray, output_norm: np.ndarray, path: np.ndarray
) -> np.ndarray:
    """Return L_σ(e√(x² + y²) + e²/2), by which a path of length e may raise a certificate.

    Args:
        activation: gives L_σ.
        hidden_norm: x = ‖W‖_op.
        output_norm: y = ‖a‖.
        path: e, a bound of the path.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        lever = np.hypot(hidden_norm, output_norm)
        return np.asarray(activation.lipschitz * (path * lever + 0.5 * path * path))


def lipschitz_after(start: Ensemble, path: np.ndarray) -> np.ndarray:
    """Return L_σ(xy + e√(x² + y²) + e²/2), x = ‖W‖_op, y = ‖a‖: a bound after a path of length e.

    Args:
        start: the networks before it.
        path: e, (..., K).

    Returns:
        Shaped like `path`, rounded to nearest; it bounds the constant on every domain.

    References:
        The book's lemma `lem-after-path`.
    """
    _, x, y = norms(start)
    product = start.activation.lipschitz * x * y
    return np.asarray(product + path_growth(start.activation, x, y, path))


def lipschitz_after_blocks(
    start: Ensemble, hidden_path: np.ndarray, output_norm: np.ndarray
) -> np.ndarray:
    """Return L_σ(‖W‖_op + ξ)·â: a bound where W has moved by ξ and ‖a‖ ≤ â.

    Args:
        start: the networks before the path.
        hidden_path: ξ, (..., K).
        output_norm: â, (..., K).

    Returns:
        Shaped like `hidden_path`, rounded to nearest; it bounds the constant on every domain.
    """
    _, x, _ = norms(start)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(start.activation.lipschitz * (x + hidden_path) * output_norm)


class FromStart(ABC, Generic[R]):
    """Speak of the largest Lipschitz constant of a run from step T₀ on.

    Attributes:
        start: T₀, a recorded step of the run.
        label: of the statement in the book.
        title: its name.
    """

    start: int
    label: str
    title: str

    @abstractmethod
    def hypotheses(self, run: R, network: int) -> tuple[Hypothesis, ...]:
        """Return every hypothesis of the theorem, checked on one network of the run."""

    @abstractmethod
    def last_bound(self, run: R, network: int) -> float | None:
        """Return the bound that the verdict gives for one network, None where there is none."""

    def verdict(self, run: R, network: int, lipschitz: float, subject: str = "") -> Verdict:
        """Return what the theorem says of one network.

        Args:
            run: a training run.
            network: which of its networks.
            lipschitz: the largest Lipschitz constant (or an upper bound of it) seen from T₀ on.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"largest Lipschitz constant at the recorded steps from {self.start} on",
            hypotheses=self.hypotheses(run, network),
            bound=self.last_bound(run, network),
            measured=lipschitz,
            subject=subject,
        )


class AlongPath(FromStart[TrainingRun]):
    """Bound the Lipschitz constant at every step by the product of norms at T₀ and the path since.

    The path is bounded step by step in `path_bounds`.
    """

    @abstractmethod
    def path_bounds(self, run: TrainingRun) -> np.ndarray:
        """Return e at every step, (T+1, K), NaN before T₀."""

    def bounds(self, run: TrainingRun) -> np.ndarray:
        """Return the bound at every step, (T+1, K), NaN before T₀, infinite where the path is.

        Args:
            run: a training run.

        Raises:
            ValueError: T₀ is not among the run's recorded steps.
        """
        return lipschitz_after(checkpoint(run, self.start), self.path_bounds(run))

    def last_bound(self, run: TrainingRun, network: int) -> float | None:
        """Return the bound at the end of the run, None where it is not finite."""
        bound = float(self.bounds(run)[-1, network])
        return bound if np.isfinite(bound) else None
