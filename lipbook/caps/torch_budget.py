"""The Lipschitz budget for a torch module: its certificate, the cap of its rate, and its rescaling.

The module is an `nn.Sequential` of Linear layers and one kind of activation, of any depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lipbook.activations import Activation
from lipbook.caps.lipschitz_budget import (
    StepSizes,
    check_budget,
    lowered,
    rate_without_overflow,
    step_sizes,
)
from lipbook.lipschitz import sdp_upper_bound
from lipbook.lipschitz.deep.modules import chain_of
from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.rounding import spectral_norm_upper, up
from lipbook.theorems.refusal import refuse

# A product of a few dozen rounded factors is off by a smaller share than this.
_SAFE = 1e-12
_HALVINGS = 60


@dataclass(frozen=True)
class ModuleBudget:
    """Cap the rate so that a module's Lipschitz constant never passes a limit, on any domain.

    C = L_σ^(n−1)‖W_n‖⋯‖W_1‖ ≤ L* for n weight layers, biases free. Holds for the stored weights:
    roundings of float64, float32 and below are counted in, and no parameter overflows.

    Attributes:
        limit: L*, unit of the outputs per unit of the inputs.
        share: θ ∈ (0, 1], of the room L* − C that one step may use up.
        certificate: "product", or "sdp" for two weight layers and one output.

    References:
        The book's theorem `thm-budget-schedule`.
    """

    limit: float
    share: float = 0.5
    certificate: str = "product"

    def __post_init__(self) -> None:
        """Refuse numbers or names that define no budget."""
        check_budget(self.limit, self.share)
        if self.certificate not in ("product", "sdp"):
            raise ValueError(
                f"`certificate` must be 'product' or 'sdp'. Got {self.certificate!r}. "
                "Use 'product' for any depth."
            )

    def check(self, module: nn.Module, optimizer: Optimizer) -> None:
        """Refuse a module that starts at the limit or above, or has no such certificate.

        Raises:
            HypothesisError: C(Θ₀) ≥ L*.
            ValueError: the module is no perceptron, or "sdp" does not fit it.
        """
        found = module_certificate(module, self.certificate)
        if not found < self.limit:
            refuse(
                "module", f"start below the limit {self.limit:g}", "thm-budget-schedule", "H1",
                f"a {self.certificate} certificate of {found:g}",
                "Raise the limit, or call rescale_(module, limit) with a smaller one first.",
            )  # fmt: skip

    def __call__(self, module: nn.Module, optimizer: Optimizer) -> float:
        """Return the largest rate up to the optimiser's own that keeps C within the limit.

        Args:
            module: an nn.Sequential with its gradients.
            optimizer: whose rates are to be limited.
        """
        linears, activation, cuts = _read(module)
        steps = [step_sizes(each.weight[None], _gradient(each.weight)) for each in linears]
        steepness = slope_magnitude(activation) ** cuts
        if self.certificate == "product":
            norms = [float(step.norm[0]) for step in steps]
            known = float(up(steepness * math.prod(norms), len(norms) + cuts + 1))
        else:
            known = module_certificate(module, self.certificate)
        room = self.share * (self.limit - known)
        highest = max(float(group["lr"]) for group in optimizer.param_groups)
        blocks = [(each[None], _gradient(each)) for each in module.parameters()]
        rate = np.minimum(
            _largest_rate(steepness, steps, room, highest), rate_without_overflow(blocks)[0]
        )
        return float(lowered(rate, *{each.dtype for each, _ in blocks}))


def _largest_rate(steepness: float, steps: list[StepSizes], room: float, highest: float) -> float:
    """Return the largest rate, up to `highest`, at which the certificate rises by at most `room`.

    It rises by at most L(Π(x_i + δ_i + αξ_i) − Πx_i); a step that can only shrink to nothing
    returns 0.
    """
    sizes = [(float(s.norm[0]), float(s.slack[0]), float(s.slope[0])) for s in steps]
    before = math.prod(x for x, _, _ in sizes)

    def rise(rate: float) -> float:
        after = math.prod(x + slack + rate * slope for x, slack, slope in sizes)
        return steepness * (after - before + _SAFE * after)

    # The optimiser's rate may be rounded up on its way to a lower precision.
    if rise(highest * (1.0 + 1e-2)) <= room:
        return highest * (1.0 + 1e-2)
    low, high = 0.0, highest
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if rise(middle) <= room else (low, middle)
    return low


def module_certificate(module: nn.Module, certificate: str = "product") -> float:
    """Return the certificate of a module, rounded up.

    Args:
        module: an nn.Sequential of Linear layers and one kind of activation.
        certificate: "product", L_σ^(n−1)‖W_n‖⋯‖W_1‖, or "sdp", L_sdp.

    Raises:
        ValueError: the module is no perceptron, or "sdp" with other than two weight layers, one
            output and nothing after it.
    """
    linears, activation, cuts = _read(module)
    weights = [each.weight.detach().double().cpu().numpy() for each in linears]
    if certificate == "sdp":
        if len(weights) != 2 or cuts != 1 or len(weights[1]) != 1:
            raise ValueError(
                "`module` must be Linear, activation, Linear with one output for the 'sdp' "
                f"certificate. Got {len(weights)} weight layers, {cuts} activations and "
                f"{len(weights[-1])} outputs. Use 'product'."
            )
        return sdp_upper_bound(weights[0], weights[1], activation)
    factors = [float(spectral_norm_upper(w)) for w in weights]
    factors += [slope_magnitude(activation)] * cuts
    return float(up(math.prod(factors), len(factors)))


@torch.no_grad()
def rescale_(module: nn.Module, limit: float, certificate: str = "product") -> float:
    """Scale all weights by one factor, in place, so that the certificate is at most a limit.

    After `optimizer.step()` this is the rescaled descent of the book, for any optimiser. Biases
    stay, so the function changes; descent is not promised.

    Args:
        module: an nn.Sequential of Linear layers and one kind of activation.
        limit: L* > 0.
        certificate: "product" or "sdp".

    Returns:
        The factor, 1.0 where nothing was done.

    Raises:
        ValueError: see `module_certificate`; or a limit that is not positive.
    """
    check_budget(limit, 1.0)
    linears, _, _ = _read(module)
    weights = list({id(each.weight): each.weight for each in linears}.values())
    unit, total = max(torch.finfo(w.dtype).eps for w in weights), 1.0
    while not (seen := module_certificate(module, certificate)) <= limit:
        factor = (limit / seen) ** (1.0 / len(linears)) * (1.0 - 4.0 * unit)
        for weight in weights:
            weight.mul_(factor)
        total *= factor
    return total


def _gradient(parameter: Tensor) -> Tensor:
    given = parameter.grad
    return torch.zeros_like(parameter)[None] if given is None else given[None]


def _read(module: nn.Module) -> tuple[list[nn.Linear], Activation, int]:
    """Return the Linear layers, the activation, and how often it comes."""
    chain = chain_of(module)
    leaves = _leaves(module)
    linears = [leaf for leaf in leaves if isinstance(leaf, nn.Linear)]
    passed = (nn.Linear, nn.Identity, nn.Flatten, nn.Dropout)
    cuts = sum(not isinstance(leaf, passed) for leaf in leaves)
    if chain.activation is None:
        raise ValueError(
            "`module` must have an activation between its layers. Got one affine map. "
            "Its Lipschitz constant is the norm of its weight."
        )
    return linears, chain.activation, cuts


def _leaves(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [leaf for child in module for leaf in _leaves(child)]
    return [module]
