"""Sweep, branch and bound, and sorting on hundreds of awkward networks: one constant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from lipschitz_oracles import KINKS, Network

from lipbook.lipschitz import Ball, bracket, exact_by_branching, exact_two_inputs, verify

Generator = np.random.Generator
NETWORKS_OF_A_KIND = 24


def plain(g: Generator, m: int, k: int) -> Network:
    return Network(g.normal(size=(m, 2)), g.normal(size=m), g.normal(size=(k, m)) / np.sqrt(m))


def zero_biases(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    return Network(net.hidden_weight, np.zeros(m), net.output_weight)


def through_one_point(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    point = g.integers(-3, 4, 2) / 4.0  # rounded products may miss the point by an ulp: so be it
    return Network(net.hidden_weight, -net.hidden_weight @ point, net.output_weight)


def duplicates(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    source = g.integers(0, m, m)
    factor = np.exp2(g.integers(-2, 3, m)) * g.choice([-1.0, 1.0], m)
    weight, bias = net.hidden_weight[source], net.hidden_bias[source]
    return Network(weight * factor[:, None], bias * factor, net.output_weight)


def zero_rows(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    weight, output = net.hidden_weight.copy(), net.output_weight.copy()
    weight[g.random(m) < 0.3] = 0.0
    output[:, g.random(m) < 0.2] = 0.0
    return Network(weight, net.hidden_bias, output)


def badly_scaled(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    factor = 10.0 ** g.integers(-8, 9, m)
    return Network(
        net.hidden_weight * factor[:, None], net.hidden_bias * factor, net.output_weight / factor
    )


def integers(g: Generator, m: int, k: int) -> Network:
    return Network(
        g.integers(-2, 3, (m, 2)).astype(float),
        g.integers(-2, 3, m).astype(float),
        g.integers(-2, 3, (k, m)).astype(float),
    )


def parallel(g: Generator, m: int, k: int) -> Network:
    net = plain(g, m, k)
    direction = g.integers(-3, 4, 2).astype(float)
    return Network(np.outer(g.integers(-4, 5, m), direction), net.hidden_bias, net.output_weight)


KINDS: dict[str, Callable[[Generator, int, int], Network]] = {
    "plain": plain,
    "zero biases": zero_biases,
    "through one point": through_one_point,
    "duplicates": duplicates,
    "zero rows": zero_rows,
    "badly scaled": badly_scaled,
    "integers": integers,
    "parallel": parallel,
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_sweep_and_branch_and_bound_agree(kind):
    for seed in range(NETWORKS_OF_A_KIND):
        g = np.random.default_rng([seed, sorted(KINDS).index(kind)])
        net = KINDS[kind](g, int(g.integers(1, 14)), int(g.integers(1, 3)))
        activation = sorted(KINKS)[seed % 3]
        domain = [None, (-0.8, 0.7), Ball((0.1, -0.2), 0.9), None][seed % 4]
        swept = exact_two_inputs(*net.parts, activation, domain)
        branched = exact_by_branching(*net.parts, activation, domain)
        assert swept.lower <= branched.upper and branched.lower <= swept.upper, seed
        assert swept.exact, seed
        # Lines that miss a common point by an ulp make cells which hold no float64 number.
        assert branched.exact or kind == "through one point", seed


@pytest.mark.parametrize("seed", range(8))
def test_both_are_confirmed(seed):
    g = np.random.default_rng(seed)
    net = KINDS[sorted(KINDS)[seed]](g, 9, 1)
    for method in ("sweep", "branch"):
        found = bracket(*net.parts, method=method)
        assert verify(found).valid, (method, verify(found).faults)


@pytest.mark.parametrize("seed", range(6))
def test_a_third_input_that_nobody_uses_changes_nothing(seed):
    g = np.random.default_rng(seed)
    net = plain(g, 10, 1)
    wide = np.insert(net.hidden_weight, seed % 3, 0.0, axis=1)
    swept = exact_two_inputs(*net.parts)
    for method in ("sweep", "branch"):
        found = bracket(wide, net.hidden_bias, net.output_weight, method=method)
        assert found.exact and found.lower == pytest.approx(swept.lower, rel=3e-6)


@pytest.mark.parametrize("seed", range(6))
def test_one_input_in_use_is_sorted_alike(seed):
    g = np.random.default_rng(seed)
    weight, bias, output = g.normal(size=12), g.normal(size=12), g.normal(size=12)
    line = bracket(weight[:, None], bias, output)
    plane = np.stack([weight, np.zeros(12)], axis=1)
    for method in ("sweep", "branch"):
        found = bracket(plane, bias, output, method=method)
        assert found.lower <= line.upper and line.lower <= found.upper and found.exact
