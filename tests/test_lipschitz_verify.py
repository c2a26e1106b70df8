"""`verify`: a second look at every kind of bracket, which wrong brackets do not survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lipschitz_oracles import CASES, KINKS, SMOOTH, precise_slope, random_network

from lipbook.activations import ACTIVATIONS
from lipbook.lipschitz import Ball, Witness, bracket, verify
from lipbook.lipschitz.line_cover import tail_bound
from lipbook.lipschitz.problem import checked_problem
from lipbook.lipschitz.slope_recount import LARGEST_RECOUNT, SlopeRecount
from lipbook.lipschitz.verification import PRECISE_SLOPES

# inputs, activation, domain, method
BRACKETS = {
    "sort": (1, "relu", None, "sort"),
    "sort, box": (1, "abs", (-1.0, 0.5), "sort"),
    "sort, ball": (1, "leaky relu", Ball(0.2, 0.7), "sort"),
    "sweep": (2, "relu", None, "sweep"),
    "sweep, ball": (2, "abs", Ball((0.1, 0.2), 0.7), "sweep"),
    "branch": (3, "relu", None, "branch"),
    "branch, box": (3, "leaky relu", (-0.5, 0.5), "branch"),
    "enclosure, line": (1, "softplus", None, "enclosure"),
    "enclosure, box": (1, "gelu", (-2.0, 2.0), "enclosure"),
    "enclosure, ball": (1, "silu", Ball(0.3, 1.0), "enclosure"),
    "boxes": (2, "tanh", (-1.0, 1.0), "enclosure"),
    "boxes, ball": (2, "sigmoid", Ball(0.0, 1.0), "enclosure"),
    "sdp": (3, "relu", None, "sdp"),
    "sdp, smooth": (3, "gelu", (-1.0, 1.0), "sdp"),
}


def found_bracket(case: str, k: int = 1):
    d, activation, domain, method = BRACKETS[case]
    return bracket(*random_network(7, 9, d, k).parts, activation, domain, method)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("case", sorted(BRACKETS))
def test_what_was_found_is_confirmed(case, k):
    found = found_bracket(case, k)
    again = verify(found)
    assert again.valid, again.faults
    assert "witness" in again.checked
    assert found.exact or found.method == "sdp"


@pytest.mark.parametrize("case", sorted(BRACKETS))
def test_an_upper_end_that_is_too_low_is_not_confirmed(case):
    found = found_bracket(case)
    # The certificate of "sdp" proves its own bound, not the constant.
    low = found.upper * (1.0 - 1e-9) if found.method == "sdp" else found.lower * (1.0 - 1e-7)
    again = verify(replace(found, lower=0.0, upper=low, exact=False))
    assert not again.valid and len(again.faults) == 1


@pytest.mark.parametrize("case", sorted(BRACKETS))
def test_a_lower_end_that_is_too_high_is_not_confirmed(case):
    found = found_bracket(case)
    high = found.lower * (1.0 + 1e-9)
    again = verify(replace(found, lower=high, upper=max(found.upper, high)))
    assert again.faults == (f"the gradient at the witness does not reach the lower bound {high!r}",)


def test_every_tale_about_the_witness_is_checked():
    found = found_bracket("branch, box")
    point, pattern, norm = found.witness.point, found.witness.pattern, found.lower
    for witness, fault in (
        (None, "has no witness"),
        (Witness((9.0, 0.0, 0.0), pattern, norm), "does not lie in the domain"),
        (Witness(point[:2], pattern, norm), "does not lie in the domain"),
        (Witness(point, None, norm), "has no pattern"),
        (Witness(point, ~pattern, norm), "another pattern"),
    ):
        assert fault in verify(replace(found, witness=witness)).faults[0]
    ball = found_bracket("sweep, ball")
    outside = Witness((0.8, 0.8), ball.witness.pattern, norm)
    assert "domain" in verify(replace(ball, witness=outside)).faults[0]
    assert "another domain" in verify(replace(found, domain=None)).faults[-1]
    wide = replace(found, upper=3.0 * found.upper)
    assert "not close" in verify(wide).faults[-1]
    assert verify(replace(found, certificate=None)).faults == ("the result holds no certificate",)


def test_a_constant_that_is_a_float_is_confirmed_to_the_last_bit():
    found = bracket([[3.0, 4.0]], [1.0], [2.0], domain=(-1, 1))
    sharp = replace(found, lower=10.0, upper=10.0)
    assert verify(sharp).valid, verify(sharp).faults


def test_a_cell_that_holds_no_float_is_counted():
    weight, bias = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [0.1, 0.1 + 2.0**-55, 0.0]
    found = bracket(weight, bias, [1.0, -1.0, 0.25], method="sweep")
    assert found.exact and verify(found).valid, verify(found).faults


@pytest.mark.parametrize("domain", [None, (-1.0, 0.5), Ball(0.25, 1.0)])
@pytest.mark.parametrize("activation", sorted(KINKS))
@pytest.mark.parametrize("case", sorted(CASES))
def test_sorting_is_recounted(case, activation, domain):
    net = CASES[case]
    found = bracket(*net.parts, activation, domain)
    assert verify(found).valid, verify(found).faults
    if found.lower > 0.0:
        low = replace(found, lower=0.0, upper=found.lower * (1.0 - 1e-12), exact=False)
        assert "a cell has a slope" in verify(low).faults[0]


def test_a_recount_says_when_it_is_too_long():
    width = LARGEST_RECOUNT + 1
    problem = checked_problem(np.ones((width, 1)), np.zeros(width), np.ones(width))
    assert "more than are counted again" in SlopeRecount().fault(problem, 1e300)


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("case", sorted(CASES))
def test_the_line_is_covered(case, activation):
    found = bracket(*CASES[case].parts, activation, None)
    again = verify(found)
    assert again.valid or not found.exact, again.faults


@pytest.mark.parametrize("activation", SMOOTH)
@pytest.mark.parametrize("start", [-4.0, 3.0])
def test_tails_are_bounded(activation, start):
    problem = checked_problem(*random_network(3, 12).parts, activation)
    bound = tail_bound(problem, start)
    slope = ACTIVATIONS[activation].slope
    for x in start * np.geomspace(1.0, 1e6, 50):
        z = problem.hidden_weight[:, 0] * x + problem.hidden_bias
        gradient = problem.output_weight[0] * slope(z) @ problem.hidden_weight[:, 0]
        assert abs(gradient) <= bound
    assert tail_bound(problem, 2.0 * start) <= bound * (1.0 + 1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
def test_precise_slopes_agree_with_those_of_the_oracles(activation):
    import mpmath

    with mpmath.workdps(50):
        for z in (-30.0, -1.5, 0.0, 0.3, 2.0, 40.0):
            mine, theirs = PRECISE_SLOPES[activation](mpmath.mpf(z)), precise_slope(activation, z)
            assert abs(mine - theirs) <= mpmath.mpf(10) ** -45


def test_an_activation_of_ones_own_has_no_precise_slope():
    own = replace(ACTIVATIONS["tanh"], name="mine")
    found = bracket(*random_network(1, 5).parts, own, (-1.0, 1.0))
    assert "no precise slope is known for 'mine'" in verify(found).faults[0]
