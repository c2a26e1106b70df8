"""By how much an upper bound of the Lipschitz constant can change when the weights do; one output.

A *certificate* is a function of W and a, never of the biases, that bounds Lip(f) on every domain:
the product bound, the formal constant N, and L_sdp. All three have the same modulus:

    C(Θ') ≤ C(Θ) + L_σ(‖W‖‖Δa‖ + (‖a‖ + ‖Δa‖)‖ΔW‖).

The exact constant has none, but for a smooth σ on a bounded domain (`smooth_modulus`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.activations import Activation
from lipbook.lipschitz import product_upper_bounds, sdp_upper_bounds
from lipbook.lipschitz.product import slope_bounds, slope_magnitude
from lipbook.lipschitz.rounding import gamma, up
from lipbook.networks import Ensemble
from lipbook.theorems.refusal import refuse
from lipbook.theorems.verdict import Hypothesis, Verdict

# Each certificate and its name in a sentence.
NAMES = {"product": "product bound", "formal": "formal constant", "sdp": "L_sdp"}
CERTIFICATES = tuple(NAMES)

# Weights beyond this leave the range in which products of norms mean anything.
LARGEST = 1e100


def certificates(ensemble: Ensemble, kind: str = "product") -> np.ndarray:
    """Return the certificate of each network, rounded up; infinite where weights are not finite.

    Args:
        ensemble: K networks.
        kind: "product", L_σ‖A‖‖W‖; "formal", N (one input and one output); "sdp", L_sdp (one
            output), not below the infimum and above it by the gap of a search.

    Returns:
        (K,), unit of the outputs per unit of the inputs.

    Raises:
        ValueError: an unknown kind, or one that does not fit the networks.
    """
    check_certificate(kind, ensemble.input_dim, ensemble.output_dim)
    usable = usable_networks(ensemble)
    found = np.full(ensemble.size, np.inf)
    if not usable.any():
        return found
    kept = ensemble if usable.all() else ensemble.select(np.flatnonzero(usable).tolist())
    hidden, output = (e.detach().cpu().numpy() for e in (kept.hidden_weight, kept.output_weight))
    if kind == "product":
        found[usable] = product_upper_bounds(hidden, output, kept.activation)
    elif kind == "sdp":
        found[usable] = sdp_upper_bounds(hidden, output, kept.activation)
    else:
        found[usable] = _formal(hidden, output, kept.activation)
    return found


def _formal(weight: np.ndarray, output: np.ndarray, activation: Activation) -> np.ndarray:
    """Return N = max(Σ max(lv_j, uv_j), −Σ min(lv_j, uv_j)), v_j = a_jw_j, rounded up, (K,).

    `formal_upper_bound` does the same for one network; a cap asks at every step.
    """
    low, high = slope_bounds(activation)
    v = output[:, 0, :].astype(np.float64) * weight[:, :, 0]
    largest, smallest = np.maximum(low * v, high * v), np.minimum(low * v, high * v)
    steepest = np.maximum(np.maximum(largest.sum(1), -smallest.sum(1)), 0.0)
    size = np.abs(largest).sum(1) + np.abs(smallest).sum(1)
    # Products of weights below 2⁻⁵⁰⁰ may underflow; the last term is more than all they lose.
    return up(steepest + gamma(v.shape[1] + 4) * size, 3) + v.shape[1] * 2.0**-1000


def check_certificate(kind: str, input_dim: int, output_dim: int) -> None:
    """Raise ValueError unless there is such a certificate for networks of this shape."""
    if kind not in CERTIFICATES:
        raise ValueError(
            f"`certificate` must be one of {', '.join(CERTIFICATES)}. Got {kind!r}. "
            "Use 'product' for any network."
        )
    if kind != "product" and output_dim != 1:
        raise ValueError(
            f"`certificate` must be 'product' for several outputs. Got {kind!r} with {output_dim} "
            "outputs. The modulus of the others is proved for one."
        )
    if kind == "formal" and input_dim != 1:
        raise ValueError(
            f"`certificate` must be 'product' or 'sdp' for several inputs. Got 'formal' with "
            f"{input_dim} inputs. With one input 'sdp' and 'formal' are equal."
        )


def usable_networks(ensemble: Ensemble) -> np.ndarray:
    """Tell of each network whether its weights are finite and not astronomically large, (K,)."""
    # In float64: float32 would take the limit itself for infinity. A NaN fails the comparison.
    sizes = [each.detach().flatten(1).abs().amax(1).double() for each in ensemble.blocks()]
    return (torch.stack(sizes) <= LARGEST).all(0).cpu().numpy()


def growth(
    activation: Activation,
    hidden_norm: np.ndarray,
    output_norm: np.ndarray,
    hidden_change: np.ndarray,
    output_change: np.ndarray,
) -> np.ndarray:
    """Return L_σ(xη + (y + η)ξ), what a certificate can rise by; rounded to nearest.

    Args:
        activation: gives L_σ.
        hidden_norm: x = ‖W‖_op.
        output_norm: y = ‖a‖.
        hidden_change: ξ ≥ ‖ΔW‖_op.
        output_change: η ≥ ‖Δa‖.
    """
    x, y, xi, eta = hidden_norm, output_norm, hidden_change, output_change
    return slope_magnitude(activation) * (x * eta + (y + eta) * xi)


@dataclass(frozen=True)
class Modulus:
    """Bound a certificate after a change of the weights by the one before.

    C(Θ') ≤ C(Θ) + L_σ(‖W‖‖Δa‖ + (‖a‖ + ‖Δa‖)‖ΔW‖).

    Attributes:
        certificate: "product", "formal" or "sdp".

    References:
        The book's theorem `thm-modulus`.
    """

    certificate: str = "product"

    label = "thm-modulus"
    title = "Certificates change little when the weights do"

    def bound(self, before: Ensemble, after: Ensemble) -> np.ndarray:
        """Return C(Θ) + L_σ(…), (K,), rounded to nearest.

        Args:
            before: Θ.
            after: Θ', of the same shape.

        Raises:
            HypothesisError: several outputs with a certificate other than "product".
            ValueError: an unknown certificate, or "formal" with several inputs.
        """
        if before.output_dim != 1 and self.certificate != "product":
            refuse(
                "before", "have one output", self.label, "H1", f"{before.output_dim} outputs",
                "Use the product bound, whose modulus needs no such thing.",
            )  # fmt: skip
        norms = before.hidden_norm(), before.output_norm()
        changes = operator_changes(before, after)
        numbers = (each.cpu().numpy() for each in (*norms, *changes))
        return certificates(before, self.certificate) + growth(before.activation, *numbers)

    def verdict(self, before: Ensemble, after: Ensemble, subject: str = "") -> Verdict:
        """Return what the theorem says of one pair of networks.

        Args:
            before: Θ, an ensemble of size one.
            after: Θ', another.
            subject: which pair.

        Returns:
            The `Verdict`.
        """
        one = before.output_dim == 1
        fits = one and (self.certificate != "formal" or before.input_dim == 1)
        finite = bool(usable_networks(before)[0] and usable_networks(after)[0])
        return Verdict(
            theorem=self.label,
            title=self.title,
            quantity=f"{self.certificate} certificate after the change",
            hypotheses=(
                Hypothesis("H1", "the networks have one output", one),
                Hypothesis("H2", "all weights are finite", finite),
            ),
            bound=float(self.bound(before, after)[0]) if fits and finite else None,
            measured=float(certificates(after, self.certificate)[0]) if fits and finite else None,
            subject=subject,
        )


def operator_changes(before: Ensemble, after: Ensemble) -> tuple[Tensor, Tensor]:
    """Return ‖ΔW‖_op and ‖ΔA‖_op, each (K,)."""
    hidden = torch.linalg.matrix_norm(after.hidden_weight - before.hidden_weight, ord=2)
    output = torch.linalg.matrix_norm(after.output_weight - before.output_weight, ord=2)
    return hidden, output
