"""Numbers in prose, tables and templates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipbook.wording import fill, fmt, plain, table_html, table_text


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0.0123, "0.0123"),
        (0.01234, "0.0123"),
        (1.2e-5, "1.2e-05"),
        (1.0e-5, "1e-05"),
        (12345.6, "12300"),
        (999.9, "1000"),
        (0.99999, "1"),
        (0.5, "0.5"),
        (100.0, "100"),
        (1e6, "1e+06"),
        (-2.5, "-2.5"),
        (0.0, "0"),
        (-0.0, "0"),
        (7, "7"),
        (10**7, "10000000"),
        (True, "yes"),
        (False, "no"),
        ("relu", "relu"),
        (math.inf, "∞"),
        (-math.inf, "-∞"),
        (math.nan, "not a number"),
        ((3, 5), "3 of 5"),
        (np.float32(0.1), "0.1"),
        (np.int64(4), "4"),
    ],
)
def test_fmt(x: Any, text: str) -> None:
    assert fmt(x) == text


def test_fmt_refuses() -> None:
    with pytest.raises(ValueError, match=r"`digits` must be at least 1. Got 0"):
        fmt(1.0, 0)
    with pytest.raises(TypeError, match=r"`x` must be a number, bool, text or pair. Got list"):
        fmt([1.0])


@given(st.floats(-1e300, 1e300), st.integers(1, 15))
def test_fmt_is_within_half_a_digit(x: float, digits: int) -> None:
    room = 0.51 * 10.0 ** (math.floor(math.log10(abs(x))) - digits + 1) if x else 0.0
    assert abs(float(fmt(x, digits)) - x) <= room + 5e-324


@given(st.floats(1e-3, 1e5))
def test_fmt_does_not_see_rounding_noise(x: float) -> None:
    """Two CPUs differ in the last bits; a number that is not near a tie reads the same."""
    tie = float(f"{x:.2e}")
    if abs(abs(x - tie) / 10.0 ** (math.floor(math.log10(x)) - 2) - 0.5) > 1e-6:
        assert fmt(x) == fmt(x * (1 + 1e-12))


def test_fill_leaves_tex_alone() -> None:
    template = r"$\frac{a}{b} ≤ x_{a}^{b}$ and {a}, {unknown}"
    assert (
        fill(template, {"a": 0.12345, "b": 2}) == r"$\frac{a}{b} ≤ x_{a}^{b}$ and 0.123, {unknown}"
    )


def test_plain_drops_markup() -> None:
    assert plain("**Verdict.** see {prf:ref}`thm-path` and [this](x.md), `code`, $x$") == (
        "Verdict. see thm-path and this, code, x"
    )


def test_tables_escape_and_align() -> None:
    rows = [{"method": "a<b", "value": "1"}, {"method": "c", "value": "22"}]
    assert "a&lt;b" in table_html(rows)
    assert '<th scope="col" style="text-align: left">method</th>' in table_html(rows)
    for figures in ("1e-05", "-0.5", "∞", "-∞", "3 of 5", "", "12 %"):
        assert '<th scope="col">value</th>' in table_html(
            [*rows, {"method": "d", "value": figures}]
        )
    for words in ("none", "1 neuron", "not a number"):
        assert f'left">{words}</td>' in table_html([*rows, {"method": "d", "value": words}])
    assert table_text(rows) == "method  value\na<b     1\nc       22"
