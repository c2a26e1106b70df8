"""Minima at which descent with a constant rate can stay, as code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.kernels import least_eigenvalue, parameter_jacobian
from lipbook.theorems.minima import FOLLOWED, NUDGE, Minimum
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict


@dataclass(frozen=True)
class StableSharpness:
    """Bound the largest second derivative of the risk at a minimum by 2/α.

    If ∇R(Θ*) = 0, ∇R is differentiable at Θ* and Θ* is Lyapunov stable under Θ ↦ Θ − α∇R(Θ), then 0
    ≤ λ_min(∇²R(Θ*)) and λ_max(∇²R(Θ*)) ≤ 2/α.

    References:
        The book's theorem `thm-stable-sharpness`.
    """

    label = "thm-stable-sharpness"
    title = "A stable minimum is not sharp"

    def bound(self, rate: float) -> float:
        """Return 2/α.

        Args:
            rate: α.

        Raises:
            HypothesisError: α ≤ 0.
        """
        if not rate > 0:
            remedy = "A rate of 0 makes every point stable."
            refuse("rate", "be positive", self.label, "H3", rate, remedy)
        return 2.0 / rate

    def verdict(self, minimum: Minimum, subject: str = "") -> Verdict:
        """Return what the theorem says of the network that a run ended with.

        Stability cannot be observed. What is tested is that starts moved a little, to both sides
        along the sharpest direction, come back: a test of λ_max ≤ 2/α near by, not of λ_min ≥ 0.

        Args:
            minimum: the network, its problem and its rate.
            subject: which run this is about.

        Returns:
            The `Verdict`.
        """
        names = (
            "descent has come to rest",
            "a start moved along the sharpest direction comes back",
        )
        finite, positive = minimum.is_finite, minimum.rate > 0
        measured, rests, returns = None, False, False
        if finite and positive:
            measured, direction = minimum.sharpness()
            nudge = NUDGE * (1.0 + float(minimum.network.parameter_norm()[0]))
            drift = float(minimum.offset(minimum.follow(minimum.network, FOLLOWED)).norm())
            rests = drift <= 0.05 * nudge
            returns = rests and self._returns(minimum, direction, nudge)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="largest eigenvalue of the second derivatives",
            hypotheses=(
                Hypothesis("H1", names[0], rests),
                minimum.off_kinks(),
                Hypothesis("H3", names[1], returns),
            ),
            bound=self.bound(minimum.rate) if positive else None,
            measured=measured,
            subject=subject,
        )

    def _returns(self, minimum: Minimum, direction: Tensor, nudge: float) -> bool:
        """Follow two starts on both sides; the part along the direction must have shrunk."""
        sides = minimum.moved(torch.stack([-direction, direction]), nudge)
        away = minimum.offset(minimum.follow(sides, FOLLOWED))
        near = (away @ direction).abs() <= nudge
        return bool((near & (away.norm(dim=1) <= 2.0 * nudge)).all())


@dataclass(frozen=True)
class StableData:
    """Bound the slopes of a stable network that meets every target, at the data points.

    ‖∇_Θ f(x_i)‖² ≤ λ_max(JJᵀ) ≤ 2n/α and ‖∇f(x_i)‖ ≤ ‖W‖·√((2n/α − 1 − ‖σ(z_i)‖²)/(1 + ‖x_i‖²)).

    References:
        The book's theorem `thm-stable-data`.
    """

    label = "thm-stable-data"
    title = "Flat at the data points"

    def bound(self, minimum: Minimum) -> np.ndarray:
        """Return the bound of ‖∇f(x_i)‖ at every data point, (n,).

        Args:
            minimum: the network, its problem and its rate.

        Raises:
            HypothesisError: 2n/α is less than 1 + ‖σ(z_i)‖² for some i, so that nothing is stable.
        """
        if not minimum.rate > 0:
            refuse("minimum", "have a positive rate", self.label, "H3", minimum.rate, "Use α > 0.")
        left = self._left(minimum)
        if not (left >= 0).all():
            remedy = "Such a network is not stable at this rate: lower the rate."
            least = float(left.min())
            refuse("minimum", "leave 2n/α − 1 − ‖σ(z_i)‖² ≥ 0", self.label, "H3", least, remedy)
        norms = 1.0 + minimum.x.square().sum(1)
        hidden = float(minimum.network.hidden_norm()[0])
        return hidden * np.sqrt((left / norms).cpu().numpy())

    def parameter_slopes(self, minimum: Minimum) -> np.ndarray:
        """Return ‖∇_Θ f(x_i)‖² at every data point, (n,).

        Args:
            minimum: the network and its problem.
        """
        jacobian = parameter_jacobian(minimum.network, minimum.x)[0]
        return jacobian.square().sum(1).cpu().numpy()

    def slopes(self, minimum: Minimum) -> np.ndarray:
        """Return ‖∇f(x_i)‖ at every data point, (n,).

        Args:
            minimum: the network and its problem.
        """
        return minimum.network.jacobian(minimum.x)[0, :, 0].norm(dim=1).cpu().numpy()

    def verdict(
        self,
        minimum: Minimum,
        subject: str = "",
        part: str = "slope",
        stable: Hypothesis | None = None,
    ) -> Verdict:
        """Return what the theorem says of the network that a run ended with.

        Args:
            minimum: the network, its problem and its rate.
            subject: which run this is about.
            part: "slope" for ‖∇f(x_i)‖ at the data point closest to its bound, "parameters" for the
                largest ‖∇_Θ f(x_i)‖².
            stable: H3 of `StableSharpness` there, if it is known already.

        Returns:
            The `Verdict`.
        """
        stable = stable or StableSharpness().verdict(minimum).hypotheses[2]
        bound = measured = None
        if part == "parameters" and minimum.rate > 0 and minimum.is_finite:
            bound = 2.0 * len(minimum.x) / minimum.rate
            measured = float(self.parameter_slopes(minimum).max())
        elif minimum.rate > 0 and minimum.is_finite and bool((self._left(minimum) >= 0).all()):
            bounds, slopes = self.bound(minimum), self.slopes(minimum)
            closest = int(np.argmax(slopes / np.maximum(bounds, 1e-300)))
            bound, measured = float(bounds[closest]), float(slopes[closest])
        words = {
            "slope": "slope of the network at a data point",
            "parameters": "largest squared gradient in the parameters at a data point",
        }
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=words[part],
            hypotheses=(minimum.interpolates(), minimum.off_kinks(), stable),
            bound=bound,
            measured=measured,
            subject=subject,
        )

    def _left(self, minimum: Minimum) -> Tensor:
        hidden = minimum.network.activation.value(minimum.network.preactivation(minimum.x))[0]
        return 2.0 * len(minimum.x) / minimum.rate - 1.0 - hidden.square().sum(1)


@dataclass(frozen=True)
class StableConverse:
    """Prove a network that meets every target Lyapunov stable by its tangent kernel.

    If 0 < λ_min(JJᵀ) and λ_max(JJᵀ) < 2n/α, with η = 1 − αλ_max/(2n), starts within a small
    distance stay within (1 + √(λ_max/λ_min)/η) times it, up to a factor that tends to 1 with it.
    Of σ this asks for two derivatives near the pre-activations only: off its kinks ReLU has them.

    References:
        The book's proposition `prop-stable-converse`.
    """

    label = "prop-stable-converse"
    title = "Nothing but sharpness is in the way"

    def bound(self, minimum: Minimum) -> float:
        """Return 1 + √(λ_max/λ_min)/η.

        Args:
            minimum: the network, its problem and its rate.

        Raises:
            HypothesisError: the rows of J are not independent, or α ≥ 2n/λ_max(JJᵀ).
        """
        low, high = self._ends(minimum)
        if not low > 0:
            remedy = "Drop repeated samples."
            refuse("minimum", "have independent gradients", self.label, "H3", low, remedy)
        limit = 2.0 * len(minimum.x) / high
        if not minimum.rate < limit:
            remedy = "Lower the rate."
            refuse(
                "minimum", f"have a rate below {limit:.3g}", self.label, "H4", minimum.rate, remedy
            )
        return 1.0 + math.sqrt(high / low) / (1.0 - minimum.rate / limit)

    def verdict(self, minimum: Minimum, subject: str = "", seed: int = 0) -> Verdict:
        """Return whether the network is stable at its rate, and follow some starts near by.

        Args:
            minimum: the network, its problem and its rate.
            subject: which run this is about.
            seed: of the directions of the starts.

        Returns:
            The `Verdict`: how far off starts get, relative to how far off they were put.
        """
        low, high = self._ends(minimum)
        below = 0 < minimum.rate * high < 2.0 * len(minimum.x)
        bound = 1.001 * self.bound(minimum) if low > 0 and below else None
        hypotheses = (
            minimum.interpolates(),
            self._smooth(minimum, bound or 1.0),
            Hypothesis("H3", "the samples' gradients are independent", low > 0, margin=low),
            Hypothesis("H4", "the rate is below 2n/λ_max(JJᵀ)", below),
        )
        applies = all(each.holds for each in hypotheses)
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="distance that starts near by reach, relative to their first distance,",
            hypotheses=hypotheses,
            bound=bound if applies else None,
            measured=self._reach(minimum, seed) if applies else None,
            subject=subject,
        )

    def _smooth(self, minimum: Minimum, reach: float) -> Hypothesis:
        """Check that no start that is followed can take a sample across a kink."""
        # z_j(x_i) changes by at most ‖x̃_i‖ times how far the weights have moved.
        crossing = reach * NUDGE * math.sqrt(1.0 + float(minimum.x.square().sum(1).max()))
        margin = minimum.kink_distance - crossing if minimum.is_finite else -math.inf
        statement = "σ is twice differentiable near each pre-activation"
        return Hypothesis("H2", statement, margin > 0, margin=margin)

    def _reach(self, minimum: Minimum, seed: int) -> float:
        p = minimum.network.n_parameters
        drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal((3, p)))
        directions = torch.cat([drawn.to(minimum.x), minimum.sharpness()[1][None]])
        now = minimum.moved(directions / directions.norm(dim=1, keepdim=True), NUDGE)
        reach = 1.0
        for _ in range(FOLLOWED):
            now = minimum.follow(now, 1)
            reach = max(reach, float(minimum.offset(now).norm(dim=1).max()) / NUDGE)
        return reach

    def _ends(self, minimum: Minimum) -> tuple[float, float]:
        if not minimum.is_finite:
            return 0.0, math.inf
        jacobian = parameter_jacobian(minimum.network, minimum.x)[0]
        high = float(torch.linalg.matrix_norm(jacobian, ord=2)) ** 2
        return least_eigenvalue(minimum.network, 0, minimum.x).lower, high
