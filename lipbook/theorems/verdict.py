"""Hypotheses and verdicts: what a theorem says of one run.

A theorem of the book is, in code, a function from a run to a `Verdict`: which of its named
hypotheses hold and, where one fails, at which step and by how much; the bound; the quantity it
bounds, as measured; the slack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

# A measured value may exceed its bound by this factor before it counts as a contradiction: both are
# computed in floating point, and a bound that is attained may come out a few roundings too small.
ROUNDING_FACTOR = 1.0 + 1e-9


@dataclass(frozen=True)
class Hypothesis:
    """One named hypothesis of a theorem, checked on a run.

    Attributes:
        name: as on the page, such as "H1".
        statement: what must hold, in plain words.
        holds: whether it does.
        step: the first step at which it fails; None where it holds or is not about steps.
        margin: allowed minus measured at the worst place, in the unit of the statement; negative
            where it fails.
    """

    name: str
    statement: str
    holds: bool
    step: int | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What a theorem says of one run.

    Attributes:
        theorem: the label of the statement in the book, such as "thm-path".
        title: its name in words.
        quantity: what is bounded, in words.
        hypotheses: all of them, in the order of the page.
        bound: the theorem's bound, or None where it cannot be formed.
        measured: the quantity as measured in the run, or None where it cannot be.
        subject: which run this is about.
    """

    theorem: str
    title: str
    quantity: str
    hypotheses: tuple[Hypothesis, ...]
    bound: float | None
    measured: float | None
    subject: str = ""

    @property
    def failed(self) -> Hypothesis | None:
        """Return the hypothesis that fails first in time (one not about steps first), or None."""
        failing = [h for h in self.hypotheses if not h.holds]
        return min(failing, key=lambda h: -1 if h.step is None else h.step, default=None)

    @property
    def applies(self) -> bool:
        """Tell whether every hypothesis holds, so that the theorem speaks about this run."""
        return self.failed is None

    @property
    def failed_step(self) -> int | None:
        """Return the first step at which a hypothesis fails, or None."""
        return None if self.failed is None else self.failed.step

    @property
    def slack(self) -> float | None:
        """Return bound − measured, or None where one of them is missing."""
        if self.bound is None or self.measured is None:
            return None
        return self.bound - self.measured

    @property
    def contradicted(self) -> bool:
        """Tell whether the theorem applies and yet measured > bound: a fault in book or code."""
        if not self.applies or self.bound is None or self.measured is None:
            return False
        return not self.measured <= self.bound * ROUNDING_FACTOR

    def to_dict(self) -> dict[str, object]:
        """Return everything a record keeps, derived entries included, ready for JSON."""
        return {
            **asdict(self),
            "hypotheses": [asdict(h) for h in self.hypotheses],
            "applies": self.applies,
            "failed": None if self.failed is None else self.failed.name,
            "failed_step": self.failed_step,
            "slack": self.slack,
            "contradicted": self.contradicted,
        }

    def line(self) -> str:
        """Return the verdict as one line of text, numbers rounded to three digits."""
        head = f"{self.title} ({self.subject})" if self.subject else self.title
        if self.failed is not None:
            when = "" if self.failed.step is None else f", first at step {self.failed.step}"
            return (
                f"{head}: does not apply, {self.failed.name} fails{when} ({self.failed.statement})."
            )
        if self.contradicted:
            return (
                f"{head}: CONTRADICTED, {self.quantity} {self.measured!r} exceeds {self.bound!r}."
            )
        if self.bound is None or self.measured is None:
            return f"{head}: applies."
        return f"{head}: applies; {self.quantity} {self.measured:.3g} ≤ {self.bound:.3g}."


def hypothesis_over_steps(
    name: str,
    statement: str,
    allowed: Sequence[float],
    measured: Sequence[float],
    start: int = 0,
) -> Hypothesis:
    """Check measured_t ≤ allowed_t at every step t; a NaN on either side fails.

    Args:
        name: of the hypothesis.
        statement: in plain words.
        allowed: right-hand sides, (T,).
        measured: left-hand sides, (T,).
        start: the step that the first of them belongs to.

    Returns:
        The `Hypothesis`, with the first failing step and the margin there, or the least margin of
        all steps.
    """
    margins = [a - m for a, m in zip(allowed, measured, strict=True)]
    for step, margin in enumerate(margins, start):
        if not margin >= 0.0:
            return Hypothesis(name, statement, False, step, margin)
    return Hypothesis(name, statement, True, None, min(margins, default=math.inf))
