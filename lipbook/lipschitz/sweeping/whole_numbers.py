"""Float64 numbers as whole numbers over a common power of two."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction


def whole_numbers(values: Iterable[float]) -> tuple[list[int], Fraction]:
    """Return whole numbers N and a unit, a power of two, with values = N·unit."""
    ratios = [v.as_integer_ratio() for v in values]
    common = max((denominator for _, denominator in ratios), default=1)
    return [n * (common // denominator) for n, denominator in ratios], Fraction(1, common)


def primitive(values: Iterable[float]) -> list[int]:
    """Return whole numbers without common divisor, proportional to the values, not all 0."""
    numbers, _ = whole_numbers(values)
    divisor = math.gcd(*numbers)
    return [n // divisor for n in numbers]
