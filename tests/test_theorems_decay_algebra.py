"""The algebra of the decay condition, checked symbolically."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from lipbook.theorems import Setting
from lipbook.theorems.budgets import MseBudget
from lipbook.theorems.dichotomy import product_law, threshold

S, J, k, q0, u, y, k0, th = sp.symbols("S J kappa q_0 u Y kappa_0 theta", positive=True)
zeta = 2 * k * q0 / J**2


def test_the_flow_of_the_budget_has_the_closed_form():
    # e' = q(e)·q'(e) with q(e) = q₀ + J₀e + κe²/2; D = (J₀ + κe)² obeys D' = D(D − A).
    e = sp.Function("e")(S)
    q = q0 + J * e + k * e**2 / 2
    slope = q * (J + k * e)
    big = (J + k * e) ** 2
    gap = J**2 - 2 * k * q0
    assert sp.expand(sp.diff(big, S).subs(sp.diff(e, S), slope) - big * (big - gap)) == 0
    spent = (sp.exp((1 - zeta) * J**2 * S) - 1) / (1 - zeta)
    closed = J / k * ((1 - zeta * spent) ** sp.Rational(-1, 2) - 1)
    rest = sp.diff(closed, S) - slope.subs(e, closed)
    assert sp.simplify(closed.subs(S, 0)) == 0
    for numbers in ((2.0, 0.7, 0.3), (5.0, 1.3, 4.0), (1.5, 1.0, 3.0)):
        at = dict(zip((J, k, q0), map(sp.Float, numbers), strict=True))
        x = 1 - float(zeta.subs(at))
        budget = -np.log1p(-x) / x / numbers[0] ** 2
        for share in (0.1, 0.5, 0.9):
            assert abs(rest.subs(at).subs(S, share * budget).evalf(30)) < 1e-8


def test_without_a_look_at_the_network_the_budget_is_the_older_formula():
    # q₀ = Y + κ₀u + κu²/2 gives A = J₀²(1 − ζ) = κ₀² − 2κY and S* = −ln(1 − A/J₀²)/A.
    blind = y + k0 * u + k * u**2 / 2
    growth = k0 + k * u
    a = growth**2 - 2 * k * blind
    assert sp.expand(a - (k0**2 - 2 * k * y)) == 0
    share = 2 * k * blind / growth**2
    budget = sp.log(1 / share) / (1 - share) / growth**2
    older = -sp.log(1 - a / growth**2) / a
    numbers = {y: 2, k0: 3, k: sp.Rational(3, 2), u: 4}
    assert abs((budget - older).subs(numbers).evalf(40)) < 1e-35
    # Q' is the growth of the gradient, and QQ' does not fall.
    assert sp.expand(sp.diff(blind, u) - growth) == 0
    assert sp.expand(sp.diff(blind * growth, u) - (growth**2 + k * blind)) == 0


def test_the_budget_ends_where_the_formula_does_and_is_linear_for_small_residuals():
    x = sp.symbols("x", positive=True)
    steps = sp.log(1 / x) / (1 - x)
    assert sp.simplify(x * (sp.exp((1 - x) * steps) - 1) / (1 - x) - 1) == 0
    assert sp.limit(steps, x, 1) == 1
    spent = (sp.exp((1 - x) * th) - 1) / (1 - x)
    psi = 2 / x * ((1 - x * spent) ** sp.Rational(-1, 2) - 1)
    assert sp.simplify(sp.limit(psi, x, 0) - (sp.exp(th) - 1)) == 0


def test_the_product_is_the_gradient_of_its_risk():
    a, w, b, c, v, rate = sp.symbols("a w b c v alpha")
    risk = sum((a * (w * s + b) + c) ** 2 for s in (1, -1)) / 4
    at = {a: v, w: v, b: 0, c: 0}
    found = [sp.expand(sp.diff(risk, p).subs(at)) for p in (a, w, b, c)]
    assert found == [v**3, v**3, 0, 0]
    assert product_law(2.0, np.array([0.3]))[1] == pytest.approx(
        float((v - rate * found[0]).subs({v: 2, rate: sp.Rational(3, 10)}))
    )


def test_the_step_of_the_product_loses_at_most_a_quarter_of_its_rate():
    # 1/(1 − p)² ≥ 1 − p/4 for 0 ≤ p ≤ 4, that is (1 − p/4)(1 − p)² ≤ 1, with equality at 0 and 3.
    p = sp.symbols("p", real=True)
    gap = sp.factor(1 - (1 - p / 4) * (1 - p) ** 2)
    assert sp.expand(gap - p * (p - 3) ** 2 / 4) == 0
    # Geometric rates: p⁺ = qp(p − 1)², fixed at 1 + q^(−½), where the slope is above 1.
    q = sp.symbols("q", positive=True)
    star = 1 + 1 / sp.sqrt(q)
    step = q * p * (p - 1) ** 2
    assert sp.simplify(step.subs(p, star) - star) == 0
    assert sp.simplify(sp.diff(step, p).subs(p, star) - (3 + 2 * sp.sqrt(q))) == 0
    assert threshold(0.25) == pytest.approx(3.0)
    # The mass at the threshold is least at q = 1/4, and is 4/v₀².
    s = sp.symbols("s", positive=True)
    mass = sp.simplify((1 + 1 / s) / (1 - s**2))
    assert sp.simplify(mass - 1 / (s * (1 - s))) == 0
    assert sp.solve(sp.diff(mass, s), s) == [sp.Rational(1, 2)] and mass.subs(s, 0.5) == 4.0


def test_the_relu_pair_moves_as_the_theorem_says():
    # f(x) = a·relu(vx + b) − a·relu(−vx + b) on ±X; v > 0, |b| < Xv: one neuron is active a side.
    a1, v1, b1, a2, v2, b2, c = sp.symbols("a_1 v_1 b_1 a_2 v_2 b_2 c")
    a, v, b, x = sp.symbols("a v b X")
    right, left = a1 * (v1 * x + b1) + c, a2 * (-v2 * x + b2) + c
    risk = (right**2 + left**2) / 4
    at = {a1: a, v1: v, b1: b, a2: -a, v2: -v, b2: b, c: 0}
    z = x * v + b
    for parameter, expected in {
        a1: a * z**2 / 2, v1: a**2 * z * x / 2, b1: a**2 * z / 2,
        a2: -a * z**2 / 2, v2: -(a**2) * z * x / 2, b2: a**2 * z / 2, c: 0,
    }.items():  # fmt: skip
        assert sp.expand(sp.diff(risk, parameter).subs(at) - expected) == 0


def test_blocks_grow_by_the_matrix_whose_exponential_is_cosh_and_sinh():
    h = sp.symbols("h", real=True)
    swap = sp.Matrix([[0, 1], [1, 0]])
    grown = (h * swap).exp().applyfunc(lambda e: sp.simplify(e.rewrite(sp.exp)))
    cosh, sinh = (f(h).rewrite(sp.exp) for f in (sp.cosh, sp.sinh))
    wanted = sp.Matrix([[cosh, sinh], [sinh, cosh]])
    assert (grown - wanted).applyfunc(sp.simplify) == sp.zeros(2)


def test_the_linear_path_of_a_bounded_activation():
    e, gamma, s = sp.symbols("E Gamma s", positive=True)
    path = sp.integrate(k * gamma * (e + gamma * y * s) ** 2, (s, 0, S))
    wanted = k * gamma * S * (e**2 + e * gamma * y * S + (gamma * y * S) ** 2 / 3)
    assert sp.expand(path - wanted) == 0
    wild = sp.integrate(k * gamma * e**2 * sp.exp(2 * gamma**2 * s), (s, 0, S))
    assert sp.simplify(wild - k * e**2 / (2 * gamma) * (sp.exp(2 * gamma**2 * S) - 1)) == 0


def test_the_flow_of_one_far_datum():
    # a' = z, z' = 2a (x = 1, δ = 1), so the product of all equal neurons is D(1 + C)/(2√2).
    t = sp.symbols("t", positive=True)
    root = sp.sqrt(2)
    a, z = sp.sinh(root * t) / root, sp.cosh(root * t)
    assert sp.simplify(sp.diff(a, t) - z) == 0 and sp.simplify(sp.diff(z, t) - 2 * a) == 0
    c, d = sp.cosh(root * t), sp.sinh(root * t)
    w = 1 + (z - 1) / 2
    assert sp.simplify(a * w - d * (1 + c) / (2 * root)) == 0


def test_the_budget_never_allows_less_than_its_first_order():
    class Plain:
        kappa, kappa_0, growth = 1.3, 2.0, Setting.growth

    theorem = MseBudget(Plain())  # type: ignore[arg-type]
    for residual in (0.0, 1e-6, 0.5, 3.0, 40.0):
        norm, mass = np.array([1.7]), np.array([1e-7])
        growth = Plain.kappa_0 + Plain.kappa * norm
        first = residual * growth * mass
        assert theorem.path(norm, np.array([residual]), mass) >= first * (1 - 1e-12)
