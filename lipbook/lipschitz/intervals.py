"""One-dimensional domains as intervals of float64 numbers, from outside and from inside."""

from __future__ import annotations

from fractions import Fraction

from lipbook.lipschitz.domains import Ball, Domain, box_arrays
from lipbook.lipschitz.exact_sums import rounded

Ends = tuple[float, float] | None


def outer_and_inner(domain: Domain) -> tuple[Ends, Ends]:
    """Return float64 intervals around and inside the domain of a network of one input.

    They are equal, and the domain itself, unless it is a ball whose ends c ± r are no float64
    numbers. A bound from above holds on the outer one, a bound from below on the inner one. (None,
    None): the whole line.
    """
    if isinstance(domain, Ball):
        center = domain.center
        middle = Fraction(center[0] if isinstance(center, tuple) else center)
        low, high = (
            middle - Fraction(domain.radius),
            middle + Fraction(domain.radius),
        )
        outer = rounded(low, -1), rounded(high, 1)
        inner = rounded(low, 1), rounded(high, -1)
        if inner[0] >= inner[1]:
            raise ValueError(
                "`radius` must be larger than the spacing of float64 numbers at the center. "
                f"Got {domain.radius:g} at {float(middle):g}. Enlarge it."
            )
        return outer, inner
    box = box_arrays(domain, 1)
    ends = None if box is None else (float(box[0][0]), float(box[1][0]))
    return ends, ends
