"""The range of σ' over intervals of pre-activations, by monotone pieces."""

from __future__ import annotations

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.jacobians import SLOPE_ERROR


def slope_range(
    activation: Activation, below: FloatArray, above: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bound σ' over the intervals [below, above], unbounded ends allowed.

    Between two neighbouring turns σ' is monotone, so its range is spanned by its values at the ends
    of the interval and at the turns inside. At the kink of a piecewise-linear σ both slopes count.

    Args:
        activation: σ.
        below: lower ends, any shape.
        above: upper ends, the same shape.

    Returns:
        Bounds least ≤ σ' ≤ most, proved for the accuracy of `Activation.slope`, each of that shape.
    """
    if activation.kink_slopes is not None:
        left, right = activation.kink_slopes
        first, last = np.where(above > 0.0, right, left), np.where(below < 0.0, left, right)
        at_zero = (below <= 0.0) & (above >= 0.0)
        ends = (np.where(at_zero, left, first), np.where(at_zero, right, last))
        return np.minimum(*ends), np.maximum(*ends)
    at_ends = [_with_limits(activation, z) for z in (below, above)]
    least, most = np.minimum(*at_ends), np.maximum(*at_ends)
    for turn in activation.slope_turns:
        extreme = float(activation.slope(np.float64(turn)))
        inside = (below <= turn) & (turn <= above)
        least = np.where(inside, np.minimum(least, extreme), least)
        most = np.where(inside, np.maximum(most, extreme), most)
    return least - SLOPE_ERROR, most + SLOPE_ERROR


def _with_limits(activation: Activation, z: FloatArray) -> FloatArray:
    """Return σ'(z), its limits at ±∞ included."""
    before, after = activation.slope_limits
    finite = np.isfinite(z)
    slope = activation.slope(np.where(finite, z, 0.0))
    if finite.all():
        return slope
    return np.where(finite, slope, np.where(z > 0.0, after, before))
