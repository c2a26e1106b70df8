"""The order in which lines cross a line, and networks at the edge of float64, are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from lipschitz_oracles import Network, random_network
from lipschitz_planes import NETS, is_right, networks, problem_of, swept

from lipbook.lipschitz import Ball
from lipbook.lipschitz.problem import Options
from lipbook.lipschitz.sweeping.crossings import crossings
from lipbook.lipschitz.sweeping.lines import arranged
from lipbook.lipschitz.sweeping.orientation import exact_crossings, triple_signs
from lipbook.lipschitz.sweeping.sweep import sweep_bracket


def order_is_exact(rows) -> bool:
    """Whether `crossings` lists what sorting in whole numbers lists, ties and all."""
    lines, _, _ = arranged(rows)
    found = crossings(lines, 0, lines.count)
    for i in range(lines.count):
        first, past = lines.parallel[i]
        entries, distinct = exact_crossings(lines, i, np.arange(past, lines.count + first))
        rank = np.concatenate([[0], np.cumsum(distinct)])[: entries.size]
        order = found.order[i, : entries.size]
        edges = np.ones(lines.count, bool) if found.edges is None else found.edges[i]
        same = dict(zip(entries, rank, strict=True)) == dict(zip(order, rank, strict=True))
        if not (same and (edges[1 : entries.size] == distinct).all() and edges[entries.size]):
            return False
    return True


@pytest.mark.parametrize("name", NETS)
def test_the_order_of_crossings_is_exact(name):
    net = NETS[name]
    rows = np.column_stack([net.hidden_weight, net.hidden_bias])
    assert order_is_exact(rows[net.hidden_weight.any(axis=1)])


def test_floating_point_alone_would_misplace_crossings():
    net = NETS["one point"]
    rows = np.column_stack([net.hidden_weight, net.hidden_bias])
    lines, _, _ = arranged(rows)
    wrong = 0
    for i in range(lines.count):
        entries = np.arange(i + 1, i + lines.count)
        exact, _ = exact_crossings(lines, i, entries)
        scaled = lines.scaled[:, entries]
        own = lines.scaled[:, i]
        t = (own[2] * (own[:2] @ scaled[:2]) / (own[:2] @ own[:2]) - scaled[2]) / (
            own[0] * scaled[1] - own[1] * scaled[0]
        )
        wrong += int((entries[np.argsort(t)] != exact).any())
    assert wrong > 0


def determinant(p, q, r) -> Fraction:
    a, b, c = ([Fraction(float(v)) for v in row] for row in (p, q, r))
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )


@pytest.mark.parametrize("scale", [1.0, 2.0**-200, 1e120])
@pytest.mark.parametrize("kind", ["lattice", "short", "random", "tiny", "one point"])
def test_signs_of_determinants(kind, scale):
    generator = np.random.default_rng(0)
    rows = {
        "lattice": generator.integers(-3, 4, (30, 3)) + np.array([0.0, 0.5, 0.0]),
        "short": np.round(2.0**15 * generator.normal(size=(30, 3))),
        "random": generator.normal(size=(30, 3)),
        "one point": generator.normal(size=(30, 3)),
        "tiny": generator.normal(size=(30, 3)) * 10.0 ** generator.integers(-320, 0, (30, 3)),
    }[kind]
    if kind == "one point":  # float64 alone gets signs wrong here
        rows[:, 2] = -rows[:, :2] @ np.array([0.3, 0.7])
    # Combinations of two rows lie on the pencil of both: sums are exact for small numbers only.
    rows = np.concatenate([rows, rows[:10] + rows[10:20]]) * [scale, scale, 1.0]
    lines, _, _ = arranged(rows[rows[:, :2].any(axis=1)])
    full = np.concatenate([lines.rows, -lines.rows])
    i, j, k = generator.integers(0, len(full), (3, 400))
    signs = triple_signs(lines, i, j, k)
    for a, b, c, sign in zip(i, j, k, signs, strict=True):
        value = determinant(full[a], full[b], full[c])
        assert sign == (value > 0) - (value < 0)
    if kind == "lattice":
        assert (signs == 0).sum() > 20


def test_lines_are_sorted_merged_and_seen_from_both_sides():
    rows = np.array(
        [[1, 0, 1], [-2, 0, -2], [0, 1, 0], [0, -3, 3], [1, 1, 0], [2, 2, 2], [-1, 1, 0], [3, 3, 0]]
    ).astype(float)
    lines, owner, sign = arranged(rows)
    assert owner[0] == owner[1] and owner[4] == owner[7] and len(set(owner)) == lines.count == 6
    assert sign.tolist() == [1, -1, 1, -1, 1, 1, 1, 1]
    normal = np.concatenate([lines.rows, -lines.rows])
    for i in range(lines.count):
        first, past = lines.parallel[i]
        for j in range(i + 1, i + lines.count):
            cross = normal[i, 0] * normal[j, 1] - normal[i, 1] * normal[j, 0]
            beside = j < past or j >= lines.count + first
            assert (cross == 0.0) == beside and cross >= 0.0
            if beside:  # line i lies on its negative side
                x, y = -normal[i, :2] * normal[i, 2] / (normal[i, :2] @ normal[i, :2])
                assert normal[j] @ [x, y, 1.0] < 0.0


@settings(derandomize=True, max_examples=80, deadline=None)
@given(networks())
def test_property_the_order_of_crossings_is_exact(net):
    rows = np.column_stack([net.hidden_weight, net.hidden_bias])
    rows = rows[net.hidden_weight.any(axis=1)]
    assert rows.size == 0 or order_is_exact(rows)


@pytest.mark.parametrize("scale", [1e-140, 1e-60, 1e60, 1e140])
def test_scales_neither_overflow_nor_underflow(scale):
    w, b, a = random_network(13, 10, 2).parts
    one = swept(Network(w, b, a)).lower
    for net, expected in [
        (Network(w * scale, b * scale, a), one * scale),
        (Network(w, b, a * scale), one * scale),
        (Network(w * scale, b * scale, a / scale), one),
        (Network(w, b * scale, a), one),
    ]:
        found = swept(net)
        assert found.exact and found.lower == pytest.approx(expected, rel=1e-9)


def test_lines_beyond_the_range_of_float64_are_ordered():
    generator = np.random.default_rng(14)
    for _ in range(8):
        w, b, a = random_network(14, 5, 2).parts
        wild = w * 10.0 ** generator.integers(-300, 140, (5, 2))
        far = b * 10.0 ** generator.integers(-300, 140, 5)
        for net in (Network(wild, b, a), Network(w, far, a)):
            for domain in (None, (-1e-200, 1e140), Ball(0.0, 1e-200)):
                problem = problem_of(net, "relu", domain)
                found = sweep_bracket(problem, Options())
                assert is_right(problem, found)
