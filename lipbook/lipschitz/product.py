"""Upper bounds of the Lipschitz constant that ask nothing of the biases: the upper rungs of the
ladder.

For J(x) = A·D(x)·W with D diagonal and slopes in [l, u]:

    formal ≤ Σ_j ‖a_j‖‖w_j‖·L_σ            (path norm)
    formal ≤ |c|‖AW‖ + h‖A‖‖W‖ ≤ L_σ‖A‖‖W‖   (centred, product; c = (l + u)/2, h = (u − l)/2)

Every number is rounded outwards: operator norms come from `spectral_norm_upper`, whose proof does
not trust the singular value decomposition it uses.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lipbook.activations import Activation, get_activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.problem import checked_hidden, checked_output, checked_stack
from lipbook.lipschitz.rounding import (
    UNIT,
    exponent,
    gamma,
    norm_upper,
    spectral_norm_upper,
    up,
)

MAX_PATTERN_WIDTH = 16
_PATTERNS_AT_ONCE = 4096


def slope_bounds(activation: Activation) -> tuple[float, float]:
    """Return l ≤ σ' ≤ u, proved: constants that are no float64 numbers are moved outwards."""
    low, high = activation.slope_range
    if activation.is_piecewise_linear:
        return low, high
    return low - 4.0 * UNIT * abs(low), high + 4.0 * UNIT * abs(high)


def slope_magnitude(activation: Activation) -> float:
    """Return an upper bound of L_σ = sup |σ'|."""
    low, high = slope_bounds(activation)
    return max(abs(low), abs(high))


def _pair(hidden_weight: Any, output_weight: Any) -> tuple[FloatArray, FloatArray, int]:
    """Return W (m, d) and A (k, m), checked and scaled to below 1, and e: bounds are · 2^e."""
    weight = checked_hidden(hidden_weight)
    output = checked_output(output_weight, weight.shape[0])
    w_exponent, a_exponent = exponent(weight), exponent(output)
    total = int(w_exponent.item()) + int(a_exponent.item())
    return np.ldexp(weight, -w_exponent), np.ldexp(output, -a_exponent), total


def _unscaled(bound: Any, e: int) -> float:
    """Return an upper bound of bound·2^e, 0 only if `bound` is."""
    return float(np.nextafter(np.ldexp(bound, e), np.inf)) if bound > 0.0 else 0.0


def _path(weight: FloatArray, output: FloatArray) -> float:
    """Return an upper bound of Σ_j ‖a_j‖‖w_j‖; rounding errors of ADW are relative to it."""
    terms = norm_upper(weight) * norm_upper(output.T)
    return float(up(terms.sum(), terms.size + 1)) + _lost(weight, output)


def _lost(weight: FloatArray, output: FloatArray) -> float:
    """Return 2⁻⁵⁰⁰, more than scaled products lose to underflow, or 0 if all products are 0."""
    return 2.0**-500 if (np.any(weight, axis=1) & np.any(output, axis=0)).any() else 0.0


def product_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above by the product of the layers' norms, L_σ‖A‖_op‖W‖_op.

    It ignores which neurons are active together, and changes when a ReLU neuron is rescaled though
    f does not.

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    weight, output, e = _pair(hidden_weight, output_weight)
    return _unscaled(_product(weight, output, get_activation(activation)), e)


