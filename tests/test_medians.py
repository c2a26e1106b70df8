"""Medians with what has diverged left out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipbook.medians import finite_median, known_median


@pytest.mark.parametrize(
    ("values", "finite", "known"),
    [
        ([3.0, 1.0, 2.0], 2.0, 2.0),
        ([1.0, 2.0, math.nan, 10.0, 11.0], 6.0, 6.0),
        ([1.0, math.inf, 2.0, math.inf, math.inf], 1.5, math.inf),
        ([math.nan], math.nan, math.nan),
        ([], math.nan, math.nan),
        ([math.inf], math.nan, math.inf),
    ],
)
def test_medians(values: list[float], finite: float, known: float) -> None:
    np.testing.assert_equal(finite_median(values), finite)
    np.testing.assert_equal(known_median(np.array(values)), known)
