"""σ' as a quadratic polynomial with a remainder, on intervals of pre-activations.

    |σ'(z + δ) − σ'(z) − σ''(z)δ − ½σ'''(z)δ²| ≤ t³/6 · sup |σ''''| over [z − t, z + t],   |δ| ≤ t,

and |σ''''(z)| ≤ min(S, C·exp(−κ|z|)), so that saturated neurons count little. With the logistic
function L and p = L(z): |L''''| = L'|1 − 2p||1 − 12L'| ≤ L' ≤ exp(−|z|), |L'''| = L'|1 − 6L'| ≤ L'.
The constants of GELU and SiLU are maxima found by dense search, rounded up, like those of
`Activation`, and tested in the same way. An activation that is not known by name gets σ''' = 0 and
the remainder ½t²·sup|σ'''|.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.merging import known_by_name
from lipbook.lipschitz.rounding import UNIT

# σ''' is trusted to this absolute error; the tests compare it with 50-digit arithmetic.
THIRD_ERROR = 2.0**-45
_DENSITY = 1.0 / np.sqrt(2.0 * np.pi)
_SIXTH = (1.0 + 2.0**-40) / 6.0


@dataclass(frozen=True)
class ThirdSlope:
    """Hold σ''' and what bounds σ''''.

    Attributes:
        third: (z, σ'(z), σ''(z)) ↦ σ'''(z).
        largest: S ≥ sup |σ''''|.
        scale: C.
        decay: κ.
    """

    third: Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
    largest: float
    scale: float
    decay: float


def _tanh(z: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    return slope * (4.0 - 6.0 * slope)


def _sigmoid(z: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    return slope * (1.0 - 6.0 * slope)


def _softplus(z: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    return curvature * (1.0 - 2.0 * slope)


def _gelu(z: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    return _DENSITY * np.exp(-0.5 * z * z) * z * (z * z - 4.0)


def _silu(z: FloatArray, slope: FloatArray, curvature: FloatArray) -> FloatArray:
    p = special.expit(z)
    bell = p * special.expit(-z)
    return bell * (z * (1.0 - 6.0 * bell) + 3.0 * (1.0 - 2.0 * p))


THIRD_SLOPES = {
    "tanh": ThirdSlope(_tanh, 4.0858856, 32.0, 2.0),
    "sigmoid": ThirdSlope(_sigmoid, 0.12768393, 1.0, 1.0),
    "softplus": ThirdSlope(_softplus, 0.125, 1.0, 1.0),
    "gelu": ThirdSlope(_gelu, 1.5957692, 11.4649, 1.5),
    "silu": ThirdSlope(_silu, 0.5, 2.466, 0.9),
}


def third_slope(activation: Activation) -> ThirdSlope | None:
    """Return what is known of σ''', None for an activation of the caller's own."""
    return THIRD_SLOPES.get(activation.name) if known_by_name(activation) else None


def slope_constants(activation: Activation) -> tuple[float, float, float]:
    """Return upper bounds of sup |σ'|, sup |σ''|, sup |σ'''|."""
    second, third = activation.slope_lipschitz, activation.curvature_lipschitz
    assert second is not None and third is not None
    constants = (activation.lipschitz, second, third)
    first, second, third = (value * (1.0 + 8.0 * UNIT) for value in constants)
    return first, second, third


@dataclass(frozen=True)
class Expansion:
    """Hold σ'(z), σ''(z), σ'''(z) and the remainder, arrays of one shape."""

    slope: FloatArray
    curvature: FloatArray
    third: FloatArray
    remainder: FloatArray


def expanded(activation: Activation, z: FloatArray, reach: FloatArray) -> Expansion:
    """Return the expansion of σ' around z, good for |δ| ≤ reach.

    Rounding inside the remainder is accounted for if `reach` exceeds |δ| by a share of 1e-12:
    κ(|z| − t) is then off by less than 2⁻⁴¹ wherever exp does not underflow.
    """
    assert activation.curvature is not None
    assert activation.curvature_lipschitz is not None
    slope, curvature = activation.slope(z), activation.curvature(z)
    known = third_slope(activation)
    if known is None:
        remainder = 0.5 * activation.curvature_lipschitz * reach**2
        return Expansion(slope, curvature, np.zeros_like(z), remainder)
    nearest = np.maximum(np.abs(z) - reach, 0.0)
    fourth = np.minimum(known.largest, known.scale * np.exp(-known.decay * nearest))
    remainder = fourth * (reach * reach) * reach * _SIXTH
    return Expansion(slope, curvature, known.third(z, slope, curvature), remainder)
