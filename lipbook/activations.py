"""Activation functions σ with the constants that the book's theorems ask for.

Every constant below is a supremum over the real line, known in closed form or rounded outwards, and
is tested against dense numerical search. `value`, `slope` and `curvature` take torch tensors and
numpy arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import special

# An array in, an array of the same kind out: a torch tensor or a numpy array.
ArrayFunction = Callable[[Any], Any]

_SQRT3 = math.sqrt(3.0)
_NORMAL_DENSITY_AT_ZERO = 1.0 / math.sqrt(2.0 * math.pi)


@dataclass(frozen=True)
class Activation:
    """Hold one activation function σ: ℝ → ℝ and its constants.

    Attributes:
        name: the name that `get_activation` knows.
        value: z ↦ σ(z).
        slope: z ↦ σ'(z); at a kink the left slope, so σ'(0) = 0 for ReLU.
        curvature: z ↦ σ''(z), or None where σ is not twice differentiable.
        lipschitz: L_σ = sup |σ'|.
        at_zero: s₀ = |σ(0)|.
        bound: sup |σ|, or None where σ is unbounded.
        slope_lipschitz: L_σ' = sup |σ''|, or None where σ' jumps.
        curvature_lipschitz: sup |σ'''|, or None where σ' jumps.
        slope_range: (inf σ', sup σ').
        kink_slopes: (σ'(0⁻), σ'(0⁺)) for a piecewise-linear σ with its one kink at 0, else None.
        slope_turns: the points where σ' turns; between them σ' is monotone.
        slope_limits: (σ'(−∞), σ'(+∞)).
        overwrite: (z, s) ↦ z becomes σ(z) and s becomes σ'(z), torch tensors in place, to absolute
            rounding accuracy; None where nothing is gained over `value` and `slope`.
    """

    name: str
    value: ArrayFunction
    slope: ArrayFunction
    curvature: ArrayFunction | None
    lipschitz: float
    at_zero: float
    bound: float | None
    slope_lipschitz: float | None
    curvature_lipschitz: float | None
    slope_range: tuple[float, float]
    kink_slopes: tuple[float, float] | None
    slope_turns: tuple[float, ...]
    slope_limits: tuple[float, float]
    overwrite: Callable[[torch.Tensor, torch.Tensor], None] | None = None

    def value_and_slope_(self, z: torch.Tensor, slope: torch.Tensor) -> None:
        """Overwrite z by σ(z) and `slope` by σ'(z): what one step of gradient descent needs.

        Args:
            z: pre-activations, any shape.
            slope: a buffer of the same shape.
        """
        if self.overwrite is not None:
            self.overwrite(z, slope)
            return
        slope.copy_(self.slope(z))
        z.copy_(self.value(z))

    @property
    def is_piecewise_linear(self) -> bool:
        """Tell whether σ is linear on each side of 0."""
        return self.kink_slopes is not None

    @property
    def is_homogeneous(self) -> bool:
        """Tell whether σ(sz) = sσ(z) for every s > 0: exactly the piecewise-linear ones."""
        return self.is_piecewise_linear


def _exp(z: Any) -> Any:
    return torch.exp(z) if torch.is_tensor(z) else np.exp(z)


def _logistic(z: Any) -> Any:
    return torch.sigmoid(z) if torch.is_tensor(z) else special.expit(z)


def _logistic_slope(z: Any) -> Any:
    # e/(1+e)² with e = exp(−|z|) keeps its relative accuracy where s(1−s) would cancel.
    e = _exp(-abs(z))
    return e / (1.0 + e) ** 2


def _logistic_curvature(z: Any) -> Any:
    return _logistic_slope(z) * (1.0 - 2.0 * _logistic(z))


def _softplus(z: Any) -> Any:
    return torch.logaddexp(z, torch.zeros_like(z)) if torch.is_tensor(z) else np.logaddexp(z, 0.0)


def _tanh(z: Any) -> Any:
    return torch.tanh(z) if torch.is_tensor(z) else np.tanh(z)


def _tanh_slope(z: Any) -> Any:
    return 4.0 * _logistic_slope(2.0 * z)


def _tanh_curvature(z: Any) -> Any:
    return -2.0 * _tanh(z) * _tanh_slope(z)


def _overwrite_tanh(z: torch.Tensor, slope: torch.Tensor) -> None:
    # 2s(2z) − 1 costs a quarter of torch.tanh and agrees with it to a few roundings of 1.
    z.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)
    torch.mul(z, z, out=slope)
    slope.neg_().add_(1.0)


def _overwrite_logistic(z: torch.Tensor, slope: torch.Tensor) -> None:
    z.sigmoid_()
    torch.mul(z, z, out=slope)
    torch.sub(z, slope, out=slope)


def _normal_density(z: Any) -> Any:
    return _NORMAL_DENSITY_AT_ZERO * _exp(-0.5 * z * z)


def _normal_cdf(z: Any) -> Any:
    return torch.special.ndtr(z) if torch.is_tensor(z) else special.ndtr(z)


def _gelu(z: Any) -> Any:
    return z * _normal_cdf(z)


def _gelu_slope(z: Any) -> Any:
    return _normal_cdf(z) + z * _normal_density(z)


def _gelu_curvature(z: Any) -> Any:
    return _normal_density(z) * (2.0 - z * z)


def _silu(z: Any) -> Any:
    return z * _logistic(z)


def _silu_slope(z: Any) -> Any:
    return _logistic(z) + z * _logistic_slope(z)


def _silu_curvature(z: Any) -> Any:
    return _logistic_slope(z) * (2.0 + z * (1.0 - 2.0 * _logistic(z)))


def _select(condition: Any, left: float, right: float, like: Any) -> Any:
    if torch.is_tensor(like):
        return torch.where(condition, torch.full_like(like, left), torch.full_like(like, right))
    return np.where(condition, left, right)


def _piecewise_linear(name: str, left: float, right: float) -> Activation:
    """Build z ↦ left·z for z ≤ 0, right·z for z > 0."""

    def value(z: Any) -> Any:
        return slope(z) * z

    def slope(z: Any) -> Any:
        return _select(z > 0, right, left, z)

    def overwrite(z: torch.Tensor, buffer: torch.Tensor) -> None:
        # A comparison written straight into floats is many times faster than torch.where.
        torch.gt(z, 0.0, out=buffer)
        if (left, right) != (0.0, 1.0):
            buffer.mul_(right - left).add_(left)
        z.mul_(buffer)

    return Activation(
        name=name,
        value=value,
        slope=slope,
        curvature=None,
        lipschitz=max(abs(left), abs(right)),
        at_zero=0.0,
        bound=None,
        slope_lipschitz=None,
        curvature_lipschitz=None,
        slope_range=(min(left, right), max(left, right)),
        kink_slopes=(left, right),
        slope_turns=(0.0,),
        slope_limits=(left, right),
        overwrite=overwrite,
    )


# σ'' of SiLU vanishes where z·tanh(z/2) = 2; the extreme slope there, rounded up in the last digit.
_SILU_TURN = 2.399357280515468
_SILU_SLOPE_MAX = 1.0998393201288672
# σ' of GELU is extreme at ±√2: Φ(√2) + √2·φ(√2), rounded up in the last digit.
_GELU_SLOPE_MAX = 1.128904145185155
# |σ'''| of GELU is largest where z⁴ − 7z² + 4 = 0; rounded up in the last digit.
_GELU_CURVATURE_LIPSCHITZ = 0.77877
# |σ'''| of SiLU, largest at z = ±1.0319…, rounded up in the last digit.
_SILU_CURVATURE_LIPSCHITZ = 0.3081816


