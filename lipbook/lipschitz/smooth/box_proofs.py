"""Certificates of upper bounds on boxes and balls, checked without the search that found them.

A `BoxCover` says how to cut the domain. The check cuts it again, which makes pieces that cover it
whatever the certificate says, and bounds ‖J‖ on each in a way of its own (see `box_checks`). That
bound is weaker than the one of the search: pieces on which it does not suffice are cut further. A
`Cancellation` says that J is constant, and is checked in rational numbers.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from lipbook.lipschitz.arrays import FloatArray
from lipbook.lipschitz.domains import Ball, box_arrays
from lipbook.lipschitz.jacobians import gradient_norms_lower
from lipbook.lipschitz.merging import MIRRORS, known_by_name
from lipbook.lipschitz.problem import Problem
from lipbook.lipschitz.regions import ball_arrays, project
from lipbook.lipschitz.rounding import UNIT, norm_upper, spectral_norm_upper, up
from lipbook.lipschitz.smooth.box_checks import BoxCheck, used_neurons
from lipbook.lipschitz.smooth.box_trees import LEAF, divisible, halved

# Boxes that a check evaluates before it gives up.
_MOST_BOXES = 2**22
# Boxes in which a gradient is evaluated that may refute the bound.
_TRIED = 4


@dataclass(frozen=True)
class BoxCover:
    """Prove an upper bound by cutting the domain into boxes on which it holds.

    Attributes:
        levels: for each generation of boxes, beginning with the domain, one byte per box: the axis
            along which it is halved, or 255. Halves of one box are neighbours in the next level.
    """

    levels: tuple[bytes, ...]

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why this does not prove Lip(f, domain) ≤ upper, or None if it does."""
        if not used_neurons(problem).any():
            return None
        cover = _replayed(self.levels, *_root(problem))
        if cover is None:
            return "the cuts do not fit together"
        check, stack, count = BoxCheck(problem), [cover], 0
        step = check.step
        while stack:
            low, high = stack.pop()
            if len(low) > step:
                stack.append((low[step:], high[step:]))
                low, high = low[:step], high[:step]
            count += len(low)
            if count > _MOST_BOXES:
                return f"{_MOST_BOXES} boxes did not suffice to confirm it"
            bound, axis = check.bounds(low, high)
            # The worst first, for a bound that is wrong is refuted there.
            above = np.flatnonzero(~(bound <= upper))
            above = above[np.argsort(-bound[above])]
            low, high, axis = low[above], high[above], axis[above]
            if _refuted(problem, low[:_TRIED], high[:_TRIED], upper):
                return f"the gradient near {low[0].tolist()} exceeds it"
            narrow = ~divisible(low, high)[np.arange(len(axis)), axis]
            if narrow.any():
                return f"the bound could not be confirmed near {low[narrow][0].tolist()}"
            if above.size:
                stack.append(halved(low, high, axis))
        return None


@dataclass(frozen=True)
class Cancellation:
    """Prove that J is constant, its neurons cancelling each other, and at most `upper` in norm."""

    def fault(self, problem: Problem, upper: float) -> str | None:
        """Return why this does not prove Lip(f, domain) ≤ upper, or None if it does."""
        mirror, constant = MIRRORS.get(problem.activation.name, (1, 0))
        sums: defaultdict[tuple[Fraction, ...], list[Fraction]]
        sums = defaultdict(lambda: [Fraction(0)] * problem.output_dim)
        base = [[Fraction(0)] * problem.input_dim for _ in range(problem.output_dim)]
        parts = (problem.hidden_weight, problem.hidden_bias, problem.output_weight.T)
        for w, b, a in zip(*(x.tolist() for x in parts), strict=True):
            key, column = tuple(map(Fraction, (*w, b))), [Fraction(v) for v in a]
            if not any(w):
                continue
            if known_by_name(problem.activation) and next(v for v in w if v) < 0.0:
                base = [
                    [s + constant * v * u for s, u in zip(row, key[:-1], strict=True)]
                    for row, v in zip(base, column, strict=True)
                ]
                key, column = tuple(-v for v in key), [-mirror * v for v in column]
            sums[key] = [s + v for s, v in zip(sums[key], column, strict=True)]
        if any(any(column) for column in sums.values()):
            return "the neurons do not cancel"
        rounded = np.array([[float(v) for v in row] for row in base])
        error = 2.0 * UNIT * norm_upper(rounded.ravel()) + 2.0**-1000
        if not rounded.any() or up(spectral_norm_upper(rounded) + error, 2) <= upper:
            return None
        return "the constant gradient exceeds it"


def _refuted(problem: Problem, low: FloatArray, high: FloatArray, upper: float) -> bool:
    """Tell whether the gradient in the middle of some box is larger than the bound."""
    middle = project(0.5 * low + 0.5 * high, problem)
    return bool((gradient_norms_lower(problem, middle) > upper).any())


def _root(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Return a box around the domain, (1, d) each."""
    if isinstance(problem.domain, Ball):
        center, radius = ball_arrays(problem.domain, problem.input_dim)
        low, high = center - radius, center + radius
        return np.nextafter(low, -np.inf)[None], np.nextafter(high, np.inf)[None]
    box = box_arrays(problem.domain, problem.input_dim)
    assert box is not None
    return box[0][None], box[1][None]


def _replayed(
    levels: tuple[bytes, ...], low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray] | None:
    """Return the pieces into which the box is cut, or None if the levels make no sense."""
    done = []
    for level in levels:
        axis = np.frombuffer(level, dtype=np.uint8)
        leaf = axis == LEAF
        if len(axis) != len(low) or not (leaf | (axis < low.shape[1])).all():
            return None
        done.append((low[leaf], high[leaf]))
        low, high = halved(low[~leaf], high[~leaf], axis[~leaf])
    if len(low):
        return None
    return np.concatenate([x for x, _ in done]), np.concatenate([x for _, x in done])
