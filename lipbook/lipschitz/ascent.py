"""Lower bounds of the Lipschitz constant: the steepest of some points, and climbing from them.

For piecewise-linear networks of two inputs or more the starts are joined by the ends of a few dives
(`branching.dives`). Each finds what the other misses: from random starts line sweeps come within
some percent in few dimensions and fall short in many, a dive the other way round.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lipbook.activations import Activation
from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.branching.dives import dive_points
from lipbook.lipschitz.climbers import Climber, GradientSteps, LineSweeps
from lipbook.lipschitz.jacobians import gradient_norms_lower, witness_at
from lipbook.lipschitz.problem import Options, Problem, checked_problem
from lipbook.lipschitz.regions import checked_points, drawn_points
from lipbook.lipschitz.results import Witness

MAX_STARTS = 32
MAX_ROUNDS = 60
# Give up after so many rounds, and 2d more, in which no start gained this share. With more starts
# every one of them climbs at least as long.
_PATIENCE = 8
_PROGRESS = 1e-9
# Rounds × starts × weights of one network stay below this, about a second of one core.
_WORK = 50_000_000


def _effort(problem: Problem) -> tuple[int, int]:
    """Return how many starts and rounds to spend: fewer on large networks."""
    size = problem.width * (problem.input_dim + problem.output_dim)
    starts = int(np.clip(_WORK // (MAX_ROUNDS * size), 4, MAX_STARTS))
    return starts, int(np.clip(_WORK // (starts * size), 8, MAX_ROUNDS))


def sampled_witness(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    points: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
) -> Witness | None:
    """Find the steepest gradient among the points, max over x of ‖J(x)‖_op.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m) or (m,).
        points: x, (n, d).
        activation: σ, by name or as an `Activation`.
        domain: None, (low, high) or a `Ball`; the points must lie in it.

    Returns:
        The `Witness`, its norm rounded down; None if every point is too close to a kink.

    Raises:
        ValueError: the network, the domain or the points do not fit together.
    """
    problem = checked_problem(hidden_weight, hidden_bias, output_weight, activation, domain)
    checked = checked_points("points", points, problem)
    return _best_witness(problem, checked, gradient_norms_lower(problem, checked))


def sampled_lower_bound(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    points: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
) -> float:
    """Bound the Lipschitz constant from below by the steepest gradient among points, max ‖J(x)‖_op.

    Points too close to a kink of a piecewise-linear σ are dropped: the slope reported there may
    belong to no open set of inputs, and would not be a lower bound.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m) or (m,).
        points: x, (n, d).
        activation: σ, by name or as an `Activation`.
        domain: None, (low, high) or a `Ball`; the points must lie in it.

    Returns:
        The bound, rounded down; 0 if every point was dropped.

    Raises:
        ValueError: the network, the domain or the points do not fit together.
    """
    witness = sampled_witness(hidden_weight, hidden_bias, output_weight, points, activation, domain)
    return 0.0 if witness is None else witness.gradient_norm


def ascent_lower_bound(
    hidden_weight: Any,
    hidden_bias: Any,
    output_weight: Any,
    activation: str | Activation = "relu",
    domain: Any = None,
    starts: Any = None,
    seed: int = 0,
) -> float:
    """Bound the Lipschitz constant from below by climbing from points to steeper gradients.

    Piecewise-linear σ: exact sweeps of lines through the best point so far, also from cells to
    which the semidefinite relaxation leads. Smooth σ: projected gradient ascent on ‖J(x)‖. Never
    below `sampled_lower_bound` at the same starts, and never less for more starts.

    Args:
        hidden_weight: W, (m, d).
        hidden_bias: b, (m,).
        output_weight: A, (k, m) or (m,).
        activation: σ, by name or as an `Activation`.
        domain: None, (low, high) or a `Ball`.
        starts: x, (n, d), in the domain; None draws up to 32 of them.
        seed: of the starts, dives and directions.

    Returns:
        The bound, rounded down.

    Raises:
        ValueError: the network, the domain or the starts do not fit together, or a negative seed.
    """
    problem = checked_problem(hidden_weight, hidden_bias, output_weight, activation, domain)
    witness = ascent_witness(problem, Options(seed=seed), starts)
    return 0.0 if witness is None else witness.gradient_norm


def ascent_witness(problem: Problem, options: Options, starts: Any = None) -> Witness | None:
    """Return the steepest place that climbing finds (see `ascent_lower_bound`), if any."""
    n_starts, n_rounds = _effort(problem)
    if starts is None:
        points = drawn_points(problem, n_starts, options.seed)
    else:
        points = checked_points("starts", starts, problem)
    ascent = _Ascent(problem, options, points)
    try:
        several = problem.activation.is_piecewise_linear and problem.input_dim > 1
        if several and not options.out_of_time:
            ascent.join(dive_points(problem, options))
        ascent.climb(n_rounds)
    except KeyboardInterrupt:
        pass  # what has been found so far is a valid lower bound
    return _best_witness(problem, ascent.points, ascent.norms)


class _Ascent:
    """Keep the best point of every start, (n, d), and proved gradient norms there, (n,)."""

    def __init__(self, problem: Problem, options: Options, points: FloatArray) -> None:
        self.problem, self.options = problem, options
        self.points, self.norms = points, gradient_norms_lower(problem, points)

    def join(self, points: FloatArray) -> None:
        """Add starts (n, d)."""
        norms = gradient_norms_lower(self.problem, points)
        self.points = np.concatenate([self.points, points])
        self.norms = np.concatenate([self.norms, norms])

    def climb(self, n_rounds: int) -> None:
        """Look for better points, from all starts at once."""
        problem, options, idle = self.problem, self.options, 0
        climber: Climber
        if problem.activation.is_piecewise_linear:
            climber = LineSweeps(problem, self.points, n_rounds, options.seed)
        else:
            climber = GradientSteps(problem, self.points)
        for index in range(n_rounds):
            if options.out_of_time or idle > _PATIENCE + 2 * problem.input_dim:
                break
            with np.errstate(all="ignore"):
                candidates = climber.propose(self.points, index)
            sound = np.isfinite(candidates).all(axis=1, keepdims=True)
            candidates = np.where(sound, candidates, self.points)
            reached = gradient_norms_lower(problem, candidates)
            better = reached > self.norms
            climber.learn(better)
            idle = 0 if (reached > self.norms * (1.0 + _PROGRESS)).any() else idle + 1
            self.norms = np.where(better, reached, self.norms)
            self.points = np.where(better[:, None], candidates, self.points)


def _best_witness(problem: Problem, points: FloatArray, norms: FloatArray) -> Witness | None:
    return witness_at(problem, points[int(norms.argmax())]) if norms.max() > 0.0 else None
