"""The tree that branch and bound leaves behind: what it proves, and how faults in it show."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lipschitz_oracles import random_network

from lipbook.lipschitz import Ball, exact_by_branching, pattern_upper_bound, verify
from lipbook.lipschitz.branching import proof
from lipbook.lipschitz.branching.emptiness import Claim, claims_are_proved
from lipbook.lipschitz.branching.feasibility import Multipliers, finder_for
from lipbook.lipschitz.branching.integers import nonnegative_relation, null_vector
from lipbook.lipschitz.branching.proof import BranchProof
from lipbook.lipschitz.branching.switches import switches_of
from lipbook.lipschitz.branching.tree import CLOSED, EMPTY, SPLIT, Node, Tree
from lipbook.lipschitz.problem import checked_problem


def proved_tree():
    net = random_network(8, 12, 2)
    found = exact_by_branching(*net.parts)
    tree = found.certificate.proof.tree
    assert {node.state for node in tree.nodes} == {CLOSED, EMPTY, SPLIT}
    return found, tree


def changed(tree: Tree, index: int, **changes) -> BranchProof:
    nodes = list(tree.nodes)
    nodes[index] = replace(nodes[index], **changes)
    return BranchProof(Tree(nodes))


def test_tampering_with_a_tree_is_found_out():
    found, tree = proved_tree()
    problem, upper = found.certificate.problem, found.upper

    def first(state):
        return next(i for i, node in enumerate(tree.nodes) if node.state == state)

    assert BranchProof(tree).fault(problem, upper) is None
    assert "above the upper bound" in BranchProof(tree).fault(problem, found.lower * 0.999)
    empty, closed = first(EMPTY), first(CLOSED)
    chosen, multipliers = tree.nodes[empty].emptiness
    one_less = multipliers.switches.copy()
    one_less[one_less.argmax()] = 0.0
    wrong = Multipliers(one_less, multipliers.faces)
    nothing = Multipliers(0.0 * multipliers.switches, multipliers.faces)
    for bad in (wrong, nothing):
        fault = changed(tree, empty, emptiness=(chosen, bad)).fault(problem, upper)
        assert f"node {empty} of the tree is not proved empty" in fault
    flipped = changed(tree, closed, sign=-tree.nodes[closed].sign).fault(problem, upper)
    assert "not split in two" in flipped
    assert "no parent" in changed(tree, closed, parent=len(tree.nodes)).fault(problem, upper)
    assert "leaf with children" in changed(tree, 0, state=CLOSED).fault(problem, upper)
    false_claim = changed(tree, closed, state=EMPTY, emptiness=(chosen, multipliers))
    assert "not proved empty" in false_claim.fault(problem, upper)
    other = checked_problem(*random_network(9, 12, 2).parts)
    assert BranchProof(tree).fault(other, upper) is not None


def test_the_whole_domain_as_one_leaf_proves_the_relaxation_only():
    found, _ = proved_tree()
    root = BranchProof(Tree([Node(-1, -1, 0, CLOSED, np.ones(12, dtype=np.float32))]))
    problem = found.certificate.problem
    assert root.fault(problem, found.upper) is not None
    assert root.fault(problem, 100 * found.upper) is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.booleans())
def test_no_cell_with_a_point_is_ever_proved_empty(seed, d, integers):
    """Whatever the multipliers: claims about cells that have a point must fail."""
    generator = np.random.default_rng(seed)
    width = d + 3
    draw = (lambda *s: generator.integers(-2, 3, s).astype(float)) if integers else generator.normal
    weight = draw(size=(width, d)) if not integers else draw(width, d)
    bias = generator.normal(size=width)
    point = generator.normal(size=d)
    problem = checked_problem(weight, bias, np.ones((1, width)), domain=None)
    switches = switches_of(problem)
    side = switches.raw_weight @ point + switches.bias
    chosen = np.flatnonzero(np.abs(side) > 1e-9)
    signs = np.sign(side[chosen])
    u = generator.exponential(size=chosen.size)
    claims = [Claim(chosen, signs, Multipliers(u, np.zeros(0)))]
    for size in (d + 1, d + 2):
        some = chosen[:size]
        claims.append(Claim(some, signs[:size], Multipliers(u[:size], np.zeros(0))))
    assert not claims_are_proved(switches, None, claims).any()
    reach = float(np.abs(point).max()) + 1.0
    assert not claims_are_proved(switches, Ball(0.0, reach * d), claims).any()


@pytest.mark.parametrize("domain", [None, (-0.3, 0.3), Ball(0.0, 0.3)])
def test_what_the_finder_says_is_true(domain):
    problem = checked_problem(*random_network(6, 9, 2).parts, domain=domain)
    switches = switches_of(problem)
    finder = finder_for(switches, domain)
    kinds = set()
    for signs in itertools.product((-1.0, 1.0), repeat=switches.count):
        chosen, s = np.arange(switches.count), np.array(signs)
        found = finder.find(chosen, s)
        if found.point is not None:
            kinds.add("point")
            assert (s * (switches.raw_weight @ found.point + switches.bias) > 0).all()
            assert np.abs(found.point).max() < 0.3 or domain is None
        elif found.multipliers is not None:
            kinds.add("empty")
            assert claims_are_proved(switches, domain, [Claim(chosen, s, found.multipliers)]).all()
    assert kinds == {"point", "empty"}


def test_emptiness_that_is_not_proved_is_searched_again(monkeypatch):
    """With no claim accepted the tree must do without: the bracket stays valid, if open."""
    net = random_network(8, 10, 2)
    truth = exact_by_branching(*net.parts)

    def none_proved(switches, domain, claims):
        return np.zeros(len(claims), dtype=bool)

    monkeypatch.setattr(proof, "claims_are_proved", none_proved)
    found = exact_by_branching(*net.parts, time_limit=5.0)
    assert not any(node.state == EMPTY for node in found.certificate.proof.tree.nodes)
    assert found.lower == pytest.approx(truth.lower) and found.upper >= truth.upper
    assert found.upper <= pattern_upper_bound(*net.layers) * (1 + 1e-9)
    assert verify(found).valid


def test_relations_between_integer_rows():
    rows = [[1, 0, 1], [0, 1, 1], [-1, -1, -2]]
    assert null_vector(rows) in ([1, 1, 1], [-1, -1, -1])
    assert null_vector([[1, 0], [0, 1]]) is None
    assert null_vector([[1, 1], [2, 2], [3, 3]]) is None
    fractions = [[Fraction(v) for v in row] for row in rows]
    assert nonnegative_relation(fractions)
    assert nonnegative_relation([[Fraction(1), Fraction(-3)], [Fraction(-1), Fraction(2)]])
    assert not nonnegative_relation([[Fraction(1), Fraction(3)], [Fraction(-1), Fraction(-2)]])
    assert not nonnegative_relation([[Fraction(1), Fraction(0)], [Fraction(1), Fraction(1)]])
