"""The Lipschitz budget: rates so small that a certificate never passes a limit, whatever comes.

With C a certificate (see `lipbook.theorems.moduli`), x = ‖W‖, y = ‖a‖ and ξ, η the norms of the
gradient's blocks, a step of rate α ends with a certificate of at most C + L_σ(xαη + (y + αη)αξ).
The budget allows the α for which the rise is at most a share θ of the room L* − C.

All of it is rounded outwards: with the weights that floating point stores after the step, not only
with those that exact arithmetic would give, the certificate is at most L*. A rate at which an
entry could overflow is lowered, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.rounding import norm_upper, spectral_norm_upper, up
from lipbook.networks import BLOCKS, Ensemble
from lipbook.rate_caps import DescentState
from lipbook.theorems.moduli import LARGEST, certificates, check_certificate, usable_networks

# Every line below is a dozen roundings of 2⁻⁵³ at most: a share of 10⁻¹² covers them all.
_SAFE = 1e-12


@dataclass(frozen=True)
class StepSizes:
    """Hold bounds of what a step of rate α can do to one layer: at most δ + αξ.

    Attributes:
        norm: upper bounds of the operator norm of the weights, (K,).
        slack: δ, what rounding of the new weights can add to their distance from the old, (K,).
        slope: ξ, upper bounds of the norm of the gradient, with a share for rounding, (K,).
    """

    norm: np.ndarray
    slack: np.ndarray
    slope: np.ndarray


def step_sizes(weight: Tensor, gradient: Tensor) -> StepSizes:
    """Return bounds for a layer's step, rounded outwards.

    An entry that is stored after the step differs from w − αg by at most 4u(|w| + α|g|) + (4 + α)ν,
    u the unit roundoff of the format and ν its least normal number, α the rate as the arithmetic
    reads it (see `lowered`): two roundings, and underflow, flushed to zero or not.

    Args:
        weight: (K, p, q).
        gradient: (K, p, q), of the same dtype.

    Returns:
        The `StepSizes`, in float64.
    """
    unit, least = 0.5 * torch.finfo(weight.dtype).eps, torch.finfo(weight.dtype).tiny
    stored = weight.detach().double().cpu().numpy()
    slope = gradient.detach().double().cpu().numpy()
    flat = stored.reshape(len(stored), -1), slope.reshape(len(stored), -1)
    floor = math.sqrt(flat[0].shape[1]) * least
    sizes = [norm_upper(each) for each in flat]
    return StepSizes(
        norm=spectral_norm_upper(stored),
        slack=(4.0 * unit * sizes[0] + 4.0 * floor) * (1.0 + _SAFE),
        slope=((1.0 + 4.0 * unit) * sizes[1] + floor) * (1.0 + _SAFE),
    )


def largest_safe_rate(
    steepness: float, hidden: StepSizes, output: StepSizes, room: np.ndarray
) -> np.ndarray:
    """Return the largest α with L_σ(x(δ_a + αη) + (y + δ_a + αη)(δ_W + αξ)) ≤ room, from below.

    Args:
        steepness: an upper bound of L_σ.
        hidden: x, δ_W and ξ.
        output: y, δ_a and η.
        room: what the certificate may rise by, (K,).

    Returns:
        (K,), 0 where rounding alone could use up the room.
    """
    reach = output.norm + output.slack
    constant = steepness * (hidden.norm * output.slack + reach * hidden.slack)
    linear = hidden.norm * output.slope + reach * hidden.slope + output.slope * hidden.slack
    linear, square = steepness * linear, steepness * hidden.slope * output.slope
    left = np.maximum(room - constant * (1.0 + _SAFE), 0.0) * (1.0 - _SAFE)
    with np.errstate(over="ignore", invalid="ignore"):
        root = np.sqrt(linear * linear + 4.0 * square * left)
        rate = 2.0 * left / (linear + root)
    # Overflow gives a rate 0 or NaN; neither step is taken.
    return np.nan_to_num(rate * (1.0 - _SAFE), nan=0.0, posinf=0.0)


def rate_without_overflow(blocks: Iterable[tuple[Tensor, Tensor]]) -> np.ndarray:
    """Return the largest α with |w| + α|v| at most half the largest number, for every entry.

    Then neither αv nor w − αv overflows, with room for their roundings.

    Args:
        blocks: every parameter that moves, with its gradient, (K, …) both; each in its own format.

    Returns:
        (K,), from below; 0 where no rate will do or an entry is NaN, infinite where nothing moves.
    """
    rates = []
    for weight, gradient in blocks:
        size, slope = (
            each.detach().double().abs().flatten(1).amax(1).cpu().numpy()
            for each in (weight, gradient)
        )
        left = 0.5 * torch.finfo(weight.dtype).max - size
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            rate = np.where(left > 0.0, left / slope * (1.0 - _SAFE), 0.0)
        rates.append(np.nan_to_num(rate, nan=0.0, posinf=np.inf))
    return np.min(rates, axis=0)


def lowered(rate: np.ndarray, *formats: torch.dtype) -> np.ndarray:
    """Return a rate that no rounding, in any of the formats, takes above the given one.

    A subnormal rate becomes a multiple of the least positive number: rounding to nearest could
    more than double it. A format that flushes it to zero only lowers it.

    Args:
        rate: α ≥ 0, in float64.
        formats: of the weights.
    """
    infos = [torch.finfo(each) for each in formats]
    down = rate * (1.0 - 2.0 * max(info.eps for info in infos))
    for info in infos:
        least = info.tiny * info.eps
        small = np.floor(np.minimum(down, info.tiny) / least) * least
        down = np.where(down < info.tiny, small, down)
    return down


@dataclass(frozen=True)
class LipschitzBudget:
    """Cap the rate so that the Lipschitz constant never passes a limit, on any domain, for ever.

    Needs a start with a certificate below the limit; a network that starts above it stands still.
    It ignores signs: a step towards smaller norms is limited as one towards larger ones.

    Attributes:
        limit: L*, unit of the outputs per unit of the inputs.
        share: θ ∈ (0, 1], of the room L* − C that one step may use up.
        certificate: C: "product", "formal" (one input, one output) or "sdp" (one output).

    References:
        The book's theorem `thm-budget-schedule`.
    """

    limit: float
    share: float = 0.5
    certificate: str = "product"

    def __post_init__(self) -> None:
        """Refuse a limit or a share that defines no budget."""
        check_budget(self.limit, self.share)

    def __call__(self, state: DescentState) -> Tensor:
        """Return the largest rate allowed for each network, (K,); 0 where weights are not finite.

        Args:
            state: just before the step.

        Raises:
            ValueError: the certificate does not fit the networks.
        """
        ensemble, like = state.ensemble, state.risk
        check_certificate(self.certificate, ensemble.input_dim, ensemble.output_dim)
        usable = _usable(state)
        rates = np.zeros(ensemble.size)
        if usable.all():
            rates = self._rates(ensemble, state.gradient)
        elif usable.any():
            kept = np.flatnonzero(usable).tolist()
            gradient = {name: block[kept] for name, block in state.gradient.items()}
            rates[usable] = self._rates(ensemble.select(kept), gradient)
        return torch.as_tensor(lowered(rates, like.dtype), dtype=like.dtype, device=like.device)

    def _rates(self, ensemble: Ensemble, gradient: Mapping[str, Tensor]) -> np.ndarray:
        hidden = step_sizes(ensemble.hidden_weight, gradient["hidden_weight"])
        output = step_sizes(ensemble.output_weight, gradient["output_weight"])
        steepness = slope_magnitude(ensemble.activation)
        if self.certificate == "product":
            known = up(steepness * hidden.norm * output.norm, 2)
        else:
            known = certificates(ensemble, self.certificate)
        rates = largest_safe_rate(steepness, hidden, output, self.share * (self.limit - known))
        largest = torch.finfo(ensemble.hidden_weight.dtype).max
        if largest > LARGEST**2:
            # No entry of a usable network, or of its gradient, is beyond LARGEST.
            return np.minimum(rates, 0.25 * largest / LARGEST)
        blocks = ((getattr(ensemble, name), gradient[name]) for name in BLOCKS)
        return np.minimum(rates, rate_without_overflow(blocks))


def _usable(state: DescentState) -> np.ndarray:
    """Tell of each network whether its weights and gradient are finite, and of a usable size."""
    slopes = state.block_norms.amax(1).double().cpu().numpy()
    # A NaN fails the comparison.
    return usable_networks(state.ensemble) & (slopes <= LARGEST)


def check_budget(limit: float, share: float) -> None:
    """Raise ValueError unless L* > 0 is finite and 0 < θ ≤ 1."""
    if not (math.isfinite(limit) and limit > 0):
        raise ValueError(
            f"`limit` must be a positive number. Got {limit!r}. "
            "Use twice the product bound of the start, say."
        )
    if not 0 < share <= 1:
        raise ValueError(f"`share` must lie in (0, 1]. Got {share!r}. Use 0.5.")