def product_upper_bounds(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> FloatArray:
    """Bound the Lipschitz constants of K networks by L_σ‖A‖_op‖W‖_op.

    Args:
        hidden_weight: W, (K, m, d).
        output_weight: A, (K, k, m).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bounds, (K,), rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    bias = np.zeros(tuple(np.shape(hidden_weight))[:2])
    weight, _, output = checked_stack(hidden_weight, bias, output_weight)
    w_exponent, a_exponent = exponent(weight, (1, 2)), exponent(output, (1, 2))
    bounds = _product(
        np.ldexp(weight, -w_exponent), np.ldexp(output, -a_exponent), get_activation(activation)
    )
    scaled = np.ldexp(bounds, (w_exponent + a_exponent)[:, 0, 0])
    return np.where(bounds > 0.0, np.nextafter(scaled, np.inf), 0.0)


def _product(weight: FloatArray, output: FloatArray, activation: Activation) -> FloatArray:
    norms = spectral_norm_upper(output) * spectral_norm_upper(weight)
    return up(slope_magnitude(activation) * up(norms, 1), 1)


def path_norm_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above by the path norm, L_σ Σ_j ‖a_j‖‖w_j‖ (a_j: column j
    of A).

    It treats every neuron as if all gradients pointed the same way. Invariant to rescaling of ReLU
    neurons.

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    weight, output, e = _pair(hidden_weight, output_weight)
    bound = up(slope_magnitude(get_activation(activation)) * _path(weight, output), 1)
    return _unscaled(bound, e)


def centred_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above around the mean slope, |c|‖AW‖_op + h‖A‖_op‖W‖_op.

    With slopes in [c − h, c + h], A·D·W = c·AW + A(D − c)W and ‖D − c‖ ≤ h. For slopes in [0, L]
    and one output this is ½L(‖Wᵀa‖ + ‖a‖‖W‖_op), never above the product bound.

    Args:
        hidden_weight: W, (m, d).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: shapes that do not fit, or entries that are not finite.
    """
    weight, output, e = _pair(hidden_weight, output_weight)
    low, high = slope_bounds(get_activation(activation))
    centre = 0.5 * low + 0.5 * high
    half_width = max(high - centre, centre - low) * (1.0 + 4.0 * UNIT)
    rounding = gamma(weight.shape[0] + 2) * _path(weight, output)
    mean = spectral_norm_upper(output @ weight) + rounding
    spread = spectral_norm_upper(output) * spectral_norm_upper(weight)
    return _unscaled(up(abs(centre) * mean + half_width * spread, 6), e)


def formal_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above by the largest slope over all patterns, in closed
    form (d = k = 1).

    N = max over s ∈ [l, u]^m of |Σ_j s_j v_j|, v_j = a_j w_j, that is max(Σ max(l v_j, u v_j), −Σ
    min(l v_j, u v_j)). It ignores that the biases let only m + 1 of the patterns occur. For d = k =
    1 it equals the value of LipSDP.

    Args:
        hidden_weight: W, (m, 1).
        output_weight: A, (1, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: more than one input or output, shapes that do not fit, or entries that are not
            finite.
    """
    weight, output, e = _pair(hidden_weight, output_weight)
    if weight.shape[1] != 1 or output.shape[0] != 1:
        raise ValueError(
            "`hidden_weight` and `output_weight` must have one input and one output for the "
            f"closed form. Got {weight.shape[1]} and {output.shape[0]}. Use pattern_upper_bound."
        )
    v = output[0] * weight[:, 0]
    low, high = slope_bounds(get_activation(activation))
    largest, smallest = np.maximum(low * v, high * v), np.minimum(low * v, high * v)
    rounding = gamma(v.size + 2) * (np.abs(largest).sum() + np.abs(smallest).sum())
    bound = up(max(largest.sum(), -smallest.sum(), 0.0) + rounding, 2)
    return _unscaled(bound + _lost(weight, output), e)


def pattern_upper_bound(
    hidden_weight: Any, output_weight: Any, activation: str | Activation = "relu"
) -> float:
    """Bound the Lipschitz constant from above by trying all 2^m slope patterns, max
    ‖A·diag(s)·W‖_op.

    s runs over the corners of [l, u]^m, where the convex function s ↦ ‖A·diag(s)·W‖ is largest. It
    ignores the
    biases: a pattern counts even if no open set of inputs has it.

    Args:
        hidden_weight: W, (m, d), m ≤ 16.
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.

    Returns:
        The bound, rounded up.

    Raises:
        ValueError: m > 16, shapes that do not fit, or entries that are not finite.
    """
    weight, output, e = _pair(hidden_weight, output_weight)
    width = weight.shape[0]
    if width > MAX_PATTERN_WIDTH:
        raise ValueError(
            f"`width` must be at most {MAX_PATTERN_WIDTH} to enumerate activation patterns "
            f"(2**width of them). Got width={width}. Use centred_upper_bound."
        )
    low, high = slope_bounds(get_activation(activation))
    rounding = gamma(width + 4) * _path(weight, output)
    corners = itertools.product((low, high), repeat=width)
    largest = 0.0
    while chunk := list(itertools.islice(corners, _PATTERNS_AT_ONCE)):
        jacobians = (output * np.array(chunk)[:, None, :]) @ weight
        largest = max(largest, float(spectral_norm_upper(jacobians).max()))
    return _unscaled(up(largest + rounding * max(abs(low), abs(high)), 3), e)