ACTIVATIONS: dict[str, Activation] = {
    "relu": _piecewise_linear("relu", 0.0, 1.0),
    "leaky relu": _piecewise_linear("leaky relu", 0.01, 1.0),
    "abs": _piecewise_linear("abs", -1.0, 1.0),
    "tanh": Activation(
        name="tanh",
        value=_tanh,
        slope=_tanh_slope,
        curvature=_tanh_curvature,
        lipschitz=1.0,
        at_zero=0.0,
        bound=1.0,
        slope_lipschitz=4.0 / (3.0 * _SQRT3),
        curvature_lipschitz=2.0,
        slope_range=(0.0, 1.0),
        kink_slopes=None,
        slope_turns=(0.0,),
        slope_limits=(0.0, 0.0),
        overwrite=_overwrite_tanh,
    ),
    "sigmoid": Activation(
        name="sigmoid",
        value=_logistic,
        slope=_logistic_slope,
        curvature=_logistic_curvature,
        lipschitz=0.25,
        at_zero=0.5,
        bound=1.0,
        slope_lipschitz=1.0 / (6.0 * _SQRT3),
        curvature_lipschitz=0.125,
        slope_range=(0.0, 0.25),
        kink_slopes=None,
        slope_turns=(0.0,),
        slope_limits=(0.0, 0.0),
        overwrite=_overwrite_logistic,
    ),
    "softplus": Activation(
        name="softplus",
        value=_softplus,
        slope=_logistic,
        curvature=_logistic_slope,
        lipschitz=1.0,
        at_zero=math.log(2.0),
        bound=None,
        slope_lipschitz=0.25,
        curvature_lipschitz=1.0 / (6.0 * _SQRT3),
        slope_range=(0.0, 1.0),
        kink_slopes=None,
        slope_turns=(),
        slope_limits=(0.0, 1.0),
    ),
    "gelu": Activation(
        name="gelu",
        value=_gelu,
        slope=_gelu_slope,
        curvature=_gelu_curvature,
        lipschitz=_GELU_SLOPE_MAX,
        at_zero=0.0,
        bound=None,
        slope_lipschitz=2.0 * _NORMAL_DENSITY_AT_ZERO,
        curvature_lipschitz=_GELU_CURVATURE_LIPSCHITZ,
        slope_range=(1.0 - _GELU_SLOPE_MAX, _GELU_SLOPE_MAX),
        kink_slopes=None,
        slope_turns=(-math.sqrt(2.0), math.sqrt(2.0)),
        slope_limits=(0.0, 1.0),
    ),
    "silu": Activation(
        name="silu",
        value=_silu,
        slope=_silu_slope,
        curvature=_silu_curvature,
        lipschitz=_SILU_SLOPE_MAX,
        at_zero=0.0,
        bound=None,
        slope_lipschitz=0.5,
        curvature_lipschitz=_SILU_CURVATURE_LIPSCHITZ,
        slope_range=(1.0 - _SILU_SLOPE_MAX, _SILU_SLOPE_MAX),
        kink_slopes=None,
        slope_turns=(-_SILU_TURN, _SILU_TURN),
        slope_limits=(0.0, 1.0),
    ),
}


def get_activation(activation: str | Activation) -> Activation:
    """Return the activation of that name, or the activation itself.

    Args:
        activation: a name in `ACTIVATIONS`, or an `Activation`.

    Returns:
        The `Activation`.

    Raises:
        ValueError: no activation has that name.
    """
    if isinstance(activation, Activation):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {', '.join(ACTIVATIONS)}. Got {activation!r}. "
            "Pass an Activation of your own to use another function."
        )
    return ACTIVATIONS[activation]
