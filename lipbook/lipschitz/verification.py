"""Check a bracket again, by other means than those that found it.

The lower end is checked at the witness, in rational arithmetic (piecewise-linear σ) or with 50
digits (smooth σ): it lies in the domain, its pattern is the one stated, and some direction v has
‖J(x)v‖ ≥ lower·‖v‖. The upper end is checked by the certificate: see the `fault` of each proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.results import LipschitzBracket, Witness
from lipbook.lipschitz.slope_recount import exact_slopes
from lipbook.lipschitz.sweeping.plane import used_inputs
from lipbook.lipschitz.sweeping.recount import LARGEST_RECOUNT, has_gradient

_DIGITS = 50


@dataclass(frozen=True)
class Verification:
    """Hold what a second look at a bracket found.

    Attributes:
        faults: what is not confirmed, one line each; empty if all is.
        checked: what was done.
    """

    faults: tuple[str, ...]
    checked: str

    @property
    def valid(self) -> bool:
        """Tell whether both ends of the bracket were confirmed."""
        return not self.faults


def verify(result: LipschitzBracket) -> Verification:
    """Confirm lower ≤ Lip(f, domain) ≤ upper from the stored witness and certificate.

    Args:
        result: what `bracket` returned.

    Returns:
        A `Verification`. It trusts the weights that the certificate holds, and nothing that the
        search computed.
    """
    if result.certificate is None:
        return Verification(("the result holds no certificate",), "nothing")
    problem, proof = result.certificate.problem, result.certificate.proof
    found = [lower_fault(problem, result), proof.fault(problem, result.upper)]
    if result.domain != problem.domain:
        found.append("the certificate is about another domain")
    if result.exact and not result.gap < 1.0:
        found.append("the result is called exact and its ends are not close")
    how = "rational arithmetic" if problem.activation.is_piecewise_linear else f"{_DIGITS} digits"
    return Verification(
        tuple(fault for fault in found if fault is not None),
        f"lower: the gradient at the witness, in {how}; upper: {type(proof).__name__}",
    )


def lower_fault(problem: Problem, result: LipschitzBracket) -> str | None:
    """Return why Lip(f, domain) ≥ lower is not confirmed, or None if it is."""
    if result.lower == 0.0:
        return None
    witness = result.witness
    if witness is None:
        return "the lower bound has no witness"
    if not _in_domain(problem, witness):
        return "the witness does not lie in the domain"
    if problem.activation.is_piecewise_linear:
        return _exact_fault(problem, witness, result.lower)
    return _smooth_fault(problem, witness, result.lower)


def _in_domain(problem: Problem, witness: Witness) -> bool:
    """Tell whether the point lies in the closed domain, exactly."""
    point = [Fraction(v) for v in witness.point]
    if len(point) != problem.input_dim:
        return False
    if isinstance(problem.domain, Ball):
        center = np.broadcast_to(problem.domain.center, (problem.input_dim,)).tolist()
        square = sum((x - Fraction(c)) ** 2 for x, c in zip(point, center, strict=True))
        return square <= Fraction(problem.domain.radius) ** 2
    box = box_arrays(problem.domain, problem.input_dim)
    if box is None:
        return True
    return all(low <= x <= high for low, high, x in zip(*box, witness.point, strict=True))


def _exact_fault(problem: Problem, witness: Witness, lower: float) -> str | None:
    """Check a witness of a piecewise-linear network in rational arithmetic."""
    if witness.pattern is None:
        return "the witness has no pattern"
    point = [Fraction(v) for v in witness.point]
    matters = problem.hidden_weight.any(axis=1) & problem.output_weight.any(axis=0)
    for j in np.flatnonzero(matters):
        row = [Fraction(v) for v in problem.hidden_weight[j].tolist()]
        z = sum((w * x for w, x in zip(row, point, strict=True)), Fraction(problem.hidden_bias[j]))
        if z == 0 or (z > 0) != bool(witness.pattern[j]):
            return _thin_fault(problem, lower)
    assert problem.activation.kink_slopes is not None
    left, right = (Fraction(s) for s in problem.activation.kink_slopes)
    slopes = [right if active else left for active in witness.pattern]
    return None if _is_as_steep(problem, slopes, lower, Fraction) else _too_flat(lower)


def _thin_fault(problem: Problem, lower: float) -> str | None:
    """Look for the gradient itself where its cell holds no float64 number, for one or two inputs.

    With more inputs, or too many neurons to count all cells, such a witness is not confirmed.
    """
    if problem.input_dim == 1:
        largest = max(sum(v * v for v in slope) for slope in exact_slopes(problem))
        return None if largest >= Fraction(lower) ** 2 else _too_flat(lower)
    if problem.width > LARGEST_RECOUNT or used_inputs(problem).size > 2:
        return "the witness has another pattern than it says"
    return None if has_gradient(problem, lower) else _too_flat(lower)


def _smooth_fault(problem: Problem, witness: Witness, lower: float) -> str | None:
    """Check a witness of a smooth network with 50 digits."""
    slope = PRECISE_SLOPES.get(problem.activation.name)
    if slope is None:
        return f"no precise slope is known for {problem.activation.name!r}"
    with mpmath.workdps(_DIGITS):
        slopes = []
        for row, bias in zip(problem.hidden_weight, problem.hidden_bias, strict=True):
            z = mpmath.fdot(map(mpmath.mpf, row.tolist()), map(mpmath.mpf, witness.point))
            slopes.append(slope(z + mpmath.mpf(float(bias))))
        steep = _is_as_steep(problem, slopes, lower, mpmath.mpf)
    return None if steep else _too_flat(lower)


def _too_flat(lower: float) -> str:
    return f"the gradient at the witness does not reach the lower bound {lower!r}"


def _is_as_steep(problem: Problem, slopes: list[Any], lower: float, number: Any) -> bool:
    """Tell whether ‖Jv‖ ≥ lower·‖v‖ for the v that floating point suggests.

    With one output J is a row, and its own length is compared instead.
    """
    weight, output = problem.hidden_weight, problem.output_weight
    if problem.output_dim == 1:
        scaled = [s * number(a) for s, a in zip(slopes, output[0].tolist(), strict=True)]
        row = [_dot(column, scaled, number) for column in weight.T]
        return bool(sum(x * x for x in row) >= number(lower) ** 2)
    scaled_weight, scaled_output, _ = problem.scaled_layers
    rough = (scaled_output * np.array([float(s) for s in slopes])) @ scaled_weight
    v = [number(float(x)) for x in np.linalg.svd(rough)[2][0]]
    inner = [_dot(row, v, number) for row in weight]
    scaled = [s * q for s, q in zip(slopes, inner, strict=True)]
    image = [_dot(row, scaled, number) for row in output]
    square, length = sum(x * x for x in image), sum(x * x for x in v)
    return bool(square >= number(lower) ** 2 * length)


def _dot(row: FloatArray, vector: list[Any], number: Any) -> Any:
    pairs = zip(row.tolist(), vector, strict=True)
    return sum((number(w) * x for w, x in pairs if w), number(0))


def _logistic(z: Any) -> Any:
    return 1 / (1 + mpmath.exp(-z))


def _logistic_slope(z: Any) -> Any:
    return _logistic(z) * _logistic(-z)


def _gelu_slope(z: Any) -> Any:
    return mpmath.ncdf(z) + z * mpmath.npdf(z)


# σ'(z) at the working precision of mpmath.
PRECISE_SLOPES: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda z: 4 * _logistic_slope(2 * z),
    "sigmoid": _logistic_slope,
    "softplus": _logistic,
    "gelu": _gelu_slope,
    "silu": lambda z: _logistic(z) + z * _logistic_slope(z),
}
