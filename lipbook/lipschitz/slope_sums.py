"""The derivative of a smooth network of one input, as a sum of slopes with a rounding budget.

f'(x) = base + Σ_j v_j σ'(w_j x + b_j), v_j = w_j·A_j ∈ ℝ^k. Weights are scaled by powers of two.
Neurons with equal (w, b) are merged exactly, and so are neurons that are mirror images where σ'(−z)
= κ ± σ'(z), so that a network which is constant or affine in disguise is recognised: silu(x) −
silu(−x) = x.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lipbook.activations import ACTIVATIONS, Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.intervals import Ends
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import UNIT, exponent, gamma, norm_upper

# σ'(−z) = κ + s·σ'(z): (s, κ).
_MIRRORS = {
    "tanh": (1, 0),
    "sigmoid": (1, 0),
    "softplus": (-1, 1),
    "gelu": (-1, 1),
    "silu": (-1, 1),
}
# A neuron whose scaled |w| is below this may have lost digits to underflow; its slope goes into
# `spread`.
_NEGLIGIBLE = 2.0**-900


@dataclass(frozen=True)
class SlopeSum:
    """Hold 2^-e·f'(x·2^-s) = base + Σ_j v_j σ'(w_j x + b_j), up to `spread` in norm.

    Attributes:
        weight: w, (m,), no entry 0, |w| < 1.
        bias: b, (m,).
        values: v, (m, k), each with one rounding.
        sizes: upper bounds of ‖v_j‖, (m,).
        base: (k,).
        spread: bound of what is left out.
        activation: σ.
        value_exponent: e.
        input_exponent: s; a point of the network is 2^-s times a point of the sum.
    """

    weight: FloatArray
    bias: FloatArray
    values: FloatArray
    sizes: FloatArray
    base: FloatArray
    spread: float
    activation: Activation
    value_exponent: int
    input_exponent: int


def slope_sum(problem: Problem, ends: Ends) -> SlopeSum:
    """Return the derivative of a network of one input as a `SlopeSum`."""
    used = problem.hidden_weight[:, 0].astype(bool) & problem.output_weight.any(axis=0)
    weight, output = problem.hidden_weight[used, 0], problem.output_weight.T[used]
    w_exponent, a_exponent = (int(exponent(x).item()) if x.size else 0 for x in (weight, output))
    if ends is not None and not np.array_equal(
        np.ldexp(np.ldexp(ends, w_exponent), -w_exponent), ends
    ):
        w_exponent = 0  # the scaled ends would be subnormal, and rounded
    weight, output = np.ldexp(weight, -w_exponent), np.ldexp(output, -a_exponent)
    steepest = problem.activation.lipschitz * (1.0 + 4.0 * UNIT)
    small = np.abs(weight) < _NEGLIGIBLE
    spread = 2.0 * steepest * _NEGLIGIBLE * float(norm_upper(output[small]).sum())
    bias = problem.hidden_bias[used]
    weight, bias, output, base = _merged(
        weight[~small], bias[~small], output[~small], problem.activation
    )
    values = output * weight[:, None]
    # Each base entry is a correctly rounded sum; underflow of a product takes at most 2^-1074 per
    # term.
    spread += 2.0 * UNIT * float(np.abs(base).sum()) + (
        2.0**-1000 if weight.size or base.any() else 0.0
    )
    return SlopeSum(
        weight=weight,
        bias=bias,
        values=values,
        sizes=norm_upper(values) * (1.0 + gamma(4)) if weight.size else np.zeros(0),
        base=base,
        spread=spread,
        activation=problem.activation,
        value_exponent=w_exponent + a_exponent,
        input_exponent=w_exponent,
    )


def _merged(
    weight: FloatArray, bias: FloatArray, output: FloatArray, activation: Activation
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return w, b, A with equal and mirrored neurons added up, and the base (k,) left over."""
    base = np.zeros(output.shape[1])
    if weight.size < 2:
        return weight, bias, output, base
    known = ACTIVATIONS.get(activation.name) is activation and activation.name in _MIRRORS
    flip = np.where(weight < 0.0, -1.0, 1.0) if known else np.ones_like(weight)
    keys = np.stack([weight * flip, bias * flip + 0.0], axis=1)  # + 0.0 turns −0 into 0
    groups, inverse = np.unique(keys, axis=0, return_inverse=True)
    if len(groups) == len(keys):
        return weight, bias, output, base
    sign, constant = _MIRRORS[activation.name] if known else (1, 0)
    if constant:
        base = _exact_products(output[flip < 0.0], weight[flip < 0.0]) * constant
    # With w < 0: Aw·σ'(z) = κAw + sAw·σ'(−z) = κAw + (−sA)(−w)·σ'(−z).
    turned = output * np.where(flip < 0.0, -float(sign), 1.0)[:, None]
    order = np.argsort(inverse.ravel(), kind="stable")
    cuts = np.cumsum(np.bincount(inverse.ravel()))[:-1]
    sums = [[math.fsum(column) for column in part.T] for part in np.split(turned[order], cuts)]
    merged = np.array(sums)
    kept = merged.any(axis=1)
    return groups[kept, 0], groups[kept, 1], merged[kept], base


def _exact_products(output: FloatArray, weight: FloatArray) -> FloatArray:
    """Return Σ_j A_j w_j, (k,), correctly rounded."""
    factors = [Fraction(w) for w in weight]
    return np.array(
        [
            float(sum((Fraction(a) * w for a, w in zip(column, factors, strict=True)), Fraction(0)))
            for column in output.T
        ]
    )
