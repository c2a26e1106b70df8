"""What the tests of the semidefinite bound compare with: M(t) by definition, and brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy.optimize import minimize

from lipbook.lipschitz.semidefinite.primal import Program
from lipbook.lipschitz.slope_intervals import centred_interval

RANGES = {"relu": (0.0, 1.0), "abs": (-1.0, 1.0), "odd": (-0.3, 1.2), "one-sided": (0.5, 1.0)}


def relaxed(weight, output, centre, half_width, t):
    """M(t) from the definition."""
    return np.block(
        [
            [weight.T * (half_width * t) @ weight, weight.T * centre @ output.T],
            [output * centre @ weight, output * (half_width / t) @ output.T],
        ]
    )


def slopes_of(low, high, width):
    return centred_interval(np.full(width, low), np.full(width, high))


def brute_force(weight, output, low, high):
    """The least λ_max(M(t)) that a simplex search over log t finds, from many starts."""
    centre, half_width = slopes_of(low, high, len(weight))

    def largest(log_t):
        return np.linalg.eigvalsh(relaxed(weight, output, centre, half_width, np.exp(log_t)))[-1]

    generator = np.random.default_rng(0)
    options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-9, "fatol": 1e-12}
    starts = generator.normal(size=(3, len(weight)))
    return min(minimize(largest, x, method="Nelder-Mead", options=options).fun for x in starts)


def worst_pattern(weight, output, low, high):
    corners = product((low, high), repeat=len(weight))
    return max(np.linalg.norm(output * np.array(s) @ weight, 2) for s in corners)


def count_evaluations(monkeypatch):
    """A list that grows with every evaluation of the dual."""
    evaluate, steps = Program.evaluate, []

    def counted(self, factor):
        steps.append(len(factor))
        return evaluate(self, factor)

    monkeypatch.setattr(Program, "evaluate", counted)
    return steps
