"""By how much the exact Lipschitz constant on a bounded domain can change with the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.networks import Ensemble
from lipbook.theorems.moduli import growth, operator_changes
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict


def first_layer_change(before: Ensemble, after: Ensemble) -> Tensor:
    """Return ‖ΔV‖_op with V = (W, b), m × (d+1), (K,)."""
    ends = [torch.cat((e.hidden_weight, e.hidden_bias[:, :, None]), 2) for e in (before, after)]
    return torch.linalg.matrix_norm(ends[1] - ends[0], ord=2)


def slope_lever(ensemble: Ensemble, radius: float, label: str) -> np.ndarray:
    """Return q = L_σ'√(1 + B²)‖a‖_∞‖W‖_op, what the slopes of a smooth σ add to the modulus, (K,).

    Args:
        ensemble: Θ; one output.
        radius: B.
        label: of the statement that asks.

    Raises:
        HypothesisError: σ has no Lipschitz slope, or there are several outputs.
    """
    if ensemble.output_dim != 1:
        refuse(
            "ensemble", "have one output", label, "H1", f"{ensemble.output_dim} outputs",
            "Look at one output at a time.",
        )  # fmt: skip
    steep = ensemble.activation.slope_lipschitz
    if steep is None:
        refuse(
            "activation", "have a Lipschitz slope", label, "H2", repr(ensemble.activation.name),
            "Carry N or L_sdp, or use tanh, sigmoid, softplus, gelu or silu.",
        )  # fmt: skip
    largest = ensemble.output_weight.abs().amax((1, 2)).cpu().numpy()
    return steep * np.hypot(1.0, radius) * largest * ensemble.hidden_norm().cpu().numpy()


@dataclass(frozen=True)
class SmoothModulus:
    """Bound the exact constant after a change of the weights; σ smooth, the domain in a ball.

    Lip_D(f') ≤ Lip_D(f) + L_σ(‖W‖‖Δa‖ + (‖a‖ + ‖Δa‖)‖ΔW‖) + L_σ'√(1 + B²)‖a‖_∞‖W‖‖ΔV‖.

    Attributes:
        radius: B; ‖x‖ ≤ B for every x in the domain.

    References:
        The book's theorem `thm-smooth-modulus`.
    """

    radius: float

    label = "thm-smooth-modulus"
    title = "A smooth network's own constant changes little, too"

    def bound(self, before: Ensemble, after: Ensemble, known: np.ndarray) -> np.ndarray:
        """Return known + L_σ(…) + L_σ'√(1 + B²)‖a‖_∞‖W‖‖ΔV‖, (K,), rounded to nearest.

        Args:
            before: Θ.
            after: Θ', of the same shape.
            known: Lip_D(f_Θ) or upper bounds of it, (K,).

        Raises:
            HypothesisError: several outputs, or σ has no Lipschitz slope.
        """
        lever = slope_lever(before, self.radius, self.label)
        norms = before.hidden_norm(), before.output_norm()
        numbers = [e.cpu().numpy() for e in (*norms, *operator_changes(before, after))]
        turned = lever * first_layer_change(before, after).cpu().numpy()
        return known + growth(before.activation, *numbers) + turned

    def verdict(
        self,
        before: Ensemble,
        after: Ensemble,
        constants: tuple[float, float],
        reach: float,
        subject: str = "",
    ) -> Verdict:
        """Return what the theorem says of one pair of networks.

        Args:
            before: Θ, an ensemble of size one.
            after: Θ', another.
            constants: an upper bound of Lip_D(f_Θ) and the measured Lip_D(f_Θ'), on one domain.
            reach: the largest ‖x‖ on this domain.
            subject: which pair.

        Returns:
            The `Verdict`.
        """
        one = before.output_dim == 1
        smooth = before.activation.slope_lipschitz is not None
        known = np.array([constants[0]])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity="Lipschitz constant after the change",
            hypotheses=(
                Hypothesis("H1", "the networks have one output", one),
                Hypothesis("H2", "the slope of the activation is Lipschitz", smooth),
                Hypothesis(
                    "H3", f"the domain lies in the ball of radius {self.radius:g}",
                    reach <= self.radius, margin=self.radius - reach,
                ),
            ),
            bound=float(self.bound(before, after, known)[0]) if one and smooth else None,
            measured=constants[1],
            subject=subject,
        )  # fmt: skip
