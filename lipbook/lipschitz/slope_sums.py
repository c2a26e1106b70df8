"""The derivative of a smooth network of one input, as a sum of slopes with a rounding budget.

f'(x) = base + Σ_j v_j σ'(w_j x + b_j), v_j = w_j·A_j ∈ ℝ^k. Weights are scaled by powers of two.
Neurons with equal (w, b) are merged exactly, and so are neurons that are mirror images where σ'(−z)
= κ ± σ'(z), so that a network which is constant or affine in disguise is recognised: silu(x) −
silu(−x) = x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.intervals import Ends
from lipbook.lipschitz.merging import merged
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.rounding import UNIT, exponent, gamma, norm_upper

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
    columns, bias, output, constant = merged(
        weight[~small, None], bias[~small], output[~small], problem.activation
    )
    weight, base = columns[:, 0], constant[:, 0]
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
