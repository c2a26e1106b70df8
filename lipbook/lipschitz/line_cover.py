"""The proof of an upper bound for a smooth network of one input, on an interval or on the line.

With v_j = w_j A_j, ‖f'‖ ≤ sup|σ'|·Σ_j‖v_j‖ is tried first. Otherwise `BoxCover` cuts the interval
anew until its own bounds suffice: nothing needs to be stored. On the whole line the slopes of the
neurons beyond some X lie in intervals [c_j − h_j, c_j + h_j], so that there

    ‖f'(x)‖ ≤ ‖Σ_j c_j v_j‖ + Σ_j h_j‖v_j‖,

and X is doubled until that is small enough. Sums carry γ_(m+4)·Σ(|c_j| + h_j)‖v_j‖.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lipbook.lipschitz.merging import merged
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.product import slope_magnitude
from lipbook.lipschitz.rounding import exponent, gamma, norm_upper, up
from lipbook.lipschitz.slope_intervals import centred_interval
from lipbook.lipschitz.slope_ranges import slope_range
from lipbook.lipschitz.smooth.box_proofs import BoxCover

_UNCUT = BoxCover((b"\xff",))
_FARTHEST = 2.0**300


@dataclass(frozen=True)
class LineCover:
    """Prove an upper bound on an interval or on the line by cutting it into pieces."""

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why Lip(f, domain) ≤ upper is not confirmed, or None if it is."""
        if slope_total(problem) <= upper:
            return None
        if problem.domain is not None:
            return _UNCUT.fault(problem, upper)
        reach = 1.0
        while max(tail_bound(problem, reach), tail_bound(problem, -reach)) > upper:
            reach *= 2.0
            if reach > _FARTHEST:
                return "the bound could not be confirmed far out"
        return _UNCUT.fault(replace(problem, domain=(-reach, reach)), upper)


def slope_total(problem: Problem) -> float:
    """Bound ‖f'‖ by ‖base‖ + sup|σ'|·Σ‖v_j‖, once neurons that see the same are merged."""
    _, output, e = problem.scaled_layers
    back = int(exponent(problem.hidden_weight).item())
    parts = problem.hidden_weight, problem.hidden_bias, output.T
    weight, _, merged_output, base = merged(*parts, problem.activation)
    sizes = norm_upper(np.ldexp(weight, -back)) * norm_upper(merged_output)
    total = slope_magnitude(problem.activation) * sizes.sum()
    constant = norm_upper(np.ldexp(base, -back)[:, 0]) * (1.0 + gamma(1))
    bound = up(constant + total, sizes.size + 6)
    return float(np.nextafter(np.ldexp(bound, e), np.inf)) if bound > 0.0 else 0.0


def tail_bound(problem: Problem, start: float) -> float:
    """Bound ‖f'‖ from above on (start, ∞), or on (−∞, start) if start < 0."""
    weight, output, e = problem.scaled_layers
    w, b = problem.hidden_weight[:, 0], problem.hidden_bias
    at_start = w * start + b
    slack = 3.0 * gamma(1) * (np.abs(w * start) + np.abs(b)) + 2.0**-1060
    rises = (w > 0.0) == (start > 0.0)
    still = w == 0.0
    below = np.where(rises | still, at_start - slack, -np.inf)
    above = np.where(rises & ~still, np.inf, at_start + slack)
    centre, half_width = centred_interval(*slope_range(problem.activation, below, above))
    values = output * weight[:, 0]
    sizes = norm_upper(values.T)
    middle = norm_upper(values @ centre)
    spread = half_width + gamma(problem.width + 4) * (np.abs(centre) + half_width)
    bound = up(middle + up(spread @ sizes, problem.width + 4), 2) + 2.0**-500 * values.any()
    return float(np.nextafter(np.ldexp(bound, e), np.inf)) if bound > 0.0 else 0.0
