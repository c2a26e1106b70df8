"""What every method returns: a bracket and a witness."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from lipbook.lipschitz.arrays import BoolArray
from lipbook.lipschitz.domains import Domain
from lipbook.lipschitz.problem import Problem


class Proof(Protocol):
    """What an upper bound rests on, in a form that is checked without the search that found it."""

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why this does not prove Lip(f, domain) ≤ upper, or None if it does."""


@dataclass(frozen=True)
class Certificate:
    """Hold a network and domain together with the proof of an upper bound (see `verify`).

    Attributes:
        problem: the network and the domain.
        proof: what the upper bound rests on.
    """

    problem: Problem
    proof: Proof


@dataclass(frozen=True)
class Witness:
    """Hold one place where the gradient is as large as a lower bound says.

    Attributes:
        point: x, d coordinates. Piecewise linear σ: x lies inside a cell on which f is affine;
            where such a cell is narrower than the spacing of floats, x is the nearest float and
            `pattern` names it.
        pattern: for piecewise-linear σ, which neurons have a positive pre-activation on that cell,
            (m,); None for smooth σ.
        gradient_norm: ‖J(x)‖₂ rounded down.
    """

    point: tuple[float, ...]
    pattern: BoolArray | None = field(compare=False)
    gradient_norm: float


@dataclass(frozen=True)
class LipschitzBracket:
    """Hold lower ≤ Lip(f, domain) ≤ upper, for f(x) = Aσ(Wx + b) + c and Euclidean norms.

    Attributes:
        lower: rounded down; attained up to rounding at `witness`.
        upper: rounded up.
        exact: upper ≤ (1 + rel_gap)·lower, with `upper` proved.
        verified: whether every number here is proved, rounding errors included.
        basis: what the proof rests on.
        method: the name of the method that answered.
        witness: where the gradient reaches `lower`, or None if no point was found.
        domain: None for the whole space, (low, high) for a box, or a `Ball`.
        seconds: time spent, s.
        certificate: what `verify` checks, or None if the method keeps none.
    """

    lower: float
    upper: float
    exact: bool
    verified: bool
    basis: str
    method: str
    witness: Witness | None
    domain: Domain
    seconds: float = field(compare=False)
    certificate: Certificate | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Check our own invariant: a bracket that is empty is a bug of ours, not of the caller."""
        assert 0.0 <= self.lower <= self.upper, (self.lower, self.upper)

    @property
    def gap(self) -> float:
        """Return upper/lower − 1: 0 where both are 0, ∞ where only `lower` is."""
        if self.lower == 0.0:
            return 0.0 if self.upper == 0.0 else math.inf
        return self.upper / self.lower - 1.0


def is_exact(lower: float, upper: float, rel_gap: float) -> bool:
    """Tell whether upper ≤ (1 + rel_gap)·lower."""
    return math.isfinite(upper) and upper <= (1.0 + rel_gap) * lower
