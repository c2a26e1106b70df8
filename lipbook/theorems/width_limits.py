"""Statements about many neurons, put to the test on a sequence of widths.

A limit says nothing of any one width. What can be seen is a trend: between the first and the last
of several widths the distance from the limit must have shrunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lipbook.theorems.refusal import refuse
from lipbook.theorems.setting import Setting
from lipbook.theorems.verdict import Hypothesis, Verdict
from lipbook.theorems.width_free import FORMS, limit_rise

# Fewer widths, or widths closer together, show no trend.
FEWEST, SPREAD = 3, 16

# The power of m by which each form's bound grows, (rates of fixed mass, of mass S/√m).
ORDERS = {
    "adaptive": (0.5, 0.5),
    "energy": (0.5, 0.5),
    "budget": (0.5, 0.5),
    "huber": (1.0, 0.5),
    "bounded": (2.0, 0.5),
}


def trend(widths: Mapping[int, float]) -> Hypothesis:
    """Check that there are enough widths, far enough apart, with a finite value each.

    Args:
        widths: values by m.
    """
    wide = len(widths) >= FEWEST and max(widths) >= SPREAD * min(widths)
    finite = bool(np.isfinite(list(widths.values())).all())
    statement = f"there are {FEWEST} widths or more, {SPREAD}-fold apart, and all values are finite"
    return Hypothesis("H1", statement, wide and finite)


def _ends(distances: Mapping[int, float]) -> tuple[float | None, float | None]:
    """Return the values at the largest and at the smallest width."""
    if not distances:
        return None, None
    return float(distances[max(distances)]), float(distances[min(distances)])


@dataclass(frozen=True)
class WidthFreeLimit:
    """Say what the rise of the width-free bound tends to as m → ∞ at a Gaussian start.

    L_σψ/(√d(κ√(1 + s²) + |σ(0)|)), ψ = √(2R₀θ) (energy) or λ(R₀)(e^θ − 1) (budget).

    Attributes:
        setting: gives L_σ, κ, σ(0) and d; its width is not used.
        bias_scale: s.
        pull: √(2R₀) or λ(R₀), of the limit.
        theta: θ, the mass in safe steps.
        form: "energy" or "budget".

    Raises:
        HypothesisError: an unknown form.

    References:
        The book's corollary `cor-width-free`.
    """

    setting: Setting
    bias_scale: float
    pull: float
    theta: float
    form: str = "energy"

    label = "cor-width-free"
    title = "The limit of many neurons"

    def __post_init__(self) -> None:
        """Refuse a form that there is not."""
        if self.form not in FORMS:
            refuse(
                "form", "be 'energy' or 'budget'", self.label, "H3", repr(self.form),
                "Use 'energy' for runs that descend.",
            )  # fmt: skip

    @property
    def limit(self) -> float:
        """Return the limit of the rise."""
        return limit_rise(self.setting, self.bias_scale, self.pull, self.theta, self.form)

    def verdict(self, rises: Mapping[int, float]) -> Verdict:
        """Return whether rises at several widths come closer to the limit.

        Args:
            rises: by m, the rise of the bound at a Gaussian start, such as a median over seeds.

        Returns:
            The `Verdict`; measured and bound are the relative distances from the limit at the
            largest and at the smallest width.
        """
        distances = {m: abs(rise / self.limit - 1.0) for m, rise in rises.items()}
        measured, bound = _ends(distances)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="relative distance from the limit at the largest width",
            hypotheses=(trend(rises),),
            bound=bound,
            measured=measured,
            subject=self.form,
        )


@dataclass(frozen=True)
class WidthFreeAttained:
    """Say that constant and width-free bound have a quotient that tends to 1, in three examples.

    References:
        The book's proposition `prop-width-free-attained`.
    """

    label = "prop-width-free-attained"
    title = "The width-free bound is attained in the limit"

    def verdict(self, verdicts: Mapping[int, Verdict], subject: str = "") -> Verdict:
        """Return whether verdicts of `thm-width-free` at several widths lose less and less.

        Args:
            verdicts: by m, of one step of one of the examples.
            subject: which of them.

        Returns:
            The `Verdict`; measured and bound are the shares lost, 1 − constant/bound, at the
            largest and at the smallest width.
        """
        shares = {
            m: 1.0 - v.measured / v.bound if v.measured is not None and v.bound else np.nan
            for m, v in verdicts.items()
        }
        statement = "the width-free bound applies to every step"
        applies = all(v.applies for v in verdicts.values())
        measured, bound = _ends(shares)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="share of the bound that is lost at the largest width",
            hypotheses=(trend(shares), Hypothesis("H2", statement, applies)),
            bound=bound,
            measured=measured,
            subject=subject,
        )


@dataclass(frozen=True)
class FormCosts:
    """Say by which power of the width the bound of each form of the decay condition grows.

    √m for all of them at a Gaussian start, if the mass is S/√m or the form needs no mass; at a
    fixed mass m under Huber's loss, and m² for bounded activations.

    Attributes:
        form: "adaptive", "energy", "budget", "huber" or "bounded".
        scaled: whether the mass is S/√m; else it is fixed.

    Raises:
        HypothesisError: an unknown form.

    References:
        The book's proposition `prop-costs`.
    """

    form: str
    scaled: bool = False

    label = "prop-costs"
    title = "What each form costs"

    def __post_init__(self) -> None:
        """Refuse a form that there is not."""
        if self.form not in ORDERS:
            refuse(
                "form", f"be one of {', '.join(ORDERS)}", self.label, "a, b", repr(self.form),
                "These are the forms of the decay condition.",
            )  # fmt: skip

    @property
    def order(self) -> float:
        """Return k, for which the bound is O(m^k)."""
        return ORDERS[self.form][self.scaled]

    def verdict(self, bounds: Mapping[int, float]) -> Verdict:
        """Return whether the growth of bounds over several widths comes closer to the order.

        Args:
            bounds: by m, the form's bound at a Gaussian start, such as a median over seeds.

        Returns:
            The `Verdict`; measured is how far the last local exponent is above the order, bound how
            far the first is from it.
        """
        widths = np.array(sorted(bounds), dtype=np.float64)
        logs = np.log([bounds[int(m)] for m in widths])
        exponents = np.diff(logs) / np.diff(np.log(widths))
        enough = len(exponents) > 0
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="excess of the last local exponent over the order",
            hypotheses=(trend(bounds),),
            bound=float(abs(exponents[0] - self.order)) if enough else None,
            measured=float(max(exponents[-1] - self.order, 0.0)) if enough else None,
            subject=f"{self.form}, mass S/√m" if self.scaled else self.form,
        )
