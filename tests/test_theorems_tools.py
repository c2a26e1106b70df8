"""The tools on sums, singular values and growth: they hold, and they can fail."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from lipbook.theorems import empirical, tools
from lipbook.theorems.refusal import HypothesisError
from lipbook.theorems.tools import (
    davidson_szarek_bound,
    discrete_gronwall,
    largest_of_many,
    mass_to_reach,
    mcdiarmid_deviation,
    mean_length,
    summed_gronwall,
)

SIZES = st.integers(1, 8)
SEEDS = st.integers(0, 10_000)
REPEAT = settings(deadline=None, derandomize=True, max_examples=80)
ROUNDING = 1e-9


# --- sums and singular values


@REPEAT
@given(SEEDS, SIZES)
def test_weighted_sums(seed, n):
    rng = np.random.default_rng(seed)
    rates, x, y = rng.exponential(size=n), rng.normal(size=n), rng.normal(size=n)
    mass, energy = rates.sum(), (rates * x**2).sum()
    assert (rates @ x) ** 2 <= mass * energy * (1 + ROUNDING)
    assert mass * (x**2).min() <= energy * (1 + ROUNDING)
    both = math.hypot(rates @ x, rates @ y)
    assert both <= rates @ np.hypot(x, y) * (1 + ROUNDING)
    shares = rng.uniform(0.0, 0.9, n)
    left = np.prod(1.0 - shares)
    assert 1.0 - shares.sum() <= left + 1e-12 and left <= math.exp(-shares.sum()) * (1 + ROUNDING)
    assert left >= math.exp(-shares.sum() / (1.0 - shares.max())) * (1 - ROUNDING)


def test_weights_must_not_be_negative():
    rates, x = np.array([1.0, -0.9]), np.array([1.0, 0.5])
    assert (rates @ x) ** 2 > rates.sum() * (rates * x**2).sum()


@REPEAT
@given(SEEDS, SIZES, SIZES, st.floats(0.0, 3.0))
def test_weyl(seed, rows, columns, size):
    rng = np.random.default_rng(seed)
    one = rng.normal(size=(rows, columns))
    other = one + size * rng.normal(size=(rows, columns))
    moved = np.abs(
        np.linalg.svd(one, compute_uv=False) - np.linalg.svd(other, compute_uv=False)
    ).max()
    assert moved <= np.linalg.norm(one - other, 2) + 1e-12
    square, shift = one @ one.T, size * np.eye(rows)
    eigenvalues = np.linalg.eigvalsh(square + shift) - np.linalg.eigvalsh(square)
    assert eigenvalues == pytest.approx(np.full(rows, size), abs=1e-9)  # attained
    crossed = np.linalg.eigvalsh(other @ other.T) - np.linalg.eigvalsh(square)
    assert np.abs(crossed).max() <= np.linalg.norm(other @ other.T - square, 2) + 1e-9


def test_weyl_fails_for_eigenvalues_of_other_matrices():
    one, other = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [0.01, 0.0]])
    moved = np.abs(np.linalg.eigvals(other)).max() - np.abs(np.linalg.eigvals(one)).max()
    assert moved > 5.0 * np.linalg.norm(one - other, 2)


# --- growth


@REPEAT
@given(SEEDS, st.integers(0, 30))
def test_gronwall_product_form(seed, n_steps):
    rng = np.random.default_rng(seed)
    growth, added = rng.uniform(-1.0, 1.0, n_steps), rng.normal(size=n_steps)
    slack = rng.exponential(size=n_steps) * (seed % 3)  # a third of the cases has equality
    u = [rng.normal()]
    for t in range(n_steps):
        u.append((1 + growth[t]) * u[-1] + added[t] - slack[t])
    bounds = discrete_gronwall(u[0], growth, added)
    assert (np.array(u) <= bounds + 1e-9 * (1 + np.abs(bounds))).all()
    if not slack.any():
        assert np.array(u) == pytest.approx(bounds)
    formula = u[0] * np.prod(1 + growth) + sum(
        added[t] * np.prod(1 + growth[t + 1 :]) for t in range(n_steps)
    )
    assert bounds[-1] == pytest.approx(formula)
    start, growth, added = abs(u[0]), np.abs(growth), np.abs(added)
    exponential = (start + added.sum()) * math.exp(growth.sum())
    assert discrete_gronwall(start, growth, added)[-1] <= exponential * (1 + ROUNDING)


def test_gronwall_needs_its_signs():
    # u_0 = 1, u_1 = −10 ≤ u_0, u_2 = −u_1: with ξ_1 = −2 the product formula would say −1.
    with pytest.raises(HypothesisError, match=r"`growth` must be at least −1 .*Got -2"):
        discrete_gronwall(1.0, [0.0, -2.0], [0.0, 0.0])
    assert (1 - 2) * -10 > 1 * (1 + 0) * (1 - 2)
    with pytest.raises(HypothesisError, match=r"`weights` must be at least 0"):
        summed_gronwall([1.0, 1.0], [-1.0])
    # u = −1 on [0, 1), then 2: u ≤ 1 − ∫u, and yet it exceeds e^{−1}.
    assert min(1.0, 1.0 - -1.0) >= -1.0 and 1.0 - -1.0 >= 2.0 > math.exp(-1.0)


@REPEAT
@given(SEEDS, st.integers(0, 30))
def test_gronwall_sum_form(seed, n_steps):
    rng = np.random.default_rng(seed)
    weights, levels = rng.exponential(size=n_steps), rng.normal(size=n_steps + 1)
    slack = rng.exponential(size=n_steps + 1) * (seed % 3)
    u = []
    for t in range(n_steps + 1):
        u.append(levels[t] + weights[:t] @ np.array(u) - slack[t])
    bounds = summed_gronwall(levels, weights)
    assert (np.array(u) <= bounds + 1e-9 * (1 + np.abs(bounds))).all()
    if not slack.any():
        assert np.array(u) == pytest.approx(bounds)
    levels = np.sort(levels)
    product = levels[-1] * np.prod(1 + weights)
    assert summed_gronwall(levels, weights)[-1] <= product + 1e-9 * (1 + abs(product))
    constant = summed_gronwall(np.ones(n_steps + 1), weights)
    assert constant[-1] == pytest.approx(np.prod(1 + weights))


@REPEAT
@given(SEEDS, st.integers(1, 6))
def test_gronwall_differential_form(seed, n_pieces):
    """Pieces of constant ξ and ζ, where w can be written down."""
    rng = np.random.default_rng(seed)
    growth, added = rng.normal(size=n_pieces), rng.normal(size=n_pieces)
    slack = rng.exponential(size=n_pieces) * (seed % 2)

    def end(additions: np.ndarray) -> float:
        w = 0.7
        for xi, zeta in zip(growth, additions, strict=True):
            w = w * math.exp(xi) + zeta * math.expm1(xi) / xi
        return w

    primitive = np.concatenate([[0.0], np.cumsum(growth)])
    bound = 0.7 * math.exp(primitive[-1])
    for k in range(n_pieces):
        inside = integrate.quad(lambda s, k=k: math.exp(-primitive[k] - growth[k] * s), 0.0, 1.0)[0]
        bound += added[k] * inside * math.exp(primitive[-1])
    assert end(added - slack) <= bound + 1e-9 * (1 + abs(bound))
    if not slack.any():
        assert end(added) == pytest.approx(bound)


FLOWS = {
    "x": (lambda x: x, lambda v, s: v * math.exp(s), math.inf),
    "x^2": (lambda x: x * x, lambda v, s: v / (1 - v * s), 1.0),
    "e^x": (lambda x: math.exp(x), lambda v, s: v - math.log(1 - s * math.exp(v)), math.exp(-1.0)),
}


@REPEAT
@given(SEEDS, st.sampled_from(sorted(FLOWS)), st.integers(1, 40), st.floats(0.05, 0.95))
def test_steps_stay_below_the_flow(seed, name, n_steps, share):
    speed, flow, end = FLOWS[name]
    rng = np.random.default_rng(seed)
    rates = rng.exponential(size=n_steps)
    rates *= share * min(end, 3.0) / rates.sum()
    u = 1.0
    for t in range(n_steps):
        u = max(u + rates[t] * speed(u) * (1 - 0.1 * (seed % 2) * rng.uniform()), 0.0)
        assert u <= flow(1.0, rates[: t + 1].sum()) * (1 + ROUNDING)
    if u > 1.0:
        assert rates.sum() >= mass_to_reach(speed, 1.0, u) * (1 - 1e-7)
    steps, u = 20_000, 1.0
    for _ in range(steps if seed % 20 == 0 else 0):  # small steps come close
        u += share * min(end, 3.0) / steps * speed(u)
    if u > 1.0:
        assert u == pytest.approx(flow(1.0, share * min(end, 3.0)), rel=1e-2)


def test_the_flow_ends_where_it_should():
    assert mass_to_reach(lambda x: x * x, 2.0, math.inf) == pytest.approx(0.5)
    speed = lambda x: math.exp(min(x, 700.0))  # noqa: E731
    assert mass_to_reach(speed, 1.0, math.inf) == pytest.approx(math.exp(-1.0))
    # The control: a speed that falls, 1/(1+x); one step of 1 leads to 1, the flow to √3 − 1.
    reached = integrate.solve_ivp(lambda _, v: 1 / (1 + v), (0, 1), [0.0], rtol=1e-10).y[0, -1]
    assert reached == pytest.approx(math.sqrt(3.0) - 1.0, rel=1e-6) and reached < 1.0


@REPEAT
@given(SEEDS, st.integers(1, 30), st.floats(0.1, 3.0))
def test_two_blocks_stay_below_their_flow(seed, n_steps, constant):
    """F(x, y) = κ(y, x), whose flow is a hyperbolic rotation."""
    rng = np.random.default_rng(seed)
    start, rates = rng.exponential(size=2), rng.exponential(size=n_steps) / n_steps
    u = start.copy()
    for t in range(n_steps):
        u = u + rates[t] * constant * u[::-1] * rng.uniform(0.5, 1.0, 2)
        angle = constant * rates[: t + 1].sum()
        flow = start * math.cosh(angle) + start[::-1] * math.sinh(angle)
        assert (u <= flow * (1 + ROUNDING)).all()


# --- the page


def test_counts_are_refused_below_one():
    for call in (
        lambda: mean_length(0),
        lambda: largest_of_many(0),
        lambda: davidson_szarek_bound(0, 3),
        lambda: davidson_szarek_bound(3, 0),
    ):
        with pytest.raises(HypothesisError, match=r"must be at least 1 .*Got 0"):
            call()
    with pytest.raises(HypothesisError, match=r"`failure` must .* for thm-mcdiarmid"):
        mcdiarmid_deviation([1.0], 0.0)


def test_page_and_code_name_the_same_things():
    page = (Path(__file__).parent.parent / "book/tools.md").read_text(encoding="utf-8")
    labels = set(re.findall(r":label: (\S+)", page))
    for module in (tools, empirical):
        source = Path(module.__file__ or "").read_text(encoding="utf-8")
        assert set(re.findall(r"\b(?:lem|thm)-[a-z0-9-]+", source)) <= labels
        for name in re.findall(r"^def ([a-z]\w+)", source, re.M):
            assert name == "counted" or f"`{name}`" in page, name
