"""Small gradients from small rates: the verdict that every theorem on convergence shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from lipbook.activations import Activation
from lipbook.descent_loop import DescentRecord
from lipbook.theorems.descent import RISK_ROUNDING, finite_steps
from lipbook.theorems.verdict import Hypothesis, Verdict, hypothesis_over_steps

# A rate at the edge of what a hypothesis allows may come out above it by a few roundings.
RATE_ROUNDING = 1e-9


class Activated(Protocol):
    """Describe a setting as far as its activation goes."""

    @property
    def activation(self) -> Activation:
        """σ."""


R = TypeVar("R", bound=DescentRecord)
S = TypeVar("S", bound=Activated)


def smooth_activation(setting: Activated) -> Hypothesis:
    """Check that σ has a Lipschitz slope: H1 of every theorem that asks for smoothness."""
    holds = setting.activation.slope_lipschitz is not None
    return Hypothesis("H1", "the slope of the activation is Lipschitz", holds)


def named(hypothesis: Hypothesis, name: str, statement: str | None = None) -> Hypothesis:
    """Return a hypothesis under the name, and in the words, that it has on another page."""
    return replace(hypothesis, name=name, statement=statement or hypothesis.statement)


class SmallestGradient(ABC, Generic[R, S]):
    """Bound min_{t<T}‖∇R_t‖² by 2R₀/S_T under a smooth activation, finite steps and small rates.

    Attributes:
        label: of the statement in the book.
        title: its name.
    """

    label: str
    title: str

    def bound(self, run: R) -> np.ndarray:
        """Return 2R₀/S_T, (K,), rounded to nearest; infinite without mass.

        Args:
            run: a training run.
        """
        return energy_share(run.risk[0], run.mass[-1])

    @abstractmethod
    def rates(self, run: R, network: int, setting: S) -> tuple[Hypothesis, ...]:
        """Check the hypotheses on the rates, H3 and after, as far as they can be formed."""

    def verdict(self, run: R, network: int, setting: S, subject: str = "") -> Verdict:
        """Return what the theorem says of one network of the run.

        Args:
            run: a training run.
            network: which of its networks.
            setting: in which it was trained.
            subject: which run this is about.

        Returns:
            The `Verdict`; what it asks of rates may be about all steps, also those to come.
        """
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="smallest squared gradient",
            hypotheses=(
                smooth_activation(setting),
                named(finite_steps(run, network), "H2"),
                *self.rates(run, network, setting),
            ),
            bound=float(self.bound(run)[network]),
            measured=smallest_squared_gradient(run, network),
            subject=subject,
        )


def small_products(
    name: str, statement: str, rates: np.ndarray, beta: np.ndarray, strict: bool = False
) -> Hypothesis:
    """Check α_t·β_t ≤ 1 at every step, up to rounding, or α_t·β_t < 1.

    Args:
        name: of the hypothesis.
        statement: in plain words.
        rates: α_t, (T,).
        beta: β_t, (T,).
        strict: whether equality fails.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # A rate 0 asks nothing of β, however large that is.
        products = np.where(rates == 0.0, 0.0, rates * beta)
    allowed = np.nextafter(1.0, 0.0) if strict else 1.0 + RATE_ROUNDING
    return hypothesis_over_steps(name, statement, [allowed] * len(products), products.tolist())


def smallest_squared_gradient(run: DescentRecord, network: int) -> float:
    """Return min_{t<T}‖∇R_t‖² of one network, NaN left out (infinite if nothing is left)."""
    norms = run.gradient_norm[:-1, network]
    finite = norms[np.isfinite(norms)]
    return float((finite**2).min()) if len(finite) else float("inf")


def risk_fall(run: DescentRecord) -> np.ndarray:
    """Return R₀ − R_T, (K,), plus the share `RISK_ROUNDING` of R₀ for every step.

    Args:
        run: a training run.
    """
    rounding = RISK_ROUNDING * (run.n_steps + 1) * run.risk[0]
    return np.asarray(run.risk[0] - run.risk[-1] + rounding)


def energy_share(risk: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return 2R/S, infinite where S = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mass > 0, 2.0 * risk / mass, np.inf)


def first_norm(run: DescentRecord, network: int) -> float:
    """Return u₀ = ‖Θ₀‖ of one network."""
    return float(run.checkpoints[0].parameter_norm()[network])
