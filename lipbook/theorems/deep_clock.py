"""How much mass it takes to walk a path at the greatest speed that a deep risk allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from lipbook.theorems.deep_setting import DeepSetting

# On a panel whose ends differ by a factor of two, 1/F is smooth: this many nodes give all digits.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
# A panel that adds less than this share to the whole is the last.
SHARE = 1e-17
# Beyond this length a path is infinite for all that matters.
FURTHEST = 1e290


@dataclass(frozen=True)
class Clock:
    """Hold F(e) = min(δ, Λ₀ + q(u + e) − q(u))·q'(u + e) and tell the mass ∫ds/F(s).

    Attributes:
        setting: gives q.
        norm: u.
        residual: Λ₀ > 0.
        most: δ, or infinity for the squared loss.

    References:
        The book's theorem `thm-deep-budget`.
    """

    setting: DeepSetting
    norm: float
    residual: float
    most: float

    def speed(self, path: np.ndarray) -> np.ndarray:
        """Return F(e), elementwise.

        Args:
            path: e ≥ 0.
        """
        pull = np.minimum(self.most, self.residual + self.setting.rise(self.norm, path))
        with np.errstate(over="ignore"):
            return np.asarray(pull * self.setting.growth(self.norm + path))

    def mass(self, low: float, high: float) -> float:
        """Return ∫ds/F(s) over a panel, on which F must not vary by orders.

        Args:
            low: its lower end.
            high: its upper end.
        """
        half = 0.5 * (high - low)
        with np.errstate(divide="ignore"):
            return float(half * np.sum(WEIGHTS / self.speed(low + half * (1.0 + NODES))))

    def total(self) -> float:
        """Return ∫_0^∞ds/F(s), which must be finite, rounded to nearest."""
        found = 0.0
        for low, high in self._panels():
            more = self.mass(low, high)
            found += more
            if low >= self._unit and more <= SHARE * found:
                break
        return found

    def path(self, mass: float) -> float:
        """Return the e with ∫_0^e ds/F(s) = S; infinite where the integral stays below S.

        Args:
            mass: S > 0.
        """
        left = mass
        for low, high in self._panels():
            more = self.mass(low, high)
            if more >= left:
                return self._within(low, high, left)
            if low >= self._unit and more <= SHARE * mass:
                break
            left -= more
        return float("inf")

    def _within(self, low: float, high: float, mass: float) -> float:
        """Return the e of a panel at which the mass from its lower end on is spent."""

        def excess(share: float) -> float:  # in shares of the panel: its ends may be tiny
            return self.mass(low, low + share * (high - low)) - mass

        share = brentq(excess, 0.0, 1.0, xtol=1e-15, rtol=1e-15)
        return float(low + share * (high - low))

    def _panels(self) -> Iterator[tuple[float, float]]:
        """Yield intervals from 0 on, each as long as all before, cut where the pull reaches δ."""
        edge, kink = 0.5 * self._scale(), self._kink()
        low = 0.0
        while low < FURTHEST:
            if low < kink < edge:
                yield low, kink
                yield kink, edge
            else:
                yield low, edge
            low, edge = edge, 2.0 * edge

    @property
    def _unit(self) -> float:
        """Return the path past which 1/F falls from panel to panel."""
        return (1.0 + self.norm) / self.setting.depth

    def _scale(self) -> float:
        """Return the path over which F changes by a factor at first."""
        if self.residual >= self.most:  # the pull stays at δ
            return self._unit
        return min(self._unit, self.residual / float(self.setting.growth(self.norm)))

    def _kink(self) -> float:
        """Return the e at which Λ₀ + q(u + e) − q(u) = δ; infinite if there is none."""
        if not self.residual < self.most < np.inf:
            return float("inf")

        def below(path: float) -> float:
            return float(self.residual + self.setting.rise(self.norm, np.asarray(path)) - self.most)

        high = 1.0
        while below(high) < 0.0:
            high *= 2.0
        return float(brentq(below, 0.0, high, xtol=1e-300, rtol=1e-14))
