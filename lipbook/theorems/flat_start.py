"""A Gaussian start is flat and looks steep, as code: the exact constant and the formal ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from lipbook.activations import Activation
from lipbook.networks import Ensemble
from lipbook.theorems.arrangement import cell_count_bound
from lipbook.theorems.chance import verdict_over_seeds
from lipbook.theorems.gaussian_start import GaussianStart, drawn_as, one_output
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict


def slope_variation(activation: Activation) -> float:
    """Return the total variation of σ' on the real line, V.

    Between its turns σ' is monotone, so V is the sum of the differences between neighbours in the
    list σ'(−∞), σ' at its turns, σ'(∞).

    Args:
        activation: σ.

    Returns:
        V, in the unit of σ'; rounded to nearest.
    """
    turns = [float(activation.slope(np.array(z))) for z in activation.slope_turns]
    first, last = activation.slope_limits
    return float(np.abs(np.diff([first, *turns, last])).sum())


def pattern_size(activation: Activation) -> float:
    """Return Λ_σ: L_σ with one kink, |σ'(−∞)| + V for a smooth σ.

    Args:
        activation: σ.
    """
    if activation.is_piecewise_linear:
        return activation.lipschitz
    return abs(activation.slope_limits[0]) + slope_variation(activation)


def log_patterns(width: int, input_dim: int, activation: Activation) -> float:
    """Return ln C(m, ≤ d) with one kink, ln C(m, ≤ d + 1) for a smooth σ.

    Args:
        width: m.
        input_dim: d.
        activation: σ.
    """
    extra = 0 if activation.is_piecewise_linear else 1
    return math.log(cell_count_bound(width, input_dim + extra))


@dataclass(frozen=True)
class FlatStart:
    """Bound the exact Lipschitz constant, on all of ℝ^d, of a network at its Gaussian start.

    Given W and b, with probability at least 1 − η and ϑ = √(2 ln(1/η)):
    Lip(f_0) ≤ ω_A Λ_σ(‖W_0‖_F + √(2 ln C + ϑ²)‖W_0‖), C the number of patterns. For a Gaussian W,
    with probability at least 1 − 3η, the norms may be replaced by ω_W(√(md) + ϑ) and
    ω_W(√m + √d + ϑ). With one input and one kink also, given W and b and with probability at
    least 1 − η: Lip(f_0) ≤ ω_A(L_σ + |s_+ − s_-|)·u·‖W_0‖, with 3P(|Z| > u) = η for a standard
    normal Z.

    Attributes:
        start: the shape, the scale and η.
        activation: σ.

    References:
        The book's theorem `thm-flat-start`.
    """

    start: GaussianStart
    activation: Activation

    label = "thm-flat-start"
    title = "A Gaussian start is flat"

    @property
    def reach(self) -> float:
        """√(2 ln C + ϑ²)."""
        m, d = self.start.width, self.start.input_dim
        return math.sqrt(2.0 * log_patterns(m, d, self.activation) + self.start.deviation**2)

    def given(self, starts: Ensemble) -> np.ndarray:
        """Return ω_A Λ_σ(‖W_0‖_F + √(2 ln C + ϑ²)‖W_0‖) of each network.

        Args:
            starts: networks as they were drawn.

        Returns:
            (K,), unit of the outputs per unit of the inputs, rounded to nearest.
        """
        frobenius = starts.hidden_weight.flatten(1).norm(dim=1).cpu().numpy()
        norms = frobenius + self.reach * starts.hidden_norm().cpu().numpy()
        return self.start.scale.output_weight * pattern_size(self.activation) * norms

    @property
    def before(self) -> float:
        """The bound before anything is drawn, with probability at least 1 − 3η."""
        m, d, scale = self.start.width, self.start.input_dim, self.start.scale
        frobenius = scale.hidden_weight * (math.sqrt(m * d) + self.start.deviation)
        norms = frobenius + self.reach * self.start.hidden_norm
        return scale.output_weight * pattern_size(self.activation) * norms

    @property
    def in_the_ratio(self) -> float:
        """The plain form, L(1 + ϑ + (2 + ϑ)(√(2 ln(e·max(1, m/d))) + ϑ)), shrunk; one kink only.

        Raises:
            HypothesisError: σ is smooth.
        """
        self._refuse_smooth()
        m, d, theta = self.start.width, self.start.input_dim, self.start.deviation
        scale = self.start.scale
        shrink = scale.hidden_weight * scale.output_weight * math.sqrt(m * d)
        log = math.sqrt(2.0 * (1.0 + math.log(max(1.0, m / d))))
        return shrink * self.activation.lipschitz * (1.0 + theta + (2.0 + theta) * (log + theta))

    def on_a_line(self, starts: Ensemble) -> np.ndarray:
        """Return ω_A(L_σ + |s_+ − s_-|)·u·‖W_0‖ of each network: no logarithm, for one input.

        Args:
            starts: networks as they were drawn, with one input.

        Returns:
            (K,), rounded to nearest.

        Raises:
            HypothesisError: σ is smooth, or there are several inputs.
        """
        self._refuse_smooth()
        if starts.input_dim != 1:
            refuse("starts", "have one input", self.label, "H4", starts.input_dim, "Use `given`.")
        assert self.activation.kink_slopes is not None
        left, right = self.activation.kink_slopes
        size = self.activation.lipschitz + abs(right - left)
        quantile = float(stats.norm.isf(self.start.failure / 6.0))
        norms = starts.hidden_norm().cpu().numpy()
        return self.start.scale.output_weight * size * quantile * norms

    def verdicts_over_seeds(self, starts: Ensemble, lipschitz: np.ndarray) -> dict[str, Verdict]:
        """Return what the theorem says of many independent starts.

        Args:
            starts: networks as they were drawn, one per seed.
            lipschitz: their Lipschitz constants on any domain, or lower bounds of them, (K,).

        Returns:
            {"given", "before", "line"}: a `Verdict` for each form of the bound.
        """
        hypotheses = drawn_as(self.start.scale, starts), one_output(starts)
        kinked = self.activation.is_piecewise_linear
        narrow = (
            Hypothesis("H3", "the activation has one kink", kinked),
            Hypothesis("H4", "the network has one input", starts.input_dim == 1),
        )
        line = all(h.holds for h in narrow)
        eta = self.start.failure
        bounds = {
            "given": (self.given(starts), eta, ()),
            "before": (np.full(starts.size, self.before), 3.0 * eta, ()),
            "line": (
                self.on_a_line(starts) if line else np.full(starts.size, math.nan), eta, narrow
            ),
        }  # fmt: skip
        names = {"given": "given W and b", "before": "before any draw", "line": "one input"}
        return {
            key: verdict_over_seeds(
                FlatStart,
                f"exact constant, {names[key]}",
                (*hypotheses, *extra),
                lipschitz,
                bound,
                failure,
            )
            for key, (bound, failure, extra) in bounds.items()
        }

    def _refuse_smooth(self) -> None:
        if not self.activation.is_piecewise_linear:
            refuse(
                "activation", "have one kink", self.label, "H3", repr(self.activation.name),
                "Use `given` or `before`, which also speak about smooth ones.",
            )  # fmt: skip


@dataclass(frozen=True)
class SteepFormal:
    """Bound the formal constant at a Gaussian start from below: it grows like √m.

    With probability at least 1 − η: N(f_0) ≥ h·ω_W·ω_A(2m/π − ϑ√m), h half the length of the range
    of slopes; at the standard scale with ReLU that is (√m/π − ϑ/2)/√d. Every bound that does not
    look at the biases is at least N.

    Attributes:
        start: the shape, the scale and η.
        activation: σ.

    References:
        The book's theorem `thm-steep-formal`.
    """

    start: GaussianStart
    activation: Activation

    label = "thm-steep-formal"
    title = "A Gaussian start looks steep"

    @property
    def bound(self) -> float:
        """h·ω_W·ω_A(2m/π − ϑ√m); negative, and so void, if ϑ > 2√m/π."""
        low, high = self.activation.slope_range
        m, scale = self.start.width, self.start.scale
        spread = 0.5 * (high - low) * scale.hidden_weight * scale.output_weight
        return spread * (2.0 * m / math.pi - self.start.deviation * math.sqrt(m))

    def verdict_over_seeds(self, starts: Ensemble, formal: np.ndarray) -> Verdict:
        """Return what the theorem says of many independent starts.

        Args:
            starts: networks as they were drawn, one per seed.
            formal: their formal constants, or upper bounds of these, (K,).

        Returns:
            The `Verdict`; a seed is beyond the bound if its formal constant is below it.
        """
        bound = self.bound
        return verdict_over_seeds(
            SteepFormal,
            "formal constant, from below",
            (
                drawn_as(self.start.scale, starts),
                one_output(starts),
                Hypothesis("H3", "the bound is positive: ϑ < 2√m/π", bound > 0.0, margin=bound),
            ),
            np.full(starts.size, bound),
            formal,
            self.start.failure,
        )
