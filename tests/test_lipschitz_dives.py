"""Dives: points of steep cells, in the domain, reproducible, and worth their time."""

from __future__ import annotations

import numpy as np
import pytest
from lipschitz_oracles import random_network

import lipbook.lipschitz.ascent as ascent_module
from lipbook.lipschitz import Ball, ascent_lower_bound, exact_by_branching
from lipbook.lipschitz.ascent import ascent_witness
from lipbook.lipschitz.branching.dives import dive_points
from lipbook.lipschitz.jacobians import gradient_norms_lower
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.regions import drawn_points

DOMAINS = [None, (-0.5, 0.7), Ball(0.2, 0.9)]


def problem_of(seed: int, m: int, d: int, k: int = 1, domain: object = None) -> Problem:
    return checked_problem(*random_network(seed, m, d, k).parts, "relu", domain)


@pytest.mark.parametrize("domain", DOMAINS, ids=["everywhere", "box", "ball"])
@pytest.mark.parametrize("k", [1, 3])
def test_points_lie_in_the_domain_and_depend_on_the_seed_alone(domain, k):
    problem = problem_of(1, 20, 4, k, domain)
    points = dive_points(problem, Options(seed=3))
    assert points.shape[1] == 4 and len(points) >= 2 and np.isfinite(points).all()
    if domain == DOMAINS[1]:
        assert (points >= -0.5).all() and (points <= 0.7).all()
    if isinstance(domain, Ball):
        assert (np.linalg.norm(points - 0.2, axis=1) <= 0.9 * (1 + 1e-12)).all()
    np.testing.assert_array_equal(points, dive_points(problem, Options(seed=3)))


def test_ends_are_steeper_than_as_many_drawn_points():
    """The median over networks of the steepest end over the steepest of eight drawn points."""
    gains = []
    for seed in range(9):
        problem = problem_of(seed, 40, 8)
        ends = gradient_norms_lower(problem, dive_points(problem, Options())).max()
        drawn = gradient_norms_lower(problem, drawn_points(problem, 8, seed)).max()
        gains.append(ends / drawn)
    assert np.median(gains) > 1.1


def test_with_dives_ascent_comes_closer_to_the_constant(monkeypatch):
    """Networks of ten inputs, as in the benchmark: the shortfall is at least halved."""
    networks = [random_network(seed, 40, 10, 1) for seed in range(6)]
    exact = np.array([exact_by_branching(*net.parts).upper for net in networks])
    guided = np.array([ascent_lower_bound(*net.parts) for net in networks])
    monkeypatch.setattr(ascent_module, "dive_points", lambda problem, _: problem.no_points)
    monkeypatch.setattr(Problem, "no_points", np.empty((0, 10)), raising=False)
    alone = np.array([ascent_lower_bound(*net.parts) for net in networks])
    assert (guided <= exact).all() and (alone <= guided).all()
    assert (1.0 - guided / exact).sum() < 0.5 * (1.0 - alone / exact).sum()


def test_nothing_to_choose():
    """No neuron changes its slope in the domain, so that there is nothing to dive for."""
    problem = checked_problem(np.eye(2), [5.0, 5.0], [1.0, -2.0], "relu", (-1.0, 1.0))
    assert dive_points(problem, Options()).shape == (0, 2)
    assert ascent_lower_bound(np.zeros((3, 2)), np.zeros(3), np.ones(3)) == 0.0


def test_time_limit_and_interrupt_leave_a_valid_bound(monkeypatch):
    problem = problem_of(2, 60, 8)
    honest = exact_by_branching(*random_network(2, 60, 8, 1).parts, time_limit=5.0).upper
    late = ascent_witness(problem, Options(time_limit=1e-9))
    assert late is not None and 0.0 < late.gradient_norm <= honest

    def interrupted(problem: Problem, options: Options) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(ascent_module, "dive_points", interrupted)
    stopped = ascent_witness(problem, Options())
    assert stopped is not None and 0.0 < stopped.gradient_norm <= honest
    drawn = gradient_norms_lower(problem, drawn_points(problem, 32, 0)).max()
    assert stopped.gradient_norm >= drawn * (1.0 - 1e-12)
